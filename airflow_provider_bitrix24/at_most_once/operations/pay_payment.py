"""Record a payment as paid through its pay system, at most once: ``sale.paysystem.pay.payment``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.calls.pay_systems import sale_paysystem_pay_payment
from airflow_provider_bitrix24.api.queries import PaymentBeforePaying
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.state_change import Chosen, PaymentChange
from airflow_provider_bitrix24.exceptions import NOT_SENT, PaymentRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.preflight import PaymentView
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.record import Parameter


@dataclass(frozen=True, kw_only=True)
class PayPayment(PaymentChange):
    """Record a payment as paid through its pay system.

    :param pay_system_id: its pay system: Bitrix24 refuses any other one.
    :param allow_zero: whether a payment of 0 may be marked; Bitrix24 would then call an order of 0 fully paid.
    """

    pay_system_id: int
    allow_zero: bool = False

    name: str = field(init=False, default="pay_payment")
    method: str = field(init=False, default="sale.paysystem.pay.payment")
    undone_by: tuple[str, ...] = field(init=False, default=("unpay_crm_payment",))
    verb: str = field(init=False, default=":pay_system")

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        return {"payment_id": self.payment_id, "pay_system_id": self.pay_system_id}

    def before(self) -> Query[Any]:
        """Read the payment, the connection's user, and the pay systems."""
        return PaymentBeforePaying(payment_id=self.payment_id, with_pay_systems=True)

    def call(self) -> Call[Any]:
        """The call."""
        return sale_paysystem_pay_payment(payment_id=self.payment_id, pay_system_id=self.pay_system_id)

    def choose(self, view: PaymentView) -> Chosen:
        """Refuse an empty payment, another pay system than the payment's, and one that would do nothing."""
        payment, wanted = view.payment, self.pay_system_id
        if not payment.money.is_positive and not self.allow_zero:
            raise PaymentRefused(messages.empty_payment(self.what, payment.money), NOT_SENT)
        if payment.pay_system_id != wanted:
            raise PaymentRefused(messages.other_pay_system(self.what, payment.pay_system_id, wanted), NOT_SENT)
        proved = view.pay_systems.check_for_pay_payment(wanted)
        return Chosen(
            pay_system_id=wanted, why_ignored=messages.PAYMENT_NOT_SAVED if proved else messages.ORDER_HANDLER_NOT_KNOWN
        )
