"""A customer pays, and Airflow's own triggerer and scheduler run the DAG that releases the order."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import OLDER
from tests.tools.airflow_home import ROOT
from tests.tools.local_airflow import LocalAirflow, Processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.skipif(OLDER, reason="the asset state store is new in Airflow 3.3"),
]
DAG_ID = "release_order_when_paid"


class Releases:
    """What the DAG has released, by Airflow's API."""

    def __init__(self, airflow: LocalAirflow) -> None:
        self.airflow = airflow

    def done(self) -> list[str]:
        runs = self.airflow.get(f"dags/{DAG_ID}/dagRuns", limit=100)["dag_runs"]
        return [
            self.airflow.result(DAG_ID, run["dag_run_id"], task)
            for run in runs
            if run["state"] == "success"
            for task in self.airflow.tasks(DAG_ID, run["dag_run_id"])
            if task["task_id"] == "release_order"
        ]

    def until(self, number: int, *, text: str) -> None:
        self.wait_for(lambda: sum(text in one for one in self.done()) >= number)

    def wait_for(self, came: Callable[[], bool]) -> None:
        """Wait for what has to come; how long it takes is not judged."""
        deadline = time.monotonic() + 300
        while not came():
            self.airflow.processes.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"released so far: {self.done()}")
            time.sleep(1)


def test_a_payment_starts_the_dag_and_none_is_lost_while_no_triggerer_runs(
    bitrix24_sandbox: Sandbox, tmp_path: Path, new_airflow_home: Callable[[], Path]
) -> None:
    dags, logs = tmp_path / "dags", tmp_path / "logs"
    dags.mkdir()
    logs.mkdir()
    shutil.copy(ROOT / "dags_examples" / f"{DAG_ID}.py", dags)
    env = {
        "AIRFLOW_CONN_BITRIX24_DEFAULT": bitrix24_sandbox.connection,
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",  # Airflow's own
    }
    processes = Processes(logs)
    airflow = LocalAirflow(new_airflow_home(), dags, processes, env=env)
    try:
        airflow.start()
        airflow.wait_until_ready({DAG_ID}, lambda text: None)
        airflow.unpause(DAG_ID)
        releases = Releases(airflow)
        releases.wait_for(lambda: reads(bitrix24_sandbox) >= 1)
        bitrix24_sandbox.act.pay_payment(1001)
        releases.until(1, text="payment 1001 of 350.00 EUR")

        read = reads(bitrix24_sandbox)
        releases.wait_for(lambda: reads(bitrix24_sandbox) > read + 1)  # so that the cursor is stored
        processes.kill("triggerer")
        bitrix24_sandbox.act.pay_payment(1003)
        airflow.start_part("triggerer")
        releases.until(1, text="payment 1003 of 990.00 EUR")
        assert sum("payment 1001" in one for one in releases.done()) == 1
        assert not any("payment 1002" in one for one in releases.done())  # it was paid before
    finally:
        processes.stop()
        airflow.api.close()


def reads(sandbox: Sandbox) -> int:
    """How often the payments were read."""
    requests: list[dict[str, Any]] = sandbox.requests
    return sum(request["method"] == "sale.payment.list" for request in requests)
