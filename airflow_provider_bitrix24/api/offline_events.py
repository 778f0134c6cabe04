"""Ask an application's queue of offline events whether something may have been paid.

There is no event "paid": the portal says that a payment was saved, and not always which. So an event is a hint, and
what was paid is read by its date (`api.paid_since`). The queue is only read: nothing is taken out of it, and others
who use the application find everything in it. The portal itself removes entries after about a month.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api import filters
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.paging import rows_in
from airflow_provider_bitrix24.exceptions import Bitrix24NoAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.paid_since import Kind

EVENTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "payment": ("ONPAYMENTENTITYSAVED",),
    # Invoices that a pay system marks are saved as payments; those that a person marks have events of their own.
    "invoice": ("ONPAYMENTENTITYSAVED", "ONCRMINVOICESETSTATUS", "ONCRMINVOICEUPDATE"),
}
_GET: Final = "event.get"
_LIST: Final = "event.offline.list"


@dataclass(frozen=True, slots=True)
class Hint:
    """What the queue says."""

    missing: tuple[str, ...]
    """The events that the application has no offline handler of; if there are any, the queue proves nothing."""
    happened: bool
    """Whether there are events since the moment that was asked for."""
    at: datetime | None
    """When the portal responded, by its clock."""


def read_hint(client: ApiClient, kind: Kind, since: datetime) -> Flow[Hint]:
    """Ask in one request whether events have come since a moment, and whether the handlers are still there.

    :raises Bitrix24Error: among others if the connection may not read the queue.
    """
    asked = {f"e{index}": _since(name, since) for index, name in enumerate(EVENTS[kind])}
    reply = yield from client.batch({"handlers": (_GET, {}), **{key: (_LIST, asked[key]) for key in asked}})
    happened = False
    for key, params in asked.items():
        rows = _rows(_LIST, rows_in(_LIST, reply.value(key)))
        filters.check_rows(_LIST, params, rows)
        happened = happened or bool(rows)
    return Hint(_missing(kind, reply.value("handlers")), happened, reply.at)


def bind(client: ApiClient, kind: Kind) -> Flow[tuple[str, ...]]:
    """Bind the offline handlers that the application does not have.

    :return: the events that were bound.
    :raises Bitrix24Error: among others if the connection is no application's, or its user no administrator.
    """
    handlers = yield from client.call(_GET, effect=Effect.READ)
    missing = _missing(kind, handlers.result)
    for name in missing:
        yield from client.call("event.bind", {"event": name, "event_type": "offline"}, effect=Effect.NON_IDEMPOTENT)
    return missing


def _since(name: str, since: datetime) -> dict[str, Any]:
    return {"filter": {"=EVENT_NAME": name, ">=TIMESTAMP_X": since.isoformat(timespec="seconds")}}


def _missing(kind: Kind, handlers: Any) -> tuple[str, ...]:
    """Return the events without an offline handler; what one with a connector queues, the list does not show us."""
    bound = {
        str(row.get("event")).upper()
        for row in _rows(_GET, handlers)
        if str(row.get("offline")) == "1" and not row.get("connector_id")
    }
    return tuple(name for name in EVENTS[kind] if name not in bound)


def _rows(method: str, rows: Any) -> Iterable[Mapping[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise Bitrix24NoAnswer(method, "the result is not a list of rows")
    return rows
