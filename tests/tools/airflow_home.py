"""A folder in which an Airflow with SQLite lives, with its tables, and the environment of what runs there."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

PATIENT = {
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",
    "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "900",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "300",
}
"""Airflow's own limits (30, 50 and 5 seconds), which a busy machine exceeds."""
ROOT = Path(__file__).resolve().parents[2]


def airflow_env(home: Path, dags: Path | None = None) -> dict[str, str]:
    """Return the environment of an Airflow that lives in `home`, and whose DAGs are in `dags`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    folder = {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)} if dags else {}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__BITRIX24__RATE_LIMIT": "off",  # the sandbox has none
        **folder,
        **PATIENT,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",  # Airflow's own
    }


def put_tables(home: Path, shared: Path) -> None:
    """Put a SQLite database with Airflow's tables into `home`.

    Making the tables takes Airflow longer than most tests take, so it is done once, for all processes that share the
    folder `shared`.
    """
    made = shared / "airflow_tables" / "airflow.db"
    made.parent.mkdir(exist_ok=True)
    with (made.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = made.parent / "unfinished"
            command = [sys.executable, "-m", "airflow", "db", "migrate"]
            done = subprocess.run(command, env=airflow_env(unfinished), capture_output=True, text=True, timeout=1800)
            assert done.returncode == 0, done.stdout + done.stderr
            (unfinished / made.name).rename(made)
    shutil.copy(made, home)
