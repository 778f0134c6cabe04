"""Airflow on several machines: Postgres, Redis and two Celery workers. A whole node dies; two work on one key."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.e2e.crash.money import ADD, FILL, INVOICE, MARK_INVOICE, SQL, filled_once, one_payment, stays
from tests.e2e.crash.runs import Run, until
from tests.e2e.crash.stage import SLOW, TABLE, Cases, Scene, Stage, chosen_cases
from tests.tools.local_airflow import Processes
from tests.tools.services import NAME, Services, airflow_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tools.local_airflow import LocalAirflow

DAGS = "tests/e2e/crash/dags"
CELERY = ["celery", "worker", "--concurrency", "5", "--skip-serve-logs"]
NODES = {
    name: [*CELERY, "--celery-hostname", f"{name}@%h", "--pid", f"{{home}}/{name}.pid"] for name in ("node-1", "node-2")
}
TOGETHER = 2
"""The act that plays on one node, which dies under all cases."""

cases = Cases()


def celery(postgres: int, redis: str) -> dict[str, str]:
    """Return the environment of an Airflow with Celery workers and the journal in Postgres."""
    journal = {"conn_type": "postgres", "host": "127.0.0.1", "port": postgres, "login": NAME, "schema": NAME}
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": f"{redis}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{NAME}@127.0.0.1:{postgres}/airflow",
        **airflow_on(postgres, "airflow"),
        "AIRFLOW_CONN_JOURNAL": json.dumps(journal),
    }


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """All cases that were asked for, played."""
    home = tmp_path_factory.mktemp("distributed")
    (home / "process-logs").mkdir()
    processes = Processes(home / "process-logs")
    services = Services(processes)
    with Stage(home, chosen_cases(request, cases)) as stage:
        try:
            env = celery(services.postgres("airflow"), services.redis())
            nodes = {name: [word.format(home=home) for word in command] for name, command in NODES.items()}
            dags = request.config.rootpath / DAGS
            with stage.airflow(processes, dags, parallelism=16, workers=nodes, env=env) as airflow:
                stage.play(airflow, 1, at_once=4)
                processes.kill("node-2")
                stage.play_together(airflow, TOGETHER, lambda: move(airflow))
        finally:
            processes.stop()
            services.remove()
            request.config.stash.setdefault(TABLE, []).extend(stage.table())
        yield stage


def move(airflow: LocalAirflow) -> None:
    """SIGKILL to the one node with everything on it, while another one comes up."""
    airflow.start_part("node-2")
    airflow.processes.kill("node-1")


def node_of(scene: Scene, run: Run) -> str:
    """Return the node on which the task runs."""
    session = os.getsid(run.process().pid)
    return next(name for name, child in scene.airflow.processes.children.items() if child.pid == session)


# -- two nodes, one key


@cases.add("add", **SQL)
def two_runs_at_once(scene: Scene) -> None:
    """Two runs with one key at the same moment"""
    first, second = scene.start(), scene.start()
    one_payment(scene, first, second)


@cases.add("add", terms=SLOW, fill_products=True, **SQL)
def five_runs_on_both_nodes(scene: Scene) -> None:
    """Five runs with one key, on both nodes; the response is held until all are at work"""
    held = scene.hold(ADD, ran=False)
    runs = [scene.start() for _ in range(5)]
    scene.until_held(held)
    for run in runs[1:]:
        run.until_try(1)
    scene.portal.release(held)
    receipts = [run.succeeds() for run in runs]
    scene.only_effect(receipts[0])
    assert len({receipt["payment_id"] for receipt in receipts}) == 1
    filled_once(scene, receipts[0])


@cases.add("add", **SQL)
def two_runs_the_first_is_killed(scene: Scene) -> None:
    """Two runs with one key; SIGKILL to the first one's task while its call is on its way; it never arrives"""
    first, _ = scene.start_held(ADD, ran=False)
    second = scene.start()
    first.kill_task()
    one_payment(scene, first, second)


@cases.add("add", terms=SLOW, **SQL)
def add_executed_late_supervisor_killed(scene: Scene) -> None:
    """SIGKILL to the supervisor; the orphan's call is executed while the next attempt is at work"""
    run, held = scene.start_held(ADD, ran=False)
    run.kill_supervisor()
    scene.runs_late(held, run, attempt=2)
    scene.only_effect(run.succeeds())


@cases.add("add", **SQL)
def add_executed_node_frozen(scene: Scene) -> None:
    """Task and supervisor frozen after the payment was made; they wake up when another attempt has ended"""
    run, held = scene.start_held(ADD, ran=True)
    with run.frozen() as zombie:
        receipt = run.succeeds()
        scene.portal.release(held)
    until(lambda: not zombie.is_running(), "the zombie's end")
    scene.only_effect(receipt)
    assert (run.state, run.receipt) == ("success", receipt)


# -- a whole node: the Celery worker, its children and the tasks


@cases.add("add", act=TOGETHER, **SQL)
def add_never_executed_node_killed(scene: Scene) -> None:
    """SIGKILL to the whole node while crm.item.payment.add is on its way; it never arrives"""
    receipt = moved(scene, ADD, ran=False)
    scene.only_effect(receipt)
    stays(scene, scene.runs[0], other_runs=True)


@cases.add("add", act=TOGETHER, fill_products=True, **SQL)
def add_executed_node_killed(scene: Scene) -> None:
    """SIGKILL to the whole node after the payment was made, before its products are in it"""
    receipt = moved(scene, ADD, ran=True)
    scene.only_effect(receipt)
    filled_once(scene, receipt)


@cases.add("add", act=TOGETHER, fill_products=True, **SQL)
def row_added_node_killed(scene: Scene) -> None:
    """SIGKILL to the whole node after the first product row was put in"""
    receipt = moved(scene, FILL, ran=True)
    scene.only_effect(receipt)
    filled_once(scene, receipt)


@cases.add("pay_invoice", act=TOGETHER, **INVOICE)
def invoice_marked_node_killed(scene: Scene) -> None:
    """SIGKILL to the whole node after the invoice was marked, before the response came"""
    receipt = moved(scene, MARK_INVOICE, ran=True)
    assert receipt["outcome"] == "paid"
    scene.only_effect(receipt)


def moved(scene: Scene, method: str, *, ran: bool) -> dict[str, object]:
    """Let the node die while it waits for a response; return the receipt of the other one."""
    run, _ = scene.start_held(method, ran=ran)
    assert node_of(scene, run) == "node-1"
    scene.disaster()
    receipt = run.succeeds()
    assert run.tries > 1
    return receipt


@pytest.mark.parametrize("name", cases)
def test_nothing_is_doubled_and_nothing_is_made_up(stage: Stage, name: str) -> None:
    stage.raise_failure(name)
