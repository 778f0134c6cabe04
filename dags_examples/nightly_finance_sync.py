"""Every night: read the open items of finance, pay them all in one task, write the results down.

The first DAG takes a CSV file and writes a file, the second takes a table of a database and writes a table.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, BaseHook, task
from finance_files import amount_in, read_rows

from airflow_provider_bitrix24.operators.payment_lists import PayInvoicesOperator

# An Airflow Variable, not a parameter: a person who triggers the DAG must not choose the folder.
FOLDER = "{{ var.value.get('finance_folder', '/var/lib/finance') }}"
DATABASE = "finance_db"
"""An Airflow connection to any database that has a hook of common.sql: Postgres, MySQL, SQLite, ..."""
OPEN_ITEMS = """
    SELECT invoice_id, amount, currency FROM open_items
    WHERE invoice_id NOT IN (SELECT invoice_id FROM payment_results WHERE status IN ('paid', 'already_paid'))
    ORDER BY invoice_id
"""
RESULT_COLUMNS = ["run_id", "invoice_id", "status", "amount", "currency", "paid_at", "message"]
BANK_TRANSFER = 31
RECEIPTS = f"{FOLDER}/receipts/{{{{ dag.dag_id }}}}-{{{{ dag_run.run_after.strftime('%Y%m%dT%H%M%S') }}}}.jsonl"
NIGHTLY: dict[str, Any] = {
    "schedule": "0 2 * * *",
    "start_date": pendulum.datetime(2026, 1, 1, tz="UTC"),
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["bitrix24"],
    "default_args": {"retries": 2, "retry_delay": timedelta(minutes=1)},
}


@task
def read_open_items(folder: str) -> list[dict[str, Any]]:
    """Read `open_items.csv` (invoice_id, amount, currency): one row for each invoice.

    The operator can read a CSV file itself; finance writes amounts with a decimal comma, and in other encodings.
    """
    path = Path(folder) / "open_items.csv"
    return [
        {
            "invoice_id": row["invoice_id"],
            "expected_amount": amount_in(path, row),  # text from the file to the portal: never a float
            "expected_currency": row["currency"],
        }
        for row in read_rows(path, "invoice_id", "amount", "currency")
    ]


with DAG(
    dag_id="nightly_finance_sync",
    description="Pay the invoices of a CSV drop and write receipts",
    doc_md="""
### Nightly finance sync

1. `read_open_items` reads `open_items.csv` in the folder of the Airflow Variable `finance_folder`.
2. `pay_invoices` pays them all in one task. An invoice whose sum or currency is not that of the line is left alone, and
   the task fails when the others are done. One that is paid already gives a receipt that says so. The results of all
   are in `receipts/nightly_finance_sync-<time of the run>.jsonl` for the warehouse, also if some invoices failed.

Running it again is harmless: what is paid is not paid twice, and the file is replaced as a whole.
""",
    **NIGHTLY,
):
    PayInvoicesOperator(
        task_id="pay_invoices",
        invoices=read_open_items(FOLDER),
        pay_system_id=BANK_TRANSFER,
        receipts_path=RECEIPTS,
    )


# The same with a database.


@task
def read_open_items_of_database() -> list[dict[str, Any]]:
    """Read the table `open_items` (invoice_id, amount, currency), without what an earlier run has settled."""
    rows = BaseHook.get_hook(DATABASE).get_records(OPEN_ITEMS)
    return [
        {"invoice_id": invoice_id, "expected_amount": str(amount), "expected_currency": currency}
        for invoice_id, amount, currency in rows
    ]


@task(trigger_rule="all_done")
def store_results(summary: dict[str, Any] | None, run_id: str) -> None:
    """Write a row for each invoice into the table `payment_results`, also if some were not paid; then fail."""
    if summary is None:
        raise AirflowFailException("There are no results: see the log of pay_invoices.")
    with Path(summary["receipts_path"]).open(encoding="utf-8") as file:
        results = [json.loads(line) for line in file]
    hook = BaseHook.get_hook(DATABASE)
    # First what an earlier attempt of this task has written: so that running it again changes nothing.
    earlier = f"DELETE FROM payment_results WHERE run_id = {hook.placeholder}"  # noqa: S608 - %s or ?, as the driver has it
    hook.run(earlier, parameters=(run_id,))
    hook.insert_rows("payment_results", [row_of(result, run_id) for result in results], target_fields=RESULT_COLUMNS)
    left = [result for result in results if result["status"] not in ("paid", "already_paid")]
    if left:
        raise AirflowFailException(f"{len(left)} of {len(results)} invoices are not paid: see the table.")


def row_of(result: dict[str, Any], run_id: str) -> tuple[Any, ...]:
    """Return what is stored for an invoice: its receipt, or why there is none."""
    receipt, error = result.get("receipt", {}), result.get("error", {})
    invoice_id = receipt.get("invoice_id") or int(result["subject"].rpartition(" ")[2])
    values = [receipt.get(name) for name in ("amount", "currency", "paid_at")]
    return (run_id, invoice_id, result["status"], *values, error.get("message"))


with DAG(
    dag_id="nightly_finance_sync_sql",
    description="Pay the invoices of a table and write the results into another table",
    doc_md="""
### Nightly finance sync with a database

1. `read_open_items_of_database` reads the table `open_items` of the Airflow connection `finance_db`.
2. `pay_invoices` pays them all in one task, as in `nightly_finance_sync`.
3. `store_results` writes a row for each invoice into the table `payment_results`, and fails if one is not paid.

The tables: `open_items (invoice_id, amount, currency)` and `payment_results (run_id, invoice_id, status, amount,
currency, paid_at, message)`. Keep amounts as `DECIMAL` or text. What is settled is not read again the next night.
""",
    **NIGHTLY,
):
    paid = PayInvoicesOperator(
        task_id="pay_invoices",
        invoices=read_open_items_of_database(),
        pay_system_id=BANK_TRANSFER,
        receipts_path=RECEIPTS,
    )
    store_results(paid.output, run_id="{{ run_id }}")
