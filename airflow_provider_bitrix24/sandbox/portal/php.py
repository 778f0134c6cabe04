"""PHP's habits, as far as clients can see them: query strings, arrays, numbers, truth, names, unique ids."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

#: The portal's own zone: not UTC, so that offsets matter.
ZONE = timezone(timedelta(hours=2))
#: The largest number of 64 bits, and how many digits a number may have before and after its point.
_LARGEST, _DIGITS = 2**63 - 1, 18
#: How deeply arrays may be nested in a request (``max_input_nesting_level``); what is deeper is dropped.
DEEPEST = 64
_INTEGER_KEY = re.compile(r"(0|-?[1-9][0-9]*)\Z")
_SITE_FORMAT = re.compile(r"(\d{2})\.(\d{2})\.(\d{4})(?: (\d{2}):(\d{2})(?::(\d{2}))?)?\Z")


def parse_query(query: str) -> dict[str, Any]:
    """PHP's ``parse_str``: ``a[b]=1&c[]=2`` nests, every leaf is a string, the last of equal names wins."""
    root: dict[str, Any] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        name = unquote_plus(name).lstrip(" ")
        if name and len(path := _path(name)) <= DEEPEST:
            _assign(root, path, unquote_plus(value))
    return {key: listify(value) for key, value in root.items()}


def _path(name: str) -> list[str]:
    head, bracket, rest = name.partition("[")
    head = re.sub(r"[ .]", "_", head)
    keys: list[str] = []
    while bracket:
        key, closing, rest = rest.partition("]")
        if not closing:  # an unclosed bracket is part of the name
            return [f"{head}_{key}"] if not keys else [head, *keys]
        keys.append(key)
        bracket, rest = ("[", rest[1:]) if rest.startswith("[") else ("", rest)
    return [head, *keys]


def _assign(root: dict[str, Any], path: list[str], value: str) -> None:
    level = root
    for key in path[:-1]:
        key = _next_index(level) if key == "" and level is not root else key
        below = level.get(key)
        if not isinstance(below, dict):
            below = level[key] = {}
        level = below
    last = path[-1]
    level[_next_index(level) if last == "" else last] = value


def _next_index(level: dict[str, Any]) -> str:
    return str(max((int(key) for key in level if _INTEGER_KEY.match(key)), default=-1) + 1)


def listify(value: Any) -> Any:
    """Arrays with the keys 0, 1, 2 … as lists, all the way down."""
    if isinstance(value, dict):
        inner = {key: listify(below) for key, below in value.items()}
        return list(inner.values()) if inner and is_list(inner) else inner
    return value


def is_list(array: dict[str, Any]) -> bool:
    """Would PHP's JSON encoder write this array as a list? (The empty one, yes.)"""
    return all(key == str(index) for index, key in enumerate(array))


def json_array(array: dict[str, Any]) -> dict[str, Any] | list[Any]:
    """How a PHP array comes out of ``json_encode``: a list if its keys are 0, 1, 2 … or if it is empty."""
    return list(array.values()) if is_list(array) else array


def truthy(value: Any) -> bool:
    """PHP's idea of truth: the string "0" is false, "false" is true."""
    return value not in ("", "0", 0, None, False) and value not in ([], {})


def is_numeric(value: Any) -> bool:
    """PHP's ``is_numeric``: numbers and strings that hold nothing but one."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float | Decimal):
        return True
    return isinstance(value, str) and re.fullmatch(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", value) is not None


def to_int(value: Any) -> int:
    """PHP's ``(int)``: cuts fractions off, makes 0 of anything that is no number, ends at 64 bits."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        match = re.match(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", value)
        value = match.group(0).strip() if match else 0
    if not isinstance(value, str | int | float | Decimal):
        return 0
    number = _exact(value)
    if number is None or number.adjusted() > _DIGITS:
        return 0 if number is None else _LARGEST if number > 0 else -_LARGEST - 1
    return max(-_LARGEST - 1, min(_LARGEST, int(number)))


def to_decimal(value: Any) -> Decimal | None:
    """The exact number that a value stands for; None if it is none, or none that a column of the database can hold."""
    number = _exact(value) if is_numeric(value) else None
    if number is None or (number != 0 and not -_DIGITS <= number.adjusted() <= _DIGITS):
        return None
    return number if len(number.as_tuple().digits) <= 2 * _DIGITS else None


def _exact(value: str | float | Decimal) -> Decimal | None:
    """Any number, as far as Python can write it; None for those that it cannot, and for infinity."""
    try:
        number = Decimal(value if isinstance(value, int | Decimal) else str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def to_text(value: Any) -> str:
    """PHP's ``(string)``."""
    if value is None or value is False:
        return ""
    if value is True:
        return "1"
    return "Array" if isinstance(value, list | dict) else str(value)


@lru_cache(4096)  # the names come from clients
def snake(name: str, *, upper: bool = True) -> str:
    """``paySystemId`` -> ``PAY_SYSTEM_ID``; as the portal does it, an upper-case ``ID`` becomes ``I_D``."""
    parted = re.sub(r"(?<!^)(?=[A-Z])", "_", name)
    return parted.upper() if upper else parted.lower()


def camel(name: str) -> str:
    """``pay_system_id`` -> ``paySystemId``."""
    first, *rest = name.lower().split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def iso(moment: float | None) -> str | None:
    """Epoch seconds as the portal writes times."""
    return None if moment is None else datetime.fromtimestamp(int(moment), ZONE).isoformat()


def parse_time(value: Any) -> float | None:
    """``strtotime``: an ISO date or time (the portal's zone if it names none), else None."""
    try:
        moment = datetime.fromisoformat(to_text(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=ZONE)).astimezone(ZONE).timestamp()
    except (ValueError, OverflowError):  # no time at all, or one outside of the years 1 to 9999
        return None


def parse_site_time(value: Any) -> float | None:
    """A time in the site's own format (``31.12.2026 23:59:59``), the only one that the ORM takes; else None."""
    match = _SITE_FORMAT.match(to_text(value))
    if match is None:
        return None
    day, month, year, hour, minute, second = (int(part or 0) for part in match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=ZONE).timestamp()
    except ValueError:
        return None


def http_date(moment: float) -> str:
    """The value of a ``Date`` header."""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def uniqid(microseconds: int) -> str:
    """PHP's ``uniqid``: eight hex digits of seconds, five of microseconds."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{seconds:08x}{rest:05x}"


def jsonable(value: Any) -> Any:
    """The same with exact numbers as JSON numbers, for what is kept but not reckoned with."""
    if isinstance(value, dict):
        return {key: jsonable(below) for key, below in value.items()}
    if isinstance(value, list):
        return [jsonable(below) for below in value]
    return number(value) if isinstance(value, Decimal) else value


def upper_keys(value: Any) -> Any:
    """Keys in upper case, all the way down."""
    if isinstance(value, dict):
        return {key.upper(): upper_keys(below) for key, below in value.items()}
    return [upper_keys(below) for below in value] if isinstance(value, list) else value


def number(amount: Decimal | None) -> int | float | None:
    """A Decimal as a JSON number; whole amounts without a fraction, as PHP writes them."""
    if amount is None:
        return None
    return int(amount) if amount == amount.to_integral_value() else float(amount)
