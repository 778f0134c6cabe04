"""Events: ``event.*``. All of them need an OAuth application, and offline events an administrator."""

from __future__ import annotations

from typing import Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods.row import ListShape, Method, Param, fields, listing, one

_PAGE = "api-reference/events/event-"

_DENIED = {
    "ACCESS_DENIED": "only an administrator may do this",
    "WRONG_AUTH_TYPE": "a webhook may not do this: it needs an OAuth application",
}
_AUTH_TYPE = Param("auth_type", "int", "id of the user who the handler acts as; who caused the event if not given")
_EVENT_TYPE = Param("event_type", "text", "``online`` (if not given) or ``offline``")
_CONNECTOR = Param("auth_connector", "text", "key of the source, for offline events; needs a higher plan")
_PROCESS = one("process_id", "what ``event.offline.get`` with ``clear=0`` has returned", "text")

METHODS: Final = (
    Method(
        name="event.bind",
        does="Register a handler for an event. Registering the same handler twice is refused.",
        effect=Effect.NON_IDEMPOTENT,
        scope=None,
        application=True,
        any_case=True,
        params=(
            one("event", "name of the event", "text"),
            Param("handler", "text", "address of the handler; not for offline events"),
            _AUTH_TYPE,
            _EVENT_TYPE,
            _CONNECTOR,
            Param("options", "object", "settings of the event"),
        ),
        result="true; false for an address that cannot be called",
        errors={**_DENIED, "ERROR_EVENT_NOT_FOUND": "there is no such event in the application's scopes"},
        page=f"{_PAGE}bind",
    ),
    Method(
        name="event.unbind",
        does="Remove handlers of an event.",
        effect=Effect.IDEMPOTENT,
        scope=None,
        application=True,
        any_case=True,
        params=(
            one("event", "name of the event", "text"),
            Param("handler", "text", "address of the handler"),
            _AUTH_TYPE,
            _EVENT_TYPE,
        ),
        result="``count``: how many were removed",
        errors=_DENIED,
        page=f"{_PAGE}unbind",
    ),
    Method(
        name="event.get",
        does="List the handlers that the application has registered.",
        effect=Effect.READ,
        scope=None,
        application=True,
        any_case=True,
        result="the handlers",
        errors=_DENIED,
        page=f"{_PAGE}get",
    ),
    Method(
        name="event.offline.get",
        does="Take events out of the queue. Without ``clear=0`` they are deleted: a lost reply loses them.",
        effect=Effect.NON_IDEMPOTENT,
        scope=None,
        admin=True,
        application=True,
        any_case=True,
        params=(
            Param("filter", "object", "fields with operators", names=("ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID")),
            Param("order", "object", "field -> direction", names=("ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID")),
            Param("limit", "int", "how many; 50 if not given"),
            Param("clear", "int", "1 (if not given) deletes the events, 0 reserves them"),
            Param("process_id", "text", "reads the events of a reservation again"),
            _CONNECTOR,
            Param("error", "int", "1 returns the events that were marked as erroneous"),
        ),
        result="``process_id`` and ``events``",
        errors={**_DENIED, "WRONG_LICENSE": "``clear=0`` or ``auth_connector`` needs a higher plan"},
        page=f"{_PAGE}offline-get",
    ),
    Method(
        name="event.offline.list",
        does="List the queue of events without changing it.",
        effect=Effect.READ,
        scope=None,
        admin=True,
        application=True,
        any_case=True,
        params=(*listing(select=False), _CONNECTOR),
        result="one page of at most 50",
        rows=ListShape(
            id_field="ID",
            fields=fields(number="ID ERROR", text="EVENT_NAME MESSAGE_ID PROCESS_ID", time="TIMESTAMP_X"),
        ),
        errors=_DENIED,
        page=f"{_PAGE}offline-list",
    ),
    Method(
        name="event.offline.clear",
        does="Delete reserved events: those named, else the whole reservation. Give one of the two lists only.",
        effect=Effect.IDEMPOTENT,
        scope=None,
        admin=True,
        application=True,
        any_case=True,
        params=(
            _PROCESS,
            Param("id", "ids", "ids of the events"),
            Param("message_id", "texts", "message ids of the events, 32 characters each"),
        ),
        result="true",
        errors=_DENIED,
        page=f"{_PAGE}offline-clear",
    ),
    Method(
        name="event.offline.error",
        does="Put reserved events back as erroneous.",
        effect=Effect.IDEMPOTENT,
        scope=None,
        admin=True,
        application=True,
        any_case=True,
        params=(_PROCESS, Param("message_id", "texts", "message ids of the events")),
        result="true",
        errors=_DENIED,
        page=f"{_PAGE}offline-error",
    ),
)
