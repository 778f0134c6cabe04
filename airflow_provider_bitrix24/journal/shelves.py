"""Where the command line finds entries, and puts decisions: a SQL database, or task state behind Airflow's API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from airflow_provider_bitrix24.exceptions import PaymentInProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_bitrix24.journal import Page
    from airflow_provider_bitrix24.journal.airflow_api import AirflowApi, TaskName
    from airflow_provider_bitrix24.journal.database import SqlJournal
    from airflow_provider_bitrix24.journal.entry import Entry

_AT_WORK: Final = ("running", "queued", "restarting")
"""States of a task instance in which it may write to its journal at any moment."""


class Drawer(Protocol):
    """One entry, as it was when it was found."""

    entry: Entry

    def replace(self, entry: Entry) -> None:
        """Put another one in its place, if nobody has written since.

        :raises PaymentInProgress: somebody has, or is at work on the key.
        """


class Shelf(Protocol):
    """A place with entries."""

    def drawers(self) -> Iterator[Drawer]:
        """All entries, the last ones first."""


@dataclass
class SqlDrawer:
    """A row."""

    entry: Entry
    page: Page

    def replace(self, entry: Entry) -> None:
        """Write by the same compare-and-set as the attempts do."""
        found = self.page.read()
        if self.page.busy is not None:
            raise PaymentInProgress(
                f"{self.page.busy.owner} is at work on {entry.key!r}, for {self.page.busy.seconds:.0f} s more at most. "
                "Nothing was changed. Look again then."
            )
        if found != self.entry:
            raise _changed(entry)
        self.page.write(entry, hold=0)


class SqlShelf:
    """A SQL journal."""

    def __init__(self, journal: SqlJournal) -> None:
        self._journal = journal

    def drawers(self) -> Iterator[Drawer]:
        """All rows."""
        for entry in self._journal.entries():
            yield SqlDrawer(entry, self._journal.page(entry.portal, entry.key))


@dataclass
class TaskDrawer:
    """The document of a task instance."""

    entry: Entry
    task: TaskName
    api: AirflowApi

    def replace(self, entry: Entry) -> None:
        """Write, as far as Airflow's API can be careful: it knows no compare-and-set."""
        state = self.api.state(self.task)
        if state in _AT_WORK:
            raise PaymentInProgress(
                f"The task is {state}, and may write to its journal itself. Nothing was changed. Wait until it has "
                "ended, or mark it as failed."
            )
        if self.api.entry(self.task) != self.entry:
            raise _changed(entry)
        self.api.put(self.task, entry)


class TaskShelf:
    """Task state of one run, or of one task in it."""

    def __init__(self, api: AirflowApi, dag_id: str, run_id: str, task_id: str | None, map_index: int | None) -> None:
        self._api = api
        self._run = dag_id, run_id
        self._task_id = task_id
        self._map_index = map_index

    def drawers(self) -> Iterator[Drawer]:
        """The documents of the task instances."""
        for task in self._api.tasks(*self._run):
            wanted = self._task_id in (None, task.task_id) and self._map_index in (None, task.map_index)
            entry = self._api.entry(task) if wanted else None
            if entry is not None:
                yield TaskDrawer(entry, task, self._api)


def find(shelf: Shelf, matches: Callable[[Entry], bool]) -> list[Drawer]:
    """Return the entries that match."""
    return [drawer for drawer in shelf.drawers() if matches(drawer.entry)]


def _changed(entry: Entry) -> PaymentInProgress:
    return PaymentInProgress(f"Somebody has written to {entry.key!r} meanwhile. Nothing was changed. Look at it again.")
