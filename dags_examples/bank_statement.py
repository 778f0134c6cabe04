"""A bank statement shows which payments have arrived: those are marked as paid in Bitrix24."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task
from finance_files import amount_in, read_rows

from airflow_provider_bitrix24.operators.payments import PayCrmPaymentOperator

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

FOLDER = "{{ var.value.get('finance_folder', '/var/lib/finance') }}"
REFERENCE = re.compile(r"\b(?:payment|оплата|плат[её]ж)\s*(?:no\.?|№|#)?\s*(\d+)\b", re.IGNORECASE)
TAKEN_BACK = re.compile(r"storno|revers|refund|charge-?back|return|возврат|сторно|отмена", re.IGNORECASE)


@task
def read_bank_statement(folder: str) -> list[dict[str, Any]]:
    """Read `bank_statement.csv` (booked_on, purpose, amount, currency): every line of money that came in.

    A line that must not be paid says why under "problem".
    """
    path = Path(folder) / "bank_statement.csv"
    lines: list[dict[str, Any]] = []
    for row in read_rows(path, "purpose", "amount", "currency"):
        amount = amount_in(path, row)
        references = set(REFERENCE.findall(row["purpose"]))
        if TAKEN_BACK.search(row["purpose"]):
            problem = "it looks like a reversal: is the payment set back to unpaid?"
        elif amount.startswith("-"):
            continue  # money that went out
        elif len(references) != 1:
            problem = "its purpose names several payments" if references else "its purpose names no payment"
        elif any(references == {line["payment_id"]} for line in lines):
            problem = "it is a second line for the same payment: did the customer pay twice?"
        else:
            problem = ""
        found = {"payment_id": min(references, default=None), "amount": amount, "currency": row["currency"]}
        lines.append({"line": row["line"], "purpose": row["purpose"], "problem": problem, **found})
    return lines


@task
def choose_payments(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the arguments of the operator for each line that is clear."""
    return [
        {"payment_id": line["payment_id"], "expected_amount": line["amount"], "expected_currency": line["currency"]}
        for line in lines
        if not line["problem"]
    ]


@task(trigger_rule="all_done")
def report(lines: list[dict[str, Any]], receipts: Iterable[dict[str, Any]] | None) -> list[str]:
    """Log the result of each line; fail if a person has to look at one, so that no line is forgotten."""
    outcomes = {str(receipt["payment_id"]): receipt["outcome"] for receipt in receipts or ()}
    told, open_lines = [], []
    for line in lines:
        outcome = outcomes.get(str(line["payment_id"]), "")
        text = line["problem"] or {
            "paid": "marked as paid",
            "already_paid": "was paid before: if this file was not read before, the customer paid twice",
        }.get(outcome, "not marked: see its task")
        told.append(f"Line {line['line']}, {line['amount']} {line['currency']}, {line['purpose']!r}: {text}.")
        log.info("%s", told[-1])
        if line["problem"] or not outcome:
            open_lines.append(told[-1])
    if open_lines:
        raise AirflowFailException(f"{len(open_lines)} of {len(lines)} lines need a person. {' '.join(open_lines)}")
    return told


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
a customer who paid too little has not paid. Nothing is charged: marking is bookkeeping, and doing it twice changes
nothing.

`report` says what happened to each line, and fails if one needs a person. Those are incoming lines that name
no payment, a second line for one payment, reversals, and payments that could not be marked.
""",
) as dag:
    statement = read_bank_statement(FOLDER)
    mark = PayCrmPaymentOperator.partial(
        task_id="mark_as_paid",
        max_active_tis_per_dag=2,
        map_index_template="payment {{ task.payment_id }}",
    ).expand_kwargs(choose_payments(statement))
    report(statement, mark.output)
