"""Tables: rows by id, found by the values of their columns without a look at all the others."""

from __future__ import annotations

import copy
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Row:
    """A row, which tells its table of every change: the table keeps its columns in order."""

    id: int

    def __setattr__(self, name: str, value: Any) -> None:
        place = self.__dict__.get("_place")
        if place is not None:
            table, number = place
            table.note(number, name, self.__dict__.get(name), value)
        object.__setattr__(self, name, value)


R = TypeVar("R", bound=Row)
#: How many parts of orders are remembered at most.
_REMEMBERED = 64


class Table(MutableMapping[int, R]):
    """Rows by id. A column is put in order when something first looks for its values, and kept so from then on."""

    def __init__(self, rows: Iterable[R] = ()) -> None:
        #: The ids, the lowest first.
        self.ids: list[int] = []
        #: Column -> (value, id), in order and without NULL.
        self._orders: dict[str, list[tuple[Any, int]]] = {}
        self._found: dict[tuple[str, int, int], list[int]] = {}
        self._rows: dict[int, R] = {}
        for row in rows:
            self[row.id] = row

    def __getitem__(self, number: int) -> R:
        return self._rows[number]

    def __contains__(self, number: object) -> bool:
        return number in self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __setitem__(self, number: int, row: R) -> None:
        if number in self._rows:
            del self[number]
        self._rows[number] = row
        row.__dict__["_place"] = (self, number)
        insort(self.ids, number)
        for column in self._orders:
            self._enter(column, getattr(row, column), number)

    def __delitem__(self, number: int) -> None:
        row = self._rows.pop(number)
        del row.__dict__["_place"]
        del self.ids[bisect_left(self.ids, number)]
        for column in self._orders:
            self._remove(column, getattr(row, column), number)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with rows of its own."""
        twin = type(self)()
        twin.ids = list(self.ids)
        twin._orders = {column: list(order) for column, order in self._orders.items()}
        for number, row in self._rows.items():
            own = object.__new__(type(row))
            for name, value in row.__dict__.items():
                own.__dict__[name] = copy.deepcopy(value, memo) if isinstance(value, list | dict) else value
            own.__dict__["_place"] = (twin, number)
            twin._rows[number] = own
        return twin

    @property
    def newest(self) -> int:
        """The highest id, 0 if there is no row."""
        return self.ids[-1] if self.ids else 0

    def having(self, column: str, value: Any) -> list[R]:
        """The rows with this value in a column, by id."""
        start, stop = self.span(column, "=", value)
        return [self._rows[number] for _, number in self._order(column)[start:stop]]

    def count(self, column: str, value: Any) -> int:
        """How many rows have this value in a column."""
        start, stop = self.span(column, "=", value)
        return stop - start

    def span(self, column: str, operator: str, value: Any) -> tuple[int, int]:
        """Which part of a column's order fulfils ``=``, ``>``, ``>=``, ``<`` or ``<=``: its start and its stop."""
        if column == "id":
            left, right, end = bisect_left(self.ids, value), bisect_right(self.ids, value), len(self.ids)
        else:
            order = self._order(column)
            left, right, end = bisect_left(order, (value,)), bisect_right(order, (value, math.inf)), len(order)
        start = {"=": left, ">=": left, ">": right}.get(operator, 0)
        return start, {"=": right, "<=": right, "<": left}.get(operator, end)

    def ids_in(self, column: str, start: int, stop: int) -> list[int]:
        """The ids in a part of a column's order, the lowest first; remembered until the column changes."""
        if column == "id":
            return self.ids[start:stop]
        key = (column, start, stop)
        if (found := self._found.get(key)) is None:
            found = sorted(number for _, number in self._order(column)[start:stop])
            if len(self._found) == _REMEMBERED:
                self._found.clear()
            self._found[key] = found
        return found

    def by(self, column: str) -> Iterator[R]:
        """The rows in the order of a column and of their ids, without those that have NULL there."""
        return (self._rows[number] for _, number in self._order(column))

    def note(self, number: int, column: str, old: Any, new: Any) -> None:
        """Keep a column in order: a row is about to get a new value."""
        if column in self._orders and old != new:
            self._remove(column, old, number)
            self._enter(column, new, number)

    def _order(self, column: str) -> list[tuple[Any, int]]:
        if column not in self._orders:
            values = ((getattr(row, column), number) for number, row in self._rows.items())
            self._orders[column] = sorted(pair for pair in values if pair[0] is not None)
        return self._orders[column]

    def _enter(self, column: str, value: Any, number: int) -> None:
        self._found.clear()
        if value is not None:
            insort(self._orders[column], (value, number))

    def _remove(self, column: str, value: Any, number: int) -> None:
        self._found.clear()
        if value is not None:
            order = self._orders[column]
            del order[bisect_left(order, (value, number))]
