"""Every night: read the open items that finance dropped as CSV, pay these invoices, write receipts to a file."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task
from finance_files import amount_in, read_rows

from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator

if TYPE_CHECKING:
    from collections.abc import Iterable

# An Airflow Variable, not a parameter: a person who triggers the DAG must not choose the folder.
FOLDER = "{{ var.value.get('finance_folder', '/var/lib/finance') }}"
BANK_TRANSFER = 31


@task
def read_open_items(folder: str) -> list[dict[str, Any]]:
    """Read `open_items.csv` (invoice_id, amount, currency): one set of arguments for each invoice."""
    path = Path(folder) / "open_items.csv"
    return [
        {
            "invoice_id": row["invoice_id"],
            "expected_amount": amount_in(path, row),  # text from the file to the portal: never a float
            "expected_currency": row["currency"],
        }
        for row in read_rows(path, "invoice_id", "amount", "currency")
    ]


@task(trigger_rule="all_done")
def write_receipts(
    folder: str, run: str, items: list[dict[str, Any]], receipts: Iterable[dict[str, Any]] | None
) -> str:
    """Write the receipts of this run to one file, whole or not at all, then fail if an item has none."""
    written = sorted(receipts or (), key=lambda receipt: receipt["invoice_id"])
    target = Path(folder) / "receipts" / f"{run}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}.part")
    draft.write_text("".join(f"{json.dumps(receipt, sort_keys=True)}\n" for receipt in written), encoding="utf-8")
    draft.replace(target)

    missing = {str(item["invoice_id"]) for item in items} - {str(receipt["invoice_id"]) for receipt in written}
    if missing:
        raise AirflowFailException(
            f"No receipt for invoices {', '.join(sorted(missing))}: see their tasks. The others are in {target}."
        )
    return str(target)


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
2. `pay_invoice` runs once for each line. An invoice whose sum or currency is not that of the line is left alone and its
   task fails; one that is paid already gives a receipt that says so. Never more than two at a time, in this run and in
   all: Bitrix24 takes about two requests a second.
3. `write_receipts` writes `receipts/<time of the run>.jsonl` for the warehouse, also if some invoices failed, and
   then fails itself, so that the run fails.

Running it again is harmless: what is paid is not paid twice, and the file is replaced as a whole.
""",
) as dag:
    items = read_open_items(FOLDER)
    pay = PayInvoiceOperator.partial(
        task_id="pay_invoice",
        pay_system_id=BANK_TRANSFER,
        max_active_tis_per_dag=2,
        map_index_template="invoice {{ task.invoice_id }}",
    ).expand_kwargs(items)
    write_receipts(FOLDER, "{{ dag_run.run_after.strftime('%Y%m%dT%H%M%S') }}", items, pay.output)
