"""What an HTTP response of the portal says, in all its forms, before anybody judges it.

A body may be a result, an error (under any status, with a code that is a word, a number, ``0`` or empty), or no JSON at
all. Only the key ``error`` counts, not its truth.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pendulum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_bitrix24.api.io import Response


_TAG = re.compile(r"<[^<>]*>")
_LONGEST_TEXT: Final = 4000
_LONGEST_NUMBER: Final = 400
_LONGEST_HOST: Final = 253
_MOST_VALUES: Final = 1_000_000
"""Each becomes an object of up to a hundred times its size: 2,500 rows of 200 fields are half of it."""
_DEEPEST: Final = 100
"""Levels of lists and objects in each other; what uses a result goes through it by recursion."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful response."""

    result: Any
    """JSON as it came, fractions as `Decimal`."""
    total: int | None = None
    """Number of rows in all, where the method counts them."""
    next: int | None = None
    """Offset of the next page, where the method has one."""
    at: pendulum.DateTime | None = None
    """When the portal responded, by its own clock; None if it has not told."""
    time: Any = None
    """The ``time`` block as it came: how long the portal has worked, and more."""
    operating_reset_at: float | None = None
    """When the oldest working time of the method stops counting, seconds since the epoch."""
    operating: float | None = None
    """Seconds that the method has worked in the last ten minutes; None if the portal does not say."""
    duration: float = 0.0
    """Seconds that the portal has worked on this call; 0 if it does not say."""
    received: float = field(default=0.0, compare=False)
    """When it had arrived, seconds since the epoch by our clock."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A response with an error in it."""

    code: str
    """As the portal wrote it, without blanks; may be ``"0"`` or empty."""
    text: str
    """The portal's words without markup; may be empty, and in any language."""
    status: int
    retry_after: float | None = None
    """Seconds, if a header said so."""
    now: float | None = None
    """When it arrived, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect, from the portal or from something in front of it: it does not say whether the method ran."""

    host: str
    """Where to, without path; empty if the portal did not say."""
    scheme: str = ""
    status: int = 302
    relative: bool = False
    """Whether the portal named only a path, so that it meant itself."""


@dataclass(frozen=True, slots=True)
class UnusableReply:
    """Something that is no response of the method: a page, half a body, other JSON."""

    reason: str
    page: bool = False
    """Whether it is a web page that says that there is no REST here, or not for us."""


def open_envelope(response: Response, redact: Callable[[str], str]) -> Reply | ErrorReply | Redirect | UnusableReply:
    """Read one HTTP response.

    :param response: the complete response.
    :param redact: takes secrets out of a text.
    """
    if 300 <= response.status < 400:
        location = response.headers.get("location", "").strip()
        host, scheme = map(redact, _split(location))
        relative = bool(location) and not host and "//" not in location.partition("?")[0]
        return Redirect(host, scheme, response.status, relative)
    body = _json_object(response.body, redact)
    if body is None:
        html = response.body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"
        kind = "an HTML page" if html else "a body that is not the JSON of the method"
        return UnusableReply(
            f"HTTP {response.status} with {kind}"
            if response.body.strip()
            else f"HTTP {response.status} without a body",
            page=html and response.status < 500,
        )
    if "error" in body:
        return refusal(body, response.status, redact, _retry_after(response.headers), _now(response))
    if "result" not in body or response.status >= 400:
        return UnusableReply(f"HTTP {response.status} with JSON that is neither a result nor an error")
    return _reply(body, response.at)


def refusal(
    body: Mapping[str, Any],
    status: int,
    redact: Callable[[str], str],
    retry_after: float | None = None,
    now: float | None = None,
) -> ErrorReply:
    """Read the error in a body, or in one command of a batch; REST 3.0 puts code and text into an object."""
    error = body.get("error")
    if isinstance(error, dict):
        code, text = error.get("code"), error.get("message")
    else:
        code, text = error, body.get("error_description")
    return ErrorReply(_word(code), redact(_words(text))[:500], status, retry_after, now)


def seconds_of(time: Any, name: str) -> float | None:
    """A number of seconds in a ``time`` block, where there is one."""
    if not isinstance(time, dict):
        return None
    return 0.0 if time.get(name) in (0, "0") and time.get(name) is not False else _positive(time.get(name))


def operating_reset(time: Any) -> float | None:
    """``operating_reset_at`` of a ``time`` block, where there is one."""
    return _positive(time.get("operating_reset_at")) if isinstance(time, dict) else None


def _reply(body: Mapping[str, Any], received: float) -> Reply:
    time = body.get("time")
    return Reply(
        result=body["result"],
        total=whole_number(body.get("total")),
        next=whole_number(body.get("next")),
        at=_portal_time(time),  # rule: only the portal itself tells its time
        time=time,
        operating_reset_at=operating_reset(time),
        operating=seconds_of(time, "operating"),
        duration=seconds_of(time, "duration") or 0.0,
        received=received,
    )


def _json_object(body: bytes, redact: Callable[[str], str]) -> dict[str, Any] | None:
    """The body, if it is an object; a secret that the portal repeats stays out of whatever is made of it."""
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        return None
    try:
        parsed = json.loads(body, parse_float=_fraction, parse_constant=_no_constant)
        # Rows repeat names and values: each text is cleaned once.
        parsed = _cleaned(parsed, cache(lambda text: _without_surrogates(redact(text))), _DEEPEST)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _cleaned(value: Any, clean: Callable[[str], str], deepest: int) -> Any:
    """Return JSON in which all texts and names are cleaned.

    :param clean: returns a text without what must not stay in it.
    :param deepest: how many levels it may have.
    :raises RecursionError: it is deeper than that.
    """
    if isinstance(value, str):
        return clean(value)
    if deepest == 0 and isinstance(value, dict | list):
        raise RecursionError
    if isinstance(value, dict):
        return {clean(name): _cleaned(inner, clean, deepest - 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner, clean, deepest - 1) for inner in value]
    return value


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates (halves of characters), which cannot be stored in UTF-8."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _fraction(text: str) -> Decimal:
    """A fraction, exactly; millions of digits are none."""
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(text[:_LONGEST_NUMBER])
    return Decimal(text)


def _no_constant(name: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(name)


def _split(location: str) -> tuple[str, str]:
    """Host and scheme of an address; the rest of it may hold the secret."""
    try:
        split = urlsplit(location)
    except ValueError:
        return "", ""
    return _visible(split.hostname or "")[:_LONGEST_HOST], split.scheme


def _word(code: object) -> str:
    """An error code as text."""
    known = isinstance(code, str | int | Decimal) and not isinstance(code, bool)
    return _visible(str(code)).strip()[:100] if known else ""


def _words(text: object) -> str:
    """The portal's words on one line, without markup."""
    if not isinstance(text, str):
        return ""
    return _visible(" ".join(html.unescape(_TAG.sub(" ", text[:_LONGEST_TEXT])).split()))


def _visible(text: str) -> str:
    """The text without what writes over a terminal, or cannot be written at all: controls, half characters."""
    return "".join(filter(str.isprintable, text))


def whole_number(number: object) -> int | None:
    """A whole number, or numeric text, or nothing."""
    if isinstance(number, str) and number.isascii() and number.isdigit():
        return int(number[:18])
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _positive(number: object) -> float | None:
    """A number of seconds that can be a point in time, or nothing."""
    try:
        seconds = float(number) if isinstance(number, str | int | Decimal) and number is not True else 0.0
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < 1e11 else None


def _portal_time(time: Any) -> pendulum.DateTime | None:
    """The portal's clock: the ``time`` block, whose numbers may be integers.

    The ``Date`` header may be that of a gateway, with a clock of its own.
    """
    finish = _positive(time.get("finish")) if isinstance(time, dict) else None
    return None if finish is None else pendulum.from_timestamp(finish)


def _date_header(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return None


def _now(response: Response) -> float:
    """When the response was made: the portal's clock if it says, else ours."""
    date = _date_header(response.headers)
    return response.at if date is None else date


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header; dates in it are not honoured."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
