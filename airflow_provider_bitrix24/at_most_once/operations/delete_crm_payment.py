"""Delete a payment of a deal or smart invoice, at most once; one that is paid only if the author says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_delete, crm_item_payment_unpay
from airflow_provider_bitrix24.api.deleted import Lookup, PaymentIfThere, PaymentIfThereBefore
from airflow_provider_bitrix24.api.models import Money, Payment
from airflow_provider_bitrix24.api.queries import OnePayment
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.key_write import run_attempt
from airflow_provider_bitrix24.at_most_once.operations.state_change import Chosen, PaymentChange
from airflow_provider_bitrix24.at_most_once.operations.state_write import StateWrite
from airflow_provider_bitrix24.at_most_once.operations.step_write import StepWrite
from airflow_provider_bitrix24.at_most_once.write import PortalUnreadable
from airflow_provider_bitrix24.exceptions import NOT_SENT, PaymentNotApplied, PaymentRefused, PaymentUnresolved

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.preflight import PaymentView
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.messages import Wording
    from airflow_provider_bitrix24.at_most_once.operations.state_change import Target
    from airflow_provider_bitrix24.at_most_once.receipt import Outcome, Receipt


@dataclass(frozen=True, kw_only=True)
class DeleteCrmPayment(PaymentChange):
    """Delete a payment.

    :param allow_paid: whether one that is paid is set back to unpaid first: Bitrix24 does not delete a paid one.
    """

    allow_paid: bool = False

    name: str = field(init=False, default="delete_crm_payment")
    method: str = field(init=False, default="crm.item.payment.delete")
    where: str = field(init=False, default=messages.LOOK_FOR_PAYMENT)
    words: Wording = field(init=False, default=messages.DELETING)
    outcomes: tuple[Outcome, Outcome] = field(init=False, default=("deleted", "already_deleted"))
    verb: str = field(init=False, default=":delete")

    def after(self) -> Query[Any]:
        """Read the payment, which may be gone."""
        return PaymentIfThere(payment_id=self.payment_id)

    def reached(self, target: Target) -> bool:
        """Whether it is deleted: one that was read is not."""
        return False

    def is_ours(self, target: Target, user_id: int, since: float | None) -> bool:
        """It was there right before this key sent the call; the portal does not say who deleted it."""
        return True

    def call(self) -> Call[Any]:
        """The call."""
        return crm_item_payment_delete(id=self.payment_id)

    def choose(self, view: PaymentView) -> Chosen:
        """Refuse a payment that is paid, unless the author allows it."""
        payment = view.payment
        if payment.paid and not self.allow_paid:
            raise PaymentRefused(messages.is_paid(self.what, payment.money), NOT_SENT)
        return Chosen(pay_system_id=payment.pay_system_id, why_ignored=messages.PAYMENT_NOT_SAVED)

    def course(self, attempt: Attempt) -> Course[Receipt]:
        """What one attempt does."""
        return run_attempt(DeleteWrite(attempt, self))


class DeleteWrite(StateWrite):
    """The deletion itself."""

    change: DeleteCrmPayment

    def look(self) -> Course[None]:
        """Read the payment and the connection's user. It may be gone only where this key has sent something."""
        record = self.attempt.record
        if record.amount is None or record.currency is None:
            yield from super().look()
            return
        view = yield from self.attempt.read_before_send(PaymentIfThereBefore(payment_id=self.change.payment_id))
        self.shown = view.payment is None
        self.view = view
        self.target = view.payment or Payment(
            id=self.change.payment_id,
            account_number="",
            paid=False,
            paid_at=None,
            paid_by_id=None,
            pay_system_id=None,
            pay_system_name="",
            money=Money(Decimal(record.amount), record.currency),
        )

    def shows(self, found: Lookup) -> bool:  # type: ignore[override]  # what `query` reads
        """Whether it is gone."""
        return found.payment is None

    def take(self, found: Lookup) -> Course[None]:  # type: ignore[override]  # what `query` reads
        """It is gone; what it was like is known from before."""
        self.shown = True
        yield from ()

    def refuse(self) -> Course[None]:
        """Refuse what must not be deleted, and set a paid payment back to unpaid first."""
        yield from super().refuse()
        if not self.target.paid:
            return
        still_paid = messages.still_paid(self.change.what)
        try:
            done = yield from UnpayWrite(self.attempt, self.change.payment_id).run()
        except PortalUnreadable:
            raise PaymentUnresolved(still_paid, NOT_SENT) from None
        if done:
            yield from self.look()
            yield from super().refuse()
        if self.target.paid:
            raise PaymentNotApplied(still_paid, NOT_SENT)


class UnpayWrite(StepWrite):
    """A paid payment is set back to unpaid, so that it can be deleted."""

    def __init__(self, attempt: Attempt, payment_id: int) -> None:
        call, query = crm_item_payment_unpay(id=payment_id), OnePayment(payment_id=payment_id)
        super().__init__(attempt, payment_id, "set back to unpaid", call, query)

    def shows(self, found: Payment) -> bool:
        """Whether it is unpaid."""
        return not found.paid
