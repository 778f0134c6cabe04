"""Read first: the one batch of reads before each write, and what it must refuse whatever is to be written.

A batch of reads costs one request. Commands that a connection may not see (pay systems want an administrator) fail
inside it without hurting the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.models import (
    Invoice,
    Payment,
    PaySystem,
    ProductRow,
    Profile,
)
from airflow_provider_bitrix24.api.payments import get_crm_payments, get_invoices, read, read_rows, read_the_one
from airflow_provider_bitrix24.api.products import ask_for_available, available_in
from airflow_provider_bitrix24.api.tags import commands_for_evidence, shown_in
from airflow_provider_bitrix24.api.values import ENTITY_NAMES, SMART_INVOICE
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    Bitrix24ApiError,
    Bitrix24ConfigError,
    Bitrix24NoAnswer,
    Bitrix24NotFound,
    Denial,
    PaymentRefused,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pendulum

    from airflow_provider_bitrix24.api.batch import BatchReply, Commands
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.tags import Shown

_PAY_SYSTEM_FIELDS = ["ID", "NAME", "ACTION_FILE", "ENTITY_REGISTRY_TYPE", "ACTIVE"]
_WHO_AM_I: Mapping[str, tuple[str, Mapping[str, Any]]] = {"scope": ("scope", {}), "profile": ("profile", {})}
_PAY_SYSTEMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "pay_systems": ("sale.paysystem.list", {"SELECT": _PAY_SYSTEM_FIELDS}),
    "handlers": ("sale.paysystem.handler.list", {}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaySystems:
    """The pay systems of the portal and the codes of its REST handlers, as far as this connection may see them."""

    known: tuple[PaySystem, ...] | None
    """None: the connection may not see them, so nothing can be said."""
    handlers: frozenset[str] | None
    """None: the connection may not see them, or not all of them have come."""
    complete: bool = True
    """Whether all pay systems have come: of one that is missing nothing can be said else."""

    def prove_rest_handler(self, *, bx_rest_handler: str | None) -> bool:
        """Whether a pay system that passed `check_for_invoice` was seen to have a REST handler."""
        return self.handlers is not None and (self.known is not None or bx_rest_handler is not None)

    def check_for_invoice(self, *, pay_system_id: int | None, bx_rest_handler: str | None) -> int | None:
        """Refuse a pay system that is seen not to be able to mark a legacy invoice as paid.

        :return: its id; None if only the handler was given and it cannot be told which one the portal takes.
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
        :raises PaymentRefused: it does not exist, is inactive, belongs to legacy invoices, or would answer ``true`` and
            do nothing.
        """
        self.check_for_payment(pay_system_id)
        chosen = self._find(pay_system_id)
        if chosen is None or self.handlers is None:
            return False
        if chosen.action_file not in self.handlers:
            raise PaymentRefused(
                f"Pay system {chosen.id} {chosen.name!r} is handled by {chosen.action_file!r}, which is no REST "
                "handler: Bitrix24 would answer true and leave the payment unpaid (or ask a payment provider, which "
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


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceView:
    """What the portal showed before a legacy invoice is marked."""

    at: pendulum.DateTime | None
    """The portal's clock."""
    profile: Profile
    invoice: Invoice
    pay_systems: PaySystems


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentView:
    """What the portal showed before a payment is marked."""

    at: pendulum.DateTime | None
    profile: Profile
    payment: Payment
    pay_systems: PaySystems = UNSEEN
    """Only if they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectView:
    """What the portal showed before a payment is added to an object."""

    at: pendulum.DateTime | None
    profile: Profile
    shown: Shown
    """All payments of the object: the snapshot that a lost response is compared with."""
    order_ids: tuple[int, ...]
    """Orders bound to it; empty also if the connection may not see them."""
    rows: tuple[ProductRow, ...]
    """Product rows still available for payment; only if they were asked for."""
    pay_systems: PaySystems


def commands_before_invoice(invoice_id: int) -> Commands:
    """Return the commands whose reply :func:`invoice_view_in` reads."""
    return {**_WHO_AM_I, "invoice": ("crm.invoice.get", {"id": invoice_id}), **_PAY_SYSTEMS}


def invoice_view_in(client: ApiClient, reply: BatchReply, invoice_id: int) -> Flow[InvoiceView]:
    """Read the reply to :func:`commands_before_invoice`.

    :raises Bitrix24ConfigError: the webhook or application lacks a scope.
    :raises PaymentRefused: there is no such legacy invoice, or it cannot be read and a smart invoice has this number.
    :raises Bitrix24ApiError: it cannot be read.
    """
    _check_scopes(client, reply, needed=("crm", "pay_system"))
    trouble = reply.errors.get("invoice")
    if trouble and trouble.final:
        # Portals say "not found" in their own language, and "access denied" to users who are not administrators.
        smart = yield from _is_smart_invoice(client, invoice_id)
        if isinstance(trouble, Bitrix24NotFound):
            raise PaymentRefused(*_no_such_invoice(invoice_id, smart))
        if smart:
            raise PaymentRefused(*_perhaps_smart(invoice_id, trouble.reason, client.settings.auth.kind))
    return InvoiceView(
        at=reply.at,
        profile=read("profile", Profile.from_wire, reply.value("profile")),
        invoice=read_the_one("crm.invoice.get", Invoice.from_wire, reply.value("invoice"), invoice_id),
        pay_systems=_pay_systems(reply),
    )


def read_before_invoices(client: ApiClient, *, invoice_ids: Collection[int]) -> Flow[dict[int, InvoiceView]]:
    """Read many legacy invoices, who we are, and the pay systems: two requests for up to 2,500 invoices.

    :return: by id; ids that do not exist, or may not be seen, are absent.
    :raises Bitrix24ConfigError: the webhook or application lacks a scope.
    """
    reply = yield from client.batch({**_WHO_AM_I, **_PAY_SYSTEMS})
    _check_scopes(client, reply, needed=("crm", "pay_system"))
    profile = read("profile", Profile.from_wire, reply.value("profile"))
    systems = _pay_systems(reply)
    found = yield from get_invoices(client, invoice_ids=invoice_ids)
    return {
        number: InvoiceView(at=reply.at, profile=profile, invoice=invoice, pay_systems=systems)
        for number, invoice in found.items()
    }


def read_before_marks(client: ApiClient, *, payment_ids: Collection[int]) -> Flow[dict[int, PaymentView]]:
    """Read many payments and who we are: 50 payments in a request.

    :return: by id; ids that do not exist are absent.
    :raises Bitrix24ConfigError: the webhook or application lacks a scope.
    """
    reply = yield from client.batch(_WHO_AM_I)
    _check_scopes(client, reply, needed=("crm",))
    profile = read("profile", Profile.from_wire, reply.value("profile"))
    found = yield from get_crm_payments(client, payment_ids=payment_ids)
    return {
        number: PaymentView(at=reply.at, profile=profile, payment=payment)
        for number, payment in found.items()
        if isinstance(payment, Payment)
    }


def commands_before_mark(payment_id: int, *, with_pay_systems: bool = False) -> Commands:
    """Return the commands whose reply :func:`payment_view_in` reads."""
    systems = _PAY_SYSTEMS if with_pay_systems else {}
    return {**_WHO_AM_I, "payment": ("crm.item.payment.get", {"id": payment_id}), **systems}


def payment_view_in(
    client: ApiClient, reply: BatchReply, payment_id: int, *, with_pay_systems: bool = False
) -> PaymentView:
    """Read the reply to :func:`commands_before_mark`.

    :raises Bitrix24ConfigError: the webhook or application lacks a scope.
    :raises PaymentRefused: there is no such payment.
    """
    _check_scopes(client, reply, needed=("crm", "pay_system") if with_pay_systems else ("crm",))
    if isinstance(reply.errors.get("payment"), Bitrix24NotFound):
        raise PaymentRefused(
            f"There is no payment {payment_id} on the portal: it was deleted, or the number is that of an invoice, an "
            "order or a payment of a legacy invoice.",
            NOT_SENT,
            "Look at the payments of the deal or smart invoice.",
        )
    return PaymentView(
        at=reply.at,
        profile=read("profile", Profile.from_wire, reply.value("profile")),
        payment=read_the_one("crm.item.payment.get", Payment.from_wire, reply.value("payment"), payment_id),
        pay_systems=_pay_systems(reply) if with_pay_systems else UNSEEN,
    )


def profile_in(client: ApiClient, reply: BatchReply, *, needed: Collection[str]) -> Profile:
    """Return the connection's user from the reply to :func:`commands_before_mark`.

    :param needed: scopes.
    :raises Bitrix24ConfigError: the webhook or application lacks a scope.
    """
    _check_scopes(client, reply, needed=needed)
    return read("profile", Profile.from_wire, reply.value("profile"))


def commands_before_add(
    *,
    entity_id: int,
    entity_type_id: int,
    with_rows: bool,
    with_pay_systems: bool,
    with_orders: bool = True,
    tag: str | None,
) -> Commands:
    """Return the commands whose reply :func:`object_view_in` reads."""
    owner = {"entityId": entity_id, "entityTypeId": entity_type_id}
    commands: dict[str, tuple[str, Mapping[str, Any]]] = {
        **_WHO_AM_I,
        "object": ("crm.item.get", {"entityTypeId": entity_type_id, "id": entity_id}),
        **commands_for_evidence(owner, tag=tag),
    }
    if with_orders:
        wanted = {"=ownerTypeId": entity_type_id, "=ownerId": entity_id}
        commands["orders"] = ("crm.orderentity.list", {"select": ["orderId"], "filter": wanted})
    if with_rows:
        commands["rows"] = ask_for_available(entity_type_id, entity_id)
    if with_pay_systems:
        commands["pay_systems"] = _PAY_SYSTEMS["pay_systems"]
    return commands


def object_view_in(
    client: ApiClient,
    reply: BatchReply,
    *,
    entity_id: int,
    entity_type_id: int,
    with_rows: bool,
    tag: str | None,
    known: Collection[int],
) -> Flow[ObjectView]:
    """Read the reply to :func:`commands_before_add`.

    :param known: payments that were on the object before.
    :raises Bitrix24ConfigError: the webhook or application lacks a scope.
    :raises PaymentRefused: there is no such object.
    :raises Bitrix24NoAnswer: among others if a list is not complete.
    """
    owner = {"entityId": entity_id, "entityTypeId": entity_type_id}
    _check_scopes(client, reply, needed=("crm",) if tag is None else ("crm", "sale"))
    if isinstance(reply.errors.get("object"), Bitrix24NotFound):
        raise PaymentRefused(
            f"There is no {ENTITY_NAMES[entity_type_id]} {entity_id} (entity_id) on the portal: it was deleted, or the "
            "number is that of another kind of object.",
            NOT_SENT,
        )
    return ObjectView(
        at=reply.at,
        profile=read("profile", Profile.from_wire, reply.value("profile")),
        shown=(yield from shown_in(client, reply, owner, tag=tag, known=known)),
        order_ids=_order_ids(reply),
        rows=available_in(reply) if with_rows else (),
        pay_systems=_pay_systems(reply),
    )


def _check_scopes(client: ApiClient, reply: BatchReply, *, needed: Collection[str]) -> None:
    granted = reply.value("scope")
    if not isinstance(granted, list):
        raise Bitrix24NoAnswer("scope", "not a list of scopes")
    missing, auth = [scope for scope in needed if scope not in granted], client.settings.auth
    if missing:
        raise Bitrix24ConfigError(
            f"The {auth.kind} lacks the scope {' and '.join(missing)}; needed are {' and '.join(needed)}, to write and "
            "to read back what was written.",
            NOT_SENT,
            f"{auth.more_rights}.",
        )


def _pay_systems(reply: BatchReply) -> PaySystems:
    listed, handlers = _if_allowed(reply, "pay_systems"), _if_allowed(reply, "handlers")
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


def _if_allowed(reply: BatchReply, key: str) -> Any:
    """The result of a command that the portal may forbid; None if it did, or was not asked."""
    error = reply.errors.get(key)
    if (error and error.final) or key not in reply.results.keys() | reply.errors.keys() | reply.missing.keys():
        return None
    return reply.value(key)


def _order_ids(reply: BatchReply) -> tuple[int, ...]:
    found = _if_allowed(reply, "orders")
    bindings = found.get("orderEntity") if isinstance(found, dict) else None
    rows = bindings if isinstance(bindings, list) else []
    ids = [str(row.get("orderId")) for row in rows if isinstance(row, dict)]
    # They only serve a warning, so an order in an unknown form is as good as none.
    return tuple(int(one) for one in ids if one.isascii() and one.isdigit() and len(one) < 20 and one != "0")


def _perhaps_smart(invoice_id: int, trouble: str, kind: str) -> tuple[str, Denial, str]:
    return (
        f"Legacy invoice {invoice_id} (invoice_id) cannot be read ({trouble}).",
        NOT_SENT,
        f"If it exists, the {kind}'s user may lack the right to it. There is also a smart invoice {invoice_id}: if "
        f"that one is meant, use AddCrmPaymentOperator(entity_type_id='smart_invoice', entity_id={invoice_id}) "
        "instead, because sale.paysystem.pay.invoice cannot pay smart invoices.",
    )


def _is_smart_invoice(client: ApiClient, number: int) -> Flow[bool]:
    params = {"entityTypeId": SMART_INVOICE, "id": number}
    try:
        yield from client.call("crm.item.get", params, effect=Effect.READ)
    except Bitrix24ApiError:
        return False
    return True


def _no_such_invoice(invoice_id: int, smart: bool) -> tuple[str, Denial, str]:
    if smart:
        return (
            f"{invoice_id} (invoice_id) is no legacy invoice, but a smart invoice, and sale.paysystem.pay.invoice "
            "cannot pay those.",
            NOT_SENT,
            "Smart invoices have payments: use "
            f"AddCrmPaymentOperator(entity_type_id='smart_invoice', entity_id={invoice_id}), CrmPaymentPaidSensor to "
            "wait, and PayCrmPaymentOperator to mark a payment as paid.",
        )
    return (
        f"There is no legacy invoice {invoice_id} (invoice_id) on the portal, nor a smart invoice of that number that "
        "this connection may see.",
        NOT_SENT,
        "On portals where legacy invoices are switched off, use AddCrmPaymentOperator.",
    )
