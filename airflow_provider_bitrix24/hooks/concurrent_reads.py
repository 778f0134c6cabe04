"""Run several reads at once, and return their results in order. No more are begun than the caller takes."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable

    from airflow_provider_bitrix24.api.pacing import Limits

T = TypeVar("T")

_WITHOUT_LIMITS: Final = 4
_MOST: Final = 8
_SECONDS: Final = 2.0
"""What a request for 2,500 rows takes, about: with more at once than the rate allows in this time, some would wait."""


def reads_at_once(limits: Limits) -> int:
    """How many long reads at once a portal's rate limit allows: 4 for most portals, 8 for Enterprise."""
    return _WITHOUT_LIMITS if limits.off else max(1, min(_MOST, int(_SECONDS * limits.rate)))


def in_order(work: Iterable[Callable[[], T]], at_once: int) -> Generator[T]:
    """Yield the results of functions that run in threads.

    :param work: what to do.
    :param at_once: how many are running, or are done and wait to be taken.
    """
    threads = ThreadPoolExecutor(at_once, "bitrix24-read")
    waiting: deque[Future[T]] = deque()
    try:
        for one in work:
            waiting.append(threads.submit(contextvars.copy_context().run, one))
            if len(waiting) >= at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


async def ain_order(work: Iterable[Callable[[], Awaitable[T]]], at_once: int) -> AsyncGenerator[T]:
    """Async twin of `in_order`."""
    waiting: deque[asyncio.Future[T]] = deque()
    try:
        for one in work:
            waiting.append(asyncio.ensure_future(one()))
            if len(waiting) >= at_once:
                yield await waiting[0]
                waiting.popleft()
        while waiting:
            yield await waiting[0]
            waiting.popleft()
    finally:
        for future in waiting:
            future.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
