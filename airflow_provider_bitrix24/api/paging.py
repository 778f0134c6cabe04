"""Keyset paging: how each list method wraps its rows, and how to ask for those after a given id.

What is not on a list that may be cut is not known to be absent: the rest is asked for, or the read has failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE_SIZE: Final = 50


@dataclass(frozen=True, slots=True)
class ListShape:
    """How one list method answers."""

    wrapper: str | None = None
    """Key of the rows inside the result; None if the result is the rows."""
    id_field: str = "id"
    paged: bool = True
    """False if the method always returns all rows."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and where to go on."""

    rows: list[dict[str, Any]]
    after: int | None
    """Id to go on after; None if these were the last rows."""
    last: int | None = None
    """The largest id, where the rows come by id."""


SHAPES: Final[Mapping[str, ListShape]] = {
    # The first two are documented to have no pages, and some portals page them all the same: going on by id suits both.
    "crm.item.payment.list": ListShape(),
    "crm.item.payment.product.list": ListShape(),
    "crm.item.payment.delivery.list": ListShape(paged=False),
    "sale.payment.list": ListShape("payments"),
    "sale.paysystem.list": ListShape(id_field="ID", paged=False),
    "sale.paysystem.handler.list": ListShape(id_field="ID", paged=False),
    "crm.invoice.list": ListShape(id_field="ID"),
    "crm.deal.list": ListShape(id_field="ID"),
    "crm.item.list": ListShape("items"),
    "crm.item.productrow.list": ListShape("productRows"),
    "crm.orderentity.list": ListShape("orderEntity", id_field="orderId"),
    "sale.order.list": ListShape("orders"),
    "event.offline.list": ListShape(id_field="ID"),
}


def may_be_cut(rows: int, total: int | None, next: int | None) -> bool:
    """Whether a list may be only a part: the portal says so, or it is exactly one full page.

    :param rows: how many have come.
    :param total: how many there are, as the portal says.
    :param next: where the portal says that the next page begins.
    """
    return next is not None or (total is not None and total > rows) or rows == PAGE_SIZE


def shape_of(method: str) -> ListShape:
    """The shape of a list method.

    :raises Bitrix24ConfigError: the method is not known.
    """
    shape = SHAPES.get(method.lower())
    if shape is None:
        raise Bitrix24ConfigError(f"{method} is no list method that is known here; known are {', '.join(SHAPES)}.")
    return shape


def page_params(shape: ListShape, params: Mapping[str, Any], after: int | None) -> dict[str, Any]:
    """The parameters that ask for the rows after an id, in the order of their ids, without counting.

    :raises Bitrix24ConfigError: the parameters hold an order, an offset or a bound of their own.
    """
    asked = dict(params)
    names = {name.lower(): name for name in asked}
    for taken in ("order", "start"):
        if taken in names and shape.paged:
            raise Bitrix24ConfigError(
                f"{names[taken]} cannot be given: rows come in the order of their ids, page by page."
            )
    if not shape.paged:
        return asked
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


def read_page(method: str, shape: ListShape, result: Any, after: int | None) -> Page:
    """The rows of an answer.

    :raises Bitrix24NoAnswer: the answer has another shape, or rows that were not asked for: some list methods drop a
        filter they do not understand, and would return the same rows for ever.
    """
    rows = result.get(shape.wrapper) if shape.wrapper and isinstance(result, dict) else result
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Bitrix24NoAnswer(method, "the result is not a list of rows")
    if not shape.paged:
        return Page(rows, None)
    ids = [_row_id(row, shape.id_field) for row in rows]
    if None in ids:
        raise Bitrix24NoAnswer(method, f"a row has no {shape.id_field}")
    known = [number for number in ids if number is not None]
    if known != sorted(known) or (known and known[0] <= (after or 0)):
        raise Bitrix24NoAnswer(method, "the portal returned rows that were not asked for")
    last = known[-1] if known else None
    return Page(rows, last if len(rows) >= PAGE_SIZE else None, last)


def _row_id(row: Mapping[str, Any], field: str) -> int | None:
    value = row.get(field)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
