"""Learn from the portal's replies how long each method has worked, and calculate when the next calls of it fit.

Bitrix24 adds up the working time of each method and credential in minutes, and blocks a method whose last ten minutes
reach a limit. A reply says the sum (``operating``) and when the oldest minute leaves it (``operating_reset_at``). It is
disputed whether the commands of a batch count for their own methods or for ``batch``; here both are learned, and the
one that has less left decides. This module has no clock and no file: all times are passed, by the portal's clock.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STANDARD_LIMIT: Final = 480.0
"""Seconds of work in ten minutes, as documented; see https://apidocs.bitrix24.com/limits.html"""
WINDOW: Final = 600.0
"""Seconds for which work counts."""
_MINUTES: Final = 10
_MINUTE: Final = 60.0
_HEADROOM: Final = 0.02
"""Share of the limit that is left free: a call may take longer than the ones before it."""
_SMALLEST_LIMIT: Final = 0.1
"""Share of the limit: a portal that has refused with less than that has not refused because of the sum."""
_LONGEST_CALL: Final = 60.0
"""Seconds: the portal ends a request then."""
_NOT_COUNTED: Final = 0.1
"""Seconds: shorter calls do not count."""
_MARGIN: Final = 1.0
"""Seconds to wait after the portal's own time: it tells whole seconds."""
_LONGEST: Final = WINDOW + _MINUTE + _MARGIN
"""Seconds: a report that says that work counts, or that calls are refused, for longer comes from a wrong clock."""
ANY_NUMBER: Final = 1_000_000_000
"""How many calls fit where nothing bounds them."""
BATCH: Final = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """What one reply says of the working time of one method."""

    method: str
    at: float
    """When the reply came: seconds since the epoch, by the portal's clock, as all times here."""
    operating: float | None = None
    """Seconds that the method has worked in the last ten minutes; None if the portal does not say."""
    resets_at: float | None = None
    """When the oldest of them leave."""
    calls: int = 1
    """How many calls of the method the reply is about."""
    took: float = 0.0
    """Seconds that one call has taken; 0 if the reply does not say."""
    refused: bool = False
    """Whether the portal has refused a call because the limit is reached."""


@dataclass(frozen=True, slots=True)
class MethodUsage:
    """What is known of the working time of one method."""

    minutes: tuple[tuple[int, float], ...] = ()
    """Seconds of work by minute, the oldest first."""
    cost: float = 0.0
    """Seconds that one call takes; 0 if it is not known."""
    phase: float = 0.0
    """When a minute begins, in seconds after a whole one."""
    at: float = 0.0
    """When the portal was heard last."""
    resets_at: float | None = None
    """When the oldest seconds leave the sum, as the portal said last."""
    blocked_until: float = 0.0
    """Until when the portal refuses, after it has refused."""
    limit: float | None = None
    """The sum at which the portal has refused."""
    grown: float = 0.0
    """Seconds that the last reply has added; 0 if the one before it is too old to tell."""

    def used(self, now: float) -> float:
        """Seconds of work that count at a time."""
        return sum(seconds for minute, seconds in self.minutes if _is_ahead(self._leaves(minute), now))

    def blocked(self, now: float) -> bool:
        """Whether the portal refuses, because it has refused."""
        return _is_ahead(self.blocked_until, now)

    def room(self, limit: float, now: float) -> float:
        """Seconds of work that are left."""
        if self.blocked(now):
            return 0.0
        return max(0.0, self.cap(limit) - self.used(now))

    def cap(self, limit: float) -> float:
        """Seconds of work that are planned with in ten minutes."""
        learned = self.limit or 0.0
        return (1 - _HEADROOM) * (min(limit, learned) if learned >= _SMALLEST_LIMIT * limit else limit)

    def calls(self, cost: float, limit: float, now: float) -> int:
        """Return how many calls fit. One that takes longer than all of the time fits when nothing else counts."""
        if self.blocked(now):
            return 0
        room = self.room(limit, now)
        if not cost:
            return ANY_NUMBER if room > 0 else 0
        return max(int(min(room / cost, ANY_NUMBER)), int(self.used(now) == 0))

    def free_at(self, seconds: float, limit: float, now: float) -> float:
        """Return when so many seconds of work fit; more than fit at all wait until nothing counts."""
        used, at = self.used(now), self.blocked_until if self.blocked(now) else now
        for minute, spent in self.minutes:
            if 0 < self.cap(limit) - used >= seconds:  # the same difference as in `calls`: floats round
                break
            leaves = self._leaves(minute)
            if _is_ahead(leaves, now):
                used -= spent
                at = max(at, leaves + _MARGIN)
        return at

    def after(self, seen: UsageReport) -> MethodUsage:
        """What is known after a reply."""
        if self.at and seen.at < self.at - WINDOW:
            # rule: a clock that was far ahead is forgotten
            return MethodUsage(cost=self.cost, limit=self.limit).after(seen)
        resets_at = self.resets_at if seen.resets_at is None else seen.resets_at
        at, used = max(self.at, seen.at), self.used(seen.at)
        heard = self.at > 0 and seen.at - self.at <= _MINUTE
        if seen.refused:
            until = resets_at if resets_at is not None and _is_ahead(resets_at, at) else at + _MINUTE
            limit = used if heard and used > 0 else self.limit
            return replace(self, at=at, blocked_until=until + _MARGIN, limit=limit)
        phase = self.phase if resets_at is None else resets_at % _MINUTE
        known = replace(self, phase=phase, at=at, resets_at=resets_at, blocked_until=0.0)
        took = seen.took
        if seen.operating is not None:
            grown = seen.operating - used
            minutes = known._with(grown, seen.at, self.at)
            known = replace(known, minutes=minutes, grown=min(max(0.0, grown), _LONGEST_CALL) if heard else 0.0)
            # Others call the method, too: the sum tells what a call takes only if the call itself does not.
            took = took if took > _NOT_COUNTED else known.grown / seen.calls
        return known if took <= 0 else replace(known, cost=(known.cost + took) / 2 if known.cost else took)

    def _with(self, grown: float, now: float, before: float) -> tuple[tuple[int, float], ...]:
        """The minutes after the sum has grown since the portal was heard before, or is smaller than it was known."""
        spent = {minute: seconds for minute, seconds in self.minutes if _is_ahead(self._leaves(minute), now)}
        if grown >= 0:
            # What others have used up since then may be of any minute since.
            last = self._minute(now)
            first = min(max(self._minute(before), self._first(now)), last)
            for minute in range(first, last + 1):
                spent[minute] = spent.get(minute, 0.0) + grown / (last - first + 1)
        else:
            for minute in sorted(spent):
                less = min(spent[minute], -grown)
                spent[minute] -= less
                grown += less
        return tuple((minute, round(spent[minute], 3)) for minute in sorted(spent) if spent[minute] > 0)

    def _first(self, now: float) -> int:
        """The first minute that can count."""
        oldest = self._minute(now) - _MINUTES + 1
        return oldest if self.resets_at is None else max(oldest, self._minute(self.resets_at - WINDOW))

    def _minute(self, at: float) -> int:
        return math.floor((at - self.phase) / _MINUTE)

    def _leaves(self, minute: int) -> float:
        return (minute + _MINUTES) * _MINUTE + self.phase

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "minutes": [list(pair) for pair in self.minutes],
            "cost": round(self.cost, 4),
            "phase": self.phase,
            "at": self.at,
            "resets_at": self.resets_at,
            "blocked_until": self.blocked_until,
            "limit": self.limit,
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """What :meth:`as_dict` made.

        :raises ValueError: it is something else.
        :raises TypeError: the same.
        :raises KeyError: the same.
        """
        resets_at, limit = kept["resets_at"], kept["limit"]
        return cls(
            minutes=tuple((int(minute), float(seconds)) for minute, seconds in kept["minutes"]),
            cost=float(kept["cost"]),
            phase=float(kept["phase"]),
            at=float(kept["at"]),
            resets_at=None if resets_at is None else float(resets_at),
            blocked_until=float(kept["blocked_until"]),
            limit=None if limit is None else float(limit),
        )


def _is_ahead(moment: float, now: float) -> bool:
    """Whether a moment is in the future, and not so far that only a wrong clock can have told it."""
    return now < moment <= now + _LONGEST


Usages = dict[str, MethodUsage]
"""What is known of each method of one credential."""


def learn(usages: Usages, seen: Iterable[UsageReport]) -> Usages:
    """Return what is known after some replies."""
    known = dict(usages)
    for one in seen:
        known[one.method] = known.get(one.method, MethodUsage()).after(one)
    return known


def newest_by_method(one: Usages, other: Usages) -> Usages:
    """Return for each method what the portal said last: each reply says the whole sum."""
    either = one | other
    return {
        name: max(one.get(name, use), other.get(name, use), key=lambda seen: seen.at) for name, use in either.items()
    }


def to_text(clock_offset: float | None, usages: Usages) -> str:
    """Write what is known of a credential as JSON.

    :param clock_offset: seconds by which the portal's clock is ahead of the one where the text is kept.
    """
    return json.dumps({"clock_offset": clock_offset, "methods": {name: use.as_dict() for name, use in usages.items()}})


def from_text(text: str | bytes) -> tuple[float | None, Usages]:
    """Read what :func:`to_text` has written; nothing is known if the text is damaged."""
    try:
        kept = json.loads(text, parse_constant=_no_constant)
        clock_offset = None if kept["clock_offset"] is None else float(kept["clock_offset"])
        return clock_offset, {str(method): MethodUsage.of(use) for method, use in kept["methods"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None, {}


def _no_constant(name: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(name)


@dataclass(slots=True)
class WorkingTime:
    """The working time of one credential: what is known, and what the other tasks do not know yet.

    :param limit: seconds of work in ten minutes; 0 if nothing is planned with it.
    """

    limit: float = STANDARD_LIMIT
    usages: Usages = field(default_factory=dict)
    """By method."""
    unshared: list[UsageReport] = field(default_factory=list)
    """What was learned since it was shared last."""
    known_clock_offset: float | None = None
    """Seconds by which the portal's clock is ahead of ours; None before the portal has said its time."""

    @property
    def clock_offset(self) -> float:
        """Seconds by which the portal's clock is ahead of ours, as far as it is known."""
        return self.known_clock_offset or 0.0

    def learn(self, *seen: UsageReport) -> None:
        """Take over what a reply says."""
        self.usages = learn(self.usages, seen)
        self.unshared.extend(seen)

    def learn_batch(self, methods: Sequence[str], seen: Sequence[UsageReport]) -> None:
        """Take over what a batch says of its commands.

        :param methods: of the commands.
        :param seen: what it says of them. If the portal counts their work for the batch, it says no sum.
        """
        billed = self.usages.get(BATCH)
        share = billed.grown / len(methods) if billed is not None else 0.0
        counted = {one.method for one in seen if one.operating is not None}
        self.learn(*seen)
        if billed is not None and share:
            self.learn(*(UsageReport(method=one, at=billed.at, took=share) for one in set(methods) - counted))

    def resets_at(self, method: str) -> float | None:
        """When the oldest working time of a method leaves, as far as the portal has said."""
        return self.usages[method].resets_at if method in self.usages else None

    def cost(self, methods: Sequence[str]) -> float:
        """Seconds of work that one call of each method takes; 0 if none is known."""
        return sum(self.usages[method].cost for method in methods if method in self.usages)

    def fits(self, methods: Sequence[str], now: float) -> int:
        """Return how many times all methods can be called now."""
        at = now + self.clock_offset
        return min((use.calls(cost, self.limit, at) for use, cost in self._uses(methods)), default=ANY_NUMBER)

    def describe(self, method: str, now: float) -> str:
        """Say how much of its time a method has used up, for messages."""
        use = min(
            (use for use, _ in self._uses((method,))), key=lambda use: use.room(self.limit, now + self.clock_offset)
        )
        if use.blocked(now + self.clock_offset):
            return "the portal has refused it a moment ago"
        return f"{use.used(now + self.clock_offset):.0f} of {self.limit:.0f} s in ten minutes are used up"

    def wait(self, methods: Sequence[str], now: float) -> float:
        """Return the seconds until all methods can be called once more."""
        at = now + self.clock_offset
        wait = max((use.free_at(cost, self.limit, at) - at for use, cost in self._uses(methods)), default=0.0)
        # A wait of nothing would be repeated without end.
        return min(wait, WINDOW + _MARGIN) if wait > 0 or self.fits(methods, now) else _MARGIN

    def wait_for_all(self, methods: Sequence[str], count: int, now: float) -> float:
        """Return the seconds for which the limit delays so many calls at least."""
        longest = 0.0
        for use, cost in self._uses(methods):
            work, room = count * cost, use.room(self.limit, now + self.clock_offset)
            longest = max(longest, WINDOW * math.ceil(max(0.0, work - room) / use.cap(self.limit)))
        return longest

    def used_part(self, methods: Sequence[str], count: int) -> float:
        """Return the largest part of a limit that so many calls use up: 1.0 for all of it."""
        return max((count * cost / use.cap(self.limit) for use, cost in self._uses(methods)), default=0.0)

    def _uses(self, methods: Sequence[str]) -> list[tuple[MethodUsage, float]]:
        """What has to have time left, and how much of it one call of all methods takes."""
        if not self.limit:
            return []
        counted = ((self.usages[method], many) for method, many in Counter(methods).items() if method in self.usages)
        uses = [(use, use.cost * many) for use, many in counted]
        batch = self.usages.get(BATCH)
        return [*uses, (batch, self.cost(methods))] if batch is not None and batch.minutes else uses
