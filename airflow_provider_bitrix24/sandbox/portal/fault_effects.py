"""What each kind of fault does to a call: refuse it, make it stand still, fail it afterwards, spoil its reply."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.faults import HOSTILE, Fault, Pause
from airflow_provider_bitrix24.sandbox.portal.envelope import (
    Cut,
    PortalReply,
    RestError,
    Transport,
    auth_error,
    html_reply,
    json_reply,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_TRANSPORTS: dict[str, Transport] = {"drop_after": "drop", "truncate": "truncate", "slow": "slow"}
_SPOILERS = {"html", "empty_body", "invalid_json", *HOSTILE}
_INTERNAL = "internal_server_error"


def around(
    fired: list[Fault], run: Generator[Pause, None, dict[str, Any]], after: list[Fault], now: Callable[[], float]
) -> Generator[Pause, None, dict[str, Any]]:
    """Run a call amid the trouble that strikes it; what spoils the request's whole reply is added to ``after``."""
    _refuse(fired, now())
    yield from _pauses(fired, "before", now())
    failure: RestError | None = None
    body: dict[str, Any] = {}
    try:
        body = yield from run
    except RestError as error:
        failure = error
    yield from _pauses(fired, "after", now())
    _fail_after(fired)
    after += [fault for fault in fired if _strikes_reply(fault)]
    if failure is not None:
        failure.numeric = any(fault.kind == "numeric_code" for fault in fired)
        raise failure
    return _retime(body, fired)


def _refuse(fired: list[Fault], now: float) -> None:
    """End the call before it has run, if one of these says so."""
    for fault in fired:
        if fault.kind in ("drop_before", "close_idle"):
            transport: Transport = "drop" if fault.kind == "drop_before" else "close_idle"
            raise Cut(replace(json_reply(200, {}, now), transport=transport))
        if fault.kind == "redirect":
            moved = html_reply(302, now)
            moved.headers["Location"] = fault.location
            raise Cut(moved)
        if fault.kind in _SPOILERS and fault.before:
            raise Cut(mangle(json_reply(200, {}, now), fault, now))
        error = _refusal(fault)
        if error is not None:
            raise error


def _refusal(fault: Fault) -> RestError | None:
    if fault.kind == "operation_time_limit":
        return RestError("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", 429)
    if fault.kind == "query_limit_exceeded":
        return RestError("QUERY_LIMIT_EXCEEDED", "Too many requests", 503)
    if fault.kind == "overload_limit":
        return auth_error("OVERLOAD_LIMIT", "REST API is blocked due to overload.")
    if fault.kind == "expired_token":
        return auth_error("expired_token", "The access token provided has expired.")
    if fault.kind == "error" or (fault.kind == _INTERNAL and fault.before):
        return _scripted(fault)
    return None


def _scripted(fault: Fault) -> RestError:
    if fault.kind == _INTERNAL:
        return RestError("INTERNAL_SERVER_ERROR", "Internal server error", fault.status or 500)
    # exactly as scripted: the dialect does not touch it
    return RestError(fault.code, fault.text, fault.status or 400, exact=True)


def _pauses(fired: list[Fault], when: str, now: float) -> Generator[Pause, None, None]:
    """Stand still for every fault that says so at this point."""
    for fault in fired:
        until = None if fault.seconds is None else now + fault.seconds
        if fault.kind == "commit_later" and when == "before":
            yield Pause(fault, until, "drop")
        elif fault.kind == "hold" and fault.when == when:
            yield Pause(fault, until, "hold")


def _fail_after(fired: list[Fault]) -> None:
    """End the call with an error although it has run."""
    for fault in fired:
        if fault.kind == "error_after_executing" or (fault.kind == _INTERNAL and not fault.before):
            raise _scripted(fault)


def _strikes_reply(fault: Fault) -> bool:
    """Does it spoil the reply of the whole request?"""
    return fault.kind in _TRANSPORTS or (fault.kind in _SPOILERS and not fault.before)


def mangle(reply: PortalReply, fault: Fault, now: float) -> PortalReply:
    """The reply as it arrives."""
    if fault.kind in _TRANSPORTS:
        return replace(reply, transport=_TRANSPORTS[fault.kind], seconds=fault.seconds)
    if fault.kind == "html":
        return replace(html_reply(fault.status or 502, now), transport=reply.transport, seconds=reply.seconds)
    if fault.kind in HOSTILE:
        return replace(reply, transport="hostile", fault=fault)
    return replace(reply, body="" if fault.kind == "empty_body" else '{"result": <not json')


def _retime(body: dict[str, Any], fired: list[Fault]) -> dict[str, Any]:
    """The envelope with the ``time`` block that the fault asks for."""
    for fault in fired:
        if fault.kind == "time_missing":
            body = {key: value for key, value in body.items() if key != "time"}
        elif fault.kind == "time_integers" and "time" in body:
            whole = {key: int(value) if isinstance(value, float) else value for key, value in body["time"].items()}
            body = body | {"time": whole}
    return body
