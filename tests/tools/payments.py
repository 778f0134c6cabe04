"""The payment engine as tests script it: one engine for each call, one page of a journal for each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.delete_crm_payment import DeleteCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.operations.pay_payment import PayPayment
from airflow_provider_bitrix24.at_most_once.operations.unpay_crm_payment import UnpayCrmPayment
from airflow_provider_bitrix24.journal.protocol import Change

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Decision, Record


class ScriptedPayments:
    """Each operation as a method, one call for one receipt; a test scripts portal, runner, clocks and journal."""

    def __init__(
        self, client: Any, run: Any, clock: Any, log: Any, *, check: Callable[[], None] | None = None, **options: Any
    ) -> None:
        self.check = check
        self.engine = PaymentEngine(client, run, clock, log, check=self._check, **options)

    def _check(self) -> None:
        if self.check is not None:
            self.check()

    def pay_invoice(self, **arguments: Any) -> Receipt:
        return self._carry_out(PayInvoice, **arguments)

    def pay_crm_payment(self, **arguments: Any) -> Receipt:
        return self._carry_out(PayCrmPayment, **arguments)

    def add_crm_payment(self, **arguments: Any) -> Receipt:
        return self._carry_out(AddCrmPayment, **arguments)

    def pay_payment(self, **arguments: Any) -> Receipt:
        return self._carry_out(PayPayment, **arguments)

    def unpay_crm_payment(self, **arguments: Any) -> Receipt:
        return self._carry_out(UnpayCrmPayment, **arguments)

    def delete_crm_payment(self, **arguments: Any) -> Receipt:
        return self._carry_out(DeleteCrmPayment, **arguments)

    def _carry_out(self, kind: Any, *, decision: Decision | None = None, **arguments: Any) -> Receipt:
        result = self.engine.run_one(kind(portal=self.engine.portal, **arguments), decision)
        if isinstance(result, Failure):
            raise result.error
        return result


class JournalPage:
    """One key in a journal, as another attempt, or a person at a terminal, reads and writes it."""

    def __init__(self, journal: Any, portal: str, key: str) -> None:
        self.journal, self.portal, self.key = journal, portal, key

    def read(self) -> Record | None:
        loaded = self.journal.load(self.portal, [self.key])[self.key]
        if loaded.error is not None:
            raise loaded.error
        record: Record | None = loaded.record
        return record

    def write(self, record: Record, *, lease: float | None = None) -> str:
        outcome: str = self.journal.save([Change(record=record, lease=lease)])[self.key].outcome
        return outcome
