"""The example DAGs, run through a real Airflow in a process of its own, against a fresh sandbox portal."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.tools.airflow_home import ROOT, airflow_env
from tests.tools.printed import printed_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

END = "== end of the run =="
"""What `tests.tools.run_dag` prints last."""


@dataclass
class Outcome:
    """The outcome of a run of a DAG."""

    state: str
    tasks: list[dict[str, Any]]
    log: str

    def results(self, task_id: str) -> list[Any]:
        """Return what the task returned, for each map index that returned something."""
        return [task["result"] for task in self.tasks if task["task_id"] == task_id and task["result"] is not None]

    def states(self, task_id: str) -> list[str]:
        """Return the state of each map index."""
        return [task["state"] for task in self.tasks if task["task_id"] == task_id]


@pytest.fixture
def finance_folder(tmp_path: Path) -> Path:
    """Where finance drops its files: the Airflow Variable `finance_folder`."""
    folder = tmp_path / "finance"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def dags_folder() -> Path:
    """Where the DAGs are."""
    return ROOT / "dags_examples"


class Runs:
    """A process that runs DAGs one after another."""

    def __init__(self, env: dict[str, str]) -> None:
        command = [sys.executable, "-m", "tests.tools.run_dag"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, text=True, bufsize=1, **pipes)

    def run(self, dag_id: str, conf: dict[str, Any], env: dict[str, str]) -> str:
        """Run a DAG and return all that was printed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"dag_id": dag_id, "conf": conf, "env": env}) + "\n")
        printed = []
        for line in self._process.stdout:
            if line.rstrip() == END:
                return "".join(printed)
            printed.append(line)
        raise AssertionError("it has ended: " + "".join(printed))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@pytest.fixture(scope="module")
def runs(new_airflow_home: Callable[[], Path], dags_folder: Path) -> Iterator[Runs]:
    """One Airflow for all tests of a module: it takes Airflow most of its time to start."""
    runs = Runs(airflow_env(new_airflow_home(), dags_folder))
    yield runs
    runs.close()


@pytest.fixture
def run_dag(runs: Runs, tmp_path: Path, finance_folder: Path, bitrix24_sandbox: Sandbox) -> Callable[..., Outcome]:
    """Run a DAG, and return the outcome."""
    env = {
        "AIRFLOW_CONN_BITRIX24_DEFAULT": bitrix24_sandbox.connection,
        "AIRFLOW_CONN_PAYMENTS_JOURNAL": json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "journal.db")}),
        "AIRFLOW_CONN_FINANCE_DB": json.dumps({"conn_type": "sqlite", "host": str(finance_folder / "finance.db")}),
        "AIRFLOW_VAR_FINANCE_FOLDER": str(finance_folder),
    }

    def run(dag_id: str, **conf: Any) -> Outcome:
        log = runs.run(dag_id, conf, env)
        assert bitrix24_sandbox.secret not in log
        outcome = printed_json(log)
        return Outcome(state=outcome["state"], tasks=outcome["tasks"], log=log)

    return run
