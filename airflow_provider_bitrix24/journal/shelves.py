"""Where the command line finds entries, and puts decisions: a SQL database, or task state behind Airflow's API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, PaymentInProgress
from airflow_provider_bitrix24.journal.entry import Entry, Unreadable, read_or_say
from airflow_provider_bitrix24.journal.task_state import heard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bitrix24.journal import Page
    from airflow_provider_bitrix24.journal.airflow_api import AirflowApi
    from airflow_provider_bitrix24.journal.commands import TaskName
    from airflow_provider_bitrix24.journal.database import SqlJournal
    from airflow_provider_bitrix24.journal.entry import Decision

_ENDED: Final = ("failed", "success", "skipped", "upstream_failed", "removed", None)
"""States of a task instance in which no attempt is at work, and none begins by itself."""


class Drawer(Protocol):
    """One entry, as it was when it was found."""

    entry: Entry | Unreadable

    def decide(self, decision: Decision) -> tuple[Entry, str]:
        """Put a decision about this entry into the journal.

        :return: the entry with the decision, and what a person has to do now.
        :raises PaymentInProgress: somebody has written since, or is at work on the key.
        :raises Bitrix24ConfigError: nobody can read the entry.
        """


class Shelf(Protocol):
    """A place with entries."""

    def drawers(self, key: str | None = None, *, part: bool = False) -> Iterator[Drawer]:
        """All entries, the last ones first.

        :param key: only those of this key.
        :param part: the key may go on, before or after what is given.
        """


@dataclass
class SqlDrawer:
    """A row."""

    entry: Entry | Unreadable
    page: Page

    def decide(self, decision: Decision) -> tuple[Entry, str]:
        """Write by the same compare-and-set as the attempts do."""
        entry = readable(self.entry)
        found = self.page.read()
        if self.page.busy is not None:
            raise PaymentInProgress(
                f"{self.page.busy.owner} is at work on {entry.key!r}, for {self.page.busy.seconds:.0f} s more at most. "
                "Nothing was changed. Look again then."
            )
        if found != entry:
            raise _changed(entry)
        decided = entry.decide(decision)
        if decision.what == "give_up":
            # It needs no portal and no attempt, and ends what the key may have claimed wrongly.
            decided = decided.give_up()
            todo = "It is given up: nothing is sent for this key any more, unless somebody decides again."
        else:
            todo = "It is in the journal. Clear the task now: it reads the portal and carries it out."
        self.page.write(decided, hold=0)
        return decided, todo


class SqlShelf:
    """A SQL journal."""

    def __init__(self, journal: SqlJournal) -> None:
        self._journal = journal

    def drawers(self, key: str | None = None, *, part: bool = False) -> Iterator[Drawer]:
        """All rows that are wanted."""
        for entry in self._journal.entries(key, part=part):
            # To a database, capitals may be the same as small letters.
            if key is None or _fits(entry.key, key, part=part):
                yield SqlDrawer(entry, self._journal.page(entry.portal, entry.key))


@dataclass
class TaskDrawer:
    """The document of a task instance."""

    entry: Entry | Unreadable
    task: TaskName
    api: AirflowApi

    def decide(self, decision: Decision) -> tuple[Entry, str]:
        """Write beside the document: an attempt that has begun meanwhile loses nothing."""
        entry = readable(self.entry)
        found = _read(self.api, self.task)
        if found != entry:
            raise _changed(entry)
        state = self.api.state(self.task)
        # The task may work on another key when it comes across it.
        decision = decision.but(key=entry.key)
        self.api.decide(self.task, decision)
        todo = "It is in the task state. Clear the task now: it reads the portal and carries it out."
        if state not in _ENDED:
            todo += (
                f" The task is {state}: an attempt that has begun already does not see the decision. If it changes "
                "anything, the decision does not stand any more, and the journal says so."
            )
        return entry.decide(decision), todo


class TaskShelf:
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

    def drawers(self, key: str | None = None, *, part: bool = False) -> Iterator[Drawer]:
        """The documents of the task instances.

        :raises Bitrix24ConfigError: the run has no such task.
        """
        tasks = list(self._api.tasks(*self._run))
        if self._task_id is not None and self._task_id not in {task.task_id for task in tasks}:
            dag_id, run_id = self._run
            raise Bitrix24ConfigError(f"The run {run_id!r} of the DAG {dag_id!r} has no task {self._task_id!r}.")
        for task in tasks:
            region, index = task.region or (None, None)
            wanted = (
                self._task_id in (None, task.task_id)
                and self._map_index in (None, task.map_index)
                and self._region[0] in (None, region)
                and self._region[1] in (None, index)
            )
            entry = _read(self._api, task) if wanted else None
            if entry is not None and (key is None or _fits(entry.key, key, part=part)):
                yield TaskDrawer(entry, task, self._api)


def _read(api: AirflowApi, task: TaskName) -> Entry | Unreadable | None:
    document = api.document(task)
    if document is None:
        return None
    where = f"the Storage tab of {task}"
    found = read_or_say(document, portal="", key=str(task), where=where)
    if isinstance(found, Unreadable):
        return found
    decisions = api.decisions(task)
    try:
        return heard(found, decisions, where=where)
    except Bitrix24ConfigError as error:
        return Unreadable(portal=found.portal, key=found.key, why=str(error), text=json.dumps(decisions))


def _fits(found: str, key: str, *, part: bool) -> bool:
    return found == key or (part and (found.startswith(key) or found.endswith(key)))


def readable(entry: Entry | Unreadable) -> Entry:
    """The entry, if it can be read.

    :raises Bitrix24ConfigError: it cannot.
    """
    if isinstance(entry, Unreadable):
        raise Bitrix24ConfigError(entry.why)
    return entry


def _changed(entry: Entry) -> PaymentInProgress:
    return PaymentInProgress(f"Somebody has written to {entry.key!r} meanwhile. Nothing was changed. Look at it again.")
