"""What we keep in SQL, on real servers that the project's script starts: Postgres and MariaDB."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.sql import Database
from tests.hooks.oauth import workers
from tests.hooks.oauth.conftest import Application
from tests.journal import chunk_worker
from tests.journal.conftest import database_of
from tests.tools.local_airflow import Processes
from tests.tools.services import NAME, Services

if TYPE_CHECKING:
    from collections.abc import Iterator

JOURNAL = [
    f"tests/journal/{name}.py"
    for name in ("test_sql_journal", "test_many_keys", "test_pace_table", "test_portals", "test_working_time_table")
]
ROUNDS = 3


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Airflow connection to an empty database, as a URI."""
    processes = Processes(tmp_path_factory.mktemp(request.param))
    services = Services(processes)
    try:
        if request.param == "postgres":
            yield f"postgres://{NAME}@127.0.0.1:{services.postgres()}/{NAME}"
        else:
            yield f"mariadb://{NAME}:{NAME}@127.0.0.1:{services.mariadb()}/{NAME}"
    finally:
        processes.stop()
        services.remove()


def test_the_tests_of_the_journal_pass(database: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    env = os.environ | {"BITRIX24_TEST_DATABASE": database, "AIRFLOW_HOME": str(tmp_path / "airflow")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 't'}", *JOURNAL]
    done = subprocess.run(command, cwd=pytestconfig.rootpath, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    print(f"{passed[1]} tests of the journal passed on {database.partition(':')[0]}")
    assert int(passed[1]) > 10


def test_processes_whose_chunks_overlap_send_each_key_once(
    database: str, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """None of them fails because the database has ended its transaction to break a deadlock."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    SqlJournal(database_of(database), "first").load(chunk_worker.PORTAL, ["a key"])  # creates the tables
    command = [sys.executable, str(Path(chunk_worker.__file__)), database]
    processes = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(8)]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    won = [key for text in printed for key in json.loads(text.splitlines()[-1])]
    assert sorted(won) == sorted(chunk_worker.KEYS)
    loaded = SqlJournal(database_of(database), "last").load(chunk_worker.PORTAL, chunk_worker.KEYS)
    assert {one.record.state for one in loaded.values() if one.record} == {"done"}


def test_no_hour_of_autumn_comes_twice(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in a zone with summer time: the session does not take part in it."""
    monkeypatch.setenv("AIRFLOW_CONN_DATABASE", database)
    ours = Database.from_connection("database")
    with ours.begin() as connection:
        if ours.dialect == "mysql":
            assert connection.exec_driver_sql("SELECT @@session.time_zone").scalar() == "+00:00"
        assert abs(connection.execute(sa.select(ours.now)).scalar_one() - time.time()) < 1800


@pytest.mark.bitrix24_sandbox(rate_limit=(100_000, 100_000), operating_limit=1_000_000)
def test_many_workers_refresh_a_token_once(
    database: str, bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    application = Application(bitrix24_sandbox, monkeypatch, tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_TOKENS", database)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    command = [sys.executable, str(Path(workers.__file__))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(ROUNDS):
            application.expire()
            process.stdin.write("go\n")
            # Airflow says this and that when it is imported.
            trouble = next(line for line in process.stdout if line.startswith("["))
            assert json.loads(trouble) == []
        process.stdin.close()
    assert process.returncode == 0
    assert len(application.log("refreshed")) == ROUNDS
    assert application.log("refused") == []
