"""Where the command line finds entries, and puts decisions: a SQL database, or task state behind Airflow's API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from airflow_provider_bitrix24.at_most_once.record import CorruptEntry, Record, read_or_corrupt
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, PaymentInProgress
from airflow_provider_bitrix24.journal.protocol import Change
from airflow_provider_bitrix24.journal.task_state import with_decisions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bitrix24.at_most_once.record import Decision
    from airflow_provider_bitrix24.journal.airflow_api import AirflowApi
    from airflow_provider_bitrix24.journal.sql import SqlJournal
    from airflow_provider_bitrix24.journal.terminal import TaskName

_ENDED: Final = ("failed", "success", "skipped", "upstream_failed", "removed", None)
"""States of a task instance in which no attempt is at work, and none begins by itself."""


@dataclass
class SqlEntry:
    """A row, as it was when it was found."""

    entry: Record | CorruptEntry
    journal: SqlJournal

    def decide(self, decision: Decision) -> tuple[Record, str]:
        """Put a decision about it into the journal, by the same compare-and-set as the attempts write.

        :return: the record with the decision, and what a person has to do now.
        :raises PaymentInProgress: somebody has written since, or is at work on the key.
        :raises Bitrix24ConfigError: nobody can read the entry.
        """
        record = readable(self.entry)
        loaded = self.journal.load(record.portal, [record.key])[record.key]
        if loaded.busy is not None:
            raise PaymentInProgress(
                f"{loaded.busy.owner} is at work on {record.key!r}, for {loaded.busy.seconds:.0f} s more at most. "
                "Nothing was changed. Look again then."
            )
        if loaded.record != record:
            raise _changed(record)
        decided = record.decided(decision)
        if decision.what == "abandon":
            # It needs no portal and no attempt, and ends what the key may have claimed wrongly.
            decided = decided.abandoned()
            todo = "It is abandoned: nothing is sent for this key any more, unless somebody decides again."
        else:
            todo = "It is in the journal. Clear the task now: it reads the portal and carries it out."
        saved = self.journal.save([Change(record=decided, lease=0)])[record.key]
        if saved.outcome != "saved":
            raise PaymentInProgress(saved.message or f"The key {saved.claimed_by!r} has claimed its payment.")
        return decided, todo


@dataclass
class SqlEntrySource:
    """A SQL journal."""

    journal: SqlJournal

    def entries(self, key: str | None = None, *, part: bool = False) -> Iterator[SqlEntry]:
        """All rows, the last ones first.

        :param key: only those of this key.
        :param part: the key may go on, before or after what is given.
        """
        for entry in self.journal.entries(key, part=part):
            # To a database, capitals may be the same as small letters.
            if key is None or _fits(entry.key, key, part=part):
                yield SqlEntry(entry, self.journal)


@dataclass
class TaskEntry:
    """One record in the task state of a task instance, as it was when it was found."""

    entry: Record | CorruptEntry
    task: TaskName
    api: AirflowApi

    def decide(self, decision: Decision) -> tuple[Record, str]:
        """Put a decision about it beside the documents: an attempt that has begun meanwhile loses nothing.

        The same as :meth:`SqlEntry.decide` otherwise.
        """
        record = readable(self.entry)
        if record not in list(_read(self.api, self.task)):
            raise _changed(record)
        state = self.api.state(self.task)
        # The task may work on another key when it comes across it.
        decision = decision.for_key(record.key)
        self.api.decide(self.task, decision)
        todo = "It is in the task state. Clear the task now: it reads the portal and carries it out."
        if state not in _ENDED:
            todo += (
                f" The task is {state}: an attempt that has begun already does not see the decision. If it changes "
                "anything, the decision no longer applies, and the journal says so."
            )
        return record.decided(decision), todo


@dataclass
class TaskEntrySource:
    """Task state of one run, or of one task in it."""

    api: AirflowApi
    dag_id: str
    run_id: str
    task_id: str | None
    map_index: int | None
    region: tuple[str | None, int | None] = (None, None)

    def entries(self, key: str | None = None, *, part: bool = False) -> Iterator[TaskEntry]:
        """The records of the task instances; which, as in :meth:`SqlEntrySource.entries`.

        :raises Bitrix24ConfigError: the run has no such task.
        """
        tasks = list(self.api.tasks(self.dag_id, self.run_id))
        if self.task_id is not None and self.task_id not in {task.task_id for task in tasks}:
            raise Bitrix24ConfigError(
                f"The run {self.run_id!r} of the DAG {self.dag_id!r} has no task {self.task_id!r}."
            )
        wanted = (self.task_id, self.map_index, *self.region)
        for task in tasks:
            place = (task.task_id, task.map_index, *(task.region or (None, None)))
            if all(want in (None, one) for want, one in zip(wanted, place, strict=True)):
                for entry in _read(self.api, task):
                    if key is None or _fits(entry.key, key, part=part):
                        yield TaskEntry(entry, task, self.api)


EntryHandle: TypeAlias = SqlEntry | TaskEntry
EntrySource: TypeAlias = SqlEntrySource | TaskEntrySource


def _read(api: AirflowApi, task: TaskName) -> Iterator[Record | CorruptEntry]:
    """What a task instance has noted."""
    where = f"the Storage tab of {task}"
    decisions: list[Any] | None = None
    for key, document in api.documents(task):
        found = read_or_corrupt(document, portal="", key=key or str(task), where=where)
        if isinstance(found, Record):
            decisions = api.decisions(task) if decisions is None else decisions
            try:
                found = with_decisions(found, decisions, where=where)
            except Bitrix24ConfigError as error:
                text = json.dumps(decisions)
                found = CorruptEntry(portal=found.portal, key=found.key, why=str(error), text=text)
        yield found


def _fits(found: str, key: str, *, part: bool) -> bool:
    return found == key or (part and (found.startswith(key) or found.endswith(key)))


def readable(entry: Record | CorruptEntry) -> Record:
    """The record, if it can be read.

    :raises Bitrix24ConfigError: it cannot.
    """
    if isinstance(entry, CorruptEntry):
        raise Bitrix24ConfigError(entry.why)
    return entry


def _changed(record: Record) -> PaymentInProgress:
    return PaymentInProgress(
        f"Somebody has written to {record.key!r} in the meantime. Nothing was changed. Look at it again."
    )
