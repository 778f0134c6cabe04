"""A clock for tests in one process that advances instead of sleeping; client, sandbox and journal database use it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import sqlalchemy

from airflow_provider_bitrix24.drivers import in_flight, with_requests
from airflow_provider_bitrix24.operators import engines, list_base
from airflow_provider_bitrix24.sandbox import clock as sandbox_clock
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    import pytest


class SkippingClock:
    """The machine's time; sleeping takes no time, and advances the clock."""

    def __init__(self) -> None:
        self.slept = 0.0

    def time(self) -> float:
        return time.time() + self.slept

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def skip_waits(monkeypatch: pytest.MonkeyPatch) -> SkippingClock:
    """Replace the clocks of client, sandbox and journal database by such a clock until the end of the test."""
    clock = SkippingClock()
    for module in (engines, in_flight, list_base, sandbox_clock, with_requests):
        monkeypatch.setattr(module, "time", clock)
    now = property(lambda database: sqlalchemy.literal(clock.time(), sqlalchemy.Float(53)))
    monkeypatch.setattr(Database, "now", now)
    return clock
