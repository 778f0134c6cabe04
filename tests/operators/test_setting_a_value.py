"""The example of an operator that sets a value: docs/examples/set_quantity.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown, Bitrix24RateLimited
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from conftest import Task

FILE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "set_quantity.py"
SPEC = importlib.util.spec_from_file_location("set_quantity", FILE)
assert SPEC is not None
assert SPEC.loader is not None
example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)
WRITE = "crm.item.payment.product.setQuantity"
PAYMENT, LINE = 1001, 1101


@pytest.fixture(autouse=True)
def four_pieces(portal: Any) -> None:
    """The deal has more pieces of the product than the payment."""
    Bitrix24Hook().rest.crm_item_productrow_update(id=6, fields={"quantity": 4})
    portal.portal.ledger.clear()


def set_quantity(task: Task, **arguments: Any) -> dict[str, Any]:
    chosen = {"payment_id": PAYMENT, "line_id": LINE, "quantity": 2} | arguments
    result: dict[str, Any] = example.SetPaymentQuantityOperator(task_id="set", **chosen).execute(task.context)
    return result


def changes(portal: Any) -> list[tuple[int, int]]:
    """The changes that really happened: the line and its new quantity."""
    return [(one["item_id"], one["quantity"]) for one in portal.ledger if one["event"] == "product_changed"]


def sends(portal: Any) -> int:
    return [request["method"] for request in portal.requests].count(WRITE)


def test_it_is_set_once(portal: Any, task: Task) -> None:
    expected = {"payment_id": PAYMENT, "line_id": LINE, "quantity": 2}
    assert set_quantity(task) == {**expected, "changed": True}
    task.again()
    assert set_quantity(task, quantity="2") == {**expected, "changed": False}
    assert changes(portal) == [(LINE, 2)]
    assert sends(portal) == 1


def test_true_is_no_proof(portal: Any, task: Task) -> None:
    portal.fault("true_not_applied", WRITE)
    with pytest.raises(AirflowFailException, match="has the quantity 1, not 2, although the portal returned success"):
        set_quantity(task)
    assert changes(portal) == []


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_a_lost_reply_is_not_sent_again_and_a_cleared_task_reads_first(portal: Any, task: Task, kind: str) -> None:
    portal.fault(kind, WRITE, occurrence=1)
    with raises_for_good(Bitrix24OutcomeUnknown):
        set_quantity(task)
    assert sends(portal) == 1
    task.clear()
    assert set_quantity(task)["changed"] is (kind == "drop_before")
    assert changes(portal) == [(LINE, 2)]


def test_a_refusal_that_passes_is_left_to_the_retries(portal: Any, task: Task) -> None:
    portal.fault("operation_time_limit", WRITE)
    with pytest.raises(Bitrix24RateLimited):
        set_quantity(task)
    assert changes(portal) == []


def test_what_cannot_be_set_is_refused_before_anything_is_sent(portal: Any, task: Task) -> None:
    for wrong, words in (
        ({"quantity": 0}, "quantity must be"),
        ({"quantity": "1.5"}, "quantity must be"),
        ({"line_id": 99}, "Payment 1001 has no line 99"),
    ):
        with pytest.raises(AirflowFailException, match=words):
            set_quantity(task, **wrong)
    assert sends(portal) == 0


def test_the_kill_switch_stops_it(portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__KILL_SWITCH", "True")
    with pytest.raises(AirflowFailException, match="stopped all payments"):
        set_quantity(task)
    assert sends(portal) == 0
    task.run.run_type = "backfill"
    monkeypatch.setenv("AIRFLOW__BITRIX24__KILL_SWITCH", "False")
    with pytest.raises(AirflowFailException, match="backfill run"):
        set_quantity(task)
    assert set_quantity(task, allow_backfill=True)["changed"] is True
