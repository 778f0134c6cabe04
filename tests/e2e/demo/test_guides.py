"""The DAGs in docs/examples, run through a real Airflow as the guides show them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"


@pytest.fixture(scope="module")
def dags_folder() -> Path:
    """Where the DAGs of the guides are."""
    return EXAMPLES


def made_invoices(connection: str, count: int, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the script of the guide."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "make_invoices.py"), str(count), str(path)],
        env=os.environ | {"AIRFLOW_CONN_BITRIX24_DEFAULT": connection},
        capture_output=True,
        text=True,
        timeout=1800,
    )


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_read_data_writes_open_invoices_and_changed_deals(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox, finance_folder: Path
) -> None:
    Bitrix24Hook().rest.crm_deal_update(id=3, fields={"TITLE": "Changed today"})  # all others are older
    assert run_dag("read_data").state == "success"
    invoices = rows(finance_folder / "open_invoices.jsonl")
    assert [row["id"] for row in invoices] == [2, 3, *range(7, 14)]  # not paid, cancelled, declined or empty
    assert invoices[0]["money"] == {"amount": "1500.00", "currency": "EUR"}
    assert [row["TITLE"] for row in rows(finance_folder / "deals.jsonl")] == ["Changed today"]
    assert [entry["event"] for entry in bitrix24_sandbox.ledger] == ["item_changed"]  # by this test


def test_wait_for_customers_ends_when_all_have_paid(run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox) -> None:
    for payment in (1001, 1003):
        bitrix24_sandbox.act.pay_payment(payment_id=payment)
    for invoice in (2, 3):
        bitrix24_sandbox.act.pay_invoice(invoice_id=invoice)
    outcome = run_dag("wait_for_customers")
    assert outcome.state == "success", outcome.log
    assert [one["payment_id"] for one in outcome.results("payments_are_paid")[0]] == [1001, 1003]
    assert [one["invoice_id"] for one in outcome.results("invoices_are_paid")[0]] == [2, 3]


def test_wait_for_customers_fails_at_once_when_an_invoice_is_declined(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox
) -> None:
    for payment in (1001, 1003):
        bitrix24_sandbox.act.pay_payment(payment_id=payment)
    bitrix24_sandbox.act.decline_invoice(invoice_id=3)
    outcome = run_dag("wait_for_customers")
    assert outcome.state == "failed", outcome.log
    assert outcome.states("invoices_are_paid") == ["failed"]


def test_hundreds_of_invoices_of_a_file_are_paid_once(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox, finance_folder: Path
) -> None:
    made = made_invoices(bitrix24_sandbox.connection, 120, finance_folder / "open_items.csv")
    assert made.returncode == 0, made.stderr
    first, second = run_dag("pay_many_invoices"), run_dag("pay_many_invoices")
    assert (first.state, second.state) == ("success", "success")
    assert first.results("pay")[0]["statuses"] == {"paid": 120}
    assert first.results("pay")[0]["amounts"] == {"EUR": "18000.00"}
    assert second.results("pay")[0]["statuses"] == {"already_paid": 120}
    assert len(rows(finance_folder / "results.jsonl")) == 120
    paid = [entry["invoice_id"] for entry in bitrix24_sandbox.ledger if entry["event"] == "invoice_paid"]
    assert len(paid) == len(set(paid)) == 120


def test_no_invoices_are_made_on_a_real_portal(tmp_path: Path) -> None:
    connection = {"conn_type": "bitrix24", "host": "acme.bitrix24.com", "login": "1", "password": "abcdef0123456789"}
    made = made_invoices(json.dumps(connection), 1, tmp_path / "open_items.csv")
    assert made.returncode == 1
    assert not list(tmp_path.iterdir())
    assert made.stderr.strip().endswith("acme.bitrix24.com is no sandbox portal. Nothing was added.")
