"""Clear the tasks of the clear cases in a running Airflow, and judge the outcome by the portal's ledger."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from tests.e2e.crash.clear_dags import COMBINATIONS, LOOPS, OUTCOMES, START, SUBJECTS, Combination, connection_id
from tests.e2e.crash.runs import ENDED, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
    from tests.tools.local_airflow import LocalAirflow

WHAT_TO_DO = re.compile(r"journal resolve|journal_conn_id|keep(_| the )task.state", re.IGNORECASE)
"""A failed task names at least one of these: how to decide, or how to clear without losing the journal."""
DISCARDS = ("task", "mapped_index", "upstream", "downstream", *LOOPS) if AIRFLOW_V_3_4_PLUS else ()
"""Ways to clear by which Airflow discards the task state, or repeats iterations as new tasks without any."""
MARKS = ("invoice", "payment", "card", "unpay", "invoices", "payments")
"""Operators that find out by reading whether they have done it already."""


class NotGood(AssertionError):
    """The guarantee did not hold."""


@dataclass
class Played:
    """The outcome of a combination: its task instances and the ledger's entries, before and after it was cleared."""

    before: list[dict[str, Any]]
    paid_before: list[dict[str, Any]]
    after: list[dict[str, Any]] = field(default_factory=list)
    paid: list[dict[str, Any]] = field(default_factory=list)

    @property
    def cleared(self) -> list[dict[str, Any]]:
        """The task instances that ran again."""
        known = {task["id"] for task in self.before}
        return [task for task in self.after if task["id"] not in known]


class ClearedDag:
    """One DAG: run, cleared in its way, and judged.

    :param portals: those of its two connections, by outcome.
    """

    def __init__(self, airflow: LocalAirflow, dag_id: str, portals: Mapping[str, Sandbox]) -> None:
        self._airflow = airflow
        self.dag_id = dag_id
        self._portals = portals
        self.combinations = [one for one in COMBINATIONS if one.dag_id == dag_id]
        self._way = self.combinations[0].way
        self.played: dict[Combination, Played] = {}
        self._killed: set[tuple[str, int]] = set()

    def play(self) -> None:
        """Run the DAG, kill the tasks whose outcome shall be unknown, clear it, and let it run to its end again."""
        for method in {SUBJECTS[one.subject].method for one in self.combinations if one.outcome == "unknown"}:
            self._portals["unknown"].fault("hold", method, when="after")
        run_id = self._start()
        until(lambda: self._ended(run_id, kill=True), f"the first end of {self.dag_id}", every=2)
        self._portals["unknown"].clear_faults()
        tasks = self._tasks(run_id)
        for one in self.combinations:
            self.played[one] = Played(tasks[one.task_id], self.ledger(one))
        self._clear(run_id)
        until(lambda: self._ended(run_id), f"the second end of {self.dag_id}", every=2)
        tasks = self._tasks(run_id)
        for one, played in self.played.items():
            played.after, played.paid = tasks[one.task_id], self.ledger(one)

    def ledger(self, one: Combination) -> list[dict[str, Any]]:
        """The entries that say that a combination's call was executed."""
        subject = SUBJECTS[one.subject]
        return [
            entry
            for entry in self._portals[one.outcome].ledger
            if (entry["event"], entry["by"]) == (subject.event, "rest")
            and entry[subject.fact] in one.objects
            and entry["entity_type_id"] == subject.more.get("entity_type_id", entry["entity_type_id"])
        ]

    def _start(self) -> str:
        self._airflow.unpause(self.dag_id)
        if self._way == "trigger":
            self._trigger()
            return "the_run"
        if self._way == "backfill":
            self._backfill = self._airflow.backfill(self.dag_id, START.isoformat())
            (run,) = self._airflow.get(f"dags/{self.dag_id}/dagRuns")["dag_runs"]
            return str(run["dag_run_id"])
        # The command finds runs by their logical date.
        return self._airflow.trigger(self.dag_id, {}, START.isoformat() if self._way == "command" else None)

    def _backfill_has_ended(self) -> bool:
        return self._airflow.get(f"backfills/{self._backfill}")["completed_at"] is not None

    def _trigger(self) -> None:
        dag_id = f"starts_{self.dag_id}"
        run_id = self._airflow.trigger(dag_id, {})
        until(lambda: self._airflow.run_state(dag_id, run_id) in ENDED, f"the end of {dag_id}", every=2)
        assert self._airflow.run_state(dag_id, run_id) == "success"

    def _clear(self, run_id: str) -> None:
        match self._way:
            case "run" | "loop_run":
                self._airflow.clear_run(self.dag_id, run_id)
            case "command":
                command = [sys.executable, "-m", "airflow", "tasks", "clear", "--yes", self.dag_id]
                subprocess.run(command, env=self._airflow.env, check=True, capture_output=True)
            case "trigger":
                self._trigger()
            case "backfill":
                # Airflow allows one at a time, and notices some time later that one has ended.
                until(self._backfill_has_ended, f"the end of the backfill of {self.dag_id}", every=2)
                self._airflow.backfill(self.dag_id, START.isoformat(), reprocess="completed")
            case _:
                self._airflow.clear_tasks(self.dag_id, run_id, **self._chosen())

    def _chosen(self) -> dict[str, Any]:
        """Return what the dialog of the UI sends about the tasks that were chosen in it."""
        money = [one.task_id for one in self.combinations]
        match self._way:
            case "upstream":
                return {"task_ids": ["after"], "include_upstream": True}
            case "downstream":
                return {"task_ids": ["before"], "include_downstream": True}
            case "mapped_index":
                return {"task_ids": [[task_id, 1] for task_id in money]}
            case "loop_iteration":
                return {"task_instance_ids": [min(one.before, key=_position)["id"] for one in self.played.values()]}
            case "task_kept":
                return {"task_ids": money, "keep_task_state": True}
        return {"task_ids": money}

    def _ended(self, run_id: str, *, kill: bool = False) -> bool:
        if kill:
            self._kill_what_is_executed(run_id)
        return self._airflow.run_state(self.dag_id, run_id) in ENDED

    def _kill_what_is_executed(self, run_id: str) -> None:
        """SIGKILL to the tasks whose call the portal has executed, and whose response it holds."""
        executed = {
            (one.task_id, entry[SUBJECTS[one.subject].fact])
            for one in self.combinations
            if one.outcome == "unknown"
            for entry in self.ledger(one)
        }
        if executed <= self._killed:
            return
        objects = {one.task_id: one.objects for one in self.combinations if one.outcome == "unknown"}
        for task in (task for tasks in self._tasks(run_id).values() for task in tasks if task["task_id"] in objects):
            what = (task["task_id"], objects[task["task_id"]][_position(task)])
            if what in executed - self._killed and task["state"] == "running" and task["pid"]:
                assert _session(task["pid"]) == self._airflow.processes.children["scheduler"].pid
                psutil.Process(task["pid"]).kill()
                self._killed.add(what)

    def _tasks(self, run_id: str) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for task in self._airflow.tasks(self.dag_id, run_id):
            found.setdefault(task["task_id"], []).append(task)
        return found

    def judge(self, one: Combination) -> str:
        """Return in a word how it ended.

        :raises NotGood: two payments for one key, none for a task that succeeded, or a failure without words.
        """
        played = self.played[one]
        counts = Counter(entry[SUBJECTS[one.subject].fact] for entry in played.paid)
        wanted = Counter(one.objects)
        if counts - wanted:
            raise NotGood(f"{one}: more than one payment for a key: {played.paid}")
        if one.outcome == "unknown" and not played.paid_before:
            raise NotGood(f"{one}: nothing was sent before it was cleared: {self._words(played.before)}")
        if one.outcome == "succeeded" and Counter(one.objects) != Counter(
            entry[SUBJECTS[one.subject].fact] for entry in played.paid_before
        ):
            raise NotGood(f"{one}: not one payment for each task that ran: {self._words(played.before)}")
        if not played.cleared:
            raise NotGood(f"{one}: no task was cleared: {played.after}")
        named = Counter(
            number for task in played.after if task["state"] == "success" for number in self._named(one, played, task)
        )
        if named and max(named.values()) > 1:
            raise NotGood(f"{one}: two tasks have succeeded with one payment: {named}")
        for task in played.cleared:
            if task["state"] == "failed":
                self._judge_words(one, task)
            elif task["state"] != "success":
                raise NotGood(f"{one}: the task neither succeeded nor failed: {task}")
        failed = [task for task in played.cleared if task["state"] == "failed"]
        ran = Counter(thing for task in played.after for thing in one.objects_at(_position(task)))
        if not failed and one.way in LOOPS and counts != ran:
            raise NotGood(f"{one}: not one payment for each iteration: {played.paid}")
        return "failed, and said why" if failed else "succeeded"

    def _named(self, one: Combination, played: Played, task: Mapping[str, Any]) -> list[int]:
        """Return the invoices or payments of the receipts of a task, which have to be on the portal."""
        result = self._airflow.result(self.dag_id, task["dag_run_id"], task)
        name = "invoice_id" if one.subject in ("invoice", "invoices") else "payment_id"
        named = [int(receipt[name]) for receipt in result.get("receipts", [result])]
        if len(named) != len(one.objects_at(0)) or not {*named} <= {entry[name] for entry in played.paid}:
            raise NotGood(f"{one}: the receipt's payment is not on the portal: {result}; {played.paid}")
        return named

    def _judge_words(self, one: Combination, task: Mapping[str, Any]) -> None:
        said = self._airflow.log(self.dag_id, task["dag_run_id"], task)
        if not WHAT_TO_DO.search(said):
            raise NotGood(f"{one}: the task failed and does not say what to do: {said}")
        if _has_to_succeed(one):
            raise NotGood(f"{one}: the journal or the tag tells which payment it is, but the task failed: {said}")

    def _words(self, tasks: list[dict[str, Any]]) -> list[str]:
        return [f"{task['state']}: {self._airflow.log(self.dag_id, task['dag_run_id'], task)}" for task in tasks]


def _has_to_succeed(one: Combination) -> bool:
    """Whether a task that is cleared knows enough to succeed: a failure would be safe, and of no use."""
    if one.subject in MARKS:
        return one.way not in LOOPS or one.journal == "sql" or one.outcome == "succeeded"
    if one.outcome == "unknown":
        return one.journal == "sql"
    return one.journal == "sql" or one.subject == "tag" or one.way not in DISCARDS


def _position(task: Mapping[str, Any]) -> int:
    """Return the map index or the iteration of a task instance; 0 for others."""
    loop = task.get("loop_iteration")
    return int(loop["iteration"] if loop else max(task["map_index"], 0))


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def portal_names() -> dict[str, tuple[str, str]]:
    """Return the connections: id -> DAG and outcome."""
    dags = dict.fromkeys(one.dag_id for one in COMBINATIONS)
    return {connection_id(dag_id, outcome): (dag_id, outcome) for dag_id in dags for outcome in OUTCOMES}
