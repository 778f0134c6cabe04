"""Record a payment as paid through its pay system, at most once: ``sale.paysystem.pay.payment``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.calls.pay_systems import sale_paysystem_pay_payment
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

METHOD: Final = "sale.paysystem.pay.payment"


@dataclass(frozen=True, kw_only=True)
class PayPayment(Mark):
    """Record a payment as paid through its pay system.

    :param payment_id: the payment.
    :param pay_system_id: its pay system: Bitrix24 refuses any other one.
    :param allow_zero: whether a payment of 0 may be marked; Bitrix24 would then call an order of 0 fully paid.
    """

    payment_id: int
    pay_system_id: int
    allow_zero: bool = False

    name: str = field(init=False, default="pay_payment")
    method: str = field(init=False, default=METHOD)
    where: str = field(init=False, default=messages.LOOK_AT_PAYMENT)
    undone_by: tuple[str, ...] = field(init=False, default=("unpay_crm_payment",))

    @property
    def subject(self) -> str:
        """The object."""
        return f"payment {self.payment_id}"

    @property
    def verb(self) -> str:
        """The end of the key."""
        return ":pay_system"

    @property
    def ids(self) -> Mapping[str, int]:
        """The ids in the receipt."""
        return {"payment_id": self.payment_id}

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        return {"payment_id": self.payment_id, "pay_system_id": self.pay_system_id}

    def before(self) -> Query[Any]:
        """Read the payment, who we are, and the pay systems."""
        return PaymentBeforePaying(payment_id=self.payment_id, with_pay_systems=True)

    def after(self) -> Query[Any]:
        """Read the payment."""
        return OnePayment(payment_id=self.payment_id)

    def thing(self, view: PaymentView) -> Payment:
        """The payment."""
        return view.payment

    def call(self) -> Call[Any]:
        """The call."""
        return sale_paysystem_pay_payment(payment_id=self.payment_id, pay_system_id=self.pay_system_id)

    def choose(self, view: PaymentView) -> Chosen:
        """Refuse an empty payment, another pay system than the payment's, and one that would do nothing."""
        payment = view.payment
        if not payment.money.is_positive and not self.allow_zero:
            raise PaymentRefused(messages.empty_payment(self.what, payment.money), NOT_SENT)
        if payment.pay_system_id != self.pay_system_id:
            raise PaymentRefused(
                messages.other_pay_system(self.what, payment.pay_system_id, self.pay_system_id), NOT_SENT
            )
        proved = view.pay_systems.check_for_pay_payment(self.pay_system_id)
        return Chosen(
            pay_system_id=self.pay_system_id, trap=messages.PAYMENT_TRAP if proved else messages.ORDER_HANDLER_TRAP
        )
