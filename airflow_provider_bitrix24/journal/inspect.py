"""Where the command line finds entries, and puts decisions: a SQL database, or task state behind Airflow's API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

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


class EntryHandle(Protocol):
    """One entry, as it was when it was found."""

    entry: Record | CorruptEntry

    def decide(self, decision: Decision) -> tuple[Record, str]:
        """Put a decision about this entry into the journal.

        :return: the record with the decision, and what a person has to do now.
        :raises PaymentInProgress: somebody has written since, or is at work on the key.
        :raises Bitrix24ConfigError: nobody can read the entry.
        """


class EntrySource(Protocol):
    """A place with entries."""

    def entries(self, key: str | None = None, *, part: bool = False) -> Iterator[EntryHandle]:
        """All entries, the last ones first.

        :param key: only those of this key.
        :param part: the key may go on, before or after what is given.
        """


@dataclass
class SqlEntry:
    """A row."""

    entry: Record | CorruptEntry
    journal: SqlJournal

    def decide(self, decision: Decision) -> tuple[Record, str]:
        """Write by the same compare-and-set as the attempts do."""
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


class SqlEntrySource:
    """A SQL journal."""

    def __init__(self, journal: SqlJournal) -> None:
        self._journal = journal

    def entries(self, key: str | None = None, *, part: bool = False) -> Iterator[SqlEntry]:
        """All rows that are wanted."""
        for entry in self._journal.entries(key, part=part):
            # To a database, capitals may be the same as small letters.
            if key is None or _fits(entry.key, key, part=part):
                yield SqlEntry(entry, self._journal)


@dataclass
class TaskEntry:
    """One record in the task state of a task instance."""

    entry: Record | CorruptEntry
    task: TaskName
    api: AirflowApi

    def decide(self, decision: Decision) -> tuple[Record, str]:
        """Write beside the documents: an attempt that has begun meanwhile loses nothing."""
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
                "anything, the decision does not stand any more, and the journal says so."
            )
        return record.decided(decision), todo


class TaskEntrySource:
    """Task state of one run, or of one task in it."""

    def __init__(
        self,
        api: AirflowApi,
        dag_id: str,
        run_id: str,
        task_id: str | None,
        map_index: int | None,
        region: tuple[str | None, int | None] = (None, None),
    ) -> None:
        self._api = api
        self._run = dag_id, run_id
        self._task_id = task_id
        self._map_index = map_index
        self._region = region

    def entries(self, key: str | None = None, *, part: bool = False) -> Iterator[TaskEntry]:
        """The records of the task instances.

        :raises Bitrix24ConfigError: the run has no such task.
        """
        tasks = list(self._api.tasks(*self._run))
        if self._task_id is not None and self._task_id not in {task.task_id for task in tasks}:
            dag_id, run_id = self._run
            raise Bitrix24ConfigError(f"The run {run_id!r} of the DAG {dag_id!r} has no task {self._task_id!r}.")
        for task in tasks:
            for entry in _read(self._api, task) if self._is_wanted(task) else ():
                if key is None or _fits(entry.key, key, part=part):
                    yield TaskEntry(entry, task, self._api)

    def _is_wanted(self, task: TaskName) -> bool:
        region, index = task.region or (None, None)
        return (
            self._task_id in (None, task.task_id)
            and self._map_index in (None, task.map_index)
            and self._region[0] in (None, region)
            and self._region[1] in (None, index)
        )


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
