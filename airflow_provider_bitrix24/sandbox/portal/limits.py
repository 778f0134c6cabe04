"""The two limits: the leaky bucket per source address, and the operating time per method in baskets of a minute."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Calls up to this many seconds are not counted.
FREE_SECONDS = 0.1
#: What a call takes of whose method nothing else is said.
USUAL_SECONDS = 0.2
#: How long a basket counts.
KEPT_SECONDS = 600


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
    """Execution time per method and account (webhook or application), summed over baskets.

    A basket begins with the first call in a minute that is counted, and is forgotten ten minutes later. ``limit`` None:
    counted by nobody. ``costs`` says how many seconds a call of a method takes; ``"*"`` means every other method.
    """

    limit: float | None
    costs: dict[str, float] = field(default_factory=dict)
    _baskets: dict[tuple[str, str], dict[float, float]] = field(default_factory=dict)

    def blocked(self, method: str, caller: str, now: float) -> bool:
        """Is this method over its limit, so that it must not run?"""
        return self.limit is not None and sum(self._current(method, caller, now).values()) > self.limit

    def charge(self, method: str, caller: str, now: float, *, run: str | None = None) -> tuple[float, int] | None:
        """Count a call of ``run``; returns ``(operating, operating_reset_at)`` of ``method``, None without a limit."""
        if self.limit is None:
            return None
        baskets = self._current(method, caller, now)
        cost = self.costs.get(run.lower(), self.costs.get("*", USUAL_SECONDS)) if run is not None else 0.0
        if cost > FREE_SECONDS:
            begin = next((begin for begin in baskets if begin // 60 == now // 60), now)
            baskets[begin] = baskets.get(begin, 0.0) + cost
        return round(sum(baskets.values()), 6), int(min(baskets, default=now)) + KEPT_SECONDS

    def _current(self, method: str, caller: str, now: float) -> dict[float, float]:
        baskets = self._baskets.setdefault((method.lower(), caller), {})
        for begin in [begin for begin in baskets if int(begin) + KEPT_SECONDS <= now]:
            del baskets[begin]
        return baskets
