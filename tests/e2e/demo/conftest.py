"""The example DAGs, run through a real Airflow in a process of its own, against a fresh sandbox portal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.tools.local_airflow import PATIENT
from tests.tools.printed import printed_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

ROOT = Path(__file__).resolve().parents[3]
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


def airflow_env(home: Path) -> dict[str, str]:
    """Return the environment of an Airflow that lives in `home` and knows the example DAGs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags_examples"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__BITRIX24__RATE_LIMIT": "off",  # the sandbox has none
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        **PATIENT,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",  # Airflow's own
    }


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME whose database has its tables; copied for each test, because making them takes a while."""
    home = tmp_path_factory.mktemp("airflow")
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(command, env=airflow_env(home), capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


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
def runs(migrated_home: Path, dags_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """One Airflow for all tests of a module: it takes Airflow most of its time to start."""
    home = tmp_path_factory.mktemp("runs") / "airflow"
    shutil.copytree(migrated_home, home)
    runs = Runs(airflow_env(home) | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder)})
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
