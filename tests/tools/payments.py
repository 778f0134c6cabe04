"""The payment engine as tests script it: one engine for each call, one page of a journal for each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
from airflow_provider_bitrix24.at_most_once.payments import Payments
from airflow_provider_bitrix24.journal.protocol import Change

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.at_most_once.record import Record


class ScriptedPayments(Payments):
    """Payments whose portal, runner, clocks and journal a test scripts."""

    def __init__(
        self, client: Any, run: Any, clock: Any, log: Any, *, check: Callable[[], None] | None = None, **options: Any
    ) -> None:
        self.check = check
        super().__init__(PaymentEngine(client, run, clock, log, check=self._check, **options))

    def _check(self) -> None:
        if self.check is not None:
            self.check()

    @property
    def engine(self) -> PaymentEngine:
        return self._engine


class JournalPage:
    """One key in a journal, as another attempt, or a person at a terminal, reads and writes it."""

    def __init__(self, journal: Any, portal: str, key: str) -> None:
        self.journal, self.portal, self.key = journal, portal, key

    def read(self) -> Record | None:
        loaded = self.journal.load(self.portal, [self.key])[self.key]
        if loaded.error is not None:
            raise loaded.error
        record: Record | None = loaded.record
        return record

    def write(self, record: Record, *, lease: float | None = None) -> str:
        outcome: str = self.journal.save([Change(record=record, lease=lease)])[self.key].outcome
        return outcome
