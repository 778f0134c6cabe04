"""Every night: read the open items that finance dropped as CSV, pay them all in one task, write receipts to a file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, task
from finance_files import amount_in, read_rows

from airflow_provider_bitrix24.operators.payment_lists import PayInvoicesOperator

# An Airflow Variable, not a parameter: a person who triggers the DAG must not choose the folder.
FOLDER = "{{ var.value.get('finance_folder', '/var/lib/finance') }}"
BANK_TRANSFER = 31


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
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["bitrix24"],
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    doc_md="""
### Nightly finance sync

1. `read_open_items` reads `open_items.csv` in the folder of the Airflow Variable `finance_folder`.
2. `pay_invoices` pays them all in one task. An invoice whose sum or currency is not that of the line is left alone, and
   the task fails when the others are done. One that is paid already gives a receipt that says so. The results of all
   are in `receipts/<time of the run>.jsonl` for the warehouse, also if some invoices failed.

Running it again is harmless: what is paid is not paid twice, and the file is replaced as a whole.
""",
) as dag:
    items = read_open_items(FOLDER)
    PayInvoicesOperator(
        task_id="pay_invoices",
        invoices=items,
        pay_system_id=BANK_TRANSFER,
        receipts_path=f"{FOLDER}/receipts/{{{{ dag_run.run_after.strftime('%Y%m%dT%H%M%S') }}}}.jsonl",
    )
