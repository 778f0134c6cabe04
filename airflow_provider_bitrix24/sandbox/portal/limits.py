"""The two limits: the leaky bucket per source address, and the operating time per method in ten one-minute baskets."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Calls up to this many seconds are not counted.
FREE_SECONDS = 0.1
_BASKETS = 10


@dataclass
class LeakyBucket:
    """Each request is a drop; ``capacity`` drops fit, ``leak`` of them run out per second."""

    capacity: float
    leak: float
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    def admit(self, source: str, now: float) -> bool:
        """Does one more request from this address fit?"""
        level, since = self._levels.get(source, (0.0, now))
        level = max(0.0, level - (now - since) * self.leak)
        fits = level + 1 <= self.capacity
        self._levels[source] = (level + 1 if fits else level, now)
        return fits


@dataclass
class OperatingTime:
    """Execution time per method and account (webhook or application), summed over ten one-minute baskets.

    ``limit`` None: counted by nobody.
    """

    limit: float | None
    costs: dict[str, float] = field(default_factory=dict)
    default_cost: float = 0.2
    _baskets: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)

    def blocked(self, method: str, caller: str, now: float) -> bool:
        """Is this method over its limit, so that it must not run?"""
        return self.limit is not None and sum(self._current(method, caller, now).values()) > self.limit

    def charge(self, method: str, caller: str, now: float) -> tuple[float, int] | None:
        """Count one run; returns ``(operating, operating_reset_at)``, or None if nothing is counted."""
        if self.limit is None:
            return None
        baskets = self._current(method, caller, now)
        cost = self.costs.get(method.lower(), self.default_cost)
        minute = int(now // 60)
        if cost > FREE_SECONDS:
            baskets[minute] = baskets.get(minute, 0.0) + cost
        return round(sum(baskets.values()), 6), (min(baskets, default=minute) + _BASKETS) * 60

    def _current(self, method: str, caller: str, now: float) -> dict[int, float]:
        baskets = self._baskets.setdefault((method.lower(), caller), {})
        for minute in [minute for minute in baskets if minute <= now // 60 - _BASKETS]:
            del baskets[minute]
        return baskets
