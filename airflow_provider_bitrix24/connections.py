"""Read Airflow connections, and say what is wrong with one that is missing or cannot be read.

Airflow ignores an extra that is no JSON, and reports a connection that cannot be parsed as missing. A setting that was
given must not get lost like that, so both are checked here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24ConnectionNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Connection

_TEXTS: Final = ("conn_type", "host", "login", "password", "schema", "description", "conn_id")
_FIELDS: Final = (*_TEXTS, "port", "extra")


def find(conn_id: str, named_by: str, get: Callable[[str], Connection] | None = None) -> Connection:
    """Return an Airflow connection.

    :param named_by: where it was named, for the message.
    :param get: reads it; by default Airflow's own way.
    :raises Bitrix24ConnectionNotFound: there is none.
    :raises Bitrix24ConfigError: there is one, and it cannot be parsed.
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException
    from airflow.sdk import BaseHook

    _check_id(conn_id, named_by)
    try:
        return (get or BaseHook.get_connection)(conn_id)
    except AirflowNotFoundException:
        missing = _not_found(conn_id, named_by)
    raise missing


async def afind(conn_id: str, named_by: str) -> Connection:
    """Return the same in a coroutine."""
    import asyncio

    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    _check_id(conn_id, named_by)
    try:
        return await get_async_connection(conn_id)
    except AirflowNotFoundException:
        pass
    raise await asyncio.to_thread(_not_found, conn_id, named_by)


def _check_id(conn_id: object, named_by: str) -> None:
    if not isinstance(conn_id, str) or conn_id.strip() in ("", "None"):
        lost = conn_id is None or str(conn_id).strip() == "None"
        why = (
            " (a template or the task before gave None)"
            if lost
            else " (an empty text)"
            if not str(conn_id).strip()
            else ""
        )
        raise Bitrix24ConfigError(
            f"{named_by} must be the id of an Airflow connection, not {repr(conn_id)[:60]}{why}.", NOT_SENT
        )


def read_extra(connection: Connection, conn_id: str) -> dict[str, Any]:
    """Return the extra of a connection; Airflow masks what looks like a secret in it.

    :raises Bitrix24ConfigError: it is not empty, and no JSON object.
    """
    return dict(connection.extra_dejson) if _is_given(connection.extra, conn_id) else {}


async def aread_extra(connection: Connection, conn_id: str) -> dict[str, Any]:
    """Return the same in a coroutine."""
    from airflow.providers.common.compat.connection import get_async_extra_dejson

    return dict(await get_async_extra_dejson(connection)) if _is_given(connection.extra, conn_id) else {}


def _is_given(extra: str | None, conn_id: str) -> bool:
    """Tell whether there is an extra; refuse one that Airflow would ignore, completely or in part.

    :raises Bitrix24ConfigError: names the connection and the place in the extra; never repeats what is there.
    """
    if not extra or not extra.strip():
        return False
    trouble = _problem_in_extra(extra)
    if trouble:  # rule: an extra that cannot be read is refused
        raise Bitrix24ConfigError(
            f"The Airflow connection {conn_id!r} cannot be used: its field extra {trouble}.",
            NOT_SENT,
            'Correct the extra: it must be empty, or a JSON object such as {"portal_id": "acme.bitrix24.com"}.',
        )
    return True


def _problem_in_extra(extra: str) -> str:
    twice: list[str] = []

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in dict.fromkeys(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        parsed = json.loads(extra, object_pairs_hook=read_object)
    except json.JSONDecodeError as error:
        # The reason is the parser's own words; they hold nothing of the text.
        return f"is not valid JSON ({error.msg}, line {error.lineno}, column {error.colno})"
    except RecursionError:
        return "is not valid JSON (nested too deeply)"
    if not isinstance(parsed, dict):
        return f"is JSON, but {_kind(parsed)} and not an object"
    return "gives one name twice" if twice else ""


def _kind(value: object) -> str:
    """Return the JSON name of a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), "something else")


def _not_found(conn_id: str, named_by: str) -> Bitrix24ConfigError:
    for backend in _backends():
        value = _stored_text(backend, conn_id)
        if value is not None and (trouble := _parse_problem(backend, conn_id, value)):
            return Bitrix24ConfigError(
                f"The Airflow connection {conn_id!r} ({named_by}) exists in {type(backend).__name__}, but cannot be "
                f"read: {trouble}.",
                NOT_SENT,
            )
    return Bitrix24ConnectionNotFound(
        f"The Airflow connection {conn_id!r} ({named_by}) was not found, or its secrets backend is unavailable.",
        NOT_SENT,
    )


def _backends() -> list[Any]:
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    try:
        return list(ensure_secrets_backend_loaded())
    except Exception:  # noqa: BLE001 - only the words of a message depend on it
        return []


def _stored_text(backend: Any, conn_id: str) -> str | None:
    """Return the text that a secrets backend has for a connection; None if it has none, or has no text."""
    try:
        value = backend.get_conn_value(conn_id=conn_id)
    except Exception:  # noqa: BLE001 - as above
        return None
    return value if isinstance(value, str) and value else None


def _parse_problem(backend: Any, conn_id: str, value: str) -> str:
    """Say why Airflow cannot parse a connection, without repeating its text; empty if it can."""
    try:
        backend.deserialize_connection(conn_id=conn_id, value=value).get_uri()
    except Exception:  # noqa: BLE001 - its message may hold the secret
        return _describe_parse_problem(value)
    return ""


def _describe_parse_problem(value: str) -> str:
    if not value.lstrip().startswith("{"):
        return "it is neither a URI such as bitrix24://... nor a JSON object"
    try:
        fields = json.loads(value)
    except json.JSONDecodeError as error:
        return f"it is not valid JSON ({error.msg}, line {error.lineno}, column {error.colno})"
    except RecursionError:
        return "it is not valid JSON (nested too deeply)"
    for name, given in fields.items():
        if name not in _FIELDS:
            return f"it has a field that Airflow does not know; known are {', '.join(_FIELDS)}"
        if name in _TEXTS and not isinstance(given, str | None):
            return f'its field {name} is {_kind(given)}: write it as a text in quotes, such as "{name}": "..."'
    extra = fields.get("extra")
    if isinstance(extra, str) and (trouble := _problem_in_extra(extra)):
        return f"its field extra {trouble}"
    return "one of its fields has a value that Airflow does not take; port must be a whole number"
