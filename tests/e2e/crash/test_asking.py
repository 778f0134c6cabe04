"""What cannot be known, in a real Airflow: a person is asked, and answers through Airflow's API, or at a terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.operators.conftest import SHORT
from tests.tools.airflow_home import ROOT
from tests.tools.connections import connection_to
from tests.tools.local_airflow import LocalAirflow, Processes, free_port
from tests.tools.printed import printed_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.needs_task_state]

HERE = Path(__file__).resolve().parent
ADD, INVOICE, MARK = "crm.item.payment.add", "sale.paysystem.pay.invoice", "crm.item.payment.pay"
DAGS = ["adopted", "timed_out", "left_red", "added_again", "changed", "marked_again", "given_up", "answered_late"]
AGAIN = "again (may pay twice)"
FAULTS = [
    Fault(kind="drop_after", method=ADD, occurrence=1),  # adopted: the payment is there, its answer is not
    Fault(kind="hold", method=ADD, occurrence=2, when="after"),  # timed_out
    Fault(kind="drop_after", method=ADD, occurrence=3),  # left_red
    Fault(kind="drop_before", method=ADD, occurrence=4, times=2),  # added_again: lost twice
    Fault(kind="drop_before", method=ADD, occurrence=7, times=2),  # changed: lost twice, after the one above was added
    Fault(kind="drop_before", method=INVOICE, occurrence=1, times=2),
    Fault(kind="drop_before", method=MARK, occurrence=1, times=2),
    Fault(kind="drop_before", method=ADD, occurrence=9, times=2),  # answered_late
    Fault(kind="drop_after", method=ADD, occurrence=11, times=2),  # overtaken, and tried_out
]
ANSWERS = {
    "adopted": "Use payment 1033 (0.00 EUR)",
    "added_again": f"Add {AGAIN}",
    "changed": f"Add {AGAIN}",
    "marked_again": f"Mark {AGAIN}",
    "given_up": "Give up",
}


@dataclass
class World:
    """The outcome of all DAGs, what was asked, and the portal that they worked on."""

    airflow: LocalAirflow
    portal: Portal
    secret: str
    runs: dict[str, str] = field(default_factory=dict)
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    printed: str = ""
    """The ends of the logs."""

    def task(self, dag_id: str) -> dict[str, Any]:
        (ti,) = self.airflow.tasks(dag_id, self.runs[dag_id])
        return ti

    def receipt(self, dag_id: str) -> dict[str, Any]:
        return dict(self.airflow.result(dag_id, self.runs[dag_id], self.task(dag_id)))

    def log(self, dag_id: str) -> str:
        return self.airflow.log(dag_id, self.runs[dag_id], self.task(dag_id))

    def added(self, entity_id: int) -> list[dict[str, Any]]:
        return [e for e in self.portal.ledger if (e["event"], e["entity_id"]) == ("payment_added", entity_id)]

    def journal(self, dag_id: str, document: str = "bitrix24_payment") -> Any:
        path = f"dags/{dag_id}/dagRuns/{self.runs[dag_id]}/taskInstances/pay/state-store/{document}"
        return self.airflow.get(path)["value"]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "airflow_provider_bitrix24", "journal", *arguments]
        env = self.airflow.env | {"AIRFLOW_URL": self.airflow.url}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800, check=False)

    def start(self, dag_id: str) -> None:
        self.runs[dag_id] = self.airflow.trigger(dag_id, {})

    def until(self, dag_id: str, *states: str) -> str:
        """Wait for what has to come; how long it takes is not judged."""
        deadline = time.monotonic() + 1200
        while (state := self.task(dag_id)["state"]) not in states:
            self.airflow.processes.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag_id} is {state}, and never was {' or '.join(states)}")
            time.sleep(1)
        return str(state)

    def until_the_run_has_ended(self, dag_id: str) -> None:
        """The scheduler notices it after the task has ended; it would not start what is cleared in between."""
        deadline = time.monotonic() + 1200
        while (state := self.airflow.run_state(dag_id, self.runs[dag_id])) not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the run of {dag_id} is {state}, and never ended")
            time.sleep(1)

    def answer(self, dag_id: str, option: str) -> None:
        self.airflow.answer(dag_id, self.runs[dag_id], "pay", option)

    def run(self, dag_id: str) -> None:
        """Run a DAG, and be the person at night who reads the question, looks at the portal, and answers."""
        self.start(dag_id)
        if dag_id in ANSWERS:
            self.until(dag_id, "awaiting_input")
            self.until_known_to_be_parked(dag_id)
            self.asked[dag_id] = self.airflow.question(dag_id, self.runs[dag_id], "pay")
            if dag_id == "changed":
                # A colleague is faster: what is decided now is decided without knowing it.
                self.portal.act.add_payment(2, 3, amount="5.00", user_id=7)
            self.answer(dag_id, ANSWERS[dag_id])
        self.until(dag_id, "success", "failed")
        self.until_the_run_has_ended(dag_id)  # by then, the whole log is written
        self.printed += self.log(dag_id)

    def until_known_to_be_parked(self, dag_id: str) -> None:
        log = self.airflow.processes.logs / "scheduler.log"
        deadline = time.monotonic() + 1200
        while f"TaskInstance Finished: dag_id={dag_id}," not in log.read_text(errors="replace"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the scheduler does not know that {dag_id} is parked")
            time.sleep(1)

    def answer_before_the_scheduler_knows(self, dag_id: str) -> None:
        """Airflow may then start another attempt instead of going on with the answer."""
        scheduler = self.airflow.processes.children["scheduler"]
        self.start(dag_id)
        self.until(dag_id, "running")
        scheduler.send_signal(signal.SIGSTOP)
        try:
            self.until(dag_id, "awaiting_input")
            self.asked[dag_id] = self.airflow.question(dag_id, self.runs[dag_id], "pay")
            self.answer(dag_id, self.asked[dag_id]["options"][0])
        finally:
            scheduler.send_signal(signal.SIGCONT)
        self.until(dag_id, "success", "failed")

    def answer_late(self, dag_id: str) -> None:
        """Answer when the question has timed out and the task has failed; then clear it, with its task state."""
        self.until_the_run_has_ended(dag_id)
        self.answer(dag_id, "Give up")
        kept = {"keep_task_state": True} if AIRFLOW_V_3_4_PLUS else {}
        self.airflow.clear_tasks(dag_id, self.runs[dag_id], reset_dag_runs=True, **kept)
        self.until(dag_id, "running", "queued", "scheduled", "awaiting_input")
        self.until(dag_id, "failed")


@pytest.fixture(scope="module")
def world(new_airflow_home: Callable[[], Path]) -> Iterator[World]:
    """Run all DAGs, one after another, in a real Airflow."""
    home = new_airflow_home()
    portal = Portal()
    for fault in FAULTS:
        portal.faults.add(fault)
    processes = Processes(home)
    with SandboxServer(portal) as server:
        env = {
            "AIRFLOW_CONN_BITRIX24_DEFAULT": connection_to(server, SHORT | {"read_timeout": 60}),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",  # Airflow's own
        }
        airflow = LocalAirflow(home, HERE / "asking", processes, env=env)
        try:
            airflow.start()
            airflow.wait_until_ready(set(DAGS), print)
            world = World(airflow, portal, portal.webhook.secret)
            for dag_id in DAGS:
                world.run(dag_id)
            world.answer_late("answered_late")
            world.answer_before_the_scheduler_knows("overtaken")
            yield world
        finally:
            airflow.api.close()
            processes.stop()


def test_a_person_adopts_the_payment(world: World) -> None:
    receipt = world.receipt("adopted")
    assert (receipt["payment_id"], receipt["evidence"], receipt["recovered"]) == (1033, "person", True)
    assert receipt["outcome"] == "created"
    assert [entry["payment_id"] for entry in world.added(3) if entry["by"] == "rest"] == [1033]
    entry = world.journal("adopted")
    (decision,) = entry["decisions"]
    assert (decision["what"], decision["payment_id"], decision["through"]) == ("use_payment", 1033, "Airflow")
    assert decision["by"]
    assert decision["at"].startswith("20")


def test_the_question_is_for_a_person_at_night(world: World) -> None:
    question, mark = world.asked["adopted"], world.asked["marked_again"]
    assert question["subject"] == "Deal 3: is the payment on the portal?"
    # What may pay twice is last, and says so.
    assert question["options"] == ["Use payment 1033 (0.00 EUR)", "Give up", "Add again (may pay twice)"]
    for words in ("deal 3", "/crm/deal/details/3/", "**Add again (may pay twice)** sends the call", "within 1 day the"):
        assert words in question["body"], words
    assert "journal resolve" not in question["body"]
    assert mark["options"] == ["Give up", "Mark again (may pay twice)"]
    assert "Use payment" not in mark["body"]
    assert "within 8 hours 30 minutes" in world.asked["added_again"]["body"]


def test_a_person_lets_it_be_added_again(world: World) -> None:
    assert world.asked["added_again"]["options"] == ["Give up", "Add again (may pay twice)"]
    receipt = world.receipt("added_again")
    assert [entry["payment_id"] for entry in world.added(2)] == [receipt["payment_id"]]
    assert (receipt["outcome"], receipt["evidence"]) == ("created", "response")


def test_adding_again_is_refused_if_something_appeared_that_was_not_shown(world: World) -> None:
    """The task fails: nothing begins again."""
    task = world.task("changed")
    assert (task["state"], task["try_number"]) == ("failed", 1)
    assert [entry["by"] for entry in world.added(3)] == ["rest", "person"]  # ours is that of "adopted"
    theirs = world.added(3)[-1]["payment_id"]
    assert f"decided to send again, but meanwhile payment {theirs} appeared" in world.printed
    entry = world.journal("changed")
    assert (entry["state"], entry["candidates"]) == ("needs_decision", [theirs])


def test_a_person_lets_it_be_marked_again(world: World) -> None:
    assert world.receipt("marked_again")["outcome"] == "paid"
    assert len([e for e in world.portal.ledger if (e["event"], e["invoice_id"]) == ("invoice_paid", 2)]) == 1


def test_what_is_given_up_is_red_and_not_retried(world: World) -> None:
    task = world.task("given_up")
    assert (task["state"], task["try_number"]) == ("failed", 1)
    assert not [e for e in world.portal.ledger if e["event"] == "payment_paid" and e["payment_id"] == 1001]
    assert "has abandoned payment 1001" in world.printed


def test_a_time_out_in_the_middle_of_a_request_is_resolved_by_the_next_attempt(world: World) -> None:
    task, receipt = world.task("timed_out"), world.receipt("timed_out")
    assert task["state"] == "success"
    assert task["try_number"] > 1
    assert (receipt["outcome"], receipt["evidence"], receipt["recovered"]) == ("created", "only_new_payment", True)
    assert len(world.added(1)) == 1
    assert float(receipt["amount"]) > 0


# -- at a terminal


def test_what_was_left_red_is_settled_at_a_terminal(world: World) -> None:
    assert world.task("left_red")["state"] == "failed"
    (ours,) = world.added(101)
    place = ("--dag", "left_red", "--run", world.runs["left_red"])
    listed = world.cli("list", *place)
    assert listed.returncode == 0, listed.stderr
    assert "needs_decision   smart invoice 101" in listed.stdout
    assert listed.stdout.endswith("1 key\n")
    shown = world.cli("show", *place, "--task", "pay", "--map-index", "-1")
    assert f"candidates  {ours['payment_id']}" in shown.stdout
    decided = world.cli("resolve", *place, "--use-payment", str(ours["payment_id"]), "--by", "Ada", "--yes", "--json")
    assert decided.returncode == 0, decided.stderr
    entry = world.journal("left_red")
    assert "decision" not in entry  # only attempts write it
    (decision,) = world.journal("left_red", "bitrix24_decisions")
    assert json.loads(decided.stdout) == entry | {"state": "decision_pending", "decision": decision}
    assert (decision["what"], decision["payment_id"], decision["by"]) == ("use_payment", ours["payment_id"], "Ada")


def test_what_is_not_there_is_told(world: World) -> None:
    refused = world.cli("list", "--dag", "left_red", "--run", "no_such_run")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "does not know" in refused.stderr
    place = ("--dag", "left_red", "--run", world.runs["left_red"])
    assert "has no task 'other'" in world.cli("show", *place, "--task", "other").stderr
    away = world.cli("list", *place, "--airflow-url", f"http://127.0.0.1:{free_port()}")
    assert away.returncode == 1
    assert "cannot be used now" in " ".join(away.stderr.split())
    assert "Traceback" not in refused.stderr + away.stderr


def test_the_secret_is_nowhere(world: World) -> None:
    journals = [world.journal(dag_id) for dag_id in DAGS]
    assert world.secret not in json.dumps([world.asked, journals]) + world.printed


# -- answers that Airflow does not hand over by itself


def test_a_question_that_nobody_has_answered_says_what_a_late_answer_does(world: World) -> None:
    assert "nobody has answered it within 1 second" in world.printed
    words = ": Airflow 3.4 does not hand it over" if AIRFLOW_V_3_4_PLUS else " until this task is cleared"
    assert f"has no effect{words}" in world.printed


def test_an_answer_that_came_too_late_is_heard_when_the_task_is_cleared(world: World) -> None:
    """From Airflow 3.4 on, a question belongs to one attempt: the next one asks again."""
    assert len(world.added(2)) == 1  # that of "added_again"
    if AIRFLOW_V_3_4_PLUS:
        assert "nobody has answered it within 1 second" in world.log("answered_late")
        assert "decisions" not in world.journal("answered_late")
        return
    assert "has abandoned deal 2" in world.log("answered_late")
    (decision,) = world.journal("answered_late")["decisions"]
    assert (decision["what"], decision["through"]) == ("abandon", "Airflow")


def test_an_answer_that_is_overtaken_is_heard(world: World) -> None:
    """Whether Airflow goes on with the answer or starts another attempt."""
    receipt = world.receipt("overtaken")
    (decision,) = world.journal("overtaken")["decisions"]
    assert (decision["what"], decision["payment_id"]) == ("use_payment", receipt["payment_id"])
    assert (receipt["evidence"], receipt["recovered"]) == ("person", True)


def test_nobody_waits_for_ever_where_there_is_no_scheduler(world: World) -> None:
    command = [sys.executable, str(ROOT / "tests" / "operators" / "run_dags.py"), "tried_out"]
    done = subprocess.run(command, env=world.airflow.env, capture_output=True, text=True, timeout=1800, check=True)
    [task] = printed_json(done.stdout)["tried_out"]["pay"]
    assert task["state"] == "failed"
    assert "Nobody is asked: `airflow dags test` and `dag.test()` have no scheduler" in done.stdout
