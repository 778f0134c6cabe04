"""One run of a DAG with one task, and everything that a person or a disaster may do to it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.tools.local_airflow import LocalAirflow

PATIENCE = 1200  # seconds: for whatever has to come; how long it takes is not judged
ENDED = ("success", "failed")
interrupted = threading.Event()
"""Somebody has pressed Ctrl-C: nobody waits any longer."""


def until(condition: Callable[[], Any], what: str, *, every: float = 0.1, patience: float = PATIENCE) -> Any:
    """Wait until the condition holds, and return what it returned."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        if interrupted.is_set() or time.monotonic() > deadline:
            raise TimeoutError(f"waited up to {patience:.0f} s for this: {what}")
        time.sleep(every)
    return found


class Run:
    """One run of a case's DAG, and its only task."""

    def __init__(self, airflow: LocalAirflow, dag_id: str, run_id: str) -> None:
        self._airflow = airflow
        self._dag_id = dag_id
        self.run_id = run_id

    @property
    def task(self) -> dict[str, Any]:
        """The task instance, as Airflow's API tells it."""
        return self._airflow.tasks(self._dag_id, self.run_id)[0]

    @property
    def state(self) -> str:
        """The task's state."""
        return str(self.task["state"])

    @property
    def tries(self) -> int:
        """How often it was started."""
        return int(self.task["try_number"])

    @property
    def receipt(self) -> dict[str, Any]:
        """What the task returned."""
        receipt = self._airflow.result(self._dag_id, self.run_id, self.task)
        assert isinstance(receipt, dict), f"no receipt: {receipt!r}"
        return receipt

    def until(self, *states: str) -> None:
        """Wait until the task is in one of these states."""
        until(lambda: self.state in states, f"{self._dag_id} {' or '.join(states)}", every=1)

    def until_try(self, number: int) -> None:
        """Wait until this attempt, or a later one, runs or has ended."""
        until(lambda: self.running_try() >= number, f"{self._dag_id}: attempt {number}", every=1)

    def running_try(self) -> int:
        """The number of the attempt that runs or has ended; 0 if none does."""
        task = self.task
        return int(task["try_number"]) if task["state"] in ("running", *ENDED) else 0

    def succeeds(self) -> dict[str, Any]:
        """Wait for the end, which must be green; return the receipt."""
        self.until(*ENDED)
        assert self.state == "success", self.said()
        return self.receipt

    def fails(self) -> str:
        """Wait for the end, which must be red; return the end of the log."""
        self.until(*ENDED)
        assert self.state == "failed", self.said()
        return self.said()

    def said(self) -> str:
        """The end of the log of the last attempt."""
        try:
            return self._airflow.log(self._dag_id, self.run_id, self.task)
        except Exception as error:
            return f"no log: {error}"

    def process(self) -> psutil.Process:
        """The process in which the task runs."""
        pid = until(lambda: self.task["state"] == "running" and self.task["pid"], "a running task", every=1)
        return psutil.Process(pid)

    def kill_task(self) -> None:
        """SIGKILL to the task's process, as the kernel does when memory is short."""
        self.process().kill()

    def kill_supervisor(self) -> psutil.Process:
        """SIGKILL to the process that looks after the task; return the task's, which goes on as an orphan."""
        task = self.process()
        supervisor = task.parent()
        assert supervisor is not None
        supervisor.kill()
        until(lambda: task.ppid() != supervisor.pid, "the task to be an orphan")
        assert task.is_running()
        return task

    @contextlib.contextmanager
    def frozen(self) -> Iterator[psutil.Process]:
        """Freeze task and supervisor, as a paused machine; they wake up at the end."""
        task = self.process()
        supervisor = task.parent()
        assert supervisor is not None
        for process in (supervisor, task):
            process.send_signal(signal.SIGSTOP)
        try:
            yield task
        finally:
            for process in (task, supervisor):
                process.send_signal(signal.SIGCONT)

    def clear(self) -> None:
        """Clear the task, by hand."""
        # Airflow loses a clear that comes while it ends the run: the task then has no state, and nobody starts it.
        until(lambda: self._airflow.run_state(self._dag_id, self.run_id) in ENDED, "the end of the run", every=1)
        before = self.tries
        self._airflow.clear(self._dag_id, self.run_id)
        self.until_try(before + 1)

    def mark_failed(self) -> None:
        """Mark the task as failed, by hand."""
        self._airflow.mark_failed(self._dag_id, self.run_id, "task")

    def _is_parked(self) -> bool:
        log = (self._airflow.processes.logs / "scheduler.log").read_text(errors="replace")
        ended = [line for line in log.splitlines() if f"TaskInstance Finished: dag_id={self._dag_id}," in line]
        return bool(ended) and "state=awaiting_input" in ended[-1]

    def _question(self) -> dict[str, Any] | None:
        """The question, once it is put: a task may be parked before, to look for an answer that is there already."""
        try:
            return self._airflow.question(self._dag_id, self.run_id, "task")
        except httpx.HTTPStatusError:
            return None

    def answer(self, words: str) -> None:
        """Wait for the question and give the answer that has these words in it."""
        self.until("awaiting_input", *ENDED)
        assert self.state == "awaiting_input", self.said()
        # An answer that overtakes the executor's word that the task is parked makes Airflow start another attempt.
        until(self._is_parked, "the scheduler to know that the task is parked", every=0.5)
        question = until(self._question, "the question", every=0.5)
        (option,) = [option for option in question["options"] if words.lower() in option.lower()]
        self._airflow.answer(self._dag_id, self.run_id, "task", option)
