"""Every night: write open invoices and changed deals to files, from which a warehouse loads them."""

from __future__ import annotations

import json
from pathlib import Path

import pendulum
from airflow.sdk import DAG, task

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.calls import Bitrix24CallOperator

FOLDER = "{{ var.value.get('finance_folder', '/var/lib/finance') }}"


@task
def read_open_invoices(folder: str) -> str:
    """Write a line of JSON for each legacy invoice that can still be paid; memory use does not grow with them."""
    path = Path(folder) / "open_invoices.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for invoice in Bitrix24Hook().iterate("crm.invoice.list", {"filter": {"PAYED": "N", "CANCELED": "N"}}):
            if not invoice.declined and invoice.money.amount:  # a declined or empty invoice is unpaid, too
                file.write(json.dumps(invoice.as_dict()) + "\n")
    return str(path)


with DAG(
    dag_id="read_data",
    description="Write open invoices and changed deals to files",
    schedule="0 4 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
):
    read_open_invoices(FOLDER)
    Bitrix24CallOperator(
        task_id="read_changed_deals",
        method="crm.deal.list",
        parameters={
            "filter": {">=DATE_MODIFY": "{{ (dag_run.run_after - macros.timedelta(days=2)).isoformat() }}"},
            "select": ["ID", "TITLE", "STAGE_ID", "OPPORTUNITY", "CURRENCY_ID", "DATE_MODIFY"],
        },
        all_rows=True,
        result_path=f"{FOLDER}/deals.jsonl",
    )
