"""Mark a payment of a deal or smart invoice as paid, at most once: the payment is its own key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_pay
from airflow_provider_bitrix24.api.queries import OnePayment, PaymentBeforePaying
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.mark import Chosen, Mark
from airflow_provider_bitrix24.exceptions import NOT_SENT, PaymentRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.preflight import PaymentView
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.record import Parameter

METHOD: Final = "crm.item.payment.pay"


@dataclass(frozen=True, kw_only=True)
class PayCrmPayment(Mark):
    """Mark a payment as paid.

    :param payment_id: the payment.
    :param allow_zero: whether a payment of 0 may be marked; Bitrix24 would then call an order of 0 fully paid.
    """

    payment_id: int
    allow_zero: bool = False

    name: str = field(init=False, default="pay_crm_payment")
    method: str = field(init=False, default=METHOD)
    where: str = field(init=False, default=messages.LOOK_AT_PAYMENT)
    undone_by: tuple[str, ...] = field(init=False, default=("unpay_crm_payment",))

    @property
    def subject(self) -> str:
        """The object."""
        return f"payment {self.payment_id}"

    @property
    def ids(self) -> Mapping[str, int]:
        """The ids in the receipt."""
        return {"payment_id": self.payment_id}

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        return {"payment_id": self.payment_id}

    def before(self) -> Query[Any]:
        """Read the payment, and who we are."""
        return PaymentBeforePaying(payment_id=self.payment_id)

    def after(self) -> Query[Any]:
        """Read the payment."""
        return OnePayment(payment_id=self.payment_id)

    def thing(self, view: PaymentView) -> Payment:
        """The payment."""
        return view.payment

    def call(self) -> Call[Any]:
        """The call."""
        return crm_item_payment_pay(id=self.payment_id)

    def choose(self, view: PaymentView) -> Chosen:
        """Refuse an empty payment."""
        payment = view.payment
        if not payment.money.is_positive and not self.allow_zero:
            raise PaymentRefused(messages.empty_payment(self.what, payment.money), NOT_SENT)
        return Chosen(pay_system_id=payment.pay_system_id, trap=messages.PAYMENT_TRAP)
