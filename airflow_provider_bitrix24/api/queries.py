"""Reads as values: commands of a batch and how their reply is understood, so that many can share one request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from airflow_provider_bitrix24.api import payments, preflight, products, tags
from airflow_provider_bitrix24.api.batch import MOST_COMMANDS, BatchReply
from airflow_provider_bitrix24.api.effects import Effect
from airflow_provider_bitrix24.api.models import Invoice, Payment
from airflow_provider_bitrix24.exceptions import Bitrix24Error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_bitrix24.api.batch import Commands
    from airflow_provider_bitrix24.api.effects import Flow
    from airflow_provider_bitrix24.api.flow import Caller
    from airflow_provider_bitrix24.api.preflight import InvoiceView, ObjectView, PaymentView
    from airflow_provider_bitrix24.api.products import Contents
    from airflow_provider_bitrix24.api.tags import Shown

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

SAME_FOR_ALL: Final = ("scope", "profile", "sale.paysystem.list", "sale.paysystem.handler.list")
"""Methods that say nothing about one object: a list of operations asks each of them once."""


class Query(Protocol[T_co]):
    """Something to read; a frozen dataclass."""

    def commands(self) -> Commands:
        """Return what to ask, by name."""

    def read(self, client: Caller, reply: BatchReply) -> Flow[T_co]:
        """Read the reply, and request what is missing in it.

        :raises Bitrix24Error: it cannot be read, or says that there is no such thing.
        """


def ask(client: Caller, query: Query[T]) -> Flow[T]:
    """Send one query: a plain call if it is one command, a batch otherwise."""
    commands = query.commands()
    if len(commands) > 1:
        reply = yield from client.batch(commands)
    else:
        [(name, (method, params))] = commands.items()
        answer = yield from client.call(method, params, effect=Effect.READ)
        totals = {} if answer.total is None else {name: answer.total}
        nexts = {} if answer.next is None else {name: answer.next}
        reply = BatchReply({name: answer.result}, {}, answer.at, {}, {}, totals, nexts)
    return (yield from query.read(client, reply))


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


def ask_many(client: Caller, queries: Sequence[Query[Any]], shared: SharedAnswers) -> Flow[list[Any | Bitrix24Error]]:
    """Send many queries in as few requests as possible.

    :param shared: what was read before; added to.
    :return: for each query what it read, or the error.
    """
    answers: list[Any | Bitrix24Error] = []
    for part in _parts(queries, shared):
        merged, names = _merge(part, shared)
        replied: BatchReply | Bitrix24Error
        try:
            replied = yield from client.batch(merged)
        except Bitrix24Error as error:
            replied = error
        for query, own in zip(part, names, strict=True):
            if isinstance(replied, Bitrix24Error):
                answers.append(replied)
                continue
            try:
                answers.append((yield from query.read(client, _own_reply(query, own, replied, shared))))
            except Bitrix24Error as error:
                answers.append(error)
    return answers


def _identity(command: tuple[str, Mapping[str, Any]]) -> str:
    return json.dumps(command, sort_keys=True, default=str)


def _parts(queries: Sequence[Query[Any]], shared: SharedAnswers) -> list[list[Query[Any]]]:
    """Group the queries so that the commands of each group fit into one batch."""
    parts: list[list[Query[Any]]] = []
    size, known = MOST_COMMANDS, set[str]()
    for query in queries:
        identities = {_identity(command): command[0] for command in query.commands().values()}
        if size + len(set(identities) - known) > MOST_COMMANDS:
            parts.append([])
            known = {one for one, method in identities.items() if method in SAME_FOR_ALL and shared.knows(one)}
            size = 0
        size += len(set(identities) - known)
        known |= set(identities)
        # What the first group of a run has read of all objects, the next ones do not ask again.
        parts[-1].append(query)
    return parts


def _merge(
    queries: Sequence[Query[Any]], shared: SharedAnswers
) -> tuple[dict[str, tuple[str, Mapping[str, Any]]], list[dict[str, str]]]:
    """The commands of many queries under names of their own, equal ones once; and for each query its names."""
    merged: dict[str, tuple[str, Mapping[str, Any]]] = {}
    by_identity: dict[str, str] = {}
    names: list[dict[str, str]] = []
    for number, query in enumerate(queries):
        own: dict[str, str] = {}
        for name, command in query.commands().items():
            identity = _identity(command)
            if command[0] in SAME_FOR_ALL and shared.knows(identity):
                continue
            if identity not in by_identity:
                by_identity[identity] = f"{name}_{number}"
                merged[by_identity[identity]] = command
            own[name] = by_identity[identity]
        names.append(own)
    return merged, names


def _own_reply(query: Query[Any], own: Mapping[str, str], reply: BatchReply, shared: SharedAnswers) -> BatchReply:
    """What a shared reply says to the commands of one query, under the query's own names."""
    results: dict[str, Any] = {}
    errors: dict[str, Bitrix24Error] = {}
    for name, command in query.commands().items():
        identity, there = _identity(command), own.get(name)
        if there is not None and command[0] in SAME_FOR_ALL:
            shared.keep(identity, reply, there)
        if there is None:
            if identity in shared.results:
                results[name] = shared.results[identity]
            else:
                errors[name] = shared.errors[identity]
        elif there in reply.results:
            results[name] = reply.results[there]
        elif there in reply.errors:
            errors[name] = reply.errors[there]
    return replace(
        reply,
        results=results,
        errors=errors,
        missing={name: reply.missing[there] for name, there in own.items() if there in reply.missing},
        totals={name: reply.totals[there] for name, there in own.items() if there in reply.totals},
        nexts={name: reply.nexts[there] for name, there in own.items() if there in reply.nexts},
    )


# ----------------------------------------------------------------------------------------------------- what can be read


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceBeforePaying:
    """A legacy invoice, who we are, and the pay systems."""

    invoice_id: int

    def commands(self) -> Commands:
        """The commands."""
        return preflight.commands_before_invoice(self.invoice_id)

    def read(self, client: Caller, reply: BatchReply) -> Flow[InvoiceView]:
        """See `preflight.read_before_invoice`."""
        return (yield from preflight.invoice_view_in(client, reply, self.invoice_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class OneInvoice:
    """A legacy invoice."""

    invoice_id: int

    def commands(self) -> Commands:
        """The command."""
        return {"invoice": ("crm.invoice.get", {"id": self.invoice_id})}

    def read(self, client: Caller, reply: BatchReply) -> Flow[Invoice]:
        """The invoice that was asked for."""
        yield from ()
        return payments.read_the_one("crm.invoice.get", Invoice.from_wire, reply.value("invoice"), self.invoice_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentBeforePaying:
    """A payment, and who we are."""

    payment_id: int

    def commands(self) -> Commands:
        """The commands."""
        return preflight.commands_before_mark(self.payment_id)

    def read(self, client: Caller, reply: BatchReply) -> Flow[PaymentView]:
        """See `preflight.read_before_mark`."""
        yield from ()
        return preflight.payment_view_in(client, reply, self.payment_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnePayment:
    """A payment."""

    payment_id: int

    def commands(self) -> Commands:
        """The command."""
        return {"payment": ("crm.item.payment.get", {"id": self.payment_id})}

    def read(self, client: Caller, reply: BatchReply) -> Flow[Payment]:
        """The payment that was asked for."""
        yield from ()
        return payments.read_the_one("crm.item.payment.get", Payment.from_wire, reply.value("payment"), self.payment_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectBeforeAdding:
    """An object with its payments and orders, and what else is needed before a payment is added to it."""

    entity_id: int
    entity_type_id: int
    with_rows: bool
    with_pay_systems: bool
    tag: str | None
    known: tuple[int, ...]
    """Payments that were on the object before."""

    def commands(self) -> Commands:
        """The commands."""
        return preflight.commands_before_add(
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            with_rows=self.with_rows,
            with_pay_systems=self.with_pay_systems,
            tag=self.tag,
        )

    def read(self, client: Caller, reply: BatchReply) -> Flow[ObjectView]:
        """See `preflight.read_before_add`."""
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
class Evidence:
    """All payments of an object, and which of them may be ours."""

    entity_id: int
    entity_type_id: int
    user_id: int
    since: float
    until: float
    tag: str | None
    known: tuple[int, ...] = ()

    def commands(self) -> Commands:
        """The commands."""
        return tags.commands_of_evidence(
            self._owner, user_id=self.user_id, since=self.since, until=self.until, tag=self.tag
        )

    def read(self, client: Caller, reply: BatchReply) -> Flow[Shown]:
        """See `tags.read_evidence`."""
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

    def read(self, client: Caller, reply: BatchReply) -> Flow[list[Payment]]:
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
    """A payment and the product rows in it."""

    payment_id: int
    prices_of: tuple[int, int] | None = None
    """Type and id of the object whose product rows that are still available are read as well."""

    def commands(self) -> Commands:
        """The commands."""
        return products.commands_of_contents(self.payment_id, self.prices_of)

    def read(self, client: Caller, reply: BatchReply) -> Flow[Contents]:
        """See `products.read_contents`."""
        return (yield from products.contents_in(client, reply, self.payment_id, self.prices_of))
