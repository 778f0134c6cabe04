"""A bank statement shows which payments have arrived: those are marked as paid in Bitrix24."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, task

from airflow_provider_bitrix24.operators.payments import PayCrmPaymentOperator

FOLDER = "{{ var.value.get('finance_folder', '/var/lib/finance') }}"
REFERENCE = re.compile(r"\bpayment\s*(?:no\.?|#)?\s*(\d+)\b", re.IGNORECASE)


@task
def read_bank_statement(folder: str) -> list[dict[str, Any]]:
    """Read `bank_statement.csv` (booked_on, purpose, amount, currency): what came in and names a payment."""
    with (Path(folder) / "bank_statement.csv").open(newline="", encoding="utf-8") as file:
        credits = [row for row in csv.DictReader(file) if not row["amount"].startswith("-")]
    return [
        {
            "payment_id": reference.group(1),
            "expected_amount": row["amount"],
            "expected_currency": row["currency"],
        }
        for row in credits
        if (reference := REFERENCE.search(row["purpose"]))
    ]


with DAG(
    dag_id="bank_statement",
    description="Mark the payments of a bank statement as paid",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    max_active_runs=1,
    tags=["bitrix24"],
    doc_md="""
### Bank statement

Reads `bank_statement.csv` in the folder of the Airflow Variable `finance_folder`; a purpose like `Payment no. 1003,
thank you` names the payment. It is marked as paid only if amount and currency of the line are those of the payment:
somebody who paid too little has not paid. Nothing is charged: marking is bookkeeping, and doing it twice changes
nothing.
""",
) as dag:
    PayCrmPaymentOperator.partial(
        task_id="mark_as_paid",
        max_active_tis_per_dag=2,
        map_index_template="payment {{ task.payment_id }}",
    ).expand_kwargs(read_bank_statement(FOLDER))
