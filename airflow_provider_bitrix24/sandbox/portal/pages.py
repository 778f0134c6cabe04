"""Pages of lists: 50 rows of a table, for which only the rows are looked at that may be on the page."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.filters import Condition, Getter, T, all_hold, ordered
from airflow_provider_bitrix24.sandbox.portal.registry import Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_bitrix24.sandbox.portal.tables import R, Table

PAGE = 50


def paged(rows: Sequence[T], start: Any, *, total_without_count: int | None = None) -> Listing:
    """One page of 50. ``start`` is rounded down to a page; ``-1`` means that nobody counts."""
    offset = php.to_int(start)
    if offset < 0:
        return Listing(rows[:PAGE], total=total_without_count)
    offset = offset // PAGE * PAGE
    following = offset + PAGE
    return Listing(rows[offset:following], total=len(rows), next=following if following < len(rows) else None)


def _searched(condition: Condition) -> list[tuple[str, Any]] | None:
    """The comparisons with which a column in order can be searched for it; None if every row must be looked at."""
    operator, value = condition.operator.replace("@", "="), condition.value
    values = value if isinstance(value, list) else [value]
    if None in values or (operator == "><" and len(values) != 2):
        return None
    if operator == "><":
        return [(">=", values[0]), ("<=", values[1])]
    return [(operator, each) for each in values] if operator in ("=", ">", ">=", "<", "<=") else None


def candidates(
    table: Table[R], conditions: Iterable[Condition], column_of: Callable[[str], str | None]
) -> tuple[list[int], range, list[Condition]]:
    """Where the rows are that fulfil the conditions: positions in a list of ids, and the conditions left to look at.

    ``column_of`` names the column of the table that a field is; None: it is none.
    """
    ranges: dict[str, tuple[int, int]] = {"id": (0, len(table))}
    fulfilled: dict[str, list[Condition]] = defaultdict(list)
    choices: list[tuple[int, Callable[[], list[int]], list[Condition]]] = []
    rest = list(conditions)
    for condition in rest:
        column, searched = column_of(condition.column), _searched(condition)
        if column is None or searched is None:
            continue
        parts = [table.span(column, operator, value) for operator, value in searched]
        if condition.operator == "><" or len(parts) == 1:
            start, stop = ranges.get(column, parts[0])
            ranges[column] = max(start, *(part[0] for part in parts)), min(stop, *(part[1] for part in parts))
            fulfilled[column].append(condition)
        else:
            size = sum(stop - start for start, stop in parts)
            choices.append((size, partial(_united, table, column, parts), [condition]))
    for column, (start, stop) in ranges.items():
        if column != "id":
            choices.append((stop - start, partial(table.ids_in, column, start, stop), fulfilled[column]))
    start, stop = ranges["id"]
    numbers, done = table.ids, fulfilled["id"]
    size, find, also = min(choices, key=lambda choice: choice[0], default=(len(table), None, []))
    if find is not None and size < stop - start:
        lowest, highest = table.ids[start], table.ids[stop - 1]
        numbers = find()
        start, stop = bisect_left(numbers, lowest), bisect_right(numbers, highest)
        done = done + also
    return numbers, range(start, stop), [condition for condition in rest if condition not in done]


def _united(table: Table[R], column: str, parts: list[tuple[int, int]]) -> list[int]:
    return sorted({number for start, stop in parts for number in table.ids_in(column, start, stop)})


def rows_that(table: Table[R], conditions: list[Condition]) -> list[R]:
    """The rows that fulfil conditions on columns, by id."""
    numbers, positions, rest = candidates(table, conditions, str)
    return [row for position in positions if all_hold(rest, getattr)(row := table[numbers[position]])]


def page_of(
    table: Table[R],
    conditions: list[Condition],
    order: list[tuple[str, Any]],
    start: Any,
    get: Getter[R],
    *,
    column_of: Callable[[str], str | None],
    holds: Callable[[R], bool] | None = None,
    total_without_count: int | None = None,
) -> Listing:
    """One page of a table. In the order of the ids, only the rows are looked at that may be on it.

    ``holds`` is asked besides the ``conditions``, as it says more than they do.
    """
    numbers, positions, rest = candidates(table, conditions, column_of)
    matches = all_hold(rest, get) if holds is None else holds
    if [column_of(name) for name, _ in order] != ["id"]:
        rows = [row for position in positions if matches(row := table[numbers[position]])]
        return paged(ordered(rows, order, get), start, total_without_count=total_without_count)
    if php.to_text(order[0][1]).lower() == "desc":
        positions = positions[::-1]
    if php.to_int(start) < 0:
        found = filter(matches, (table[numbers[position]] for position in positions))
        return Listing(list(islice(found, PAGE)), total=total_without_count)
    if rest or holds is not None:
        return paged([row for position in positions if matches(row := table[numbers[position]])], start)
    page = paged(positions, start)
    return Listing([table[numbers[position]] for position in page.result], page.total, page.next)
