"""Calculate when the portal takes the next request, by the generic cell rate algorithm.

This module has no clock and no file: the code that keeps a bucket passes the time. A bucket holds the seconds for
which requests are booked. They run out with time; each request adds `Limits.interval`. Up to `Limits.tolerance`
seconds may be booked ahead without waiting: that is the burst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from airflow_provider_bitrix24.api.io import Slot

_HEADROOM: Final = 0.2
"""Share of the burst that is never booked: requests arrive later than planned, and others send requests too."""
LONGEST_QUEUE: Final = 3600.0
"""Seconds of waiting that a bucket may hold."""
_SLOWEST: Final = 0.1
"""Requests a second."""
_WRITTEN: Final = re.compile(r"([1-9][0-9]{0,5})/([0-9]{1,6}(?:\.[0-9]{1,3})?)")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many requests a portal takes; see https://apidocs.bitrix24.com/limits.html

    :param burst: requests at once; 0 for no limits.
    :param rate: requests a second after that.
    """

    burst: int
    rate: float

    @property
    def off(self) -> bool:
        """Whether there are no limits."""
        return self.burst == 0

    @property
    def interval(self) -> float:
        """Seconds by which one request delays the next."""
        return 1 / self.rate

    @property
    def tolerance(self) -> float:
        """Seconds that may be booked ahead without waiting."""
        return (max(1, int(self.burst * (1 - _HEADROOM))) - 1) * self.interval

    @classmethod
    def read(cls, text: str) -> Limits:
        """Return the limits from ``standard``, ``enterprise``, ``off`` or ``BURST/RATE``.

        :raises ValueError: it is none of these.
        """
        if text in NAMED:
            return NAMED[text]
        written = _WRITTEN.fullmatch(text)
        if written is None or float(written[2]) < _SLOWEST:
            raise ValueError(text)
        return cls(int(written[1]), float(written[2]))


STANDARD: Final = Limits(50, 2.0)
NAMED: Final = {"standard": STANDARD, "enterprise": Limits(250, 5.0), "off": Limits(0, 0.0)}


@dataclass(frozen=True, slots=True)
class Bucket:
    """The requests that are booked at one portal.

    :param backlog: seconds for which requests were booked.
    :param at: when that was, by the clock of the code that keeps the bucket.
    """

    backlog: float = 0.0
    at: float = 0.0

    def left(self, limits: Limits, now: float, *, drained: bool) -> float:
        """Return the seconds that are booked now.

        A clock that was set back lets no time pass, instead of adding what it was set back by.
        """
        backlog = max(0.0, self.backlog - max(0.0, now - self.at))
        empty = limits.tolerance + limits.interval
        if not backlog <= empty + LONGEST_QUEUE:  # nobody books that far ahead: the file was damaged
            return empty
        return max(backlog, empty) if drained else backlog


def reserve(bucket: Bucket, limits: Limits, now: float, *, within: float, drained: bool = False) -> tuple[Bucket, Slot]:
    """Book one request, unless it would have to wait too long.

    :param bucket: what was booked so far.
    :param now: the time.
    :param within: seconds that the request may wait.
    :param drained: the portal has just refused a request: it takes no burst now.
    :return: the bucket to keep, and the slot.
    """
    backlog = bucket.left(limits, now, drained=drained)
    wait = max(0.0, round(backlog - limits.tolerance, 6))
    granted = wait <= min(within, LONGEST_QUEUE)
    return Bucket(backlog + limits.interval if granted else backlog, now), Slot(wait, granted=granted)
