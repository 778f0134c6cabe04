"""Set a payment of a deal or smart invoice back to unpaid, at most once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_unpay
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.state_change import Chosen, PaymentChange

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.preflight import PaymentView
    from airflow_provider_bitrix24.at_most_once.messages import Wording
    from airflow_provider_bitrix24.at_most_once.operations.state_change import Target
    from airflow_provider_bitrix24.at_most_once.receipt import Outcome


@dataclass(frozen=True, kw_only=True)
class UnpayCrmPayment(PaymentChange):
    """Set a payment back to unpaid."""

    name: str = field(init=False, default="unpay_crm_payment")
    method: str = field(init=False, default="crm.item.payment.unpay")
    words: Wording = field(init=False, default=messages.UNPAYING)
    outcomes: tuple[Outcome, Outcome] = field(init=False, default=("unpaid", "already_unpaid"))
    undone_by: tuple[str, ...] = field(init=False, default=("pay_crm_payment", "pay_payment"))
    verb: str = field(init=False, default=":unpay")

    def reached(self, target: Target) -> bool:
        """Whether it is unpaid."""
        return not target.paid

    def is_ours(self, target: Target, user_id: int, since: float | None) -> bool:
        """It was paid right before this key sent the call; the portal does not say who set it back."""
        return True

    def call(self) -> Call[Any]:
        """The call."""
        return crm_item_payment_unpay(id=self.payment_id)

    def choose(self, view: PaymentView) -> Chosen:
        """Refuse nothing: what is paid can be set back."""
        return Chosen(pay_system_id=view.payment.pay_system_id, why_ignored=messages.PAYMENT_NOT_SAVED)
