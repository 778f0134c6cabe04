"""Any REST method: typed calls, calls by name, batches, and all rows of a list."""

from __future__ import annotations

import logging
from contextlib import aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_bitrix24 import api
from airflow_provider_bitrix24.hooks.methods import RestMethods

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from airflow_provider_bitrix24.api.batch import BatchReply
    from airflow_provider_bitrix24.api.calls.call import Call, Command
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.envelope import Reply
    from airflow_provider_bitrix24.api.io import Effect, Flow
    from airflow_provider_bitrix24.api.reading import ListReader
    from airflow_provider_bitrix24.hooks.rest import AsyncRest, Rest

T = TypeVar("T")
log = logging.getLogger(__name__)


class AnyMethod(RestMethods):
    """The part of :class:`~airflow_provider_bitrix24.hooks.bitrix24.Bitrix24Hook` that calls any REST method.

    :meta private:
    """

    @property
    def rest(self) -> Rest:
        """A typed call for each known REST method: ``hook.rest.crm_item_payment_get(id=1034)``.

        Its name is that of the REST method with ``_`` for ``.`` and words in snake case. A call that writes is sent at
        once, and nothing prevents a second one.
        """
        from airflow_provider_bitrix24.hooks.rest import Rest

        return Rest(self)

    @property
    def arest(self) -> AsyncRest:
        """Async twins of `rest`: ``await hook.arest.crm_item_payment_get(id=1034)``."""
        from airflow_provider_bitrix24.hooks.rest import AsyncRest

        return AsyncRest(self)

    def send(self, call: Call[T]) -> T:
        """Send a call that was created as a value: ``calls.crm_item_payment_get(id=1034)`` of `api.calls`.

        :raises Bitrix24Error: see `airflow_provider_bitrix24.exceptions`.
        """
        return call.read(self.run(self.client.call(call.row.name, call.params, effect=call.row.effect)).result)

    async def asend(self, call: Call[T]) -> T:
        """Async twin of `send`."""
        client = await self.aclient()
        return call.read((await self.arun(client.call(call.row.name, call.params, effect=call.row.effect))).result)

    def call_raw(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        effect: Effect | None = None,
        check_names: bool = True,
    ) -> Reply:
        """Call any REST method and return the whole reply: ``result``, ``next``, ``total``, ``time``.

        :param method: name, such as ``crm.deal.get``.
        :param params: parameters; dates become ISO 8601, `Decimal` becomes text.
        :param effect: what executing it does. By default that of the registry; a method that is not known there and
            whose name does not say that it reads is `Effect.NON_IDEMPOTENT`, which is never sent twice.
        :param check_names: refuse names of filters and fields that the method does not know, and rows that the filter
            excludes.
        :raises Bitrix24Error: see `airflow_provider_bitrix24.exceptions`.
        """
        return self.run(_checked_call(self.client, method, params or {}, effect, check_names))

    async def acall_raw(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        effect: Effect | None = None,
        check_names: bool = True,
    ) -> Reply:
        """Async twin of `call_raw`."""
        return await self.arun(_checked_call(await self.aclient(), method, params or {}, effect, check_names))

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        effect: Effect | None = None,
        check_names: bool = True,
    ) -> Any:
        """Call any REST method and return its result as it came; fractions are `Decimal`. Arguments as `call_raw`."""
        return self.call_raw(method, params, effect=effect, check_names=check_names).result

    async def acall(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        effect: Effect | None = None,
        check_names: bool = True,
    ) -> Any:
        """Async twin of `call`."""
        return (await self.acall_raw(method, params, effect=effect, check_names=check_names)).result

    def batch(
        self,
        commands: Mapping[str, Command],
        *,
        halt: bool = False,
        effect: Effect | None = None,
    ) -> BatchReply:
        """Call up to 50 methods in one request.

        :param commands: key -> a call of `api.calls`, or (method, parameters). A batch carries texts: True and False
            become ``"Y"`` and ``"N"``.
        :param halt: stop at the first error. Nothing that ran before is undone.
        :param effect: the strongest effect among the commands; by default what `call` would take for each.
        :return: results and errors by key; ``reply.value(key)`` returns the one or raises the other. The result of a
            call of `api.calls` is what its typed twin returns.
        """
        return self.run(_checked_batch(self.client, commands, halt, effect))

    async def abatch(
        self,
        commands: Mapping[str, Command],
        *,
        halt: bool = False,
        effect: Effect | None = None,
    ) -> BatchReply:
        """Async twin of `batch`."""
        return await self.arun(_checked_batch(await self.aclient(), commands, halt, effect))

    def iterate(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        after: int | None = None,
        raw: bool = False,
        check_names: bool = True,
    ) -> Iterator[Any]:
        """Yield all rows of a list method, up to 2,500 in a request, with a few replies in memory.

        Methods that can filter by id are read in the order of their ids, so that no row is missed while others are
        added. The first request reads 50 rows, later ones up to 50 linked pages, if the parameters mean the same in a
        batch: True, False, None and empty values do not. The others, and those that the registry does not know, are
        read by the offset that each reply names, 50 rows in a request.

        More than 10,000 rows are read by several requests at once, as far as the connection's rate limit allows it: 4,
        or 8 for Enterprise.

        :param method: any list method.
        :param params: parameters without start, and without order where the method is read by id.
        :param after: id, or offset, to go on after.
        :param raw: rows as they came. By default they are models (`api.models`) where the registry has one and no
            select may leave fields out.
        :param check_names: refuse names of filters and fields that the method does not know.
        """
        read = _reader(method, params or {}, raw, check_names)
        from airflow_provider_bitrix24.hooks.concurrent_reads import in_order, reads_at_once

        reader = api.reading.ListReader(method, params, after=after)
        at_once = reads_at_once(self.client.settings.rate_limit)
        while not reader.done:
            for row in self.run(reader.read(self.client)):
                yield read(row)
            while at_once > 1 and (ranges := self.run(reader.split(self.client))):
                with closing(in_order([partial(self._read_range, one) for one in ranges], at_once)) as results:
                    for one, rows in zip(ranges, results, strict=True):
                        reader.add(one)
                        yield from map(read, rows)

    def _read_range(self, part: ListReader) -> list[dict[str, Any]]:
        return self.run(part.read_whole(self.client))

    async def aiterate(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        after: int | None = None,
        raw: bool = False,
        check_names: bool = True,
    ) -> AsyncIterator[Any]:
        """Async twin of `iterate`."""
        read = _reader(method, params or {}, raw, check_names)
        from airflow_provider_bitrix24.hooks.concurrent_reads import ain_order, reads_at_once

        client = await self.aclient()
        reader = api.reading.ListReader(method, params, after=after)
        at_once = reads_at_once(client.settings.rate_limit)
        while not reader.done:
            for row in await self.arun(reader.read(client)):
                yield read(row)
            while at_once > 1 and (ranges := await self.arun(reader.split(client))):
                left = iter(ranges)
                async with aclosing(ain_order([partial(self._aread_range, one) for one in ranges], at_once)) as results:
                    async for rows in results:
                        reader.add(next(left))
                        for row in rows:
                            yield read(row)

    async def _aread_range(self, part: ListReader) -> list[dict[str, Any]]:
        return await self.arun(part.read_whole(await self.aclient()))


def _checked_call(
    client: ApiClient, method: str, params: Mapping[str, Any], effect: Effect | None, check_names: bool
) -> Flow[Reply]:
    """Call a method, with a check of the names before and of the rows after the call."""
    from airflow_provider_bitrix24.api import filters, paging

    if check_names:
        filters.check_names(method, params)
    reply = yield from client.call(method, params, effect=effect or api.methods.effect_of(method))
    if check_names:
        filters.check_rows(method, params, paging.rows_in(method, reply.result) or [])
    return reply


def _checked_batch(
    client: ApiClient,
    commands: Mapping[str, Command],
    halt: bool,
    effect: Effect | None,
) -> Flow[BatchReply]:
    """Send a batch, and read the results of typed calls as the calls alone would."""
    from airflow_provider_bitrix24.api import filters
    from airflow_provider_bitrix24.api.calls.call import Call, read_batch

    plain = {}
    for key, command in commands.items():
        plain[key] = (command.row.name, command.params) if isinstance(command, Call) else command
        filters.check_names(*plain[key])
    reply = yield from client.batch(plain, halt=halt, effect=effect or api.methods.strongest(plain))
    return read_batch(reply, commands)


def _reader(method: str, params: Mapping[str, Any], raw: bool, check_names: bool) -> Callable[[dict[str, Any]], Any]:
    from airflow_provider_bitrix24.api import filters
    from airflow_provider_bitrix24.api.calls.call import row_reader

    if api.methods.find(method) is None:
        close = api.methods.similar(method)
        log.warning(
            "%s is not among the REST methods that this provider knows%s. Its rows are read by the offset that "
            "each reply names; its filter cannot be checked.",
            method,
            f" (did you mean {close}?)" if close else "",
        )
    if check_names:
        filters.check_names(method, params)
    return (lambda row: row) if raw else row_reader(method, params)
