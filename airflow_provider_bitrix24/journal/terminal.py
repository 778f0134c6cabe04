"""The command at a terminal that shows a key or settles it, whole, for messages that a person copies it from."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

PROGRAM: Final = "bitrix24-airflow journal"

Verb = Literal["show", "resolve"]


@dataclass(frozen=True)
class TaskName:
    """One task instance, and its journal in the task state."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    region: tuple[str, int] | None = None
    """The region and the index in it of an iteration of a task loop (Airflow 3.4)."""

    def __str__(self) -> str:
        mapped = f", map index {self.map_index}" if self.map_index >= 0 else ""
        iteration = f", region {self.region[0]}, index {self.region[1]}" if self.region else ""
        return f"DAG {self.dag_id}, run {self.run_id}, task {self.task_id}{mapped}{iteration}"

    @property
    def path(self) -> str:
        """Its path in Airflow's API."""
        dag_id, run_id, task_id = (quote(part, safe="") for part in (self.dag_id, self.run_id, self.task_id))
        return f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"

    @property
    def query(self) -> dict[str, str | int]:
        """The query parameters that select this task instance in Airflow's API."""
        if self.region is None:
            return {"map_index": self.map_index}
        return {"region_id": self.region[0], "region_index": self.region[1]}

    def command(self, verb: Verb, key: str) -> str:
        """The command about a key that it has worked on."""
        place = ["--dag", self.dag_id, "--run", self.run_id, "--task", self.task_id]
        if self.region is not None:
            place += ["--region", self.region[0], "--region-index", str(self.region[1])]
        elif self.map_index >= 0:
            place += ["--map-index", str(self.map_index)]
        return _command(verb, key, *place)


def key_command(verb: Verb, key: str, conn_id: str) -> str:
    """The command about a key in a SQL journal.

    :param conn_id: the Airflow connection of the database.
    """
    return _command(verb, key, "--conn-id", conn_id)


def rename_command(old: str, new: str, conn_id: str) -> str:
    """The command that gives a portal another name in a SQL journal."""
    return _command("rename-portal", old, new, "--conn-id", conn_id)


def _command(*words: str) -> str:
    return f"{PROGRAM} {shlex.join(words)}"
