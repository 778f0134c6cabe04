"""Operators that are given an account number instead of an id: one read more, and the key of the id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.sdk import DAG

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.operators.calls import GetPaymentLinkOperator
from airflow_provider_bitrix24.operators.payment_lists import PayCrmPaymentsOperator, PayInvoicesOperator
from airflow_provider_bitrix24.operators.payments import PayCrmPaymentOperator, PayInvoiceOperator
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Task

EACH = pytest.mark.parametrize("kind", ["invoice", "payment", "link"])
MARKS = pytest.mark.parametrize("kind", ["invoice", "payment"])
ID_FIELDS = {"invoice": "invoice_id", "payment": "payment_id", "link": "payment_id"}
LOOK_UPS = {"invoice": "crm.invoice.list", "payment": "sale.payment.list", "link": "sale.payment.list"}


def operator(kind: str, **arguments: Any) -> Any:
    if kind == "invoice":
        return PayInvoiceOperator(task_id="pay", pay_system_id=31, **arguments)
    return (PayCrmPaymentOperator if kind == "payment" else GetPaymentLinkOperator)(task_id="pay", **arguments)


def number_of(portal: Any, kind: str) -> str:
    """The account number of an unpaid one."""
    if kind == "invoice":
        portal.portal.state.invoices[2].account_number = "INV-002"
        return "INV-002"
    return str(portal.portal.state.payments[1001].account_number)


def methods(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests if not request["inside_batch"]]


def writes(portal: Any) -> list[str]:
    return [entry["event"] for entry in portal.ledger]


@MARKS
def test_one_read_finds_the_id_and_the_key_is_that_of_the_id(portal: Any, task: Task, kind: str) -> None:
    number = number_of(portal, kind)
    receipt = operator(kind, account_number=f" {number} ").execute(task.context)
    expected = {"invoice": 2, "payment": 1001}[kind]
    assert receipt[ID_FIELDS[kind]] == expected
    assert receipt["idempotency_key"].endswith(f":{kind}:{expected}")
    assert receipt["outcome"] == "paid"
    assert methods(portal)[0] == LOOK_UPS[kind]
    assert len(methods(portal)) == 4


@MARKS
def test_paying_by_number_and_by_id_is_one_key(portal: Any, task: Task, kind: str) -> None:
    number = number_of(portal, kind)
    by_id = operator(kind, **{ID_FIELDS[kind]: {"invoice": 2, "payment": 1001}[kind]}).execute(task.context)
    by_number = operator(kind, account_number=number).execute(task.context)
    assert by_number["idempotency_key"] == by_id["idempotency_key"]
    known = ("paid", True) if AIRFLOW_V_3_3_PLUS else ("already_paid", False)
    assert (by_number["outcome"], by_number["recovered"]) == known
    assert len(writes(portal)) == 1


def test_the_link_of_a_payment_is_found_by_its_number(portal: Any, task: Task) -> None:
    assert operator("link", account_number=number_of(portal, "link")).execute(task.context)["payment_id"] == 1001
    assert task.xcoms["_link_CrmPaymentLink"] == f"{portal.url}/shop/orders/payment/details/1001/"


@EACH
def test_an_unknown_number_is_refused_by_name(portal: Any, task: Task, kind: str) -> None:
    with pytest.raises(AirflowFailException, match=r"has the account_number 'X-9'.* Nothing was sent") as caught:
        operator(kind, account_number="X-9").execute(task.context)
    assert methods(portal) == [LOOK_UPS[kind]]
    assert caught.value.sent == "no"  # type: ignore[attr-defined]
    assert writes(portal) == []


@EACH
def test_a_number_of_several_is_refused_with_their_ids(portal: Any, task: Task, kind: str) -> None:
    if kind == "invoice":
        rows, ids = portal.portal.state.invoices, "2, 3"
        rows[2].account_number = rows[3].account_number = "N-1"
    else:
        rows, ids = portal.portal.state.payments, "1001, 1002"
        rows[1001].account_number = rows[1002].account_number = "N-1"
    with pytest.raises(AirflowFailException, match=rf"account_number 'N-1' is that of 2 .*: {ids}\."):
        operator(kind, account_number="N-1").execute(task.context)
    assert writes(portal) == []


@EACH
@pytest.mark.parametrize("number", [2, "", "None", 2.0, True, ["2"], "2\u200b"])
def test_what_is_no_number_is_refused_before_anything_is_read(portal: Any, task: Task, kind: str, number: Any) -> None:
    with pytest.raises(AirflowFailException, match="account_number"):
        operator(kind, account_number=number).execute(task.context)
    assert methods(portal) == []


@EACH
@pytest.mark.parametrize("both", [True, False])
def test_exactly_one_is_needed_when_the_dag_file_is_read(kind: str, both: bool) -> None:
    arguments = {ID_FIELDS[kind]: 2, "account_number": "2"} if both else {}
    with pytest.raises(TypeError, match=f"exactly one of {ID_FIELDS[kind]} and account_number"):
        operator(kind, **arguments)


@EACH
def test_exactly_one_is_needed_when_the_task_runs(portal: Any, task: Task, kind: str) -> None:
    task_object = operator(kind, **{ID_FIELDS[kind]: 2})
    task_object.account_number = "2"
    with pytest.raises(AirflowFailException, match=f"exactly one of {ID_FIELDS[kind]} and account_number"):
        task_object.execute(task.context)
    assert methods(portal) == []


@EACH
def test_a_number_that_rendered_to_none_is_told(portal: Any, task: Task, kind: str) -> None:
    task_object = operator(kind, account_number="{{ nothing }}")
    task_object.account_number = None
    with pytest.raises(AirflowFailException, match="account_number was given, but rendered to None"):
        task_object.execute(task.context)


def test_a_webhook_that_may_not_look_it_up_is_told_which_scope(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = json.loads(portal.connection_of(portal.add_webhook(scopes=("crm",))))
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    with pytest.raises(AirflowFailException, match="lacks the scope sale") as caught:
        operator("payment", account_number="1/1").execute(task.context)
    assert caught.value.sent == "no"  # type: ignore[attr-defined]


@EACH
def test_it_is_templated(kind: str) -> None:
    assert "account_number" in operator(kind, account_number="2").template_fields


def test_a_number_keeps_its_underscore_and_zeros_with_native_types(portal: Any, task: Task) -> None:
    import jinja2.nativetypes

    portal.portal.state.invoices[2].account_number = "0047_11"
    task_object = operator("invoice", account_number="{{ number }}")
    task_object.account_number = task_object.render_template(
        "{{ a }}{{ b }}", {"a": "0047", "b": "_11"}, jinja2.nativetypes.NativeEnvironment()
    )
    assert task_object.execute(task.context)["invoice_id"] == 2


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="older Airflows keep no task state")
def test_a_number_that_has_become_another_invoices_is_not_paid_by_a_later_attempt(portal: Any, task: Task) -> None:
    rows = portal.portal.state.invoices
    rows[2].account_number = "N-1"
    operator("invoice", account_number="N-1").execute(task.context)
    rows[2].account_number, rows[3].account_number = "N-0", "N-1"
    task.ti.try_number, task.ti.max_tries = 2, 1
    with pytest.raises(AirflowFailException, match=r"already worked on '.*:invoice:2'"):
        operator("invoice", account_number="N-1").execute(task.context)
    assert len(writes(portal)) == 1


@pytest.mark.parametrize(
    ("expanded", "words"),
    [
        ({"account_number": "X-9"}, "has the account_number 'X-9'"),
        ({"account_number": None}, "account_number was given, but rendered to None"),
        ({"invoice_id": 2, "account_number": "2"}, "exactly one of invoice_id and account_number"),
    ],
)
def test_a_mapped_task_is_told_when_it_runs(portal: Any, task: Task, expanded: Any, words: str) -> None:
    with DAG("mapped"):
        mapped = PayInvoiceOperator.partial(task_id="pay", pay_system_id=31).expand_kwargs([expanded])
    with pytest.raises(AirflowFailException, match=words):
        mapped.unmap(expanded).execute(task.context)
    assert writes(portal) == []


# -- in the rows of a list

LISTS = pytest.mark.parametrize("kind", ["invoices", "payments"])
FINDS = {"invoices": "crm.invoice.list", "payments": "sale.payment.list"}
OF_AN_ITEM = {"invoices": "invoice_id", "payments": "payment_id"}


def list_operator(kind: str, rows: Any) -> Any:
    if kind == "invoices":
        return PayInvoicesOperator(task_id="pay", invoices=rows, pay_system_id=31)
    return PayCrmPaymentsOperator(task_id="pay", payments=rows, allow_zero=True)


def numbered(portal: Any, kind: str, count: int) -> list[int]:
    """Objects with the account numbers N-0, N-1, ..., and their ids."""
    inside, ids = portal.portal, []
    for index in range(count):
        if kind == "invoices":
            ids.append(inside.create("invoice", {"price": "10.00"}))
            inside.state.invoices[ids[-1]].account_number = f"N-{index}"
        else:
            ids.append(portal.act.add_payment(2, inside.create("deal", {"title": "Deal"})))
            inside.state.payments[ids[-1]].account_number = f"N-{index}"
    portal.portal.ledger.clear()
    return ids


@LISTS
def test_rows_are_named_by_number_and_by_id(portal: Any, task: Task, kind: str, tmp_path: Path) -> None:
    ids = numbered(portal, kind, 4)
    file = tmp_path / "items.csv"
    file.write_text(f"account_number,{OF_AN_ITEM[kind]}\nN-0,\n,{ids[1]}\n N-2 ,\nN-3,\n")
    summary = list_operator(kind, str(file)).execute(task.context)
    assert [receipt[OF_AN_ITEM[kind]] for receipt in summary["receipts"]] == ids
    assert methods(portal)[0] == FINDS[kind]
    assert methods(portal).count(FINDS[kind]) == 1
    assert len(writes(portal)) == 4


@LISTS
def test_a_thousand_numbers_are_looked_up_by_one_request(portal: Any, task: Task, kind: str) -> None:
    numbers = [f"N-{index}" for index in range(1000)]
    ids = numbered(portal, kind, 1000)
    items = list_operator(kind, [{"account_number": number} for number in numbers]).checked_items(task.context)
    assert [getattr(item.operation, OF_AN_ITEM[kind]) for item in items] == ids
    assert methods(portal) == ["batch"]


@LISTS
def test_numbers_that_nothing_or_several_have_are_told_by_row(portal: Any, task: Task, kind: str) -> None:
    ids = numbered(portal, kind, 3)
    books = portal.portal.state.invoices if kind == "invoices" else portal.portal.state.payments
    books[ids[1]].account_number = "N-2"
    rows = [{"account_number": number} for number in ("N-0", "N-2", "X-9")]
    words = rf"\[1\]: account_number 'N-2' is that of 2 .*: {ids[1]}, {ids[2]}\..*\[2\]: no .* 'X-9'.*Nothing was sent"
    with pytest.raises(AirflowFailException, match=words) as caught:
        list_operator(kind, rows).execute(task.context)
    assert "[0]" not in str(caught.value)
    assert (methods(portal), writes(portal)) == ([FINDS[kind]], [])


@LISTS
def test_a_number_and_the_id_of_the_same_are_duplicates(portal: Any, task: Task, kind: str) -> None:
    (number,) = numbered(portal, kind, 1)
    with pytest.raises(AirflowFailException, match=rf"\[0\] and {kind}\[1\] both name .* {number}"):
        list_operator(kind, [{"account_number": "N-0"}, number]).execute(task.context)
    assert writes(portal) == []


@LISTS
@pytest.mark.parametrize("wrong", [{}, {"account_number": "N-0", "id": 2}, {"account_number": 12}, {"id": "x"}])
def test_all_rows_are_checked_before_a_number_is_looked_up(portal: Any, task: Task, kind: str, wrong: Any) -> None:
    row = {OF_AN_ITEM[kind] if name == "id" else name: value for name, value in wrong.items()}
    with pytest.raises(AirflowFailException, match=rf"{kind}\[1\]: .*{OF_AN_ITEM[kind]}|{kind}\[1\]: account_number"):
        list_operator(kind, [{"account_number": "N-0"}, row]).execute(task.context)
    assert methods(portal) == []


@pytest.mark.parametrize("journal", ["task state", "sql"])
@LISTS
def test_a_number_that_has_moved_pays_nothing_more_in_the_same_task(
    portal: Any, task: Task, kind: str, journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not AIRFLOW_V_3_3_PLUS:
        pytest.skip("older Airflows keep no task state")
    monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", f"sqlite:///{tmp_path / 'journal.db'}")
    ids = numbered(portal, kind, 3)
    books = portal.portal.state.invoices if kind == "invoices" else portal.portal.state.payments
    rows = [{"account_number": "N-0"}, {"account_number": "N-1"}]

    def run(given: Any) -> Any:
        operator = list_operator(kind, given)
        operator.journal_conn_id = "journal" if journal == "sql" else None
        return operator.execute(task.context)

    run(rows)
    books[ids[1]].account_number, books[ids[2]].account_number = "old", "N-1"
    task.again()
    noun = kind.removesuffix("s")
    words = rf"{kind}\[1\]: account_number 'N-1' is that of {noun} {ids[2]} now; in .* that of {noun} {ids[1]}\."
    with pytest.raises(AirflowFailException, match=words) as caught:
        run(rows)
    assert "[0]" not in str(caught.value)
    assert caught.value.sent == "unknown"  # type: ignore[attr-defined]  # the first attempt has sent two
    assert len(writes(portal)) == 2
    # The person says that the other one is to be paid as well.
    task.clear()
    assert run([rows[0], {OF_AN_ITEM[kind]: ids[2]}])["failed"] == 0
    assert len(writes(portal)) == 3


@pytest.mark.needs_task_state
def test_a_number_that_has_moved_before_anything_was_sent_is_paid(portal: Any, task: Task) -> None:
    ids = numbered(portal, "invoices", 2)
    first = list_operator("invoices", [{"account_number": "N-0"}])
    first.max_total = "1.00"
    with pytest.raises(AirflowFailException, match="max_total"):
        first.execute(task.context)
    books = portal.portal.state.invoices
    books[ids[0]].account_number, books[ids[1]].account_number = "N-1", "N-0"
    task.clear()
    summary = list_operator("invoices", [{"account_number": "N-0"}]).execute(task.context)
    assert summary["receipts"][0]["invoice_id"] == ids[1]


@pytest.mark.needs_task_state
@LISTS
def test_a_number_that_may_have_moved_pays_nothing_when_the_notes_are_gone(portal: Any, task: Task, kind: str) -> None:
    ids = numbered(portal, kind, 2)
    rows = [{"account_number": "N-0"}]
    list_operator(kind, rows).execute(task.context)
    books = portal.portal.state.invoices if kind == "invoices" else portal.portal.state.payments
    del task.store.kept["bitrix24_numbers_1"]
    task.again()
    assert list_operator(kind, rows).execute(task.context)["failed"] == 0  # what was paid is in the list
    books[ids[0]].account_number, books[ids[1]].account_number = "old", "N-0"
    task.again()
    noun = kind.removesuffix("s")
    words = rf"recorded money for {noun} {ids[0]}, which .* bitrix24_numbers_1 is not in the task's Storage tab"
    with raises_for_good(Bitrix24ConfigError, words) as caught:
        list_operator(kind, rows).execute(task.context)
    assert caught.value.sent == "unknown"  # type: ignore[attr-defined]
    assert len(writes(portal)) == 1
    # The person has looked.
    task.clear()
    assert list_operator(kind, [{OF_AN_ITEM[kind]: ids[1]}]).execute(task.context)["failed"] == 0
    assert len(writes(portal)) == 2


@pytest.fixture
def five_numbers_in_documents_of_two(portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr("airflow_provider_bitrix24.operators.moved_numbers.NUMBERS_PER_DOCUMENT", 2)
    ids = numbered(portal, "invoices", 6)
    list_operator("invoices", [{"account_number": f"N-{index}"} for index in range(5)]).execute(task.context)
    task.again()
    return ids


@pytest.mark.needs_task_state
def test_many_numbers_are_noted_in_several_documents(
    portal: Any, task: Task, five_numbers_in_documents_of_two: list[int]
) -> None:
    ids, books = five_numbers_in_documents_of_two, portal.portal.state.invoices
    assert json.loads(task.store.kept["bitrix24_numbers_3"])["numbers"] == {"n-4": f"invoice {ids[4]}"}
    books[ids[4]].account_number, books[ids[5]].account_number = "old", "N-4"
    with pytest.raises(AirflowFailException, match=rf"is that of invoice {ids[5]} now; in .* that of invoice {ids[4]}"):
        list_operator("invoices", [{"account_number": "N-4"}]).execute(task.context)


@pytest.mark.needs_task_state
@pytest.mark.parametrize("place", [1, 2, 3])
@pytest.mark.parametrize("first", [[], ["N-0"], ["N-2"], ["N-4"]], ids=lambda first: first[0] if first else "nothing")
def test_a_number_whose_document_is_gone_pays_nothing_if_it_may_have_moved(
    portal: Any, task: Task, five_numbers_in_documents_of_two: list[int], place: int, first: list[str]
) -> None:
    ids, books = five_numbers_in_documents_of_two, portal.portal.state.invoices
    del task.store.kept[f"bitrix24_numbers_{place}"]
    for number in first:  # an attempt in between, whose numbers may be noted, makes the notes no more complete
        rows = [{"account_number": number}, *({"invoice_id": one} for one in ids[:5] if one != ids[int(number[2:])])]
        assert list_operator("invoices", rows).execute(task.context)["failed"] == 0
        task.again()
    moved = 2 * (place - 1)
    books[ids[moved]].account_number, books[ids[5]].account_number = "old", f"N-{moved}"
    with raises_for_good(Bitrix24ConfigError, rf"invoice {ids[moved]}\b.* bitrix24_numbers_{place} is not in"):
        list_operator("invoices", [{"account_number": f"N-{moved}"}]).execute(task.context)
    assert len(writes(portal)) == 5


@pytest.mark.needs_task_state
@pytest.mark.parametrize("document", [[], {}, {"n-0": "invoice 1"}, {"documents": "3", "numbers": {}}])
def test_a_document_that_somebody_has_changed_counts_as_gone(
    portal: Any, task: Task, five_numbers_in_documents_of_two: list[int], document: Any
) -> None:
    task.store.kept["bitrix24_numbers_1"] = json.dumps(document)
    with raises_for_good(Bitrix24ConfigError, "bitrix24_numbers_1 is not in the task's Storage tab, or was changed"):
        list_operator("invoices", [{"account_number": "N-5"}]).execute(task.context)
    assert len(writes(portal)) == 5


@pytest.mark.needs_task_state
def test_a_number_that_was_not_in_the_list_is_paid_if_all_notes_are_there(
    portal: Any, task: Task, five_numbers_in_documents_of_two: list[int]
) -> None:
    ids = five_numbers_in_documents_of_two
    summary = list_operator("invoices", [{"account_number": "N-5"}]).execute(task.context)
    assert summary["receipts"][0]["invoice_id"] == ids[5]
    assert json.loads(task.store.kept["bitrix24_numbers_3"]) == {
        "documents": 3,
        "numbers": {"n-4": f"invoice {ids[4]}", "n-5": f"invoice {ids[5]}"},
    }
