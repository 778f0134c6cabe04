"""Read first: the one batch of reads before each write, and what it must refuse whatever is to be written.

A batch of reads costs one request. Commands that a connection may not see (pay systems want an administrator) fail
inside it without hurting the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.models import (
    Invoice,
    Payment,
    ProductRow,
    Profile,
)
from airflow_provider_bitrix24.api.pay_systems import PAY_SYSTEMS, UNSEEN, PaySystems, if_allowed, pay_systems_in
from airflow_provider_bitrix24.api.payments import get_crm_payments, get_invoices, read, read_single
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

_WHO_AM_I: Mapping[str, tuple[str, Mapping[str, Any]]] = {"scope": ("scope", {}), "profile": ("profile", {})}


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
    return {**_WHO_AM_I, "invoice": ("crm.invoice.get", {"id": invoice_id}), **PAY_SYSTEMS}


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
        invoice=read_single("crm.invoice.get", Invoice.from_wire, reply.value("invoice"), invoice_id),
        pay_systems=pay_systems_in(reply),
    )


def read_before_invoices(client: ApiClient, *, invoice_ids: Collection[int]) -> Flow[dict[int, InvoiceView]]:
    """Read many legacy invoices, who we are, and the pay systems: two requests for up to 2,500 invoices.

    :return: by id; ids that do not exist, or may not be seen, are absent.
    :raises Bitrix24ConfigError: the webhook or application lacks a scope.
    """
    reply = yield from client.batch({**_WHO_AM_I, **PAY_SYSTEMS})
    _check_scopes(client, reply, needed=("crm", "pay_system"))
    profile = read("profile", Profile.from_wire, reply.value("profile"))
    systems = pay_systems_in(reply)
    found = yield from get_invoices(client, invoice_ids=invoice_ids)
    return {
        number: InvoiceView(at=reply.at, profile=profile, invoice=invoice, pay_systems=systems)
        for number, invoice in found.items()
    }


def read_before_payments(client: ApiClient, *, payment_ids: Collection[int]) -> Flow[dict[int, PaymentView]]:
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
    systems = PAY_SYSTEMS if with_pay_systems else {}
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
        payment=read_single("crm.item.payment.get", Payment.from_wire, reply.value("payment"), payment_id),
        pay_systems=pay_systems_in(reply) if with_pay_systems else UNSEEN,
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
        commands["pay_systems"] = PAY_SYSTEMS["pay_systems"]
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
        pay_systems=pay_systems_in(reply),
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


def _order_ids(reply: BatchReply) -> tuple[int, ...]:
    found = if_allowed(reply, "orders")
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
