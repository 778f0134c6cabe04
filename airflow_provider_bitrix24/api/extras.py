"""The extras of a connection: their names, and what a value of each means: JSON, text or from a form."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.pacing import NAMED, Limits
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.identifiers import portal_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_EXTRA_NAME = re.compile(r"[a-z_]{1,40}")
_TRUE = ("true", "1", "yes", "y", "on")
_FALSE = ("false", "0", "no", "n", "off")


def read_extras(extra: Mapping[str, Any], *, of_address: bool = False) -> dict[str, Any]:
    """Return the extras by name, each in its own type; what is empty is left out.

    :param of_address: whether the whole connection is a webhook's address, so that they stood behind its question mark.
    :raises Bitrix24ConfigError: names the extra that is not known or not right; never repeats a value.
    """
    options: dict[str, Any] = {}
    for name, value in extra.items():
        if name not in EXTRAS:
            near = difflib.get_close_matches(name, EXTRAS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(EXTRAS)}."
            if of_address:
                hint = (
                    "the connection is a webhook's address, which must end with the secret: leave out the name of the "
                    f"method, the ? and what follows it. {hint}"
                )
            which = repr(name) if _EXTRA_NAME.fullmatch(name) else "a name that is not shown"
            raise Bitrix24ConfigError(f"extra: {which} is not known; {hint}")
        if value is not None and plain(value):
            option = EXTRAS[name](name, value)
            if option is not None:
                options[name] = option
    return options


def plain(value: object) -> str:
    """Return text without blanks around it, where nothing is empty text."""
    return "" if value is None else str(value).strip()


def _seconds(name: str, value: object) -> float:
    """Seconds, 0 or more."""
    try:
        seconds = -1.0 if isinstance(value, bool) else float(plain(value))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise Bitrix24ConfigError(f"extra: {name} must be a number of seconds between 0 and 86400.")
    return seconds


def _seconds_above_zero(name: str, value: object) -> float | None:
    """Seconds, where 0 means not given: that is what an untouched number field of the form sends."""
    return _seconds(name, value) or None


def _bytes(name: str, value: object) -> int | None:
    """A number of bytes, where 0 means not given."""
    text = plain(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 13):
        raise Bitrix24ConfigError(f"extra: {name} must be a whole number of bytes.")
    return int(text) or None


def _switch(name: str, value: object) -> bool:
    """A switch; the extras of a URI are text."""
    text = plain(value).lower()
    if text not in _TRUE + _FALSE:
        raise Bitrix24ConfigError(f"extra: {name} must be true or false.")
    return text in _TRUE


def _text(name: str, value: object) -> str:
    """A text."""
    if not isinstance(value, str) or len(value) > 1000:
        raise Bitrix24ConfigError(f"extra: {name} must be a text.")
    return value.strip()


def _portal_name(name: str, value: object) -> str:
    """Return the portal's name in its one spelling; refuse a whole address, which may hold a secret."""
    text = _text(name, value)
    try:
        return portal_name(text)  # rule: a portal has one name however it is written
    except ValueError:
        pass
    raise Bitrix24ConfigError(
        f"extra: {name} must be a name such as acme.bitrix24.com: up to 255 letters, digits and . _ : -"
    )


def _one_of(*choices: str) -> Callable[[str, object], str]:
    """One of some words."""

    def read(name: str, value: object) -> str:
        text = plain(value).lower()
        if text not in choices:
            raise Bitrix24ConfigError(f"extra: {name} must be {' or '.join(choices)}.")
        return text

    return read


def read_rate_limit(name: str, value: object) -> Limits:
    """Read the rate limit of the portal's plan."""
    try:
        return Limits.read(plain(value).lower())
    except ValueError:
        pass
    raise Bitrix24ConfigError(f"extra: {name} must be {', '.join(NAMED)}, or BURST/RATE such as 50/2.")


EXTRAS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "portal_id": _portal_name,
    "connect_timeout": _seconds_above_zero,
    "read_timeout": _seconds_above_zero,
    "send_deadline": _seconds_above_zero,
    "network_delay": _seconds,
    "server_time_limit": _seconds,
    "read_lag": _seconds,
    "rate_limit": read_rate_limit,
    "rate_limit_wait": _seconds,
    "working_time_limit": _seconds,
    "ca_bundle": _text,
    "allow_http": _switch,
    "max_response_bytes": _bytes,
    "auth": _one_of("webhook", "oauth"),
    "oauth_url": _text,
    "oauth_ca_bundle": _text,
    "refresh_token": _text,
    "access_token": _text,
    "refreshed_by": _one_of("tasks", "operator"),
    "token_conn_id": _text,
    "token_key": _text,
}
"""Name -> what a value of it means."""
