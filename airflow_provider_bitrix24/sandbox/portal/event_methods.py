"""``event.bind``, ``.unbind``, ``.get``, ``event.offline.*``: for applications; the queue for administrators."""

from __future__ import annotations

import secrets
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError, access_denied
from airflow_provider_bitrix24.sandbox.portal.events import EVENTS, forget_old
from airflow_provider_bitrix24.sandbox.portal.filters import all_hold, as_list, as_mapping, lenient_conditions, ordered
from airflow_provider_bitrix24.sandbox.portal.pages import paged
from airflow_provider_bitrix24.sandbox.portal.registry import BASIC, Call, Listing, rest
from airflow_provider_bitrix24.sandbox.portal.side_tables import EventHandler, OfflineEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_COLUMNS = {
    "ID": "integer",
    "TIMESTAMP_X": "datetime",
    "EVENT_NAME": "string",
    "MESSAGE_ID": "string",
    "PROCESS_ID": "string",
    "ERROR": "integer",
}
_NAMES = {"ID": "id", "TIMESTAMP_X": "at", "EVENT_NAME": "event", "MESSAGE_ID": "message_id"}
_NAMES |= {"PROCESS_ID": "process_id", "ERROR": "error"}
_LIMIT = 50


def _need_argument(name: str) -> RestError:
    return RestError("ERROR_ARGUMENT", f"Argument '{name}' is null or empty")


def _need_license(call: Call) -> None:
    if "rest_offline_extended" not in call.state.options["features"]:
        raise RestError(
            "WRONG_LICENSE", "Application event offline extended mode is not available on current plan", 403
        )


def _own(call: Call) -> list[EventHandler]:
    return [row for row in call.state.event_handlers.values() if row.client_id == call.client_id]


def _check_rights(call: Call, what: str, *, offline: bool) -> None:
    """Offline handlers, and those of another user, need an administrator."""
    other = call.legacy("auth_type") not in (None, "", 0, "0") and php.to_int(call.legacy("auth_type")) != call.user.id
    if offline and not call.user.admin:
        raise access_denied(text=f"Access denied! Offline events {what} requires administrator access rights")
    if other and not call.user.admin:
        raise access_denied(text=f"Access denied! Event {what} with AUTH_TYPE requires administrator access rights")


def _event(call: Call) -> str:
    event = php.to_text(call.legacy("event")).upper()
    scope = EVENTS.get(event)
    if scope is None or (scope != BASIC and scope not in call.scopes):
        raise RestError("ERROR_EVENT_NOT_FOUND", "Event not found")
    return event


@rest("event.bind", scope=BASIC, writes=True, application_only=True)
def bind(call: Call) -> object:
    """Bind a handler to an event; an offline one has no address, its events wait in the queue."""
    event = _event(call)
    offline = php.to_text(call.legacy("event_type")).lower() == "offline"
    _check_rights(call, "binding", offline=offline)
    connector = php.to_text(call.legacy("auth_connector")) if offline else ""
    if connector:
        _need_license(call)
    handler = "" if offline else php.to_text(call.legacy("handler"))
    if not offline and (urlsplit(handler).scheme not in ("http", "https") or not urlsplit(handler).hostname):
        return False
    auth_type = php.to_int(call.legacy("auth_type"))
    for row in _own(call):
        same = (row.event, row.handler, row.auth_type, row.offline, row.connector)
        if same == (event, handler, auth_type, offline, connector):
            raise RestError("", "Unable to set event handler: Handler already binded")
    number = call.state.new_id("event_handlers")
    new = EventHandler(number, call.client_id or "", event, handler, auth_type, offline, connector)
    call.state.event_handlers[number] = new
    return True


@rest("event.unbind", scope=BASIC, writes=True, application_only=True)
def unbind(call: Call) -> object:
    """Remove handlers; how many there were."""
    offline = php.to_text(call.legacy("event_type")).lower() == "offline"
    _check_rights(call, "unbinding", offline=offline)
    event = php.to_text(call.legacy("event")).upper()
    handler, auth_type = call.legacy("handler"), call.legacy("auth_type")
    found = [
        row
        for row in _own(call)
        if row.event == event
        and row.offline == offline
        and (offline or not php.truthy(handler) or row.handler == handler)
        and (auth_type is None or row.auth_type == php.to_int(auth_type))
    ]
    for row in found:
        del call.state.event_handlers[row.id]
    return {"count": len(found)}


@rest("event.get", scope=BASIC, application_only=True)
def get(call: Call) -> object:
    """The handlers of the application."""
    return [
        {"event": row.event, "handler": row.handler, "auth_type": str(row.auth_type), "offline": int(row.offline)}
        | ({"connector_id": row.connector} if row.offline else {})
        for row in _own(call)
    ]


def _check_admin(call: Call) -> None:
    if not call.user.admin:
        raise access_denied()
    forget_old(call.state, call.now)


def _queue(call: Call) -> Iterator[OfflineEvent]:
    """The application's events, the oldest first."""
    return (row for row in call.state.offline_events.by("at") if row.client_id == call.client_id)


def _of_process(call: Call, process_id: str) -> list[OfflineEvent]:
    """What somebody has reserved."""
    rows = call.state.offline_events.having("process_id", process_id)
    return [row for row in rows if row.client_id == call.client_id]


def _read(row: OfflineEvent, column: str) -> Any:
    return getattr(row, _NAMES[column])


def _selected(call: Call, rows: Iterable[OfflineEvent]) -> Iterable[OfflineEvent]:
    """Those of the rows, the oldest of which come first, that the caller wants, in the order it wants."""
    filter_ = {key.upper(): value for key, value in as_mapping(call.legacy("filter")).items()}
    order = [(name.upper(), way) for name, way in as_mapping(call.legacy("order")).items()]
    known = [(name, way) for name, way in order if name in _COLUMNS]
    found = filter(all_hold(lenient_conditions(filter_, _COLUMNS), _read), rows)
    return ordered(found, known, _read) if known else found


def _wire(row: OfflineEvent) -> dict[str, Any]:
    return {
        "ID": str(row.id),
        "TIMESTAMP_X": php.iso(row.at),
        "EVENT_NAME": row.event,
        "EVENT_DATA": row.data,
        "EVENT_ADDITIONAL": row.additional,
        "MESSAGE_ID": row.message_id,
    }


@rest("event.offline.get", scope=BASIC, writes=True, application_only=True)
def offline_get(call: Call) -> object:
    """Take events out of the queue: removed at once (``clear``, the default), or reserved until they are cleared."""
    _check_admin(call)
    clear = call.legacy("clear") is None or php.truthy(call.legacy("clear"))
    process_id = php.to_text(call.legacy("process_id"))
    with_errors = php.truthy(call.legacy("error"))
    connector = php.to_text(call.legacy("auth_connector"))
    if not clear or process_id or with_errors or connector:
        _need_license(call)
    if process_id:
        return {"process_id": process_id, "events": [_wire(row) for row in _of_process(call, process_id)]}
    wanted = ("", connector, int(with_errors))
    free = (row for row in _queue(call) if (row.process_id, row.connector, row.error) == wanted)
    limit = php.to_int(call.legacy("limit"))
    taken = list(islice(_selected(call, free), limit if limit > 0 else _LIMIT))
    if clear:
        for row in taken:
            del call.state.offline_events[row.id]
        return {"process_id": None, "events": [_wire(row) for row in taken]}
    process_id = secrets.token_hex(16)
    for row in taken:
        row.process_id = process_id
    return {"process_id": process_id, "events": [_wire(row) for row in taken]}


@rest("event.offline.list", scope=BASIC, application_only=True)
def offline_list(call: Call) -> object:
    """The queue as it is, reserved entries and erroneous ones included, 50 to a page."""
    _check_admin(call)
    page = paged(list(_selected(call, _queue(call))), call.legacy("start"))
    shown = [{**_wire(row), "PROCESS_ID": row.process_id, "ERROR": str(row.error)} for row in page.result]
    return Listing(shown, page.total, page.next)


def _reserved(call: Call) -> tuple[list[OfflineEvent], list[str]]:
    _check_admin(call)
    process_id = php.to_text(call.legacy("process_id"))
    if not process_id:
        raise _need_argument("PROCESS_ID")
    message_ids = [php.to_text(each) for each in as_list(call.legacy("message_id"))]
    if call.dialect == "source" and any(len(each) != 32 for each in message_ids):
        raise RestError("ERROR_ARGUMENT", "Value must be an array of MESSAGE_ID values")
    return _of_process(call, process_id), message_ids


@rest("event.offline.clear", scope=BASIC, writes=True, application_only=True)
def offline_clear(call: Call) -> object:
    """Confirm a reservation, or some of it. The documentation looks at ``id`` first, the source at ``message_id``."""
    rows, message_ids = _reserved(call)
    ids = {php.to_int(each) for each in as_list(call.legacy("id"))}
    if ids and (call.dialect == "docs" or not message_ids):
        rows = [row for row in rows if row.id in ids]
    elif message_ids:
        rows = [row for row in rows if row.message_id in message_ids]
    for row in rows:
        del call.state.offline_events[row.id]
    return True


@rest("event.offline.error", scope=BASIC, writes=True, application_only=True)
def offline_error(call: Call) -> object:
    """Put reserved events back as erroneous."""
    rows, message_ids = _reserved(call)
    for row in rows:
        if not message_ids or row.message_id in message_ids:
            row.process_id, row.error = "", 1
    return True
