"""The request log: what clients asked and the outcome, with every secret blacked out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: How many requests the log remembers.
KEPT_REQUESTS = 10_000
_HIDDEN = frozenset({"auth", "access_token", "refresh_token", "client_secret"})


class RequestLog:
    """The entries, oldest first; ``secrets`` tells what must not be in them."""

    def __init__(self, now: Callable[[], float], secrets: Callable[[], Iterable[str]]) -> None:
        self._now = now
        self._secrets = secrets
        self.entries: list[dict[str, Any]] = []

    def add(self, method: str, params: Mapping[str, Any], user_id: object, *, inside_batch: bool) -> dict[str, Any]:
        """Enter a request that has just come in; the rest of the entry is filled in as it is served."""
        secrets = sorted(set(self._secrets()), key=len, reverse=True)
        entry: dict[str, Any] = {
            "at": php.iso(self._now()),
            "method": _redacted(method, secrets),
            "params": _redacted(dict(params), secrets),
            "user_id": php.to_int(user_id) if user_id is not None else None,
            "token": None,
            "status": None,
            "error": None,
            "fault": None,
            "transport": None,
            "inside_batch": inside_batch,
            "command": None,
        }
        self.entries.append(entry)
        del self.entries[:-KEPT_REQUESTS]
        return entry

    def redacted(self, text: str) -> str:
        """A text that came with a request, without the secrets in it."""
        return str(_redacted(text, sorted(set(self._secrets()), key=len, reverse=True)))


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, dict):
        return {
            _redacted(key, secrets): "***" if key in _HIDDEN else _redacted(below, secrets)
            for key, below in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(below, secrets) for below in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
    return php.jsonable(value)
