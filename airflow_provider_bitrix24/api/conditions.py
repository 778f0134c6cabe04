"""Evaluate a condition on an object, written like a filter: ``{"STAGE_ID": "WON", ">OPPORTUNITY": 100}``.

All parts must hold. A field without an operator must be equal to the value, or to one of a list of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.filters import split_key
from airflow_provider_bitrix24.api.values import decimal_number, shown
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_EQUAL: Final = ("", "=", "@")
_UNEQUAL: Final = ("!", "!=", "!@")
_ORDERED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">": lambda one, other: bool(one > other),
    ">=": lambda one, other: bool(one >= other),
    "<": lambda one, other: bool(one < other),
    "<=": lambda one, other: bool(one <= other),
}


def check_condition(condition: Any, field: str) -> dict[str, Any]:
    """Return a condition after checking that it can be evaluated.

    :param field: name of the argument, for the error.
    :raises Bitrix24ConfigError: it is none, is empty, or has an operator that objects cannot be compared with.
    """
    if not isinstance(condition, Mapping) or not condition:
        raise Bitrix24ConfigError(
            f"{field} must be a mapping such as {{'STAGE_ID': 'WON'}} or {{'>=OPPORTUNITY': 100}}, not "
            f"{shown(condition)}."
        )
    for key, wanted in condition.items():
        operator, name = split_key(str(key))
        if not name or operator not in (*_EQUAL, *_UNEQUAL, *_ORDERED):
            raise Bitrix24ConfigError(
                f"{field}: {key!r} must be a field with one of the operators =, !=, >, >=, <, <=, @, !@ before it."
            )
        if operator in _ORDERED and _ordered(wanted) is None:
            raise Bitrix24ConfigError(
                f"{field}: {key!r} wants a number, or a time with its offset as ISO 8601, not {shown(wanted)}."
            )
    return {str(key): wanted for key, wanted in condition.items()}


def holds(condition: Mapping[str, Any], found: Mapping[str, Any], field: str) -> bool:
    """Whether an object satisfies all parts of a condition.

    :param condition: from `check_condition`.
    :param field: name of the argument, for the error.
    :raises Bitrix24ConfigError: the object has no such field.
    """
    for key in condition:
        name = split_key(key)[1]
        if name not in found:
            close = get_close_matches(name, found, n=1)
            raise Bitrix24ConfigError(
                f"{field}: the object has no field {name!r}"
                + (f" (did you mean {close[0]!r}?)." if close else f"; it has {', '.join(sorted(found))}.")
            )
    return all(_satisfied(found[split_key(key)[1]], split_key(key)[0], wanted) for key, wanted in condition.items())


def _satisfied(value: Any, operator: str, wanted: Any) -> bool:
    if operator in _ORDERED:
        one, other = _ordered(value), _ordered(wanted)
        return (
            isinstance(one, Decimal) == isinstance(other, Decimal)
            and one is not None
            and _ORDERED[operator](one, other)
        )
    among = wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    return any(_same(value, one) for one in among) is (operator in _EQUAL)


def _same(value: Any, wanted: Any) -> bool:
    """Whether a portal's value equals one as people write it: ``"10.00"`` is 10, ``"Y"`` is True, ``""`` is None."""
    if wanted is None or wanted == "":
        return value is None or value == ""
    if isinstance(wanted, bool):
        return value is wanted or value == ("Y" if wanted else "N")
    one, other = _number(value), _number(wanted)
    if one is not None and other is not None:
        return one == other
    return str(value) == str(wanted)


def _number(value: Any) -> Decimal | None:
    try:
        return decimal_number(repr(value) if isinstance(value, float) else value)
    except ValueError:
        return None


def _ordered(value: Any) -> Decimal | float | None:
    """A number, or a time as seconds since the epoch; None if it is neither."""
    if isinstance(value, datetime) or (isinstance(value, str) and "T" in value):
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            return None
        return moment.timestamp() if moment.tzinfo is not None else None
    return _number(value)
