"""Each example DAG does what it says, by the portal's ledger, and running it again is harmless."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.tools.finance_tables import FINANCE_TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

pytestmark = pytest.mark.slow


def events(sandbox: Sandbox, *names: str) -> list[dict[str, Any]]:
    return [entry for entry in sandbox.ledger if entry["event"] in names]


def test_an_invoice_is_paid_by_hand_once(run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox) -> None:
    conf = {"invoice_id": 2, "pay_system_id": 31, "expected_amount": "1.500,00"}
    first = run_dag("pay_invoice_by_hand", **conf)
    assert first.state == "success", first.log
    (receipt,) = first.results("pay_invoice")
    assert (receipt["outcome"], receipt["amount"], receipt["currency"]) == ("paid", "1500.00", "EUR")

    again = run_dag("pay_invoice_by_hand", **conf)
    assert again.state == "success", again.log
    assert again.results("pay_invoice")[0]["outcome"] == "already_paid"
    skipped = run_dag("pay_invoice_by_hand", **conf, if_paid="skip")
    assert skipped.states("pay_invoice") == ["skipped"]

    (entry,) = bitrix24_sandbox.ledger
    assert (entry["event"], entry["invoice_id"], entry["amount"], entry["by"]) == ("invoice_paid", 2, "1500.00", "rest")


def test_another_amount_than_expected_is_not_paid(run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox) -> None:
    outcome = run_dag("pay_invoice_by_hand", invoice_id=2, expected_amount="1499.99")
    assert outcome.state == "failed", outcome.log
    assert "PaymentMismatch" in outcome.log or "1499.99" in outcome.log
    assert bitrix24_sandbox.ledger == []


def test_the_nightly_sync_pays_the_open_items_and_writes_receipts(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox, finance_folder: Path
) -> None:
    (finance_folder / "open_items.csv").write_text(
        "invoice_id,amount,currency\n1,800.00,EUR\n3,249.90,EUR\n7,120.00,EUR\n13,900.00,USD\n"
    )
    first = run_dag("nightly_finance_sync")
    assert first.state == "success", first.log
    (summary,) = first.results("pay_invoices")
    assert summary["statuses"] == {"already_paid": 1, "paid": 3}
    assert summary["amounts"] == {"EUR": "369.90", "USD": "900.00"}
    written = Path(summary["receipts_path"])
    assert written.parent == finance_folder / "receipts"
    receipts = [json.loads(line)["receipt"] for line in written.read_text().splitlines()]
    assert [(r["invoice_id"], r["outcome"], r["amount"]) for r in receipts] == [
        (1, "already_paid", "800.00"),
        (3, "paid", "249.90"),
        (7, "paid", "120.00"),
        (13, "paid", "900.00"),
    ]

    again = run_dag("nightly_finance_sync")
    assert again.results("pay_invoices")[0]["statuses"] == {"already_paid": 4}
    assert sorted((e["invoice_id"], e["amount"]) for e in bitrix24_sandbox.ledger) == [
        (3, "249.90"),
        (7, "120.00"),
        (13, "900.00"),
    ]


def test_the_nightly_sync_is_red_if_an_item_fails_and_writes_the_others(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox, finance_folder: Path
) -> None:
    (finance_folder / "open_items.csv").write_text("invoice_id,amount,currency\n4,10.00,EUR\n3,249.90,EUR\n")
    outcome = run_dag("nightly_finance_sync")
    assert outcome.state == "failed", outcome.log
    assert outcome.states("pay_invoices") == ["failed"]
    assert outcome.results("pay_invoices")[0]["statuses"] == {"refused": 1, "paid": 1}
    assert [entry["invoice_id"] for entry in bitrix24_sandbox.ledger] == [3]
    (file,) = (finance_folder / "receipts").iterdir()
    assert [json.loads(line)["status"] for line in file.read_text().splitlines()] == ["refused", "paid"]
    assert "1 of 2 invoices are not done" in outcome.log


def test_the_nightly_sync_of_an_empty_drop_writes_an_empty_file(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox, finance_folder: Path
) -> None:
    (finance_folder / "open_items.csv").write_text("invoice_id,amount,currency\n")
    outcome = run_dag("nightly_finance_sync")
    assert outcome.state == "success", outcome.log
    (file,) = (finance_folder / "receipts").iterdir()
    assert file.read_text() == ""
    assert bitrix24_sandbox.ledger == []


@pytest.fixture
def database(finance_folder: Path) -> Iterator[sqlite3.Connection]:
    """The database of finance: the Airflow connection `finance_db`."""
    with closing(sqlite3.connect(finance_folder / "finance.db", isolation_level=None)) as connection:
        connection.executescript(FINANCE_TABLES)
        yield connection


def test_the_nightly_sync_pays_the_rows_of_a_table_and_writes_the_results_into_another(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox, database: sqlite3.Connection
) -> None:
    rows = [(1, "800.00", "EUR"), (3, "249.90", "EUR"), (7, "120.00", "EUR"), (13, "900.00", "USD")]
    database.executemany("INSERT INTO open_items VALUES (?, ?, ?)", rows)
    assert run_dag("nightly_finance_sync_sql").state == "success"
    stored = "SELECT invoice_id, status, amount, currency FROM payment_results ORDER BY invoice_id"
    assert database.execute(stored).fetchall() == [
        (1, "already_paid", "800.00", "EUR"),
        (3, "paid", "249.90", "EUR"),
        (7, "paid", "120.00", "EUR"),
        (13, "paid", "900.00", "USD"),
    ]
    paid = [(entry["invoice_id"], entry["amount"]) for entry in bitrix24_sandbox.ledger]
    assert sorted(paid) == [(3, "249.90"), (7, "120.00"), (13, "900.00")]

    database.execute("INSERT INTO open_items VALUES (8, '75.50', 'EUR')")
    again = run_dag("nightly_finance_sync_sql")  # the next night: only what is new
    assert again.results("pay_invoices")[0]["statuses"] == {"paid": 1}
    assert database.execute("SELECT count(*), count(DISTINCT invoice_id) FROM payment_results").fetchone() == (5, 5)
    assert len(bitrix24_sandbox.ledger) == 4


def test_the_results_of_a_table_are_stored_if_an_item_fails_and_the_run_fails(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox, database: sqlite3.Connection
) -> None:
    database.executemany("INSERT INTO open_items VALUES (?, ?, ?)", [(4, "10.00", "EUR"), (3, "249.90", "EUR")])
    outcome = run_dag("nightly_finance_sync_sql")
    assert outcome.state == "failed", outcome.log
    stored = database.execute("SELECT invoice_id, status, amount, message FROM payment_results").fetchall()
    assert [row[:3] for row in stored] == [(3, "paid", "249.90"), (4, "refused", None)]
    assert "410.00 EUR" in stored[1][3]
    assert [entry["invoice_id"] for entry in bitrix24_sandbox.ledger] == [3]


@pytest.mark.bitrix24_sandbox(customers_pay_after=3)
def test_a_deal_gets_a_filled_payment_and_the_dag_waits_until_it_is_paid(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox
) -> None:
    outcome = run_dag("deal_payment_until_paid", deal_id=1)
    assert outcome.state == "success", outcome.log
    (receipt,) = outcome.results("add_payment")
    assert (receipt["outcome"], receipt["amount"], receipt["pay_system_id"]) == ("created", "1020.00", 8)
    (released,) = outcome.results("release_order")
    assert f"Payment {receipt['payment_id']}: 1020.00 EUR received" in released

    (payment,) = bitrix24_sandbox.payments(2, 1)
    assert payment["id"] == receipt["payment_id"]
    assert len(events(bitrix24_sandbox, "payment_added")) == 1
    (paid,) = events(bitrix24_sandbox, "payment_paid")
    assert (paid["payment_id"], paid["amount"], paid["by"]) == (receipt["payment_id"], "1020.00", "customer")

    again = run_dag("deal_payment_until_paid", deal_id=1)
    assert again.state == "success", again.log
    (found,) = again.results("add_payment")
    assert (found["payment_id"], found["outcome"], found["recovered"]) == (receipt["payment_id"], "existing", True)
    assert len(events(bitrix24_sandbox, "payment_added")) == 1


def test_a_bank_statement_marks_what_came_in(
    run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox, finance_folder: Path
) -> None:
    (finance_folder / "bank_statement.csv").write_text(
        "booked_on,purpose,amount,currency\n"
        "2026-11-20,Payment no. 1003 thank you,990.00,EUR\n"
        "2026-11-20,Payment 1001,349.00,EUR\n"  # one euro too little
        "2026-11-20,Rent of the office,-2400.00,EUR\n"
        "2026-11-20,Subscription,12.00,EUR\n"
    )
    outcome = run_dag("bank_statement")
    assert outcome.state == "failed", outcome.log
    assert sorted(outcome.states("mark_as_paid")) == ["failed", "success"]
    assert outcome.states("report") == ["failed"]
    assert "2 of 3 lines need a person" in outcome.log
    (entry,) = bitrix24_sandbox.ledger
    assert (entry["event"], entry["payment_id"], entry["amount"], entry["by"]) == (
        "payment_paid",
        1003,
        "990.00",
        "rest",
    )
    assert bitrix24_sandbox.payment(1001)["paid"] == "N"
