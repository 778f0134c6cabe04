"""The pay systems of the portal, and what they can do, as far as the connection may see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.models import PaySystem
from airflow_provider_bitrix24.api.payments import read_rows
from airflow_provider_bitrix24.exceptions import NOT_SENT, PaymentRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.batch import BatchReply

_PAY_SYSTEM_FIELDS = ["ID", "NAME", "ACTION_FILE", "ENTITY_REGISTRY_TYPE", "ACTIVE"]
PAY_SYSTEMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "pay_systems": ("sale.paysystem.list", {"SELECT": _PAY_SYSTEM_FIELDS}),
    "handlers": ("sale.paysystem.handler.list", {}),
}
"""The commands that read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaySystems:
    """The pay systems of the portal and the codes of its REST handlers, as far as this connection may see them."""

    known: tuple[PaySystem, ...] | None
    """None: the connection may not see them, so nothing can be said."""
    handlers: frozenset[str] | None
    """None: the connection may not see them, or not all of them have come."""
    complete: bool = True
    """Whether all pay systems have come; if not, nothing can be said of one that is missing."""

    def prove_rest_handler(self, *, bx_rest_handler: str | None) -> bool:
        """Whether a pay system that passed `check_for_invoice` was seen to have a REST handler."""
        return self.handlers is not None and (self.known is not None or bx_rest_handler is not None)

    def check_for_invoice(self, *, pay_system_id: int | None, bx_rest_handler: str | None) -> int | None:
        """Refuse a pay system that is seen not to be able to mark a legacy invoice as paid.

        :return: its id; None if only the handler was given and it is not known which pay system the portal takes.
        :raises PaymentRefused: it does not exist, is inactive, belongs to another kind, or would return ``true`` and do
            nothing.
        """
        if bx_rest_handler is not None:
            return self._check_handler(bx_rest_handler)
        self._check(pay_system_id, registry="CRM_INVOICE", purpose="legacy invoices")
        chosen = self._find(pay_system_id)
        if chosen and self.handlers is not None and chosen.action_file not in self.handlers:
            raise PaymentRefused(
                f"Pay system {chosen.id} {chosen.name!r} is handled by {chosen.action_file!r}, which is no REST "
                "handler: Bitrix24 would return true and leave the invoice unpaid (or ask a payment provider, which "
                "knows nothing of it).",
                NOT_SENT,
                self._usable("CRM_INVOICE"),
            )
        return pay_system_id

    def check_for_payment(self, pay_system_id: int) -> None:
        """Refuse a pay system that is seen not to fit a payment of a deal or smart invoice.

        :raises PaymentRefused: it does not exist, is inactive, or belongs to legacy invoices.
        """
        self._check(pay_system_id, registry="ORDER", purpose="payments of deals and smart invoices")

    def check_for_pay_payment(self, pay_system_id: int) -> bool:
        """Refuse a pay system through which ``sale.paysystem.pay.payment`` is seen to do nothing.

        :return: whether it was seen to have a REST handler.
        :raises PaymentRefused: it does not exist, is inactive, belongs to legacy invoices, or would return ``true`` and
            do nothing.
        """
        self.check_for_payment(pay_system_id)
        chosen = self._find(pay_system_id)
        if chosen is None or self.handlers is None:
            return False
        if chosen.action_file not in self.handlers:
            raise PaymentRefused(
                f"Pay system {chosen.id} {chosen.name!r} is handled by {chosen.action_file!r}, which is no REST "
                "handler: Bitrix24 would return true and leave the payment unpaid (or ask a payment provider, which "
                "knows nothing of it).",
                NOT_SENT,
                "Mark the payment by PayCrmPaymentOperator (crm.item.payment.pay), which needs no handler.",
            )
        return True

    def _check_handler(self, code: str) -> int | None:
        if self.handlers is not None and code not in self.handlers:
            codes = ", ".join(sorted(self.handlers)) or "none"
            raise PaymentRefused(
                f"The portal has no REST handler with the code {code!r} (bx_rest_handler); it has: {codes}.", NOT_SENT
            )
        if self.known is None:
            return None
        fitting = [one for one in self.known if one.action_file == code and one.entity_registry_type == "CRM_INVOICE"]
        if not self.complete:
            return None
        if not any(one.active for one in fitting):
            raise PaymentRefused(
                f"No active pay system for legacy invoices uses the REST handler {code!r} (bx_rest_handler).",
                NOT_SENT,
                self._usable("CRM_INVOICE"),
            )
        return fitting[0].id if len(fitting) == 1 else None

    def _check(self, pay_system_id: int | None, *, registry: str, purpose: str) -> None:
        if self.known is None:
            return
        chosen = self._find(pay_system_id)
        trouble = None
        if chosen is None and self.complete:
            trouble = f"Pay system {pay_system_id} does not exist on the portal"
        elif chosen is not None and chosen.entity_registry_type != registry:
            kind = chosen.entity_registry_type
            trouble = (
                f"Pay system {chosen.id} {chosen.name!r} is one of kind {kind}, not {registry}: it is not for {purpose}"
            )
        elif chosen is not None and not chosen.active:
            trouble = f"Pay system {chosen.id} {chosen.name!r} is switched off"
        if trouble:
            raise PaymentRefused(f"{trouble}.", NOT_SENT, self._usable(registry))

    def _find(self, pay_system_id: int | None) -> PaySystem | None:
        return next((one for one in self.known or () if one.id == pay_system_id), None)

    def _usable(self, registry: str) -> str:
        fitting = [
            f"{one.id} {one.name!r}"
            for one in self.known or ()
            if one.active
            and one.entity_registry_type == registry
            and (registry == "ORDER" or self.handlers is None or one.action_file in self.handlers)
        ]
        return f"Pay systems that can do it: {', '.join(fitting) or 'none'}."


UNSEEN: Final = PaySystems(known=None, handlers=None)
"""They were not asked for, so nothing can be said."""


def pay_systems_in(reply: BatchReply) -> PaySystems:
    """The pay systems in the reply to :data:`PAY_SYSTEMS`."""
    listed, handlers = if_allowed(reply, "pay_systems"), if_allowed(reply, "handlers")
    known = None if listed is None else tuple(read_rows("sale.paysystem.list", PaySystem.from_wire, listed))
    if isinstance(handlers, list) and reply.may_be_cut("handlers", len(handlers)):
        handlers = None
    complete = known is None or not reply.may_be_cut("pay_systems", len(known))
    return PaySystems(known=known, handlers=_codes(handlers), complete=complete)


def _codes(handlers: Any) -> frozenset[str] | None:
    """The codes of the REST handlers; None if there is one in a form that we do not know, or they may not be seen."""
    if not isinstance(handlers, list) or not all(isinstance(one, dict) and one.get("CODE") for one in handlers):
        return None
    return frozenset(str(one["CODE"]) for one in handlers)


def if_allowed(reply: BatchReply, key: str) -> Any:
    """The result of a command that the portal may forbid; None if it did, or was not asked."""
    error = reply.errors.get(key)
    if (error and error.final) or key not in reply.results.keys() | reply.errors.keys() | reply.missing.keys():
        return None
    return reply.value(key)
