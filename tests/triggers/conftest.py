"""A connection to the sandbox whose waits are short, and a clock of the polls that passes at once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.triggers import shared_poll
from tests.triggers.watching import Store

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def portal(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    connection = json.loads(bitrix24_sandbox.connection)
    connection["extra"] = {"allow_http": True, "connect_timeout": 5, "read_timeout": 60, "rate_limit_wait": 1}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    return bitrix24_sandbox


class FastClock(shared_poll.Clock):
    """Each wait of a poll passes at once, and is written down, as soon as all running triggers wait."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.waits: list[float] = []
        self.running = 0
        self.before_wait: Callable[[float], None] = lambda seconds: None

    def now(self) -> float:
        return self.time

    async def wait(self, seconds: float, wake: asyncio.Event) -> None:
        while _waiting() < self.running:
            await asyncio.sleep(0.001)
            if wake.is_set():
                return
        if seconds >= 3600:  # nobody waits
            await wake.wait()
            return
        self.before_wait(seconds)
        self.waits.append(seconds)
        self.time += seconds


def _waiting() -> int:
    """How many triggers wait for their polls."""
    seats = [seat for polls in shared_poll._polls.values() for poll in polls.values() for seat in poll.seats]
    return sum(seat.waiting is not None and not seat.waiting.done() for seat in seats)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FastClock:
    fast = FastClock()
    monkeypatch.setattr(shared_poll, "clock", fast)
    return fast


@pytest.fixture
def store() -> Store:
    return Store()
