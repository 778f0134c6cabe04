"""Many processes whose access token dies at the same moment: one of them refreshes, all of them go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hooks.oauth import workers

if TYPE_CHECKING:
    from tests.hooks.oauth.conftest import Application

pytestmark = pytest.mark.libraries

ROUNDS = 4


@pytest.mark.bitrix24_sandbox(rate_limit=(100_000, 100_000), operating_limit=1_000_000)
def test_one_refresh_for_each_expiry(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = {"conn_type": "sqlite", "host": str(application.file), "extra": {"timeout": 120}}
    monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps(patient))
    command = [sys.executable, str(Path(workers.__file__))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while process.stdout.readline() not in ("ready\n", ""):
            pass  # what Airflow says when it is imported
        for _ in range(ROUNDS):
            application.expire()  # nobody is at work now, so each of them finds it out by itself
            process.stdin.write("go\n")
            line = process.stdout.readline()
            while line and not line.startswith("["):
                line = process.stdout.readline()
            assert json.loads(line) == []
        process.stdin.close()
        assert process.wait() == 0

    refreshed = application.log("refreshed")
    assert len(refreshed) == ROUNDS
    assert [entry["previous"] for entry in refreshed] == list(range(1, ROUNDS + 1))  # each pair was changed once
    assert all(entry["previous_expired"] for entry in refreshed)
    assert application.log("refused") == []
    calls = ROUNDS * (workers.WORKERS * workers.CALLS + workers.TRIGGERS)
    done = [request for request in application.sandbox.requests if request["method"].startswith("crm.")]
    assert len([request for request in done if request["error"] is None]) == calls
    assert {request["error"] for request in done} == {None, "expired_token"}
