"""Product rows that the author of a DAG has chosen: checked before anything is read, kept in the journal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.sdk import DAG

from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Task

CHOSEN = [{"row_id": 1, "quantity": 1}]


def add(products: Any, **arguments: Any) -> AddCrmPaymentOperator:
    return AddCrmPaymentOperator(task_id="add", entity_id=1, products=products, **arguments)


def put(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests if request["method"].endswith(".add")]


@pytest.mark.parametrize(
    "products",
    [
        CHOSEN,
        ({"row_id": "1", "quantity": "1"},),
        [{"quantity": Decimal("1.0000"), "row_id": 1}],
        [{"row_id": 1, "quantity": "1.0000"}],
    ],
)
def test_the_chosen_row_goes_in(portal: Any, task: Task, products: Any) -> None:
    receipt = add(products).execute(task.context)
    assert receipt["amount"] == "450.00"
    assert put(portal) == ["crm.item.payment.add", "crm.item.payment.product.add"]


@pytest.mark.parametrize(
    ("products", "words"),
    [
        ([], r"products must be a list such as .*, not \[\]"),
        ("[{'row_id': 1, 'quantity': 1}]", "Is it a template\\? It must give a list"),
        ({"row_id": 1, "quantity": 1}, "products must be a list"),
        ([1], r"products\[0\] must have row_id and quantity"),
        ([{"row_id": 1}], r"products\[0\] must have row_id and quantity"),
        ([{"row_id": 1, "quantity": 1, "price": 5}], r"products\[0\] must have row_id and quantity and nothing else"),
        ([*CHOSEN, {"row_id": "1", "quantity": 1}], r"products\[1\] names product row 1 a second time"),
        ([{"row_id": 0, "quantity": 1}], r"products\[0\]: row_id must be a whole positive number"),
        ([{"row_id": 1, "quantity": 0}], r"products\[0\]: quantity must be a whole number above 0, not 0"),
        ([{"row_id": 1, "quantity": -1}], "quantity must be a whole number above 0"),
        ([{"row_id": 1, "quantity": "2.5"}], "quantity must be a whole number above 0"),
        ([{"row_id": 1, "quantity": 1.5}], "quantity must be a whole number above 0"),
        ([{"row_id": 1, "quantity": True}], "quantity must be a whole number above 0"),
        ([{"row_id": 1, "quantity": None}], "a template or the task before gave None"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(portal: Any, task: Task, products: Any, words: str) -> None:
    with pytest.raises(AirflowFailException, match=words) as caught:
        add(products).execute(task.context)
    assert "Nothing was sent" in str(caught.value)
    assert portal.requests == []


def test_all_and_chosen_ones_cannot_both_be_wanted(portal: Any, task: Task) -> None:
    with pytest.raises(AirflowFailException, match="Give products or fill_products=True, not both"):
        add(CHOSEN, fill_products=True).execute(task.context)
    assert portal.requests == []


def test_what_rendered_to_none_does_not_become_an_empty_payment(portal: Any, task: Task) -> None:
    operator = add("{{ nothing }}")
    operator.products = None
    with pytest.raises(AirflowFailException, match="products was given, but rendered to None"):
        operator.execute(task.context)


@pytest.mark.parametrize(("row_id", "quantity"), [(99, 1), (1, 3)])
def test_what_is_not_available_is_refused_before_anything_is_sent(
    portal: Any, task: Task, row_id: int, quantity: int
) -> None:
    with pytest.raises(AirflowFailException, match=r"cannot go into a payment of deal 1.*Nothing was sent") as caught:
        add([{"row_id": row_id, "quantity": quantity}]).execute(task.context)
    assert caught.value.sent == "no"  # type: ignore[attr-defined]
    assert portal.ledger == []


def test_values_inside_are_templates(portal: Any, task: Task) -> None:
    with DAG("templated"):
        operator = add([{"row_id": "{{ row }}", "quantity": "{{ many }}"}])
    operator.render_template_fields({"row": 1, "many": 2})  # type: ignore[arg-type]
    assert operator.execute(task.context)["amount"] == "900.00"


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="older Airflows keep no task state")
def test_the_journal_keeps_what_was_chosen(portal: Any, task: Task) -> None:
    add(CHOSEN).execute(task.context)
    kept = task.store.get("bitrix24_payment")
    assert kept["parameters"]["products"] == {"1": 1}
    assert kept["plan"] == {"1": 1}


def test_one_key_stands_for_one_choice(
    portal: Any, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", f"sqlite:///{tmp_path}/journal.db")
    keyed: Any = {"idempotency_key": "order-1", "journal_conn_id": "journal"}
    first = add(CHOSEN, **keyed).execute(task.context)
    assert add([{"row_id": "1", "quantity": 1}], **keyed).execute(task.context)["payment_id"] == first["payment_id"]
    with pytest.raises(AirflowFailException, match=r"products was \{'1': 1\}, now \{'1': 2\}"):
        add([{"row_id": 1, "quantity": 2}], **keyed).execute(task.context)
    assert put(portal) == ["crm.item.payment.add", "crm.item.payment.product.add"]


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="older Airflows keep no task state")
def test_a_later_attempt_completes_with_what_was_chosen(portal: Any, task: Task) -> None:
    portal.fault("operation_time_limit", "crm.item.payment.product.add", times=1)
    task.ti.max_tries = 1
    with pytest.raises(Bitrix24Error, match="Payment 1033 of deal 1 belongs to this key and may be incomplete"):
        add(CHOSEN, retries=1).execute(task.context)
    task.again()
    assert add(CHOSEN, retries=1).execute(task.context)["amount"] == "450.00"
    assert put(portal).count("crm.item.payment.add") == 1
