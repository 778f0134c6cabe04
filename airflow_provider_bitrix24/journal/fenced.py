"""A SQL journal with a copy in the task state: Airflow refuses the copy of an attempt that it has given up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_bitrix24.journal.sql import SqlJournal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_provider_bitrix24.at_most_once.record import Record
    from airflow_provider_bitrix24.journal.protocol import Change, Loaded, Saved
    from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
    from airflow_provider_bitrix24.sql import Database


class FencedJournal(SqlJournal):
    """A SQL journal and the task state, which is written before each row.

    :param fence: the task state of this task.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        conn_id: str = "YOUR_JOURNAL",
        host: str | None = None,
        *,
        fence: TaskStateJournal,
    ) -> None:
        super().__init__(database, owner, conn_id, host)
        self._fence = fence

    def load(self, portal: str, keys: Collection[str]) -> Mapping[str, Loaded]:
        """Return the rows; the copy where the database does not know what was sent, or its outcome."""
        loaded = super().load(portal, keys)
        unsure = [key for key, one in loaded.items() if one.error is None and _may_be_behind(one.record)]
        noted = self._fence.load(portal, unsure) if unsure else {}
        return {key: _completed(one, noted[key]) if key in noted else one for key, one in loaded.items()}

    def save(self, changes: Sequence[Change]) -> Mapping[str, Saved]:
        """Save the copies, then the rows of all that Airflow has not refused."""
        copies = [replace(change, record=change.record.copied_from(self.name)) for change in changes]
        fenced = self._fence.save(copies)  # rule: fence before SQL
        refused = {key: saved for key, saved in fenced.items() if saved.outcome == "overtaken"}
        self.keep_late_replies([change for change in changes if change.record.key in refused])
        left = [change for change in changes if change.record.key not in refused]
        return {**refused, **super().save(left)}


def _may_be_behind(record: Record | None) -> bool:
    """Whether the task state may know more: the database was not used before, or was away when a reply was to be saved.

    An earlier attempt may also have had another database.
    """
    return record is None or record.nothing_executed or record.pending_send() is not None


def _completed(loaded: Loaded, noted: Loaded) -> Loaded:
    if noted.error is not None:
        return replace(loaded, error=noted.error)
    record = _newer(loaded.record, noted.record)
    return replace(loaded, record=record, behind=record is not loaded.record, forgot=noted.forgot)


def _newer(record: Record | None, noted: Record | None) -> Record | None:
    """The copy, if it knows what was sent or its outcome; it does not know what people have decided since."""
    if noted is None or noted.nothing_executed:
        return record
    if record is None:
        return noted
    if record.pending_send() is not None:
        return noted if noted.continues(record) else record  # rule: a reply that only the task state knows
    decided_since = len(record.decisions) > len(noted.decisions) and {*noted.sends} <= {*record.sends}
    return record if decided_since else noted
