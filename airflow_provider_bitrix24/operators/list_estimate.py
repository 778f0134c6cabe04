"""How long a list takes at least, and which limit of the portal decides that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.chunks import MOST_IN_A_CHUNK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
    from airflow_provider_bitrix24.operators.list_report import Item

REQUESTS_IN_CHUNK: Final = 3
"""Read, send, read back."""


def estimate(hook: Bitrix24Hook, items: Sequence[Item], count: int, size: int, now: float) -> str:
    """Return the estimate for some of the items, as the end of a line of log.

    :param count: how many of them are sent.
    :param size: how many share a request.
    """
    requests = math.ceil(count / min(size, MOST_IN_A_CHUNK)) * REQUESTS_IN_CHUNK
    limits = hook.settings.rate_limit
    bounds = [] if limits.off else [(max(0.0, requests - limits.burst) / limits.rate, "at the portal's rate limit")]
    bounds.append((_cost(hook, items) * count, "of the portal's work"))
    bounds.append((limit_delays(hook, items, count, now), "because of the portal's working-time limit"))
    seconds, why = max(bounds, key=lambda bound: bound[0])
    if not requests or (limits.off and not seconds):
        return f"; about {requests} requests"
    return f"; about {requests} requests, {duration(seconds)} {why}"


def limit_delays(hook: Bitrix24Hook, items: Sequence[Item], count: int, now: float) -> float:
    """Return the seconds for which the working-time limit delays so many of the items."""
    return hook.client.working_time.wait_for_all(_calls(items), count, now)


def _cost(hook: Bitrix24Hook, items: Sequence[Item]) -> float:
    """Seconds of work for one item, by what is known of the calls of the first one."""
    return hook.client.working_time.cost(_calls(items))


def _calls(items: Sequence[Item]) -> tuple[str, ...]:
    """The calls of one item, reads included."""
    return (*items[0].operation.writes, *items[0].operation.reads) if items else ()


def duration(seconds: float) -> str:
    """Return a length of time in words."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
