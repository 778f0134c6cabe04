"""Read all rows of a list: the first page alone, then up to 50 pages in a request.

The pages of a request are linked: each asks for the ids after the last one of the page before, which the portal puts in
itself (``$result[p0][payments][49][id]``). Every page is checked as if it had been asked for alone.

The first reply says how many rows there are. So no more pages are asked for than there are: what follows a page with
less than 50 rows would be asked for with a reference to nothing. At the end, the number must be reached.

A long list is split into ranges of ids with 2,500 rows each, which may be read side by side. Where they end is read in
one request for up to 50 ranges: the last id of a page at an offset.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api import filters, methods
from airflow_provider_bitrix24.api.batch import MOST_COMMANDS, Reference, travels
from airflow_provider_bitrix24.api.envelope import Reply
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.paging import PAGE_SIZE, Page, page_params, read_page, shape_of
from airflow_provider_bitrix24.exceptions import Bitrix24ApiError, Bitrix24NoAnswer

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow

log = logging.getLogger(__name__)

WITHOUT_TOTAL: Final = (1, 8)
"""Pages of the first requests if the portal does not count: most lists are short."""
ROWS_OF_A_RANGE: Final = PAGE_SIZE * MOST_COMMANDS
"""What one request reads."""
FEWEST_RANGES: Final = 4
"""With fewer, splitting takes longer than it spares."""


class ListReader:
    """All rows of a list method, some pages at a time.

    :param method: a list method.
    :param params: parameters without start, and without order where the method is read by id.
    :param after: id, or offset, to go on after.
    """

    def __init__(self, method: str, params: Mapping[str, Any] | None, *, after: int | None = None) -> None:
        self._method = method
        self._params = dict(params or {})
        self._shape = shape_of(method)
        self._begin = self._after = after
        self._requests = self._read = self._total = 0
        known = methods.find(method) is not None and self._shape.paging == "id"
        self._most_pages = MOST_COMMANDS if known and (not self._params or travels(self._params)) else 1
        self._until: int | None = None
        """The last id, for a range."""
        self._whole: ListReader = self
        """The reader of the whole list, for a range."""
        self._splits = True
        self.done = False
        """Whether the last rows have been read."""
        self.began_at: datetime | None = None
        """When the portal answered the first request, by its own clock; None if it has not told."""

    def read(self, client: ApiClient) -> Flow[list[dict[str, Any]]]:
        """Send one request, and return the next rows.

        :raises Bitrix24NoAnswer: the list is incomplete, or a row does not satisfy the filter.
        """
        pages = min(self._most_pages, self._pages_left())
        if self._most_pages == 1:
            page = yield from client.page(self._method, self._params, after=self._after)
        elif not self._requests:
            page = yield from self._counted(client)
        else:
            page = yield from self._linked(client, pages)
        self._requests += 1
        self._read += len(page.rows)
        self._after = self._next(page)
        self.done = self._after is None
        if self.done and self._until is None and self._read < self._total:
            yield from self._count_again(client)
        return page.rows

    def split(self, client: ApiClient) -> Flow[list[ListReader]]:
        """Return readers of the next ranges, and go on after them; none if what is left is short, or cannot be split.

        Call `read_whole` of each, in any order and side by side, and then `add` each, one after another.

        :raises Bitrix24Error: the portal refuses the request.
        """
        ranges = min((self._total - self._read) // ROWS_OF_A_RANGE, MOST_COMMANDS)
        if self.done or ranges < FEWEST_RANGES or not self._splits or self._most_pages < MOST_COMMANDS:
            return []
        split = []
        for end in (yield from self._ends(client, ranges)):
            part = ListReader(self._method, self._up_to(end), after=self._after)
            part._until, part._whole, part._total, part._requests = end, self, ROWS_OF_A_RANGE, 1
            split.append(part)
            self._after = end
        self._splits = len(split) == ranges
        return split

    def read_whole(self, client: ApiClient) -> Flow[list[dict[str, Any]]]:
        """Return all rows of a range."""
        self._most_pages = min(self._most_pages, self._whole._most_pages)
        rows: list[dict[str, Any]] = []
        while not self.done:
            rows += yield from self.read(client)
        return rows

    def add(self, part: ListReader) -> None:
        """Count the rows of a range that has been read."""
        self._read += part._read
        self._most_pages = min(self._most_pages, part._most_pages)

    def _up_to(self, end: int) -> dict[str, Any]:
        """Return the parameters of a range."""
        name = next((name for name in self._params if name.lower() == "filter"), "filter")
        return self._params | {name: {**(self._params.get(name) or {}), f"<={self._shape.id_field}": end}}

    def _ends(self, client: ApiClient, ranges: int) -> Flow[list[int]]:
        """Read the last ids of the next ranges, as far as the portal tells them."""
        asked = page_params(self._shape, self._params, self._after)
        row = methods.find(self._method)
        if row is not None and any(param.wire == "select" for param in row.params):
            select = next((name for name in asked if name.lower() == "select"), "select")
            asked[select] = [self._shape.id_field]
        offsets = {f"r{index}": index * ROWS_OF_A_RANGE - PAGE_SIZE for index in range(1, ranges + 1)}
        ends: list[int] = []
        try:
            answer = yield from client.batch(
                {key: (self._method, asked | {"start": offset}) for key, offset in offsets.items()}
            )
            for key in offsets:
                page = read_page(self._method, self._shape, Reply(answer.value(key)), ends[-1] if ends else self._after)
                if page.last is None or len(page.rows) < PAGE_SIZE:
                    break
                ends.append(page.last)
        except (Bitrix24ApiError, Bitrix24NoAnswer) as error:
            log.info("%s: the list is not split further (%s).", self._method, error.reason)
        return ends

    def _pages_left(self) -> int:
        """Return how many pages are left: the last one has less than 50 rows, and may have none."""
        if self._total:
            return max(self._total - self._read, 0) // PAGE_SIZE + 1
        return WITHOUT_TOTAL[self._requests] if self._requests < len(WITHOUT_TOTAL) else MOST_COMMANDS

    def _counted(self, client: ApiClient) -> Flow[Page]:
        """Read the first page, and have the portal count the rows."""
        asked = page_params(self._shape, self._params, self._after) | {"start": 0}
        reply = yield from client.call(self._method, asked, effect=Effect.READ)
        self._total = reply.total or 0
        self.began_at = reply.at
        return self._checked(reply, self._after)

    def _count_again(self, client: ApiClient) -> Flow[None]:
        """Compare the number of rows with a new count: some may have been deleted since the first one.

        :raises Bitrix24NoAnswer: there are more rows than were shown.
        """
        asked = page_params(self._shape, self._params, self._begin) | {"start": 0}
        reply = yield from client.call(self._method, asked, effect=Effect.READ)
        if self._read < (reply.total or 0):
            raise Bitrix24NoAnswer(
                self._method, f"the portal says that there are {reply.total} rows, and shows {self._read}"
            )

    def _linked(self, client: ApiClient, pages: int) -> Flow[Page]:
        """Read linked pages; if the portal cannot reply with so many, read fewer from now on."""
        asked = page_params(self._shape, self._params, self._after)
        commands = {f"p{index}": (self._method, self._linked_to(asked, index)) for index in range(pages)}
        try:
            answer = yield from client.batch(commands, halt=True)
        except Bitrix24NoAnswer as error:
            self._most_pages = pages // 4 or 1
            log.info("%s: %s. From now on %s pages in a request.", self._method, error.reason, self._most_pages)
            return Page([], self._after or 0)
        rows: list[dict[str, Any]] = []
        bound = self._after
        for index, key in enumerate(commands):
            if index and key not in answer.results:
                break  # what ended the batch is the error of the next request, if it has not passed by then
            reply = Reply(answer.value(key), total=answer.totals.get(key), next=answer.nexts.get(key))
            try:
                page = self._checked(reply, bound)
            except Bitrix24NoAnswer as error:
                if not index:
                    raise
                self._most_pages = 1
                log.info("%s: linked pages cannot be used (%s). One page in a request.", self._method, error.reason)
                break
            rows += page.rows
            bound = self._next(page)
            if bound is None:
                break
        return Page(rows, bound)

    def _linked_to(self, asked: dict[str, Any], index: int) -> dict[str, Any]:
        """Return the parameters of a page: those of the first one, or with a reference to the page before."""
        if not index:
            return asked
        path = f"[{self._shape.wrapper}]" if self._shape.wrapper else ""
        last = Reference(f"$result[p{index - 1}]{path}[{PAGE_SIZE - 1}][{self._shape.id_field}]")
        return {name: self._with_bound(value, last) for name, value in asked.items()}

    def _with_bound(self, value: Any, bound: object) -> Any:
        name = f">{self._shape.id_field}"
        return {**value, name: bound} if isinstance(value, Mapping) and name in value else value

    def _checked(self, reply: Reply, bound: int | None) -> Page:
        """Check a page as if it had been asked for alone."""
        page = read_page(self._method, self._shape, reply, bound)
        filters.check_rows(self._method, page_params(self._shape, self._params, bound), page.rows)
        return page

    def _next(self, page: Page) -> int | None:
        """Return where to go on after a page; None if it is the last one of the list, or of the range."""
        ended = self._until is not None and page.after is not None and page.after >= self._until
        return None if ended else page.after
