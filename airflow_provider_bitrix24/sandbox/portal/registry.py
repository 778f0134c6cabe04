"""The table of REST methods: each registers by a decorator that says its scope and whether it writes.

A controller method receives its parameters as keyword arguments, bound by name as the portal's controllers do; its
signature is the declaration from which error 100 follows. A legacy method takes the raw ``call.params``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import Dialect, RestError
from airflow_provider_bitrix24.sandbox.portal.events import queue
from airflow_provider_bitrix24.sandbox.portal.model import State, User, money_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Handler = Callable[..., object]
F = TypeVar("F", bound=Handler)

#: The scope that every webhook and every application has.
BASIC = ""


@dataclass(frozen=True)
class Method:
    """One REST method."""

    name: str
    scope: str
    writes: bool
    handler: Handler
    parameters: tuple[tuple[str, str, str, bool], ...]  # (wire name, Python name, type, required)
    application_only: bool = False
    other_scopes: tuple[str, ...] = ()

    def open_to(self, scopes: Collection[str]) -> bool:
        """May a webhook or an application with these scopes call it?"""
        return self.scope == BASIC or any(scope in scopes for scope in (self.scope, *self.other_scopes))

    def invoke(self, call: Call) -> object:
        """Bind the parameters and run it."""
        bound: dict[str, Any] = {}
        for wire, name, kind, required in self.parameters:
            if call.params.get(wire) is not None:
                bound[name] = _coerce(wire, kind, call.params[wire])
            elif required:
                raise RestError(100, f"Could not find value for parameter {{{wire}}}")
        return self.handler(call, **bound)


METHODS: dict[str, Method] = {}


def rest(
    name: str,
    *,
    scope: str,
    writes: bool = False,
    application_only: bool = False,
    other_scopes: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register a REST method under its name; one of ``scope`` and ``other_scopes`` is enough to call it."""

    def register(handler: F) -> F:
        declared = list(inspect.signature(handler).parameters.values())[1:]
        parameters = tuple(
            (php.camel(p.name), p.name, re.split(r"[ \[]", str(p.annotation))[0], p.default is p.empty)
            for p in declared
        )
        METHODS[name.lower()] = Method(name, scope, writes, handler, parameters, application_only, other_scopes)
        return handler

    return register


def _coerce(wire: str, kind: str, value: Any) -> Any:
    if kind == "int" and php.is_numeric(value):
        return php.to_int(value)
    if kind == "dict" and isinstance(value, dict | list):
        return value if isinstance(value, dict) else {str(index): each for index, each in enumerate(value)}
    if kind == "list" and isinstance(value, dict | list):
        return list(value.values()) if isinstance(value, dict) else value
    if kind == "str" and not isinstance(value, dict | list):
        return php.to_text(value)
    expected = {"int": "int", "str": "string"}.get(kind, "array")
    raise RestError(
        100,
        f"Invalid value {{{php.to_text(value)}}} to match with parameter {{{wire}}}. "
        f"Should be value of type {expected}.",
    )


@dataclass
class Listing:
    """A result with the paging numbers that go beside it."""

    result: Any
    total: int | None = None
    next: int | None = None


@dataclass
class Call:
    """One method being run: who calls (``client_id``: through which application), what with, on which state.

    ``process`` lives as long as the PHP process; ``command`` is the name of the call in a batch.
    """

    method: Method
    params: Mapping[str, Any]
    state: State
    user: User
    scopes: tuple[str, ...]
    now: float
    dialect: Dialect
    uniqid: Callable[[], str]
    process: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    client_id: str | None = None
    command: str | None = None

    def may(self, right: str) -> bool:
        """Does the caller have a right such as ``deal.update``?"""
        return self.user.admin or right not in self.user.denied

    def legacy(self, name: str) -> Any:
        """A parameter of a legacy method, whose name may be written in any case."""
        return next((value for key, value in self.params.items() if key.lower() == name.lower()), None)

    def record(self, event: str, **facts: Any) -> None:
        """Enter an effective change in the ledger."""
        record(
            self.state,
            self.now,
            event,
            by="rest",
            user_id=self.user.id,
            method=self.method.name,
            idempotency_key=self.idempotency_key,
            connector=php.to_text(self.legacy("auth_connector")),
            command=self.command,
            **facts,
        )


_LEDGER_COLUMNS = ("payment_id", "invoice_id", "entity_type_id", "entity_id", "amount", "currency", "pay_system_id")


def record(
    state: State,
    now: float,
    event: str,
    *,
    by: str,
    user_id: int | None,
    method: str | None = None,
    idempotency_key: str | None = None,
    connector: str = "",
    command: str | None = None,
    **facts: Any,
) -> None:
    """Append an entry to the ledger; ``facts`` beyond the fixed columns are kept as they are."""
    entry: dict[str, Any] = {"at": php.iso(now), "event": event, **dict.fromkeys(_LEDGER_COLUMNS), **facts}
    if isinstance(entry["amount"], Decimal):
        entry["amount"] = money_text(entry["amount"])
    entry |= {"by": by, "user_id": user_id, "method": method, "idempotency_key": idempotency_key, "command": command}
    state.ledger.append(entry)
    queue(state, now, entry, connector)


def changed(row: Any, values: Mapping[str, Any]) -> list[str]:
    """Set these columns; the names of those that had another value before."""
    known = {column.name for column in fields(row)}
    names = [name for name, value in values.items() if name in known and getattr(row, name) != value]
    for name in names:
        setattr(row, name, values[name])
    return names
