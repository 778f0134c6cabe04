"""One key in a journal of many, as one attempt sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.exceptions import PaymentInProgress
from airflow_provider_bitrix24.journal import Change, Loaded

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_bitrix24.at_most_once.record import CorruptEntry, Evidence, Record
    from airflow_provider_bitrix24.journal import Busy, Journal


class Claimed(Exception):
    """Another key has claimed the payment."""


class OneKey:
    """One key."""

    def __init__(self, journal: Journal, portal: str, key: str) -> None:
        self.journal, self.portal, self.key = journal, portal, key
        self.loaded = Loaded()

    def read(self) -> Record | None:
        self.loaded = self.journal.load(self.portal, [self.key])[self.key]
        if self.loaded.error is not None:
            raise self.loaded.error
        return self.loaded.record

    @property
    def busy(self) -> Busy | None:
        return self.loaded.busy

    @property
    def behind(self) -> bool:
        return self.loaded.behind

    @property
    def forgot(self) -> str:
        return self.loaded.forgot

    def open(self, record: Record) -> bool:
        return self._save(Change(record=record, opens=True)) == "saved"

    def write(self, record: Record, *, lease: float | None = None) -> None:
        self._save(Change(record=record, lease=lease))

    def _save(self, change: Change) -> str:
        saved = self.journal.save([change])[self.key]
        if saved.outcome == "overtaken":
            raise PaymentInProgress(saved.message)
        if saved.outcome == "claimed":
            raise Claimed(saved.claimed_by, saved.payment_id)
        return saved.outcome

    def release(self) -> None:
        self.journal.release(self.portal, [self.key])

    def observed_payment(self) -> int | None:
        return self.journal.late_replies(self.portal, [self.key]).get(self.key)

    def claimed_by_others(self, payment_ids: Collection[int]) -> Mapping[int, Evidence | None]:
        return self.journal.claims_of_others(self.portal, {self.key: payment_ids})[self.key]

    def unresolved_keys(self, subject: str) -> Mapping[str, Record | CorruptEntry]:
        return self.journal.unresolved_keys(self.portal, {self.key: subject})[self.key]
