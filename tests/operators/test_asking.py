"""What cannot be known, in a real Airflow: a person is asked, and answers through Airflow's API, or at a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator
from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.tools.local_airflow import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Task

pytestmark = pytest.mark.airflow

HERE = Path(__file__).resolve().parent
ADD, INVOICE, MARK = "crm.item.payment.add", "sale.paysystem.pay.invoice", "crm.item.payment.pay"
DAGS = ["adopted", "timed_out", "left_red", "added_again", "changed", "marked_again", "given_up"]
FAULTS = [
    Fault(kind="drop_after", method=ADD, occurrence=1),  # adopted: the payment is there, its answer is not
    Fault(kind="hold", method=ADD, occurrence=2, when="after"),  # timed_out
    Fault(kind="drop_after", method=ADD, occurrence=3),  # left_red
    Fault(kind="drop_before", method=ADD, occurrence=4, times=2),  # added_again: lost twice
    Fault(kind="drop_before", method=ADD, occurrence=7, times=2),  # changed: lost twice, after the one above was added
    Fault(kind="drop_before", method=INVOICE, occurrence=1, times=2),
    Fault(kind="drop_before", method=MARK, occurrence=1, times=2),
]
ANSWERS = {
    "adopted": ["Use payment 1033 (0.00 EUR)"],
    "added_again": ["Add again"],
    "changed": ["Add again"],
    "marked_again": ["Mark again"],
    "given_up": ["Give up"],
}


@dataclass
class World:
    """What became of all DAGs, what was asked, and the portal that they worked on."""

    api: httpx.Client
    env: dict[str, str]
    portal: Portal
    secret: str
    dags: dict[str, Any] = field(default_factory=dict)
    printed: str = ""
    asked: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def task(self, dag_id: str) -> dict[str, Any]:
        (ti,) = self.dags[dag_id]["pay"]
        return dict(ti)

    def receipt(self, dag_id: str) -> dict[str, Any]:
        return dict(self.task(dag_id)["xcoms"]["return_value"])

    def added(self, entity_id: int) -> list[dict[str, Any]]:
        return [e for e in self.portal.ledger if (e["event"], e["entity_id"]) == ("payment_added", entity_id)]

    def run_id(self, dag_id: str) -> str:
        (run,) = self.api.get(f"/dags/{dag_id}/dagRuns").raise_for_status().json()["dag_runs"]
        return str(run["dag_run_id"])

    def journal(self, dag_id: str, document: str = "bitrix24_payment") -> Any:
        path = f"/dags/{dag_id}/dagRuns/{self.run_id(dag_id)}/taskInstances/pay/state-store/{document}"
        return self.api.get(path).raise_for_status().json()["value"]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "airflow_provider_bitrix24", "journal", *arguments]
        url = str(self.api.base_url).removesuffix("/api/v2/")
        return subprocess.run(
            command, env=self.env | {"AIRFLOW_URL": url}, capture_output=True, text=True, timeout=300, check=False
        )


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something that has to come; how long it takes is not judged."""
    deadline = time.monotonic() + 300
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, short_waits: dict[str, Any]) -> Iterator[World]:
    """Run all DAGs in one process, beside an API server; a thread answers what they ask."""
    home = tmp_path_factory.mktemp("airflow")
    portal = Portal()
    webhook = portal.add_webhook()
    for fault in FAULTS:
        portal.faults.add(fault)
    url = f"http://127.0.0.1:{free_port()}"
    with SandboxServer(portal) as server:
        connection = {
            "conn_type": "bitrix24",
            "host": "127.0.0.1",
            "schema": "http",
            "port": int(server.url.rsplit(":", 1)[1]),
            "login": str(webhook.user_id),
            "password": webhook.secret,
            "extra": short_waits | {"read_timeout": 60},
        }
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "asking"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__BITRIX24__RATE_LIMIT": "off",  # the sandbox has none
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW_CONN_BITRIX24_DEFAULT": json.dumps(connection),
            "PYTHONPATH": str(HERE.parents[1]),
            "PYTHONWARNINGS": "ignore",  # Airflow's own
            "NO_PROXY": "127.0.0.1",
        }
        airflow = [sys.executable, "-m", "airflow"]
        done = subprocess.run([*airflow, "db", "migrate"], env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        serve = [*airflow, "api-server", "--host", "127.0.0.1", "--port", url.rsplit(":", 1)[1], "--workers", "1"]
        with (
            (home / "api-server.log").open("wb") as log,
            subprocess.Popen(serve, env=env, stdout=log, stderr=log, start_new_session=True) as api_server,
            httpx.Client(base_url=f"{url}/api/v2", timeout=30, trust_env=False) as api,
        ):
            try:
                until(lambda: is_up(api), "the API server is up")
                world = World(api, env, portal, webhook.secret)
                run_and_answer(world)
                yield world
            finally:
                api_server.terminate()


def is_up(api: httpx.Client) -> bool:
    try:
        return api.get("/version").is_success
    except httpx.TransportError:
        return False


def run_and_answer(world: World) -> None:
    """Run all DAGs; whenever Airflow waits for a person, be that person."""
    run = [sys.executable, str(HERE / "run_dags.py"), *DAGS]
    env = world.env | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(run, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        lines = []
        try:
            for line in running.stdout:
                lines.append(line)
                # Not before: `dag.test` writes the state of a task that has just parked once more.
                if "Waiting for Human-in-the-loop input" in line:
                    answer(world)
        except BaseException:
            running.kill()  # or it would wait for ever
            raise
    world.printed = "".join(lines)
    assert running.returncode == 0, world.printed[-5000:]
    world.dags = json.loads(next(line for line in reversed(lines) if line.startswith('{"')))


def answer(world: World) -> None:
    """The person at night: reads the question, looks at the portal, and answers."""
    for dag_id, answers in ANSWERS.items():
        asked = world.asked.setdefault(dag_id, [])
        question = open_question(world.api, dag_id)
        if question is None:
            continue
        if dag_id == "changed":
            # A colleague is faster: what is decided now is decided without knowing it.
            world.portal.act.add_payment(2, 3, amount="5.00", user_id=7)
        path = f"/dags/{dag_id}/dagRuns/{question['task_instance']['dag_run_id']}/taskInstances/pay/-1/hitlDetails"
        chosen = {"chosen_options": [answers[len(asked)]], "params_input": {}}
        asked.append(question)
        world.api.patch(path, json=chosen).raise_for_status()


def open_question(api: httpx.Client, dag_id: str) -> dict[str, Any] | None:
    details = api.get(f"/dags/{dag_id}/dagRuns/~/hitlDetails").raise_for_status().json()["hitl_details"]
    parked = [one for one in details if one["task_instance"]["state"] == "awaiting_input"]
    return next((one for one in parked if not one["response_received"]), None)


def test_a_person_adopts_the_payment(world: World) -> None:
    receipt = world.receipt("adopted")
    assert (receipt["payment_id"], receipt["evidence"], receipt["recovered"]) == (1033, "person", True)
    assert receipt["outcome"] == "created"
    assert [entry["payment_id"] for entry in world.added(3) if entry["by"] == "rest"] == [1033]
    entry = world.journal("adopted")
    (decision,) = entry["decisions"]
    assert (decision["what"], decision["payment_id"], decision["through"]) == ("adopt", 1033, "Airflow")
    assert decision["by"]
    assert decision["at"].startswith("20")


def test_the_question_is_for_a_person_at_night(world: World) -> None:
    (question,) = world.asked["adopted"]
    assert question["subject"] == "Deal 3: what has become of the payment?"
    assert question["options"] == ["Use payment 1033 (0.00 EUR)", "Add again", "Give up"]
    for words in ("deal 3", "/crm/deal/details/3/", "1033", "**Add again** sends the call once more", "1 day, 0:00:00"):
        assert words in question["body"], words
    (mark,) = world.asked["marked_again"]
    assert mark["options"] == ["Mark again", "Give up"]
    assert "Use payment" not in mark["body"]
    assert "8:30:00" in world.asked["added_again"][0]["body"]


def test_a_person_lets_it_be_added_again(world: World) -> None:
    (question,) = world.asked["added_again"]
    assert question["options"] == ["Add again", "Give up"]
    receipt = world.receipt("added_again")
    assert [entry["payment_id"] for entry in world.added(2)] == [receipt["payment_id"]]
    assert (receipt["outcome"], receipt["evidence"]) == ("created", "answer")


def test_adding_again_is_refused_if_something_appeared_that_was_not_shown(world: World) -> None:
    """Airflow would go on showing the first question, so it is left to the terminal."""
    assert len(world.asked["changed"]) == 1
    task = world.task("changed")
    assert (task["state"], task["try_number"]) == ("failed", 1)
    assert [entry["by"] for entry in world.added(3)] == ["rest", "person"]  # ours is that of "adopted"
    theirs = world.added(3)[-1]["payment_id"]
    assert f"decided to pay again, but meanwhile payment {theirs} appeared" in world.printed
    assert "would show that older question" in world.printed
    entry = world.journal("changed")
    assert (entry["state"], entry["candidates"]) == ("parked", [theirs])


def test_a_person_lets_it_be_marked_again(world: World) -> None:
    assert world.receipt("marked_again")["outcome"] == "paid"
    assert len([e for e in world.portal.ledger if (e["event"], e["invoice_id"]) == ("invoice_paid", 2)]) == 1


def test_what_is_given_up_is_red_and_not_retried(world: World) -> None:
    task = world.task("given_up")
    assert (task["state"], task["try_number"]) == ("failed", 1)
    assert not [e for e in world.portal.ledger if e["event"] == "payment_paid" and e["payment_id"] == 1001]
    assert "has given payment 1001 up" in world.printed


def test_a_time_out_in_the_middle_of_a_request_is_resolved_by_the_next_attempt(world: World) -> None:
    task, receipt = world.task("timed_out"), world.receipt("timed_out")
    assert task["state"] == "success"
    assert task["try_number"] > 1
    assert (receipt["outcome"], receipt["evidence"], receipt["recovered"]) == ("created", "difference", True)
    assert len(world.added(1)) == 1
    assert float(receipt["amount"]) > 0


# -- at a terminal


def test_what_was_left_red_is_settled_at_a_terminal(world: World) -> None:
    assert world.task("left_red")["state"] == "failed"
    (ours,) = world.added(101)
    place = ("--dag", "left_red", "--run", world.run_id("left_red"))
    listed = world.cli("list", *place)
    assert listed.returncode == 0, listed.stderr
    assert "parked       smart invoice 101" in listed.stdout
    assert listed.stdout.endswith("1 key\n")
    shown = world.cli("show", *place, "--task", "pay", "--map-index", "-1")
    assert f"candidates  {ours['payment_id']}" in shown.stdout
    decided = world.cli("resolve", *place, "--adopt", str(ours["payment_id"]), "--by", "Ada", "--yes", "--json")
    assert decided.returncode == 0, decided.stderr
    entry = world.journal("left_red")
    assert entry["decision"] is None  # only attempts write it
    (decision,) = world.journal("left_red", "bitrix24_decisions")
    assert json.loads(decided.stdout) == entry | {"state": "decided", "decision": decision}
    assert (decision["what"], decision["payment_id"], decision["by"]) == ("adopt", ours["payment_id"], "Ada")


def test_what_is_not_there_is_told(world: World) -> None:
    refused = world.cli("list", "--dag", "left_red", "--run", "no_such_run")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "does not know" in refused.stderr
    place = ("--dag", "left_red", "--run", world.run_id("left_red"))
    assert "has no task 'other'" in world.cli("show", *place, "--task", "other").stderr
    away = world.cli("list", *place, "--airflow-url", f"http://127.0.0.1:{free_port()}")
    assert away.returncode == 1
    assert "cannot be used now" in " ".join(away.stderr.split())
    assert "Traceback" not in refused.stderr + away.stderr


def test_the_secret_is_nowhere(world: World) -> None:
    journals = [world.journal(dag_id) for dag_id in DAGS]
    assert world.secret not in json.dumps([world.dags, world.asked, journals]) + world.printed


def test_where_there_is_nothing_to_decide_nobody_is_asked(portal: Any, task: Task) -> None:
    """Two unpaid payments: nothing was sent, so a person has to tidy up on the portal, not to decide."""
    for _ in range(2):
        portal.act.add_payment(2, 1, amount="5.00")
    operator = AddCrmPaymentOperator(task_id="add", entity_id=1, if_unpaid_exists="return", on_unknown="ask")
    with pytest.raises(AirflowFailException, match="PaymentAmbiguous: The deal 1 has 2 unpaid payments"):
        operator.execute(task.context)
