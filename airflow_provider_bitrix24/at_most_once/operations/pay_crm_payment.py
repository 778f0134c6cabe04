"""Mark a payment of a deal or smart invoice as paid, at most once: the payment is its own key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_pay
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.state_change import Chosen, PaymentChange
from airflow_provider_bitrix24.exceptions import NOT_SENT, PaymentRefused

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.preflight import PaymentView


@dataclass(frozen=True, kw_only=True)
class PayCrmPayment(PaymentChange):
    """Mark a payment as paid.

    :param allow_zero: whether a payment of 0 may be marked; Bitrix24 would then call an order of 0 fully paid.
    """

    allow_zero: bool = False

    name: str = field(init=False, default="pay_crm_payment")
    method: str = field(init=False, default="crm.item.payment.pay")
    undone_by: tuple[str, ...] = field(init=False, default=("unpay_crm_payment",))

    def call(self) -> Call[Any]:
        """The call."""
        return crm_item_payment_pay(id=self.payment_id)

    def choose(self, view: PaymentView) -> Chosen:
        """Refuse an empty payment."""
        payment = view.payment
        if not payment.money.is_positive and not self.allow_zero:
            raise PaymentRefused(messages.empty_payment(self.what, payment.money), NOT_SENT)
        return Chosen(pay_system_id=payment.pay_system_id, why_ignored=messages.PAYMENT_NOT_SAVED)
