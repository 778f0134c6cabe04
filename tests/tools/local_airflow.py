"""A real Airflow in one folder: API server, scheduler, DAG processor and triggerer, on loopback and free ports."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from tests.tools.airflow_home import PATIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TERM_SECONDS = 60  # Airflow's parts need some 12 s to end well, on a slow machine four times as long
PARTS = {
    "api-server": ["api-server", "--host", "127.0.0.1", "--workers", "1"],
    # The parts' own log servers would listen on all addresses; on one machine the API server reads the files.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}


class PartEnded(RuntimeError):
    """A process that has to keep running has ended."""


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def proportional_memory(processes: list[psutil.Process]) -> int | None:
    """Return the bytes that `processes` hold together, shared pages counted once; None if the system does not tell."""
    total = 0
    for process in processes:
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total or None


def _session(process: psutil.Process) -> int | None:
    """Return the id of the session that a process belongs to; None if it has ended."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (psutil.Error, OSError):
        return None


class Processes:
    """Child processes, each the leader of its own group, that end together and leave nobody behind."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], env: Mapping[str, str]) -> Path:
        """Start `command` in a group of its own and return the file that takes what it prints."""
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            self.children[name] = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return log

    def check(self) -> None:
        """Raise `PartEnded`, with the end of its log, if a process has ended by itself."""
        for name, child in self.children.items():
            if child.poll() is not None:
                tail = "\n".join((self.logs / f"{name}.log").read_text(errors="replace").splitlines()[-25:])
                raise PartEnded(f"{name} ended with {child.returncode}; its last lines:\n{tail}")

    def family(self) -> list[psutil.Process]:
        """Return every living process that was started here, and theirs: all that share a session, orphans too."""
        sessions = {child.pid for child in self.children.values()}
        return [process for process in psutil.process_iter() if _session(process) in sessions]

    def kill(self, name: str) -> None:
        """SIGKILL a process and all that it has started, at once, as when the machine goes off."""
        child = self.children.pop(name)
        while members := [process for process in psutil.process_iter() if _session(process) == child.pid]:
            for process in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            child.poll()
        child.wait()

    def stop(self) -> None:
        """End all: TERM to every group, then up to `TERM_SECONDS` of patience, then KILL."""
        for child in self.children.values():
            self._signal(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + TERM_SECONDS
        while self.family() and time.monotonic() < deadline:
            time.sleep(0.2)
        while stubborn := self.family():
            for process in stubborn:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.1)
        for child in self.children.values():
            child.wait()
        self.children.clear()

    @staticmethod
    def _signal(group: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


class LocalAirflow:
    """Airflow in `home`, with SQLite, everybody an administrator, and few processes.

    :param workers: what runs the tasks, if not the scheduler: name -> arguments of `airflow`.
    :param env: more of the environment; it wins.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        processes: Processes,
        *,
        parallelism: int = 3,
        workers: Mapping[str, list[str]] | None = None,
        env: Mapping[str, str],
    ) -> None:
        self.processes = processes
        self.parts = {**PARTS, **(workers or {})}
        port = free_port()
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.api = httpx.Client(base_url=f"{self.url}/api/v2", timeout=300, trust_env=False)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
        self.env = inherited | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__BITRIX24__RATE_LIMIT": "off",  # the sandbox has none
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(parallelism),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            # On a busy machine, others may write for longer than the usual 5 seconds.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=300",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # only what is triggered runs
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **PATIENT,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **env,
        }

    def migrate(self) -> None:
        """Make the tables."""
        log = self.processes.logs / "db-migrate.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.processes.children["db-migrate"] = child
        if child.wait() != 0:
            self.processes.check()
        del self.processes.children["db-migrate"]

    def start(self) -> None:
        """Start all parts; `wait_until_ready` tells when they are up."""
        for name in self.parts:
            self.start_part(name)

    def start_part(self, name: str) -> None:
        """Start one part, for the first time or after it was killed."""
        extra = ["--port", str(self.port)] if name == "api-server" else []
        self.processes.start(name, [sys.executable, "-m", "airflow", *self.parts[name], *extra], self.env)

    def wait_until_ready(self, dag_ids: set[str], report: Callable[[str], None], timeout: float = 1200) -> None:
        """Return when every part is healthy and every DAG is known; report each once."""
        ready: set[str] = set()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.processes.check()
            fresh = self._healthy() - ready
            for name in sorted(fresh):
                report(f"{name} is up")
            ready |= fresh
            if len(ready) == len(PARTS) and dag_ids <= self._known_dags():
                return
            time.sleep(0.5)
        raise TimeoutError(
            f"Airflow was not ready after {timeout:.0f} s; up: {sorted(ready)}; DAGs: {sorted(self._known_dags())}; "
            f"import errors: {self.get('importErrors')}"
        )

    def _healthy(self) -> set[str]:
        try:
            health = self.get("monitor/health")
        except httpx.TransportError:
            return set()
        parts = {"scheduler": "scheduler", "dag_processor": "dag-processor", "triggerer": "triggerer"}
        healthy = {name for key, name in parts.items() if (health.get(key) or {}).get("status") == "healthy"}
        return healthy | {"api-server"}

    def _known_dags(self) -> set[str]:
        return {dag["dag_id"] for dag in self.get("dags", limit=100, exclude_stale=True)["dags"]}

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return what `GET /api/v2/<path>` answers."""
        return dict(self.api.get(f"/{path}", params=query).raise_for_status().json())

    def unpause(self, dag_id: str) -> None:
        """Let runs of the DAG start."""
        self.api.patch(f"/dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def add_connection(self, conn_id: str, values: Mapping[str, Any], description: str) -> None:
        """Store a connection in Airflow's database.

        :param values: as in the JSON of an environment variable ``AIRFLOW_CONN_...``.
        """
        fields = {**values, "connection_id": conn_id, "description": description}
        if "extra" in fields:
            fields["extra"] = json.dumps(fields["extra"])
        answer = self.api.post("/connections", json=fields)
        if answer.is_error:
            raise RuntimeError(f"Airflow refused the connection {conn_id}: {answer.text}")

    def trigger(self, dag_id: str, conf: Mapping[str, Any], logical_date: str | None = None) -> str:
        """Unpause the DAG, start a run with `conf` and return the run's id."""
        self.unpause(dag_id)
        answer = self.api.post(f"/dags/{dag_id}/dagRuns", json={"logical_date": logical_date, "conf": dict(conf)})
        if answer.is_error:
            raise RuntimeError(f"Airflow refused to run {dag_id}: {answer.text}")
        return str(answer.json()["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return queued, running, success or failed."""
        return str(self.get(f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances, mapped ones one by one."""
        return list(self.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100)["task_instances"])

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of the run, whatever their state, as the button of the UI does."""
        self.clear_tasks(dag_id, run_id, reset_dag_runs=True)

    def clear_tasks(self, dag_id: str, run_id: str, **options: Any) -> None:
        """Clear tasks of the run, as the dialog of the UI does, which sends these fields and leaves out the others."""
        scope = dict.fromkeys(("include_downstream", "include_future", "include_past", "include_upstream"), False)
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, **scope, **options}
        self.api.post(f"/dags/{dag_id}/clearTaskInstances", json=body).raise_for_status()

    def clear_run(self, dag_id: str, run_id: str) -> None:
        """Clear a whole run, as the dialog of the UI does."""
        self.api.post(
            f"/dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False, "only_failed": False}
        ).raise_for_status()

    def backfill(self, dag_id: str, date: str, reprocess: str = "none") -> int:
        """Backfill the one run of this date, cleared if it has ended (`reprocess="completed"`); return the id."""
        body = {"dag_id": dag_id, "from_date": date, "to_date": date, "reprocess_behavior": reprocess}
        return int(self.api.post("/backfills", json=body).raise_for_status().json()["id"])

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task as failed by hand."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self.api.patch(path, json={"new_state": "failed"}).raise_for_status()

    def question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what the task asks a person: subject, body and options."""
        return self.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails")

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer it with one of the options."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self.api.patch(path, json={"chosen_options": [option]}).raise_for_status()

    def result(self, dag_id: str, run_id: str, task: Mapping[str, Any]) -> Any:
        """Return what the task returned, or None."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task['task_id']}/xcomEntries/return_value"
        answer = self.api.get(path, params={**_place(task), "deserialize": False, "stringify": False})
        return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().json()["value"]

    def log(self, dag_id: str, run_id: str, task: Mapping[str, Any]) -> str:
        """Return the end of the log of the task's last attempt."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        entries = self.api.get(path, params=_place(task)).raise_for_status().json()["content"]
        return "\n".join(_log_line(entry) for entry in entries[-15:])


def _place(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells instances of a task apart: its region (Airflow 3.4), or its map index."""
    if task.get("region_id") is None:
        return {"map_index": task["map_index"]}
    return {"region_id": task["region_id"], "region_index": task["region_index"]}


def _log_line(entry: Mapping[str, Any]) -> str:
    """Return a line of a log, with the exceptions that belong to it."""
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
    return "\n    ".join([str(entry.get("event", entry)), *errors])
