"""Pay all invoices of a CSV file in one task, and write a result for each of them."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_provider_bitrix24.operators.payment_lists import PayInvoicesOperator

FOLDER = "{{ var.value.get('finance_folder', '/var/lib/finance') }}"

with DAG(
    dag_id="pay_many_invoices",
    description="Pay the invoices of a CSV file",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
):
    PayInvoicesOperator(
        task_id="pay",
        invoices=f"{FOLDER}/open_items.csv",
        pay_system_id=31,
        max_total="200000",
        receipts_path=f"{FOLDER}/results.jsonl",
    )
