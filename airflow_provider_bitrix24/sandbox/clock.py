"""Where the portal's time comes from: the machine, or a test that moves it by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Anything that tells epoch seconds."""

    def time(self) -> float:
        """Epoch seconds."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def time(self) -> float:
        """Epoch seconds, now."""
        return time.time()


class ManualClock:
    """A clock that stands still until it is advanced."""

    def __init__(self, start: float = 1_763_800_000.0) -> None:
        self._now = start

    def time(self) -> float:
        """Epoch seconds, as far as somebody has advanced them."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass; time never runs backwards."""
        if seconds < 0:
            raise ValueError(f"a clock cannot be advanced by {seconds} seconds")
        self._now += seconds
