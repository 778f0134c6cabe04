"""Task loops (Airflow 3.4): every iteration is a payment of its own, also after the loop was cleared."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import airflow.sdk
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous
from airflow_provider_bitrix24.journal.airflow_api import AirflowApi
from airflow_provider_bitrix24.journal.inspect import TaskEntrySource
from airflow_provider_bitrix24.journal.terminal import TaskName
from airflow_provider_bitrix24.operators.journals import identity
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.tools.connections import connection_to
from tests.tools.final import raises_for_good
from tests.tools.local_airflow import LocalAirflow, Processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Task

DAGS = Path(__file__).resolve().parent / "looping"
LOOPS = {"task_state": 3, "database": 3, "mapped": 4}
"""How many payments each DAG adds."""
ENDED = ("success", "failed")


def in_iteration(task: Task, index: int, region_index: int, cleared: int = 0) -> Any:
    """The context of the task in an iteration, as Airflow 3.4 makes it."""
    task.ti.region_id, task.ti.region_index = "0196-region", region_index
    task.run.clear_number = cleared
    return {**task.context, "loop": SimpleNamespace(index=index)}


def test_an_iteration_has_an_identity_of_its_own(task: Task) -> None:
    before = identity(task.context)
    assert before == "dag:finance:run:manual__1:task:pay:map_index:-1"
    assert [identity(in_iteration(task, index, index)) for index in range(2)] == [f"{before}:loop:{n}" for n in (0, 1)]
    # Clearing makes a new region of the later iterations; they are the same ones all the same.
    task.ti.region_id = "0197-another"
    assert identity(in_iteration(task, 1, 1)) == f"{before}:loop:1"


def test_a_mapped_task_that_is_in_no_loop_keeps_its_identity(task: Task) -> None:
    task.ti.map_index, task.ti.region_id, task.ti.region_index = 2, "0196-region", 2
    assert identity(task.context) == "dag:finance:run:manual__1:task:pay:map_index:2"


@pytest.mark.needs_task_state
def test_an_iteration_that_is_repeated_has_no_notes_in_the_task_state(portal: Any, task: Task) -> None:
    """Airflow repeats it as a new task instance, with an empty state, as if it were the first attempt."""
    task.context["task_state_store"] = task.store
    operator = AddCrmPaymentOperator(task_id="pay", entity_id=1)
    assert operator.execute(in_iteration(task, 1, 1))["outcome"] == "created"
    task.store.kept.clear()
    with raises_for_good(PaymentAmbiguous, r"repeats the later iterations of a loop"):
        operator.execute(in_iteration(task, 1, 1, cleared=1))
    assert len([entry for entry in portal.ledger if entry["event"] == "payment_added"]) == 1


def test_the_command_names_the_iteration() -> None:
    name = TaskName("d", "r", "group.t", -1, ("0196-region", 2))
    assert name.command("show", "key").endswith("--task group.t --region 0196-region --region-index 2")
    assert name.query == {"region_id": "0196-region", "region_index": 2}
    assert str(name) == "DAG d, run r, task group.t, region 0196-region, index 2"


@pytest.mark.slow
def test_every_iteration_adds_one_payment_and_clearing_adds_none(
    new_airflow_home: Callable[[], Path], short_waits: dict[str, Any]
) -> None:
    if not AIRFLOW_V_3_4_PLUS:
        assert not hasattr(airflow.sdk, "LoopDecision")
        return
    home = new_airflow_home()
    portal, processes = Portal(), Processes(home)
    with SandboxServer(portal) as server:
        env = {
            "AIRFLOW_CONN_BITRIX24_DEFAULT": connection_to(server, short_waits),
            "AIRFLOW_CONN_PAYMENTS": json.dumps({"conn_type": "sqlite", "host": str(home / "journal.db")}),
            "PYTHONPATH": str(DAGS.parents[2]),
        }
        airflow_here = LocalAirflow(home, DAGS, processes, env=env)
        try:
            airflow_here.start()
            airflow_here.wait_until_ready(set(LOOPS), print)
            for dag_id, payments in LOOPS.items():
                check_loop(airflow_here, portal, dag_id, payments)
        finally:
            airflow_here.api.close()
            processes.stop()


def check_loop(airflow_here: LocalAirflow, portal: Portal, dag_id: str, payments: int) -> None:
    """Run it, and clear it in both ways."""

    def added() -> int:
        return sum(entry["event"] == "payment_added" for entry in portal.ledger)

    def ended() -> str:
        while airflow_here.run_state(dag_id, run_id) not in ENDED:
            time.sleep(0.5)
        return airflow_here.run_state(dag_id, run_id)

    before = added()
    run_id = airflow_here.trigger(dag_id, {})
    assert (ended(), added() - before) == ("success", payments)
    if dag_id != "database":
        api = AirflowApi(airflow_here.url, None)
        handles = list(TaskEntrySource(api, dag_id, run_id, None, None).entries())
        assert len({handle.entry.key for handle in handles}) == payments
        region = handles[-1].task.region  # type: ignore[attr-defined]
        [one] = TaskEntrySource(api, dag_id, run_id, "iteration.add", None, region).entries()
        assert one.entry == handles[-1].entry
    for keep in (True, False):
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "keep_task_state": keep}
        airflow_here.api.post(f"/dags/{dag_id}/clearTaskInstances", json=body).raise_for_status()
        assert ended() == ("failed" if dag_id == "task_state" else "success")
        assert added() - before == payments
