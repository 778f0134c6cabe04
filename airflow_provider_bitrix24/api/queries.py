"""Reads as values: commands of a batch and how their reply is understood, so that many can share one request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from airflow_provider_bitrix24.api import payments, preflight, products, tags
from airflow_provider_bitrix24.api.batch import MOST_COMMANDS, BatchReply
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.models import Invoice, Payment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_bitrix24.api.batch import Commands
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.preflight import InvoiceView, ObjectView, PaymentView
    from airflow_provider_bitrix24.api.products import Contents
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.exceptions import Bitrix24Error

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Command: TypeAlias = "tuple[str, Mapping[str, Any]]"
"""REST method and parameters."""

SAME_FOR_ALL: Final = ("scope", "sale.paysystem.handler.list")
"""Methods that a list of operations asks once: what they say about a call, its own reply or the read-back says as well.
The user and the pay systems permit a send, so they are read with every object."""


_FOR_EACH_CHUNK: Final = (*SAME_FOR_ALL, "profile", "sale.paysystem.list")
"""Methods that a list of operations asks once for all operations of a chunk, or less often."""


class Query(Protocol[T_co]):
    """Something to read; a frozen dataclass."""

    def commands(self) -> Commands:
        """Return what to ask, by name."""

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[T_co]:
        """Read the reply, and request what is missing in it.

        :raises Bitrix24Error: it cannot be read, or says that there is no such thing.
        """


def ask(client: ApiClient, query: Query[T]) -> Flow[T]:
    """Send one query: a plain call if it is one command, a batch otherwise."""
    commands = query.commands()
    if len(commands) > 1:
        reply = yield from client.batch(commands)
    else:
        [(name, (method, params))] = commands.items()
        answer = yield from client.call(method, params, effect=Effect.READ)
        totals = {} if answer.total is None else {name: answer.total}
        nexts = {} if answer.next is None else {name: answer.next}
        reply = BatchReply({name: answer.result}, {}, answer.at, (), {}, totals, nexts)
    return (yield from query.read(client, reply))


def methods_of(*queries: Query[Any]) -> tuple[str, ...]:
    """Return the REST methods that a list calls for each of its operations to read this."""
    called = (method for query in queries for method, _ in query.commands().values())
    return tuple(method for method in called if method not in _FOR_EACH_CHUNK)


@dataclass(slots=True)
class SharedAnswers:
    """What is the same for all objects, and was read before in this run."""

    results: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, Bitrix24Error] = field(default_factory=dict)

    def keep(self, identity: str, reply: BatchReply, name: str) -> None:
        """Keep what a reply says to a command, if it says it for good."""
        error = reply.errors.get(name)
        if name in reply.results:
            self.results[identity] = reply.results[name]
        elif error is not None and error.final:
            self.errors[identity] = error

    def knows(self, identity: str) -> bool:
        """Whether the command need not be sent again."""
        return identity in self.results or identity in self.errors


def parts(queries: Mapping[str, Query[Any]], shared: SharedAnswers) -> list[dict[str, Query[Any]]]:
    """Group many queries so that the commands of each group fit into one batch.

    :param queries: by any name.
    :param shared: what was read before.
    """
    groups: list[dict[str, Query[Any]]] = []
    size, asked = MOST_COMMANDS, set[str]()
    for key, query in queries.items():
        identities = {
            identity
            for identity, (method, _params) in _identified(query).items()
            if not (method in SAME_FOR_ALL and shared.knows(identity))
        }
        if size + len(identities - asked) > MOST_COMMANDS:
            groups.append({})
            size, asked = 0, set()
        size += len(identities - asked)
        asked |= identities
        groups[-1][key] = query
    return groups


def merge(
    queries: Mapping[str, Query[Any]], shared: SharedAnswers
) -> tuple[dict[str, Command], Callable[[str, BatchReply], BatchReply]]:
    """Put the commands of many queries into one batch, equal ones once, without what was read before.

    :return: the commands, and what makes of the batch's reply the reply to the query of one name.
    """
    merged: dict[str, Command] = {}
    names: dict[str, str] = {}
    for number, query in enumerate(queries.values()):
        for name, command in query.commands().items():
            identity = _identity(command)
            if identity not in names and not (command[0] in SAME_FOR_ALL and shared.knows(identity)):
                names[identity] = f"{name}_{number}"
                merged[names[identity]] = command

    def own_reply(key: str, reply: BatchReply) -> BatchReply:
        return _own_reply(queries[key], names, reply, shared)

    return merged, own_reply


def _identity(command: Command) -> str:
    return json.dumps(command, sort_keys=True, default=str)


def _identified(query: Query[Any]) -> dict[str, Command]:
    return {_identity(command): command for command in query.commands().values()}


def _own_reply(query: Query[Any], names: Mapping[str, str], reply: BatchReply, shared: SharedAnswers) -> BatchReply:
    """What a shared reply, or an earlier one, says to the commands of one query, under the query's own names."""
    own: dict[str, str] = {}
    results: dict[str, Any] = {}
    errors: dict[str, Bitrix24Error] = {}
    for name, command in query.commands().items():
        identity = _identity(command)
        there = names.get(identity)
        if there is None:
            if identity in shared.results:
                results[name] = shared.results[identity]
            else:
                errors[name] = shared.errors[identity]
            continue
        own[name] = there
        if command[0] in SAME_FOR_ALL:
            shared.keep(identity, reply, there)
    return replace(
        reply,
        results=results | {name: reply.results[there] for name, there in own.items() if there in reply.results},
        errors=errors | {name: reply.errors[there] for name, there in own.items() if there in reply.errors},
        missing={name: reply.missing[there] for name, there in own.items() if there in reply.missing},
        totals={name: reply.totals[there] for name, there in own.items() if there in reply.totals},
        nexts={name: reply.nexts[there] for name, there in own.items() if there in reply.nexts},
    )


# ----------------------------------------------------------------------------------------------------- what can be read


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceBeforePaying:
    """A legacy invoice, the connection's user, and the pay systems.

    REST methods ``batch`` of ``scope``, ``profile``, ``crm.invoice.get``, ``sale.paysystem.list`` and
    ``sale.paysystem.handler.list``
    (https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-get.html).
    """

    invoice_id: int

    def commands(self) -> Commands:
        """The commands."""
        return preflight.commands_before_invoice(self.invoice_id)

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[InvoiceView]:
        """See `preflight.invoice_view_in`."""
        return (yield from preflight.invoice_view_in(client, reply, self.invoice_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class OneInvoice:
    """A legacy invoice."""

    invoice_id: int

    def commands(self) -> Commands:
        """The command."""
        return {"invoice": ("crm.invoice.get", {"id": self.invoice_id})}

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[Invoice]:
        """The invoice that was asked for."""
        yield from ()
        return payments.read_single("crm.invoice.get", Invoice.from_wire, reply.value("invoice"), self.invoice_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentBeforePaying:
    """A payment, and the connection's user.

    REST methods ``batch`` of ``scope``, ``profile`` and ``crm.item.payment.get``
    (https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-get.html).
    """

    payment_id: int
    with_pay_systems: bool = False

    def commands(self) -> Commands:
        """The commands."""
        return preflight.commands_before_mark(self.payment_id, with_pay_systems=self.with_pay_systems)

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[PaymentView]:
        """See `preflight.payment_view_in`."""
        yield from ()
        return preflight.payment_view_in(client, reply, self.payment_id, with_pay_systems=self.with_pay_systems)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnePayment:
    """A payment."""

    payment_id: int

    def commands(self) -> Commands:
        """The command."""
        return {"payment": ("crm.item.payment.get", {"id": self.payment_id})}

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[Payment]:
        """The payment that was asked for."""
        yield from ()
        return payments.read_single("crm.item.payment.get", Payment.from_wire, reply.value("payment"), self.payment_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectBeforeAdding:
    """An object with its payments and orders, and what else is needed before a payment is added to it.

    REST methods ``batch`` of ``scope``, ``profile``, ``crm.item.get``, ``crm.item.payment.list``,
    ``crm.orderentity.list``, ``crm.item.productrow.getAvailableForPayment`` and ``sale.paysystem.list``
    (https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-list.html).
    """

    entity_id: int
    entity_type_id: int
    with_rows: bool
    with_pay_systems: bool
    tag: str | None
    known: tuple[int, ...]
    """Payments that were on the object before."""
    with_orders: bool = True

    def commands(self) -> Commands:
        """The commands."""
        return preflight.commands_before_add(
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            with_rows=self.with_rows,
            with_pay_systems=self.with_pay_systems,
            with_orders=self.with_orders,
            tag=self.tag,
        )

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[ObjectView]:
        """See `preflight.object_view_in`."""
        return (
            yield from preflight.object_view_in(
                client,
                reply,
                entity_id=self.entity_id,
                entity_type_id=self.entity_type_id,
                with_rows=self.with_rows,
                tag=self.tag,
                known=self.known,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatePayments:
    """All payments of an object, and which of them may be this key's.

    REST methods ``batch`` of ``crm.item.payment.list`` and, with a tag, ``sale.payment.list``
    (https://apidocs.bitrix24.com/api-reference/sale/payment/sale-payment-list.html).
    """

    entity_id: int
    entity_type_id: int
    user_id: int
    since: float
    until: float
    tag: str | None
    known: tuple[int, ...] = ()
    whose: bool = True
    """Whether the portal is asked which payments the user has added in that time."""

    def commands(self) -> Commands:
        """The commands."""
        if not self.whose:
            return tags.commands_for_evidence(self._owner, tag=self.tag)
        return tags.commands_of_evidence(
            self._owner, user_id=self.user_id, since=self.since, until=self.until, tag=self.tag
        )

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[Shown]:
        """See `tags.shown_in`."""
        return (yield from tags.shown_in(client, reply, self._owner, tag=self.tag, known=self.known))

    @property
    def _owner(self) -> dict[str, int]:
        return {"entityId": self.entity_id, "entityTypeId": self.entity_type_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsOfObject:
    """Payments of an object."""

    entity_id: int
    entity_type_id: int
    payment_ids: tuple[int, ...] = ()
    """Which ones; all of them, unfiltered, if none is named."""

    def commands(self) -> Commands:
        """The command."""
        return {"payments": ("crm.item.payment.list", self._params)}

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[list[Payment]]:
        """See `payments.list_crm_payments`."""
        return (
            yield from payments.payments_in(
                client,
                self._params,
                reply.value("payments"),
                total=reply.totals.get("payments"),
                following=reply.nexts.get("payments"),
            )
        )

    @property
    def _params(self) -> dict[str, Any]:
        owner: dict[str, Any] = {"entityId": self.entity_id, "entityTypeId": self.entity_type_id}
        return owner | ({"filter": {"@id": list(self.payment_ids)}} if self.payment_ids else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentsOfPayment:
    """A payment and the product rows in it.

    REST methods ``batch`` of ``crm.item.payment.get`` and ``crm.item.payment.product.list``
    (https://apidocs.bitrix24.com/api-reference/crm/universal/payment/products-in-payment/crm-item-payment-product-list.html).
    """

    payment_id: int
    prices_of: tuple[int, int] | None = None
    """Type and id of the object whose product rows that are still available are read as well."""

    def commands(self) -> Commands:
        """The commands."""
        return products.commands_of_contents(self.payment_id, self.prices_of)

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[Contents]:
        """See `products.contents_in`."""
        return (yield from products.contents_in(client, reply, self.payment_id, self.prices_of))
