"""How long a list takes at least, and which limit of the portal decides that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.chunks import MOST_IN_A_CHUNK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
    from airflow_provider_bitrix24.operators.list_report import Item

SEND_REQUESTS: Final = 2
"""For a chunk, beside the one that reads it: send, read back."""


def estimate(hook: Bitrix24Hook, items: Sequence[Item], count: int, size: int, now: float) -> str:
    """Return the estimate for a list, as the end of a line of log.

    :param items: all of them: each is read when its turn comes, also what is done.
    :param count: how many of them are sent.
    :param size: how many share a request.
    """
    size = min(size, MOST_IN_A_CHUNK)
    requests = math.ceil(len(items) / size) + math.ceil(count / size) * SEND_REQUESTS
    limits = hook.settings.rate_limit
    bounds = [] if limits.off else [(max(0.0, requests - limits.burst) / limits.rate, "at the portal's rate limit")]
    working_time = hook.client.working_time
    calls, reads, again = _calls(items), _reads(items), len(items) - count
    bounds.append((working_time.cost(calls) * count + working_time.cost(reads) / 2 * again, "of the portal's work"))
    delay = max(limit_delays(hook, items, count, now), working_time.wait_for_all(reads, count + again // 2, now))
    bounds.append((delay, "because of the portal's working-time limit"))
    seconds, why = max(bounds, key=lambda bound: bound[0])
    if not requests or (limits.off and not seconds):
        return f"; about {requests} requests"
    return f"; about {requests} requests, {duration(seconds)} {why}"


def limit_delays(hook: Bitrix24Hook, items: Sequence[Item], count: int, now: float) -> float:
    """Return the seconds for which the working-time limit delays so many of the items."""
    return hook.client.working_time.wait_for_all(_calls(items), count, now)


def _calls(items: Sequence[Item]) -> tuple[str, ...]:
    """The calls of one item that is sent, reads included; those of the first one stand for all."""
    return (*items[0].operation.writes, *_reads(items)) if items else ()


def _reads(items: Sequence[Item]) -> tuple[str, ...]:
    """The reads of one item that is sent; one that is not is read half as often."""
    return items[0].operation.reads if items else ()


def duration(seconds: float) -> str:
    """Return a length of time in words."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
