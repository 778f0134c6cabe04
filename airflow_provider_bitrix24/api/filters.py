"""Check filters: refuse names that the portal would ignore, and rows that the filter excludes.

Bitrix24 drops names that it does not know without a word: ``{"PAID": "N"}`` instead of ``{"paid": "N"}`` lists every
payment, paid ones included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow_provider_bitrix24.api import methods
from airflow_provider_bitrix24.api.values import decimal_number, shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24NoAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_bitrix24.api.methods.row import FieldKind, ListShape, Method, Param

_KEY: Final = re.compile(r"(!><|!=%|!%=|!=|!@|!%|!|>=|<=|><|>|<|=%|%=|=|@|%|\?|)(.*)", re.DOTALL)
"""A key of a filter: the operator, longest first, and the field."""
_CUSTOM: Final = re.compile(r"(UF_|ufCrm|uf_|PARENT_ID_|parentId|~)")
"""How the names of fields begin that every portal has of its own."""
_EXACT: Final = Decimal("0.0001")
"""Numbers that differ by less are equal: portals round."""
_TIME: Final = 86_400.0
"""Seconds. Times are compared this loosely: portals read them in time zones of their own."""
_FLAGS: Final = {"Y": True, "1": True, "TRUE": True, "N": False, "0": False, "FALSE": False}
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\dT.*([+-]\d\d:?\d\d|Z)")


def check_names(method: str, params: Mapping[str, Any]) -> None:
    """Refuse names of parameters and fields that the portal would ignore; methods without a row are not checked.

    :raises Bitrix24ConfigError: names what is not known, and what is most like it.
    """
    row = methods.find(method)
    if row is None:
        return
    known = {param.wire: param for param in row.params}
    for name, value in params.items():
        param = known.get(name) or (_in_any_case(known, name) if row.any_case else None)
        if param is not None:
            _check_value(row, param, name, value)
        elif close := _closest(name, known):
            _refuse(row, f"parameter {name!r}", close)


def check_rows(method: str, params: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Compare rows with the filter of the request, as far as both can be compared.

    Compared are ``=``, ``!=``, ``>``, ``>=``, ``<``, ``<=``, ``><``, ``@`` and ``!@`` of numbers, flags, plain ASCII
    texts and, within a day, times, where the row has the field.

    :raises Bitrix24NoAnswer: a row does not satisfy the filter.
    """
    row = methods.find(method)
    if row is None or row.rows is None or row.rows.fields is None:
        return
    wanted = next((value for name, value in params.items() if name.lower() == "filter"), None)
    if not isinstance(wanted, Mapping):
        return
    conditions = list(_conditions(row.rows, row.rows.fields, wanted))
    for found in rows:
        for key, field, holds in conditions:
            if field in found and not holds(found[field]):
                which = f"{row.rows.id_field} {found.get(row.rows.id_field)}"
                raise Bitrix24NoAnswer(
                    row.name,
                    f"the portal returned a row ({which}) that does not satisfy the filter {key!r}: "
                    f"{shown(wanted[key])}; its {field} is {shown(found[field])}",
                )


def _check_value(row: Method, param: Param, name: str, value: Any) -> None:
    """Check the names inside one parameter."""
    if param.names and isinstance(value, Mapping):
        for key in value:
            field = split_key(str(key))[1] if param.wire.lower() == "filter" else str(key)
            _check(row, f"{name}: {key!r}", field, param.names, any_case=row.any_case)
    if row.rows is None or row.rows.fields is None:
        return
    for key, field in _names_in(param.type, value):
        _check(row, f"{name}: {key!r}", field, row.rows.fields, any_case=row.rows.any_case)


def _names_in(kind: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the names of fields in a filter, an order or a select, each as written and without its operator."""
    if kind == "filter" and isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping):
                yield from _names_in(kind, inner)
            elif not str(key).isdigit() and str(key).upper() != "LOGIC":
                yield str(key), split_key(str(key))[1]
    elif kind == "order" and isinstance(value, Mapping):
        yield from ((str(key), str(key)) for key in value)
    elif kind == "select" and isinstance(value, Mapping | Sequence | set | frozenset) and not isinstance(value, str):
        names = value.values() if isinstance(value, Mapping) else value
        yield from ((str(name), str(name)) for name in names if not str(name).endswith("*"))


def split_key(key: str) -> tuple[str, str]:
    """Split the key of a filter into operator and field."""
    found = _KEY.fullmatch(key)
    return (found[1], found[2]) if found else ("", key)


def _check(row: Method, where: str, field: str, known: Iterable[str], *, any_case: bool) -> None:
    names = list(known)
    if field in names or _CUSTOM.match(field) or (any_case and _in_any_case({name: name for name in names}, field)):
        return
    _refuse(row, where, _closest(field, names), names)


def _refuse(row: Method, where: str, close: str | None, names: Sequence[str] = ()) -> NoReturn:
    hint = f" Did you mean {close!r}?" if close else ""
    listed = f"Known names: {', '.join(names)}. " if names and not close else ""
    raise Bitrix24ConfigError(
        f"{row.name} does not know {where}.{hint} Bitrix24 can ignore an unknown name without an error, and "
        "then returns rows that were not asked for.",
        NOT_SENT,
        f"{listed}See {row.url} (check_names=False of the hook's call and iterate allows it).",
    )


def _in_any_case(known: Mapping[str, Any], name: str) -> Any:
    return next((value for key, value in known.items() if key.lower() == name.lower()), None)


def _closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to a name, ignoring case and underscores."""
    plain = {key.replace("_", "").lower(): key for key in known}
    close = get_close_matches(name.replace("_", "").lower(), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


# ------------------------------------------------------------------------------------------------------------ rows


def _conditions(
    shape: ListShape, fields: Mapping[str, FieldKind], wanted: Mapping[str, Any]
) -> Iterator[tuple[str, str, Callable[[Any], bool]]]:
    """The conditions of a filter that rows can be compared with: key, field, and what a value must satisfy."""
    for key, value in wanted.items():
        operator, field = split_key(str(key))
        if shape.any_case:
            field = field.upper()
        condition = _condition(fields.get(field, "other"), operator, value)
        if condition is not None:
            yield key, field, condition


def _condition(kind: FieldKind, operator: str, wanted: Any) -> Callable[[Any], bool] | None:
    """What a value of a row must satisfy, or None if that cannot be compared."""
    many = isinstance(wanted, list | tuple | set | frozenset)
    values = [_comparable(kind, one) for one in (wanted if many else [wanted])]
    if kind == "other" or not values or None in values:
        return None
    if operator in ("", "=", "@"):
        return lambda found: _any_equal(kind, found, values)
    if operator in ("!", "!=", "!@"):
        return lambda found: found in (None, "") or not _surely_equal(kind, found, values)
    if kind not in ("number", "time") or (operator == "><" and len(values) != 2) or (operator != "><" and many):
        return None
    slack = _EXACT if kind == "number" else _TIME
    if operator in (">", ">="):
        return lambda found: _between(kind, found, values[0] - slack, None)
    if operator in ("<", "<="):
        return lambda found: _between(kind, found, None, values[0] + slack)
    return (lambda found: _between(kind, found, values[0] - slack, values[1] + slack)) if operator == "><" else None


def _any_equal(kind: FieldKind, found: Any, values: list[Any]) -> bool:
    """Whether a value of a row is one of these, or cannot be compared with them."""
    if found in (None, ""):
        return any(value in (0, False) for value in values)  # what is empty may be shown as nothing
    value = _comparable(kind, found)
    return value is None or any(_equal(kind, value, one) for one in values)


def _surely_equal(kind: FieldKind, found: Any, values: list[Any]) -> bool:
    value = _comparable(kind, found)
    # Times are too vague to be told to be equal.
    return value is not None and kind != "time" and any(_equal(kind, value, one) for one in values)


def _equal(kind: FieldKind, one: Any, other: Any) -> bool:
    if kind == "number":
        return bool(abs(one - other) < _EXACT)
    return bool(abs(one - other) <= _TIME) if kind == "time" else bool(one == other)


def _between(kind: FieldKind, found: Any, low: Any, high: Any) -> bool:
    """Whether a value of a row lies between two bounds; an empty value does not, except for a number."""
    value = _comparable(kind, found) if found not in (None, "") else None
    if value is None:
        return found not in (None, "") or kind == "number"
    return (low is None or value >= low) and (high is None or value <= high)


def _comparable(kind: FieldKind, value: Any) -> Any:
    """A value as something that can be compared, or None."""
    if kind == "flag":
        return _FLAGS.get(str(value).upper())
    if kind == "number":
        return _number(value)
    if kind == "time":
        return _moment(value)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text.rstrip().casefold() if text.isascii() and text.strip() and not set("&<>%") & set(text) else None


def _number(value: Any) -> Decimal | None:
    try:
        return decimal_number(repr(value) if isinstance(value, float) else value)
    except ValueError:
        return None


def _moment(value: Any) -> float | None:
    """Return a point in time in seconds, or None if it has no time zone."""
    if isinstance(value, datetime):
        return value.timestamp() if value.tzinfo is not None else None
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None
