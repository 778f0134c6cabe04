"""Filters and orders: prefix operators on typed columns, and how the portal treats keys it does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError

_OPERATOR = re.compile(r"(!><|><|!@|@|!=%|!%|!=|!|=%|%=|%|>=|<=|>|<|=)?(.*)\Z", re.DOTALL)
T = TypeVar("T")

#: Column name -> type: integer, double, string, char, datetime.
Columns = Mapping[str, str]
#: Reads a column of a row.
Getter = Callable[[T, str], Any]


@dataclass(frozen=True)
class Condition:
    """One comparison; ``value`` is already of the column's type (a list for IN and BETWEEN)."""

    operator: str
    column: str
    value: Any

    def holds(self, actual: Any) -> bool:
        """Is it true of this value? No comparison is true of NULL, every negated one is, as the ORM writes them."""
        negated = self.operator.startswith("!")
        operator = self.operator.lstrip("!")
        return _compare(operator or "=", actual, self.value) is not negated


def _compare(operator: str, actual: Any, value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    if operator == "><":
        return len(values) == 2 and None not in (actual, *values) and values[0] <= actual <= values[1]
    return any(_holds_one(operator, actual, each) for each in values)


def _holds_one(operator: str, actual: Any, value: Any) -> bool:
    if operator in ("=", "@"):
        return bool(actual == value) or (value is None and actual == "")
    if actual is None or value is None:
        return False
    if operator == "%":
        return php.to_text(value).lower() in php.to_text(actual).lower()
    if operator in ("=%", "%="):
        pattern = ".*".join(re.escape(part) for part in php.to_text(value).split("%"))
        return re.fullmatch(pattern, php.to_text(actual), re.IGNORECASE | re.DOTALL) is not None
    return bool({">": actual > value, ">=": actual >= value, "<": actual < value, "<=": actual <= value}[operator])


def split_key(key: str) -> tuple[str, str]:
    """``">=id"`` -> ``(">=", "id")``."""
    match = _OPERATOR.match(key)
    assert match is not None  # noqa: S101 - the pattern matches everything
    return match.group(1) or "=", match.group(2)


class Unconvertible(ValueError):
    """A filter or field value that is not of its column's type."""


def convert(kind: str, value: Any, parse_time: Callable[[Any], float | None] = php.parse_time) -> Any:
    """A value from outside as its column's type; an array becomes a list of them, one inside it is of no type."""
    if isinstance(value, list | dict):
        if any(isinstance(each, list | dict) for each in as_list(value)):
            raise Unconvertible("Array")
        return [convert(kind, each, parse_time) for each in as_list(value)]
    if value is None or value is False or (value == "" and kind != "string"):
        return None
    if kind == "integer":
        return php.to_int(value)
    if kind == "double":
        return php.to_decimal(value) if php.is_numeric(value) else Decimal(0)
    if kind == "datetime":
        moment = parse_time(value)
        if moment is None:
            raise Unconvertible(php.to_text(value))
        return moment
    return php.to_text(value)


def field_value(kind: str, value: Any) -> Any:
    """A value to write as its column's type; an array is of none."""
    if isinstance(value, list | dict):
        raise Unconvertible("Array")
    return convert(kind, value)


def orm_conditions(filter_: Mapping[str, Any], columns: Columns, entity: str) -> list[Condition]:
    """A filter handed raw to the ORM: keys from camelCase, unknown columns and ISO dates are its errors."""
    conditions = []
    for key, value in filter_.items():
        operator, name = split_key(key)
        column = orm_column(name, columns, entity)
        try:
            conditions.append(Condition(operator, column, convert(columns[column], value, php.parse_site_time)))
        except Unconvertible as error:
            raise RestError(0, f"Incorrect date/time: {error}") from None
    return conditions


def orm_column(name: str, columns: Columns, entity: str) -> str:
    """The column that a camelCase name becomes, or the ORM's complaint."""
    column = php.snake(name)
    if column not in columns:
        raise RestError(0, f"Unknown field definition `{column}` ({column}) for {entity} Entity.")
    return column


def lenient_conditions(filter_: Mapping[str, Any], columns: Columns) -> list[Condition]:
    """A filter from which unknown keys and unconvertible values are dropped without a word: it becomes wider."""
    conditions = []
    for key, value in filter_.items():
        operator, name = split_key(key)
        if name not in columns:
            continue
        try:
            conditions.append(Condition(operator, name, convert(columns[name], value)))
        except Unconvertible:
            continue
    return conditions


def matching(rows: Iterable[T], conditions: Iterable[Condition], get: Getter[T]) -> list[T]:
    """The rows of which all conditions are true."""
    return list(filter(all_hold(list(conditions), get), rows))


def ordered(rows: Iterable[T], order: Iterable[tuple[str, Any]], get: Getter[T]) -> list[T]:
    """Sorted by columns, the first one being the most important; NULL comes first, as in MySQL."""
    result = list(rows)
    for column, direction in reversed(list(order)):

        def key(row: T, column: str = column) -> tuple[bool, Any]:
            value = get(row, column)
            return (value is not None, value if value is not None else 0)

        result.sort(key=key, reverse=php.to_text(direction).lower() == "desc")
    return result


def all_hold(conditions: list[Condition], get: Getter[T]) -> Callable[[T], bool]:
    """Are all of these true of a row?"""
    return lambda row: all(condition.holds(get(row, condition.column)) for condition in conditions)


def as_mapping(value: Any) -> Mapping[str, Any]:
    """A PHP array as a mapping; whatever is no array is an empty one."""
    if isinstance(value, list):
        return {str(index): each for index, each in enumerate(value)}
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A PHP array as a list of its values."""
    return list(as_mapping(value).values())
