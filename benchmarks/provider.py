"""The provider as one more client: its operators, with Airflow's retries and waits but without an Airflow around."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowRescheduleException
from airflow_task import Task
from clients import BATCH, PAY_SYSTEM, RETRIES, START, Report
from clock import CLOCK

from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.operators import payment_lists, payments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox


class Lists:
    """The operators for lists of this provider, with a SQL journal."""

    https = False

    def __init__(self, batch_size: int = BATCH) -> None:
        self.name = f"this provider, batch_size={batch_size}"
        self._size = batch_size
        self._ids: list[int] = []

    def attempt(self, portal: Sandbox, job: str, ids: Sequence[int]) -> Report:
        """Run the operator; each attempt gets the whole list, and waits end as Airflow ends them."""
        if not self._ids:
            self._ids, self._task = list(ids), Task("list", retries=RETRIES)
        else:
            self._task.retry()
        operator = self.operator(job, self._ids)
        while True:
            try:
                operator.execute(self._task.context)
            except AirflowRescheduleException as leaves:
                CLOCK.skip((leaves.reschedule_date - datetime.now(UTC)).total_seconds())
                self._task.reschedule()
            except Bitrix24Error as error:
                return self._report(final=error.final)
            else:
                return self._report(final=True)

    def operator(self, job: str, ids: Sequence[int]) -> Any:
        """Return the operator for a list."""
        options: dict[str, Any] = {
            "task_id": "list",
            "retries": RETRIES,
            "batch_size": self._size,
            "receipts_path": f"file://{self._receipts}",
            "journal_conn_id": "journal",
        }
        if job == "pay":
            return payment_lists.PayInvoicesOperator(invoices=ids, pay_system_id=PAY_SYSTEM, **options)
        if job == "mark":
            return payment_lists.PayCrmPaymentsOperator(payments=ids, **options)
        return payment_lists.AddCrmPaymentsOperator(items=ids, **options)

    @property
    def _receipts(self) -> Path:
        return Path(tempfile.gettempdir()) / "receipts.jsonl"

    def _report(self, *, final: bool) -> Report:
        report = Report()
        for number, text in zip(self._ids, self._receipts.read_text().splitlines(), strict=True):
            line = json.loads(text)
            if "receipt" in line:
                report.done[number] = line["receipt"].get("payment_id", True)
            elif final:
                report.for_a_person.add(number)
        return report


class Singles:
    """The operators of this provider, one mapped task for each object.

    :param journal: "SQL", "task state" or "no journal".
    """

    https = False

    def __init__(self, journal: str, **options: Any) -> None:
        self.name = f"this provider, one by one, {journal}{''.join(f', {name}' for name in options)}"
        self._store = journal != "no journal"
        self._options = options | ({"journal_conn_id": "journal"} if journal == "SQL" else {})
        self._tasks: dict[int, Task] = {}

    def attempt(self, portal: Sandbox, job: str, ids: Sequence[int]) -> Report:
        """Run the tasks."""
        report = Report()
        for number in ids:
            CLOCK.skip(START)
            if number in self._tasks:
                self._tasks[number].retry()
            task = self._tasks.setdefault(number, Task(f"{job}_{number}", retries=RETRIES, store=self._store))
            try:
                receipt = self._operator(job, number).execute(task.context)
            except Bitrix24Error as error:
                if error.final:
                    report.for_a_person.add(number)
            else:
                report.done[number] = receipt.get("payment_id", True) if job == "add" else True
        return report

    def _operator(self, job: str, number: int) -> Any:
        common: dict[str, Any] = {"task_id": "one", "retries": RETRIES, **self._options}
        if job == "pay":
            return payments.PayInvoiceOperator(invoice_id=number, pay_system_id=PAY_SYSTEM, **common)
        if job == "mark":
            return payments.PayCrmPaymentOperator(payment_id=number, **common)
        return payments.AddCrmPaymentOperator(entity_id=number, **common)
