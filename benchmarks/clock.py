"""Time that is skipped instead of waited for: one clock for the portal and for every client of a process.

It moves only when somebody waits, and nothing is shortened: a wait of five minutes is five minutes for all. Seconds of
this clock are what the tables call portal seconds. `install` comes before anything that is measured is imported.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

READY = 0.03
"""Real seconds in which a response that is on its way arrives."""
TICK = 1e-6
"""Seconds: less than this, seconds since the epoch cannot tell apart, and a wait would never be over."""


class SkippingClock:
    """Seconds since the epoch."""

    def __init__(self) -> None:
        self._now = time.time()

    def time(self) -> float:
        """Return the time."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Wait, without waiting."""
        self._now += max(seconds, 0.0)


CLOCK = SkippingClock()


def install() -> None:
    """Let this process live by the clock."""
    real = time.monotonic
    asyncio.BaseEventLoop.time = lambda _: real()  # type: ignore[method-assign]  # the portal's server has one, too
    time.time = time.monotonic = CLOCK.time
    time.sleep = CLOCK.skip  # type: ignore[assignment]


def run_async(coroutine: Coroutine[Any, Any, Any], is_busy: Callable[[], bool]) -> Any:
    """Run a coroutine; its waits are skipped when there is nothing else to do.

    :param is_busy: whether a request is on its way.
    """
    with asyncio.Runner(loop_factory=lambda: _SkippingLoop(_SkippingSelector(is_busy))) as runner:
        return runner.run(coroutine)


class _SkippingLoop(asyncio.SelectorEventLoop):
    def time(self) -> float:
        """Return the time."""
        return CLOCK.time()


class _SkippingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def __init__(self, is_busy: Callable[[], bool]) -> None:
        super().__init__()
        self._is_busy = is_busy

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return what is ready; if nothing comes, the time until the next wait ends has passed."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        quiet = 0
        while quiet < 2:
            events = super().select(READY)
            if events:
                return events
            quiet = 0 if self._is_busy() else quiet + 1
        CLOCK.skip(timeout + TICK)
        return []
