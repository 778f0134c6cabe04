"""The operators for lists over real HTTP; the portal's ledger says what happened."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.exceptions import PaymentListFailed, PaymentListUnfinished
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


def http_requests(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests if not request["inside_batch"]]


@LISTS
@pytest.mark.parametrize("journal", ["sql", "task state"])
def test_each_item_once_and_a_receipt_for_each(
    portal: Any, task: Task, kind: str, journal: str, database: str
) -> None:
    ids = make(portal, kind, 7)
    options = {"journal_conn_id": database} if journal == "sql" else {}
    summary = operator(kind, ids, batch_size=3, **options).execute(task.context)
    outcome = "created" if kind == "adds" else "paid"
    assert summary["statuses"] == {outcome: 7}
    assert (summary["succeeded"], summary["failed"], summary["failures"]) == (7, 0, [])
    assert [receipt["index"] for receipt in summary["receipts"]] == list(range(7))
    assert json.loads(json.dumps(summary)) == summary
    assert len(changes(portal, kind)) == 7
    assert len({entry["idempotency_key"] for entry in changes(portal, kind)}) == 7
