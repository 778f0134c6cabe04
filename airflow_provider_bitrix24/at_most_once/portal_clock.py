"""The portal's clock, as well as two clocks of ours that may be stopped or set can tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pendulum

    from airflow_provider_bitrix24.at_most_once.next_step import Reading


class Clock(Protocol):
    """Both clocks; the module :mod:`time` is one."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds of a clock that nobody sets."""


@dataclass(frozen=True, slots=True)
class _Shown:
    at: float
    told: bool
    left: Reading
    came: Reading


class PortalClock:
    """The portal's clock between a request that left and an answer that came; nobody knows when in between it was.

    :param clock: our clocks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: _Shown | None = None

    def reading(self) -> Reading:
        """Our clocks now."""
        return self._clock.monotonic(), self._clock.time()

    def set(self, at: pendulum.DateTime | None, left: Reading) -> None:
        """Take what the portal's clock showed in the answer that has just come.

        :param at: what it showed; None stands for our own clock.
        :param left: our clocks before the request left.
        """
        came = self.reading()
        self._last = _Shown(came[1] if at is None else at.timestamp(), at is not None, left, came)

    @property
    def is_told(self) -> bool:
        """Whether the portal has told it, so that it is not only our own clock."""
        return self._shown.told

    @property
    def told(self) -> float | None:
        """What the portal told last; None if it told no time."""
        return self._shown.at if self._shown.told else None

    @property
    def at_the_latest(self) -> float:
        """What it shows now, later rather than earlier."""
        shown, (monotonic, wall) = self._shown, self.reading()
        # rule: the portal's clock goes on while it replies
        return shown.at + max(monotonic - shown.left[0], wall - shown.left[1])

    @property
    def at_the_earliest(self) -> float:
        """What it shows now, earlier rather than later."""
        shown, (monotonic, wall) = self._shown, self.reading()
        return shown.at + min(monotonic - shown.came[0], wall - shown.came[1])

    @property
    def _shown(self) -> _Shown:
        if self._last is None:
            raise AssertionError("the portal's clock is used before the portal was read")
        return self._last
