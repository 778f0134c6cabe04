"""Read list methods page by page: by id if the method can filter by id, else by the offset that the reply names.

An incomplete list does not prove that a row is absent: the rest is read, or the read has failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api import methods
from airflow_provider_bitrix24.api.methods.row import ListShape
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.envelope import Reply

PAGE_SIZE: Final = 50

_ANY: Final = "*"
UNKNOWN: Final = ListShape(wrapper=_ANY, paging="start")
"""A list method without a row: its rows are the result, ``result.items``, or the one list in the result."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and where to go on."""

    rows: list[dict[str, Any]]
    after: int | None
    """Id, or offset where the method pages by offset, to go on after; None if these were the last rows."""
    last: int | None = None
    """The largest id, where the rows come by id."""


def may_be_cut(rows: int, total: int | None, next: int | None) -> bool:
    """Whether a list may be incomplete: the portal says so, or it is exactly one full page.

    :param rows: how many have come.
    :param total: how many there are, as the portal says.
    :param next: where the portal says that the next page begins.
    """
    # rule: a full page is not the whole list
    return next is not None or (total is not None and total > rows) or rows == PAGE_SIZE


def shape_of(method: str) -> ListShape:
    """The shape of a list method.

    :raises Bitrix24ConfigError: the method is known, and lists nothing.
    """
    row = methods.find(method)
    if row is None:
        return UNKNOWN
    if row.rows is None:
        raise Bitrix24ConfigError(f"{row.name} is no list method: use call instead of iterate.", NOT_SENT)
    return row.rows


def page_params(shape: ListShape, params: Mapping[str, Any], after: int | None) -> dict[str, Any]:
    """Return the parameters that request the next page: the rows after an id, in the order of their ids, or by offset.

    :raises Bitrix24ConfigError: the parameters hold an order, an offset or a bound of their own.
    """
    asked = dict(params)
    names = {name.lower(): name for name in asked}
    for taken in {"id": ("order", "start"), "start": ("start",), "none": ()}[shape.paging]:
        if taken in names:
            raise Bitrix24ConfigError(
                f"{names[taken]} cannot be given: iterate reads page by page"
                + (", in the order of the ids." if shape.paging == "id" else ".")
            )
    if shape.paging != "id":
        return asked | ({"start": after} if after else {})
    bound = f">{shape.id_field}"
    filter_name, select_name = names.get("filter", "filter"), names.get("select")
    wanted = dict(asked.get(filter_name) or {})
    if bound in wanted:
        raise Bitrix24ConfigError(f"{filter_name}[{bound}] cannot be given: use the argument after.")
    wanted[bound] = after or 0
    asked |= {filter_name: wanted, "order": {shape.id_field: "ASC"}, "start": -1}
    if select_name and asked[select_name] and not {shape.id_field, "*"} & set(asked[select_name]):
        asked[select_name] = [*asked[select_name], shape.id_field]
    return asked


def read_page(method: str, shape: ListShape, reply: Reply, after: int | None) -> Page:
    """Return the rows of a reply, and where the next page begins.

    :raises Bitrix24NoAnswer: the reply has another shape, is incomplete, or has rows that were not asked for: some list
        methods drop a filter they do not understand, and would return the same rows for ever.
    """
    rows = _rows(shape, reply.result)
    if rows is None:
        raise Bitrix24NoAnswer(method, "the result is not a list of rows")
    if shape.paging != "id":
        return Page(rows, _next_offset(method, reply, rows, after or 0))
    if not rows and (reply.next is not None or (reply.total or 0) > 0):
        raise Bitrix24NoAnswer(method, "the portal says that there are more rows, and does not show them")
    ids = [row_id(row, shape.id_field) for row in rows]
    if None in ids:
        raise Bitrix24NoAnswer(method, f"a row has no {shape.id_field}")
    known = [number for number in ids if number is not None]
    if known != sorted(known) or (known and known[0] <= (after or 0)):
        raise Bitrix24NoAnswer(method, "the portal returned rows that were not asked for")
    last = known[-1] if known else None
    told = reply.next is not None or (reply.total or 0) > len(rows)
    return Page(rows, last if len(rows) >= PAGE_SIZE or told else None, last)


def _next_offset(method: str, reply: Reply, rows: list[dict[str, Any]], start: int) -> int | None:
    """Return the offset of the next page from the reply, also for a method that is not known to have pages."""
    if reply.next is not None:
        if reply.next <= start or not rows:
            raise Bitrix24NoAnswer(method, f"the next page would begin at {reply.next}, and this one began at {start}")
        return reply.next
    if reply.total is not None and reply.total > start + len(rows):
        raise Bitrix24NoAnswer(method, f"there are {reply.total} rows, and {start + len(rows)} were returned")
    return None


def _rows(shape: ListShape, result: Any) -> list[dict[str, Any]] | None:
    """Return the rows in a result, or None if it holds no list of rows."""
    if shape.wrapper == _ANY and isinstance(result, dict):
        lists = [value for value in result.values() if isinstance(value, list)]
        rows = result.get("items", lists[0] if len(lists) == 1 else None)
    else:
        rows = result.get(shape.wrapper) if shape.wrapper and isinstance(result, dict) else result
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else None


def rows_in(method: str, result: Any) -> list[dict[str, Any]] | None:
    """Return the rows in the result of a known list method; None for another method or without rows."""
    row = methods.find(method)
    return None if row is None or row.rows is None else _rows(row.rows, result)


def ids_of(shape: ListShape, rows: list[Any]) -> set[int]:
    """Return the ids in rows, as far as they have one."""
    ids = (row_id(row, shape.id_field) for row in rows if isinstance(row, dict))
    return {number for number in ids if number is not None}


def row_id(row: Mapping[str, Any], field: str) -> int | None:
    """Return the id of a row, or None if it has none."""
    value = row.get(field)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
