"""The operators for lists over real HTTP; the portal's ledger says what happened."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.sdk import DAG

from airflow_provider_bitrix24.exceptions import PaymentListFailed, PaymentListUnfinished
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.payment_lists import (
    AddCrmPaymentsOperator,
    PayCrmPaymentsOperator,
    PayInvoicesOperator,
)
from airflow_provider_bitrix24.sandbox.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Task

WRITES = {
    "invoices": "sale.paysystem.pay.invoice",
    "payments": "crm.item.payment.pay",
    "adds": "crm.item.payment.add",
}
EVENTS = {"invoices": "invoice_paid", "payments": "payment_paid", "adds": "payment_added"}
ID = {"invoices": "invoice_id", "payments": "payment_id", "adds": "entity_id"}
PREVIEW_REQUESTS = 2
"""For all invoices of a list, before the first write."""
LISTS = pytest.mark.parametrize("kind", list(WRITES))


def make(portal: Any, kind: str, count: int) -> list[int]:
    """Make objects on the portal, and return their ids."""
    inside = portal.portal
    if kind == "invoices":
        return [inside.create("invoice", {"price": f"{100 + number}.00"}) for number in range(count)]
    deals = [inside.create("deal", {"title": f"Deal {number}"}) for number in range(count)]
    if kind == "adds":
        return deals
    return [portal.act.add_payment(2, deal) for deal in deals]


def operator(kind: str, ids: Any, **options: Any) -> Any:
    if kind == "invoices":
        return PayInvoicesOperator(task_id="pay", **{"invoices": ids, "pay_system_id": 31, **options})
    if kind == "payments":
        return PayCrmPaymentsOperator(task_id="pay", **{"payments": ids, "allow_zero": True, **options})
    return AddCrmPaymentsOperator(task_id="pay", **{"items": ids, **options})


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The connection of a SQL journal."""
    monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", f"sqlite:///{tmp_path / 'journal.db'}")
    return "journal"


def changes(portal: Any, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in portal.ledger if entry["event"] == EVENTS[kind] and entry["by"] == "rest"]


def on(entry: dict[str, Any], kind: str) -> int:
    """The object that an entry of the ledger is about."""
    return int(entry[ID[kind]])


def http_requests(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests if not request["inside_batch"]]


@LISTS
@pytest.mark.parametrize("journal", ["sql", "task state"])
def test_each_item_once_and_a_receipt_for_each(portal: Any, task: Task, kind: str, journal: str, database: str) -> None:
    ids = make(portal, kind, 7)
    options = {"journal_conn_id": database} if journal == "sql" else {}
    summary = operator(kind, ids, batch_size=3, **options).execute(task.context)
    outcome = "created" if kind == "adds" else "paid"
    assert summary["statuses"] == {outcome: 7}
    assert (summary["succeeded"], summary["failed"], summary["failures"]) == (7, 0, [])
    assert [receipt["index"] for receipt in summary["receipts"]] == list(range(7))
    assert json.loads(json.dumps(summary)) == summary
    assert len(changes(portal, kind)) == 7
    assert {on(entry, kind) for entry in changes(portal, kind)} == set(ids)


# -- what a list may be


@pytest.mark.parametrize("form", ["text", "lazy", "mappings", "csv", "semicolons", "jsonl"])
def test_a_list_comes_in_many_forms(portal: Any, task: Task, tmp_path: Path, form: str) -> None:
    files = {
        "csv": ("open.csv", "\ufeffInvoice_id,expected_amount,pay_system_id\n2,1500.00,\n\n7,120.00,31\n"),
        "semicolons": ("open.csv", "invoice_id;expected_currency\r\n2;EUR\r\n7;eur\r\n"),
        "jsonl": ("open.jsonl", '{"invoice_id": 2, "expected_amount": 1500.00}\n7\n'),
    }
    given: Any = {
        "text": '[2, {"invoice_id": 7, "expected_amount": 120.00}]',
        "lazy": Lazy([2, "7"]),
        "mappings": [{"invoice_id": 2, "expected_amount": "1500.00"}, {"invoice_id": "7"}],
    }.get(form)
    if form in files:
        name, content = files[form]
        (tmp_path / name).write_text(content, encoding="utf-8")
        given = f"file://{tmp_path / name}"
    summary = operator("invoices", given).execute(task.context)
    assert [receipt["invoice_id"] for receipt in summary["receipts"]] == [2, 7]
    assert summary["amounts"] == {"EUR": "1620.00"}
    assert summary["statuses"] == {"paid": 2}


class Lazy:
    """What Airflow hands over for the XComs of a mapped task: it can be iterated, and is no list."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Any:
        return iter(self.values)


@pytest.mark.parametrize(
    ("kind", "given", "options", "words"),
    [
        ("invoices", [2, "x"], {}, r"invoices\[1\]: invoice_id must be a whole positive number .*'x'"),
        ("invoices", [2, 7, "2"], {}, r"invoices\[0\] and invoices\[2\] both name invoice 2"),
        ("invoices", [{"invoice_id": 2, "expected_ammount": "1"}], {}, r"invoices\[0\] has 'expected_ammount'"),
        ("invoices", [{"invoice_id": 2, "expected_amount": "1.999,99"}], {}, r"invoices\[0\]: expected_amount .*point"),
        ("invoices", [{"invoice_id": 2, "expected_amount": ""}], {}, r"invoices\[0\]: expected_amount is empty"),
        ("invoices", [{"invoice_id": 2, "expected_currency": "Euro"}], {}, r"invoices\[0\]: expected_currency must be"),
        ("invoices", [2], {"pay_system_id": None}, r"invoices\[0\]: give exactly one of pay_system_id and bx_rest"),
        ("invoices", "2, 7", {}, r"invoices must be a list, or the path of a file that ends in \.csv or \.jsonl"),
        ("invoices", "[2, {'invoice_id': 7}]", {}, "which is no JSON list"),
        ("invoices", {"invoice_id": 2}, {}, "invoices must be a list of ids or mappings"),
        ("invoices", 2, {}, "invoices must be a list of ids or mappings"),
        ("invoices", "file:///nowhere/open.csv", {}, "there is no file file:///nowhere/open.csv"),
        ("invoices", [2], {"batch_size": 51}, "batch_size must be a whole number from 1 to 50, not 51"),
        ("invoices", [2], {"fail_on": "some"}, "fail_on must be 'any', 'unknown', 'never', or the share"),
        ("invoices", [2], {"fail_on": 1}, "fail_on must be 'any', 'unknown', 'never', or the share"),
        ("invoices", [2], {"if_paid": "skip"}, "if_paid must be one of succeed, fail"),
        ("invoices", [2], {"max_total": "much"}, "max_total must be an amount"),
        ("invoices", list(range(1, 502)), {}, "has 501 invoices, and XCom is no place for more than 500"),
        ("payments", [1001, True], {}, r"payments\[1\]: payment_id must be a whole positive number"),
        ("adds", [1, 2, 1], {}, r"items\[0\] and items\[2\] both name deal 1\. For two payments of one object"),
        ("adds", [{"entity_id": 1, "entity_type_id": "lead"}], {}, r"items\[0\]: entity_type_id must be 2 or 'deal'"),
        ("adds", [{"entity_id": 1, "idempotency_key": "a"}], {}, r"items\[0\]: idempotency_key 'a' needs a journal"),
        (
            "adds",
            [{"entity_id": 1, "idempotency_key": 5}],
            {"tag": True},
            r"items\[0\]: idempotency_key must be a text",
        ),
        ("adds", [1], {"max_total": "5"}, "payments without products are added with the sum 0"),
        (
            "adds",
            [{"entity_id": 1, "idempotency_key": "a"}, {"entity_id": 2, "idempotency_key": "a "}],
            {"tag": True},
            r"items\[0\] and items\[1\] both name the idempotency_key 'a'",
        ),
    ],
)
def test_nothing_is_requested_if_anything_in_the_list_is_wrong(
    portal: Any, task: Task, kind: str, given: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(AirflowFailException, match=f"(?s){words}.*Nothing was sent"):
        operator(kind, given, **options).execute(task.context)
    assert portal.requests == []
    assert portal.ledger == []


def test_an_error_names_each_wrong_row_of_a_file(portal: Any, task: Task, tmp_path: Path) -> None:
    path = tmp_path / "open.csv"
    path.write_text("invoice_id,expected_amount\n2,1500.00\nx,1\n7,much\n")
    with pytest.raises(AirflowFailException) as caught:
        operator("invoices", str(path)).execute(task.context)
    text = str(caught.value)
    assert "open.csv, line 3: invoice_id must be" in text
    assert "open.csv, line 4: expected_amount must be" in text
    assert text.count("Nothing was sent.") == 1


@LISTS
def test_a_wrong_row_hides_no_duplicate(portal: Any, task: Task, kind: str) -> None:
    with pytest.raises(AirflowFailException) as caught:
        operator(kind, [5, {"unknown": 1}, "x", 7, 5, 7, 5]).execute(task.context)
    text = str(caught.value)
    pairs = (r"\[0\] and \w+\[4\] both", r"\[3\] and \w+\[5\] both", r"\[0\] and \w+\[6\] both")
    found = [re.search(words, text) for words in (r"\[1\] has 'unknown'", rf"\[2\]: {ID[kind]} must be", *pairs)]
    assert None not in found, text
    assert (text.count("remove one of them"), text.count("Nothing was sent."), portal.requests) == (1, 1, [])


def test_one_error_names_repeated_numbers_and_what_else_is_wrong(portal: Any, task: Task, tmp_path: Path) -> None:
    path = tmp_path / "open.jsonl"
    path.write_text('{"account_number": "N-1"}\n{"account_number": \n{"account_number": "N-1"}\n[]\n')
    words = (
        r"line 2 is no JSON\..*line 4: invoice_id must be.*line 1 and open.jsonl, line 3 both name account_number 'N-1'"
    )
    with pytest.raises(AirflowFailException, match=words):
        operator("invoices", str(path)).execute(task.context)
    assert portal.requests == []


def test_one_error_names_lines_of_a_wrong_length_and_what_else_is_wrong(
    portal: Any, task: Task, tmp_path: Path
) -> None:
    path = tmp_path / "open.csv"
    path.write_text("invoice_id,expected_amount\n2\n3,much\n7,120.00\n7,120.00\n")
    words = r"line 2 has 1 cells.*line 3: expected_amount must be.*line 4 and open.csv, line 5 both name invoice 7"
    with pytest.raises(AirflowFailException, match=words):
        operator("invoices", str(path)).execute(task.context)
    assert portal.requests == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "open.csv is empty"),
        ("invoice_id,expected_amount\n2\n", "open.csv, line 2 has 1 cells, and the heading has 2"),
        ("invoice_id,invoice_id\n2,3\n", "two columns have the same name"),
        ('invoice_id\n"2"x\n', "open.csv, line 2: "),
    ],
)
def test_a_damaged_file_is_refused(portal: Any, task: Task, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "open.csv").write_text(content)
    with pytest.raises(AirflowFailException, match=words):
        operator("invoices", str(tmp_path / "open.csv")).execute(task.context)
    assert portal.requests == []


@LISTS
def test_a_list_refuses_ask_timeout(kind: str) -> None:
    with pytest.raises(TypeError, match=r"Operator takes no ask_timeout: a list asks nobody"):
        operator(kind, [1], ask_timeout=timedelta(hours=1))
    with DAG("finance", default_args={"ask_timeout": timedelta(hours=1)}):
        operator(kind, [1])  # of the other operators of the DAG


def test_an_empty_list_is_no_failure(portal: Any, task: Task) -> None:
    summary = operator("invoices", []).execute(task.context)
    assert (summary["total"], summary["statuses"], portal.requests) == (0, {}, [])


# -- before the first write


@pytest.mark.parametrize("kind", ["invoices", "payments", "adds"])
def test_a_list_above_max_total_sends_nothing(portal: Any, task: Task, kind: str) -> None:
    ids = {"invoices": [2, 7], "payments": [1001, 1002], "adds": [1, 2]}[kind]
    options = {"fill_products": True} if kind == "adds" else {}
    with pytest.raises(AirflowFailException, match=r"The list adds up to [0-9.]+.*max_total is 10\. Nothing was sent"):
        operator(kind, ids, max_total="10", **options).execute(task.context)
    assert changes(portal, kind) == []
    assert operator(kind, ids, max_total="100000", **options).execute(task.context)["succeeded"] == 2


def test_max_total_does_not_count_what_is_paid_or_refused(portal: Any, task: Task) -> None:
    portal.act.pay_invoice(2)
    rows = [2, {"invoice_id": 7, "expected_amount": "1.00"}, 3]
    summary = operator("invoices", rows, max_total="249.90", fail_on="never").execute(task.context)
    assert summary["statuses"] == {"already_paid": 1, "refused": 1, "paid": 1}
    assert summary["amounts"] == {"EUR": "249.90"}


def test_max_total_is_for_one_currency(portal: Any, task: Task) -> None:
    dollars = portal.portal.create("invoice", {"price": "5.00", "currency": "USD"})
    with pytest.raises(AirflowFailException, match="The list has several currencies, and max_total is for one"):
        operator("invoices", [2, dollars], max_total="100000").execute(task.context)
    assert changes(portal, "invoices") == []


# -- items that fail


def test_a_failed_item_does_not_stop_the_others_and_the_summary_comes_first(portal: Any, task: Task) -> None:
    rows = [{"invoice_id": 2, "expected_amount": "1.00"}, 7, 999, 3]
    with pytest.raises(AirflowFailException) as caught:
        operator("invoices", rows).execute(task.context)
    assert isinstance(caught.value, PaymentListFailed)
    assert caught.value.code == "payment.list_failed"
    assert caught.value.sent == "yes"
    assert "invoices[0], invoice 2: Invoice 2 is for 1500.00 EUR" in str(caught.value)
    summary = task.xcoms["return_value"]
    assert summary["statuses"] == {"refused": 2, "paid": 2}
    assert [(one["index"], one["row"], one["status"], one["sent"]) for one in summary["failures"]] == [
        (0, "invoices[0]", "refused", "no"),
        (2, "invoices[2]", "refused", "no"),
    ]
    assert [one["code"] for one in summary["failures"]] == ["payment.mismatch", "payment.refused"]
    assert sorted(entry["invoice_id"] for entry in changes(portal, "invoices")) == [3, 7]


@pytest.mark.parametrize(
    ("fail_on", "fails"), [("any", True), ("unknown", False), ("never", False), (0.5, False), (0.2, True)]
)
def test_fail_on_decides_by_refused_items(
    portal: Any, task: Task, fail_on: Any, fails: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    task_ = operator("invoices", [2, 7, 999], fail_on=fail_on)
    if fails:
        with pytest.raises(AirflowFailException, match="1 of 3 invoices are not done"):
            task_.execute(task.context)
        return
    assert task_.execute(task.context)["failed"] == 1
    last = [line for line in capfd.readouterr().out.splitlines() if "payment_lists" in line][-1]
    assert "although 1 of 3 invoices are not done" in last


@pytest.mark.parametrize(("fail_on", "fails"), [("any", True), ("unknown", True), ("never", False), (0.5, False)])
def test_fail_on_decides_by_items_of_unknown_outcome(portal: Any, task: Task, fail_on: Any, fails: bool) -> None:
    portal.fault("true_not_applied", WRITES["invoices"], times=1)
    task_ = operator("invoices", [2, 7], fail_on=fail_on, batch_size=1)
    if fails:
        with pytest.raises(AirflowFailException, match="1 unknown"):
            task_.execute(task.context)
    else:
        task_.execute(task.context)
    assert len(changes(portal, "invoices")) == 1


def test_what_is_paid_already_can_be_refused(portal: Any, task: Task) -> None:
    portal.act.pay_invoice(2)
    with pytest.raises(AirflowFailException, match="invoice_id 2 is paid already, and if_paid is 'fail'"):
        operator("invoices", [2, 7], if_paid="fail").execute(task.context)
    task.again()
    seven = "paid" if AIRFLOW_V_3_3_PLUS else "already_paid"  # it was marked by the first attempt, as the journal knows
    with pytest.raises(AirflowFailException, match=f"(?=.*1 refused)(?=.*1 {seven})"):
        operator("invoices", [2, 7], if_paid="fail").execute(task.context)


def test_a_portal_that_is_away_is_not_asked_for_each_chunk(portal: Any, task: Task) -> None:
    ids = make(portal, "invoices", 40)
    portal.fault("operation_time_limit", WRITES["invoices"], occurrence=11, times=1000)
    with pytest.raises(AirflowRescheduleException):  # once, in case it passes
        operator("invoices", ids, batch_size=10).execute(task.context)
    task.reschedule()
    with pytest.raises(PaymentListUnfinished, match="30 not_started"):
        operator("invoices", ids, batch_size=10).execute(task.context)
    assert len(changes(portal, "invoices")) == 10
    assert task.xcoms["return_value"]["statuses"] == {"paid": 10, "not_started": 30}
    writes = [request for request in portal.requests if request["method"] == WRITES["invoices"]]
    assert len(writes) == 30
    portal.clear_faults()
    task.again()
    statuses = {"paid": 40} if AIRFLOW_V_3_3_PLUS else {"already_paid": 10, "paid": 30}
    assert operator("invoices", ids, batch_size=10).execute(task.context)["statuses"] == statuses
    assert len(changes(portal, "invoices")) == 40


# -- receipts in a file


def test_receipts_of_a_long_list_are_in_a_file(portal: Any, task: Task, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "receipts.jsonl"
    with pytest.raises(AirflowFailException):
        operator("invoices", [2, 999], receipts_path=f"file://{path}").execute(task.context)
    summary = task.xcoms["return_value"]
    assert (summary["receipts_path"], "receipts" in summary) == (f"file://{path}", False)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["index"], line["subject"], line["status"]) for line in lines] == [
        (0, "invoice 2", "paid"),
        (1, "invoice 999", "refused"),
    ]
    assert lines[0]["receipt"]["amount"] == "1500.00"
    assert lines[1]["error"]["code"] == "payment.refused"


@pytest.mark.parametrize("in_file", [True, False])
def test_a_failed_list_says_where_all_results_are(portal: Any, task: Task, tmp_path: Path, in_file: bool) -> None:
    path = f"file://{tmp_path / 'receipts.jsonl'}"
    with pytest.raises(PaymentListFailed) as caught:
        operator("invoices", [2, *range(900, 906)], receipts_path=path if in_file else None).execute(task.context)
    where = path if in_file else "this task's XCom"
    assert f"; the results of all are in {where}. " in str(caught.value)
    assert "3 more have failed." in str(caught.value)


# -- attempts after the first


class Death(BaseException):
    """The worker is killed."""


def die_at(monkeypatch: pytest.MonkeyPatch, method: str, occurrence: int, *, when: str) -> None:
    """Kill the worker before or after one of its requests is executed that contain a method."""
    left = [occurrence]
    run = Bitrix24Hook.run

    def dying(self: Any, flow: Any) -> Any:
        request = getattr(flow, "gi_frame", None)
        writes = flow.__name__ in ("send_one", "send_many")
        if writes and request is not None:
            left[0] -= 1
        if writes and left[0] == 0 and when == "before":
            raise Death
        result = run(self, flow)
        if writes and left[0] == 0:
            raise Death
        return result

    monkeypatch.setattr(Bitrix24Hook, "run", dying)


@LISTS
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_run_goes_on_where_it_stopped(
    portal: Any, task: Task, kind: str, when: str, journal_conn_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = make(portal, kind, 9)
    options: dict[str, Any] = {"journal_conn_id": journal_conn_id}
    if kind == "adds" and journal_conn_id == "task_state":
        options |= {"tag": True}
    with monkeypatch.context() as dying:
        die_at(dying, WRITES[kind], 2, when=when)
        with pytest.raises(Death):
            operator(kind, ids, batch_size=3, **options).execute(task.context)
    done = len(changes(portal, kind))
    assert done == (6 if when == "after" else 3)
    task.again()
    summary = operator(kind, ids, batch_size=3, **options).execute(task.context)
    assert summary["failed"] == 0
    assert {on(entry, kind) for entry in changes(portal, kind)} == set(ids)
    assert len(changes(portal, kind)) == 9
    writes = [request for request in portal.requests if request["method"] == WRITES[kind]]
    assert len(writes) == 9
    assert sum(receipt["recovered"] for receipt in summary["receipts"]) == done


def test_a_cleared_task_whose_own_notes_are_gone_goes_on(
    portal: Any, task: Task, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = make(portal, "adds", 6)
    with monkeypatch.context() as dying:
        die_at(dying, WRITES["adds"], 2, when="before")
        with pytest.raises(Death):
            operator("adds", ids, batch_size=2, journal_conn_id=database).execute(task.context)
    task.store.kept.clear()  # Airflow 3.4 discards it
    task.clear()
    summary = operator("adds", ids, batch_size=2, journal_conn_id=database).execute(task.context)
    assert summary["statuses"] == {"existing": 2, "created": 4}
    assert len(changes(portal, "adds")) == 6


def test_without_task_state_the_database_tells_what_was_never_reached(
    portal: Any, forgetful_task: Task, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, ids = forgetful_task, make(portal, "adds", 6)
    with monkeypatch.context() as dying:
        die_at(dying, WRITES["adds"], 2, when="before")
        with pytest.raises(Death):
            operator("adds", ids, batch_size=2, journal_conn_id=database).execute(task.context)
    task.again()
    summary = operator("adds", ids, batch_size=2, journal_conn_id=database).execute(task.context)
    assert summary["statuses"] == {"created": 6}
    assert len(changes(portal, "adds")) == 6


def test_a_database_that_was_emptied_adds_nothing_a_second_time(
    portal: Any, forgetful_task: Task, database: str, tmp_path: Path
) -> None:
    task, ids = forgetful_task, make(portal, "adds", 3)
    operator("adds", ids, journal_conn_id=database).execute(task.context)
    (tmp_path / "journal.db").unlink()
    for _ in range(2):
        task.again()
        with pytest.raises(AirflowFailException, match="3 unknown"):
            operator("adds", ids, journal_conn_id=database).execute(task.context)
    assert len(changes(portal, "adds")) == 3


def test_another_run_with_a_database_adds_nothing_for_the_same_keys(portal: Any, task: Task, database: str) -> None:
    rows = [{"entity_id": one, "idempotency_key": f"order-{one}"} for one in make(portal, "adds", 4)]
    operator("adds", rows, journal_conn_id=database).execute(task.context)
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    assert operator("adds", rows, journal_conn_id=database).execute(task.context)["statuses"] == {"existing": 4}
    assert len(changes(portal, "adds")) == 4


def test_two_payments_of_one_object_are_added_one_after_another(portal: Any, task: Task, database: str) -> None:
    rows = [{"entity_id": 1, "idempotency_key": key} for key in ("deposit", "rest")]
    summary = operator("adds", rows, journal_conn_id=database).execute(task.context)
    assert summary["statuses"] == {"created": 2}
    assert len({receipt["payment_id"] for receipt in summary["receipts"]}) == 2


def test_products_are_filled_in(portal: Any, task: Task, database: str) -> None:
    rows = [1, {"entity_id": 101, "entity_type_id": "smart_invoice"}]
    summary = operator("adds", rows, fill_products=True, journal_conn_id=database).execute(task.context)
    assert summary["statuses"] == {"created": 2}
    assert all(float(receipt["amount"]) > 0 for receipt in summary["receipts"])


# -- progress


@pytest.mark.needs_task_state
def test_progress_is_logged_for_each_chunk_and_shown_in_the_storage_tab(
    portal: Any, task: Task, capfd: pytest.CaptureFixture[str]
) -> None:
    operator("invoices", make(portal, "invoices", 6), batch_size=3).execute(task.context)
    printed = capfd.readouterr().out
    assert "6 invoices: 6 to send (615.00 EUR), 0 paid already, 0 refused" in printed
    assert "3 of 6 invoices done, 0 failed, 3 remaining, about" in printed
    assert "6 of 6 invoices done, 0 failed, 0 remaining, about 0 s left" in printed
    progress = json.loads(task.store.kept["bitrix24_progress"])
    assert progress == {"total": 6, "succeeded": 6, "failed": 0, "remaining": 0, "seconds_left": 0}


@pytest.mark.parametrize(("unpaid", "requests"), [(6, 9), (1, 5), (0, 3)])
def test_the_estimate_counts_what_is_read_again(
    portal: Any, task: Task, unpaid: int, requests: int, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = make(portal, "invoices", 6)
    for number in ids[unpaid:]:
        portal.act.pay_invoice(invoice_id=number)
    operator("invoices", ids, batch_size=2).execute(task.context)
    assert f"about {requests} requests" in capfd.readouterr().out
    assert len(http_requests(portal)) == requests + PREVIEW_REQUESTS


# -- bad weather


@pytest.mark.usefixtures("unmeasured")
@LISTS
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.bitrix24_sandbox(random_seed=seed)) for seed in (1, 2)]
)
def test_under_faults_nothing_is_doubled_lost_or_falsely_reported(
    portal: Any, task: Task, kind: str, seed: int, database: str
) -> None:
    ids = make(portal, kind, 60)
    for fault in (
        Fault(kind="drop_after", method="batch", probability=0.05),
        Fault(kind="html", method="batch", when="after", probability=0.02),
        Fault(kind="drop_before", method="batch", probability=0.03),
        Fault(kind="true_not_applied", method=WRITES[kind], probability=0.02),
    ):
        portal.portal.faults.add(fault)
    for _ in range(4):
        try:
            summary = operator(kind, ids, batch_size=10, journal_conn_id=database).execute(task.context)
            break
        except (AirflowFailException, PaymentListUnfinished):
            summary = task.xcoms["return_value"]
            task.clear()
    on_the_portal = Counter(on(entry, kind) for entry in changes(portal, kind))
    assert max(on_the_portal.values()) == 1
    reported = {receipt[ID[kind]] for receipt in summary["receipts"]}
    assert reported <= set(on_the_portal)
    # What is left was sent as often as it may be without a person.
    left = {ids[failure["index"]] for failure in summary["failures"]}
    assert left == set(ids) - reported
    assert len(left) <= 6
    assert all(failure["status"] == "unknown" for failure in summary["failures"])


# -- what a person decides


def test_each_unknown_item_comes_with_the_command_that_decides(portal: Any, task: Task, database: str) -> None:
    ids = make(portal, "adds", 2)
    portal.fault("drop_after", "batch", times=100)
    operator_of_one_try = operator("adds", ids, journal_conn_id=database, fail_on="never")
    for _ in range(2):
        portal.clear_faults()
        portal.fault("drop_before", WRITES["adds"])
        summary = operator_of_one_try.execute(task.context)
    unknown = [failure for failure in summary["failures"] if failure["status"] == "unknown"]
    assert [failure["index"] for failure in unknown] == [0, 1]
    for failure in unknown:
        assert failure["command"].startswith("bitrix24-airflow journal resolve")
        assert failure["key"] in failure["command"]
        assert failure["subject"].startswith("deal ")


# ------------------------------------------------------------------------------------------------------------- assets


def test_one_asset_event_has_the_counts_of_the_whole_list(portal: Any, task: Task) -> None:
    from airflow.sdk import Asset, AssetAlias
    from airflow.sdk.execution_time.context import OutletEventAccessors

    invoices, paid = Asset("bitrix24://acme.bitrix24.com/lists/pay_invoices"), AssetAlias("paid")
    task.context["outlet_events"] = OutletEventAccessors()
    operator("invoices", [1, 2, 3], outlets=[invoices, paid]).execute(task.context)
    wanted = {
        "total": 3,
        "succeeded": 3,
        "already_paid": 1,
        "failed": 0,
        "statuses": {"already_paid": 1, "paid": 2},
        "amounts": {"EUR": "1749.90"},
    }
    assert task.context["outlet_events"][invoices].extra == wanted
    (event,) = task.context["outlet_events"][paid].asset_alias_events
    assert event.dest_asset_key.uri == f"bitrix24://{Bitrix24Hook().portal}/lists/pay_invoices"
    assert event.extra == wanted


@LISTS
def test_a_list_without_outlets_emits_an_event_of_the_asset_of_its_portal(portal: Any, task: Task, kind: str) -> None:
    from airflow.sdk.execution_time.context import OutletEventAccessors

    task.context["outlet_events"] = OutletEventAccessors()
    paying = operator(kind, make(portal, kind, 2))
    paying.execute(task.context)
    [alias] = paying.outlets
    job = {"invoices": "pay_invoices", "payments": "pay_crm_payments", "adds": "add_crm_payments"}[kind]
    assert alias.name == f"bitrix24_{job}"
    [event] = task.context["outlet_events"][alias].asset_alias_events
    assert event.dest_asset_key.uri == f"bitrix24://{Bitrix24Hook().portal}/lists/{job}"
    assert (event.extra["total"], event.extra["succeeded"]) == (2, 2)


@pytest.mark.parametrize("outlets", [[], None])
def test_a_list_with_empty_outlets_emits_no_event(portal: Any, task: Task, outlets: Any) -> None:
    from airflow.sdk.execution_time.context import OutletEventAccessors

    task.context["outlet_events"] = events = OutletEventAccessors()
    paying = operator("invoices", [2], outlets=outlets)
    paying.execute(task.context)
    assert (paying.outlets, list(events)) == ([], [])


def test_default_outlets_of_the_dag_replace_the_asset_of_the_list() -> None:
    from airflow.sdk import Asset

    ledger = Asset("ledger")
    with DAG("finance", default_args={"outlets": [ledger]}):
        assert operator("invoices", [2]).outlets == [ledger]


def test_a_portal_that_is_no_address_costs_the_counts_and_not_the_task(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import AssetAlias
    from airflow.sdk.execution_time.context import OutletEventAccessors

    connection = json.loads(portal.connection)
    connection["extra"] |= {"portal_id": "our_portal"}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    paid = AssetAlias("paid")
    task.context["outlet_events"] = OutletEventAccessors()
    assert operator("invoices", [2], outlets=[paid]).execute(task.context)["succeeded"] == 1
    assert task.context["outlet_events"][paid].asset_alias_events == []
