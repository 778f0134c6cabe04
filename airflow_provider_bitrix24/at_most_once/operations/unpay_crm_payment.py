"""Set a payment of a deal or smart invoice back to unpaid, at most once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_unpay
from airflow_provider_bitrix24.api.queries import OnePayment, PaymentBeforePaying
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.mark import Chosen, Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.preflight import PaymentView
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.messages import Wording
    from airflow_provider_bitrix24.at_most_once.operations.mark import Thing
    from airflow_provider_bitrix24.at_most_once.receipt import Outcome
    from airflow_provider_bitrix24.at_most_once.record import Parameter

METHOD: Final = "crm.item.payment.unpay"


@dataclass(frozen=True, kw_only=True)
class UnpayCrmPayment(Mark):
    """Set a payment back to unpaid.

    :param payment_id: the payment.
    """

    payment_id: int

    name: str = field(init=False, default="unpay_crm_payment")
    method: str = field(init=False, default=METHOD)
    where: str = field(init=False, default=messages.LOOK_AT_PAYMENT)
    words: Wording = field(init=False, default=messages.UNPAYING)
    outcomes: tuple[Outcome, Outcome] = field(init=False, default=("unpaid", "already_unpaid"))
    undone_by: tuple[str, ...] = field(init=False, default=("pay_crm_payment", "pay_payment"))

    @property
    def subject(self) -> str:
        """The object."""
        return f"payment {self.payment_id}"

    @property
    def verb(self) -> str:
        """The end of the key."""
        return ":unpay"

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

    def reached(self, thing: Thing) -> bool:
        """Whether it is unpaid."""
        return not thing.paid

    def is_ours(self, thing: Thing, user_id: int, since: float | None) -> bool:
        """It was paid right before this key sent the call; the portal does not say who set it back."""
        return True

    def call(self) -> Call[Any]:
        """The call."""
        return crm_item_payment_unpay(id=self.payment_id)

    def choose(self, view: PaymentView) -> Chosen:
        """Refuse nothing: what is paid can be set back."""
        return Chosen(pay_system_id=view.payment.pay_system_id, trap=messages.PAYMENT_TRAP)
