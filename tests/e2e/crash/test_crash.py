"""Processes of a real Airflow are killed while the portal holds a response: nothing is doubled, nothing is made up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.crash.money import (
    ADD,
    DEAL,
    FILL,
    INVOICE,
    MARK_INVOICE,
    MARK_PAYMENT,
    SQL,
    filled_once,
    one_payment,
    stays,
)
from tests.e2e.crash.runs import until
from tests.e2e.crash.stage import SLOW, TABLE, Cases, Scene, Stage, chosen_cases
from tests.tools.local_airflow import Processes
from tests.tools.services import Services, airflow_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tools.local_airflow import LocalAirflow

DAGS = "tests/e2e/crash/dags"
TOGETHER = 2
"""The act in which the whole worker is killed under all cases at once."""
cases = Cases()


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """All cases that were asked for, played."""
    home = tmp_path_factory.mktemp("crash")
    (home / "process-logs").mkdir()
    processes = Processes(home / "process-logs")
    services = Services(processes)
    with Stage(home, chosen_cases(request, cases)) as stage:
        journal = json.dumps({"conn_type": "sqlite", "host": str(home / "journal.db")})
        dags = request.config.rootpath / DAGS
        try:
            env = {**airflow_on(services.postgres("airflow"), "airflow"), "AIRFLOW_CONN_JOURNAL": journal}
            with stage.airflow(processes, dags, parallelism=8, env=env) as airflow:
                stage.play(airflow, 1, at_once=6)
                stage.play_together(airflow, TOGETHER, lambda: restart(airflow, "scheduler"))
        finally:
            processes.stop()
            services.remove()
            request.config.stash.setdefault(TABLE, []).extend(stage.table())
        yield stage


def restart(airflow: LocalAirflow, part: str) -> None:
    """SIGKILL to a part with all that it has started, and start it again."""
    airflow.processes.kill(part)
    airflow.start_part(part)


# -- adding a payment; journal: SQL


@cases.add("add", **SQL)
def add_never_executed_task_killed(scene: Scene) -> None:
    """SIGKILL to the task while crm.item.payment.add is on its way; it never arrives"""
    run, _ = scene.start_held(ADD, ran=False)
    run.kill_task()
    receipt = run.succeeds()
    scene.only_effect(receipt)
    assert scene.asked(ADD) == 2
    stays(scene, run, other_runs=True)


@cases.add("add", **SQL)
def add_executed_task_killed(scene: Scene) -> None:
    """SIGKILL to the task after the payment was made, before the response came"""
    run, _ = scene.start_held(ADD, ran=True)
    run.kill_task()
    receipt = run.succeeds()
    assert (receipt["recovered"], receipt["evidence"]) == (True, "only_new_payment")
    scene.only_effect(receipt)
    assert scene.asked(ADD) == 1
    stays(scene, run, other_runs=True)


@cases.add("add", terms=SLOW, **SQL)
def add_executed_late_task_killed(scene: Scene) -> None:
    """SIGKILL to the task; the call is executed while the next attempt is at work"""
    run, held = scene.start_held(ADD, ran=False)
    run.kill_task()
    scene.runs_late(held, run, attempt=2)
    scene.only_effect(run.succeeds())


@cases.add("add", terms=SLOW, **SQL)
def add_executed_late_supervisor_killed(scene: Scene) -> None:
    """SIGKILL to the supervisor; the orphan's call is executed while the next attempt is at work"""
    run, held = scene.start_held(ADD, ran=False)
    run.kill_supervisor()
    scene.runs_late(held, run, attempt=2)
    scene.only_effect(run.succeeds())


@cases.add("add", **SQL, fill_products=True)
def row_never_added_task_killed(scene: Scene) -> None:
    """SIGKILL to the task while the second product row is on its way; it never arrives"""
    _row_lost(scene, ran=False)


@cases.add("add", **SQL, fill_products=True)
def row_added_task_killed(scene: Scene) -> None:
    """SIGKILL to the task after the second product row was put in, before the response came"""
    _row_lost(scene, ran=True)


def _row_lost(scene: Scene, *, ran: bool) -> None:
    held = scene.hold(FILL, ran=ran, occurrence=2)
    run = scene.start()
    scene.until_held(held)
    run.kill_task()
    receipt = run.succeeds()
    scene.only_effect(receipt)
    filled_once(scene, receipt)
    stays(scene, run, other_runs=True)
    filled_once(scene, receipt)


@cases.add("add", execution_timeout=40, **SQL)
def add_executed_execution_timeout(scene: Scene) -> None:
    """execution_timeout while the response to a payment that was made is held"""
    run, _ = scene.start_held(ADD, ran=True)
    receipt = run.succeeds()
    assert run.tries > 1
    assert receipt["recovered"] is True
    scene.only_effect(receipt)


@cases.add("add", **SQL)
def add_executed_worker_frozen(scene: Scene) -> None:
    """Task and supervisor frozen after the payment was made; they wake up when the next attempt has ended"""
    run, held = scene.start_held(ADD, ran=True)
    with run.frozen() as zombie:
        receipt = run.succeeds()
        scene.portal.release(held)
    until(lambda: not zombie.is_running(), "the zombie's end")
    scene.only_effect(receipt)
    assert (run.state, run.receipt) == ("success", receipt)
    stays(scene, run, other_runs=True)


# -- adding a payment; journal: Airflow's task state store


@cases.add("add", **DEAL)
def add_never_executed_no_database(scene: Scene) -> None:
    """The same without a database: SIGKILL to the task, the call never arrives"""
    run, _ = scene.start_held(ADD, ran=False)
    run.kill_task()
    scene.only_effect(run.succeeds())
    stays(scene, run, other_runs=False)


@cases.add("add", **DEAL)
def add_executed_no_database(scene: Scene) -> None:
    """Without a database: SIGKILL to the task after the payment was made; it is red and names the payment"""
    run, _ = scene.start_held(ADD, ran=True)
    run.kill_task()
    said = run.fails()
    assert run.tries == 2
    assert str(scene.only_effect()["payment_id"]) in said


@cases.add("add", terms=SLOW, **DEAL, on_unknown="adopt")
def add_executed_late_adopted(scene: Scene) -> None:
    """Without a database: SIGKILL to the supervisor, the orphan's call is executed late, on_unknown='adopt'"""
    run, held = scene.start_held(ADD, ran=False)
    run.kill_supervisor()
    scene.runs_late(held, run, attempt=2)
    receipt = run.succeeds()
    assert receipt["recovered"] is True
    scene.only_effect(receipt)
    stays(scene, run, other_runs=False)


@cases.add("add", **DEAL)
def nothing_sent_worker_frozen(scene: Scene) -> None:
    """Task and supervisor frozen before anything was sent; they wake up when the next attempt has paid"""
    run, held = scene.start_held("crm.item.payment.list", ran=True)
    with run.frozen() as zombie:
        receipt = run.succeeds()
        scene.portal.release(held)
    until(lambda: not zombie.is_running(), "the zombie's end")
    scene.only_effect(receipt)
    assert (run.state, run.receipt) == ("success", receipt)


@cases.add("add", **DEAL)
def add_marked_failed_and_cleared(scene: Scene) -> None:
    """Marked failed by hand while the call is on its way, then cleared; it never arrives"""
    run, _ = scene.start_held(ADD, ran=False)
    process = run.process()
    run.mark_failed()
    until(lambda: not process.is_running(), "the end of the task's process")
    run.clear()
    scene.only_effect(run.succeeds())


@cases.add("add", **DEAL, on_unknown="ask")
def asked_adopt(scene: Scene) -> None:
    """SIGKILL to the task after the payment was made; a person is asked and says that it is ours"""
    run, _ = scene.start_held(ADD, ran=True)
    run.kill_task()
    run.answer("Use payment")
    receipt = run.succeeds()
    assert (receipt["recovered"], receipt["evidence"]) == (True, "person")
    scene.only_effect(receipt)
    stays(scene, run, other_runs=False)


@cases.add("add", **DEAL, on_unknown="ask")
def asked_add_again(scene: Scene) -> None:
    """SIGKILL to the task, the call never arrives, but a colleague adds a payment; a person says: add again"""
    run, _ = scene.start_held(ADD, ran=False)
    by_hand = scene.portal.act.add_payment(entity_type_id=2, entity_id=1)
    run.kill_task()
    run.answer("again")
    receipt = run.succeeds()
    assert receipt["payment_id"] != by_hand
    scene.only_effect(receipt)


@cases.add("add", **DEAL, on_unknown="ask")
def asked_give_up(scene: Scene) -> None:
    """SIGKILL to the task after the payment was made; a person is asked and gives up"""
    run, _ = scene.start_held(ADD, ran=True)
    run.kill_task()
    run.answer("give up")
    run.fails()
    scene.only_effect()


# -- one key, several runs


@cases.add("add", **SQL)
def two_runs_at_once(scene: Scene) -> None:
    """Two runs with one key at the same moment"""
    first, second = scene.start(), scene.start()
    one_payment(scene, first, second)


@cases.add("add", terms=SLOW, **SQL)
def two_runs_the_first_is_held(scene: Scene) -> None:
    """Two runs with one key; the first one's answer is held until the second is at work"""
    first, held = scene.start_held(ADD, ran=False)
    second = scene.start()
    scene.runs_late(held, second, attempt=1)
    one_payment(scene, first, second)
    assert scene.asked(ADD) == 1


@cases.add("add", **SQL)
def two_runs_the_first_is_killed(scene: Scene) -> None:
    """Two runs with one key; SIGKILL to the first one's task while its call is on its way; it never arrives"""
    first, _ = scene.start_held(ADD, ran=False)
    second = scene.start()
    first.kill_task()
    one_payment(scene, first, second)


# -- marking as paid


@cases.add("pay_invoice", **INVOICE)
def invoice_never_marked_task_killed(scene: Scene) -> None:
    """SIGKILL to the task while sale.paysystem.pay.invoice is on its way; it never arrives"""
    _mark_lost(scene, MARK_INVOICE, ran=False)


@cases.add("pay_invoice", **INVOICE)
def invoice_marked_task_killed(scene: Scene) -> None:
    """SIGKILL to the task after the invoice was marked, before the response came"""
    _mark_lost(scene, MARK_INVOICE, ran=True)


@cases.add("pay_crm_payment", payment_id=1001, expected_amount="350.00")
def payment_never_marked_task_killed(scene: Scene) -> None:
    """SIGKILL to the task while crm.item.payment.pay is on its way; it never arrives"""
    _mark_lost(scene, MARK_PAYMENT, ran=False)


@cases.add("pay_crm_payment", payment_id=1001, journal_conn_id="journal")
def payment_marked_task_killed(scene: Scene) -> None:
    """SIGKILL to the task after the payment was marked, before the response came; SQL journal"""
    _mark_lost(scene, MARK_PAYMENT, ran=True)


def _mark_lost(scene: Scene, method: str, *, ran: bool) -> None:
    run, _ = scene.start_held(method, ran=ran)
    run.kill_task()
    receipt = run.succeeds()
    assert receipt["outcome"] == "paid"
    scene.only_effect(receipt)
    assert scene.asked(method) == (1 if ran else 2)
    run.clear()
    assert run.succeeds()["recovered"] is True
    assert scene.asked(method) == (1 if ran else 2)


@cases.add("pay_invoice", terms=SLOW, **INVOICE)
def invoice_marked_late_supervisor_killed(scene: Scene) -> None:
    """SIGKILL to the supervisor; the orphan's mark is executed while the next attempt is at work"""
    run, held = scene.start_held(MARK_INVOICE, ran=False)
    run.kill_supervisor()
    scene.runs_late(held, run, attempt=2)
    receipt = run.succeeds()
    assert receipt["outcome"] == "paid"
    scene.only_effect(receipt)


@cases.add("pay_invoice", execution_timeout=40, **INVOICE)
def invoice_never_marked_execution_timeout(scene: Scene) -> None:
    """execution_timeout while a mark is on its way; it never arrives"""
    run, _ = scene.start_held(MARK_INVOICE, ran=False)
    receipt = run.succeeds()
    assert run.tries > 1
    scene.only_effect(receipt)


@cases.add("pay_invoice", **INVOICE)
def invoice_marked_failed_by_hand_and_cleared(scene: Scene) -> None:
    """Marked failed by hand after the invoice was marked, before the response came; then cleared"""
    run, _ = scene.start_held(MARK_INVOICE, ran=True)
    process = run.process()
    run.mark_failed()
    until(lambda: not process.is_running(), "the end of the task's process")
    run.clear()
    receipt = run.succeeds()
    assert receipt["outcome"] == "paid"
    scene.only_effect(receipt)


@cases.add("dies_before_red", **INVOICE)
def invoice_not_shown_task_killed_before_it_is_red(scene: Scene) -> None:
    """The portal says true and does nothing; SIGKILL right before the task is red; the retry is red, who clears pays"""
    scene.portal.fault("true_not_applied", MARK_INVOICE, occurrence=1)
    run = scene.start()
    assert "Nothing was sent by this attempt" in run.fails()
    assert (run.tries, scene.asked(MARK_INVOICE), scene.effects) == (2, 1, [])
    run.clear()
    scene.only_effect(run.succeeds())
    assert (run.tries, scene.asked(MARK_INVOICE)) == (3, 2)


# -- waiting


@cases.add("wait", payment_id=1003, deferrable=True, poke_interval=2)
def triggerer_killed(scene: Scene) -> None:
    """SIGKILL to the triggerer under a waiting sensor; the customer pays before another one is started"""
    run = scene.start()
    run.until("deferred")
    looks = len(scene.portal.requests)
    until(lambda: len(scene.portal.requests) > looks, "a look by the triggerer")
    scene.airflow.processes.kill("triggerer")
    scene.portal.act.pay_payment(payment_id=1003)
    scene.airflow.start_part("triggerer")
    receipt = run.succeeds()
    assert (receipt["payment_id"], receipt["paid"]) == (1003, True)
    assert scene.effects == []


# -- the whole worker: the scheduler with everything that it has started


@cases.add("add", act=TOGETHER, **SQL)
def add_never_executed_worker_killed(scene: Scene) -> None:
    """SIGKILL to the whole worker while crm.item.payment.add is on its way; it never arrives"""
    run, _ = scene.start_held(ADD, ran=False)
    scene.disaster()
    scene.only_effect(run.succeeds())
    stays(scene, run, other_runs=True)


@cases.add("add", act=TOGETHER, **SQL, fill_products=True)
def add_executed_worker_killed(scene: Scene) -> None:
    """SIGKILL to the whole worker after the payment was made, before its products are in it"""
    run, _ = scene.start_held(ADD, ran=True)
    scene.disaster()
    receipt = run.succeeds()
    scene.only_effect(receipt)
    filled_once(scene, receipt)


@cases.add("add", act=TOGETHER, **DEAL)
def add_never_executed_worker_killed_no_database(scene: Scene) -> None:
    """The same without a database: SIGKILL to the whole worker, the call never arrives"""
    run, _ = scene.start_held(ADD, ran=False)
    scene.disaster()
    scene.only_effect(run.succeeds())


@cases.add("pay_invoice", act=TOGETHER, **INVOICE)
def invoice_marked_worker_killed(scene: Scene) -> None:
    """SIGKILL to the whole worker after the invoice was marked, before the response came"""
    run, _ = scene.start_held(MARK_INVOICE, ran=True)
    scene.disaster()
    receipt = run.succeeds()
    assert receipt["outcome"] == "paid"
    scene.only_effect(receipt)


@pytest.mark.parametrize("name", cases)
def test_nothing_is_doubled_and_nothing_is_made_up(stage: Stage, name: str) -> None:
    stage.raise_failure(name)
