"""Payments from @task functions: `hook.payments`, with the journal and the safeguards of the running task."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.sdk.execution_time.context import set_current_context

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.safeguards import TEMPORARY
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.tools.airflow_home import airflow_env
from tests.tools.connections import connection_to
from tests.tools.printed import printed_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Task

HERE = Path(__file__).resolve().parent
CALLS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "pay_invoice": lambda payments, **more: payments.pay_invoice(invoice_id=2, pay_system_id=31, **more),
    "add_crm_payment": lambda payments, **more: payments.add_crm_payment(entity_id=1, fill_products=True, **more),
    "pay_crm_payment": lambda payments, **more: payments.pay_crm_payment(payment_id=1001, **more),
    "unpay_crm_payment": lambda payments, **more: payments.unpay_crm_payment(payment_id=1002, **more),
    "delete_crm_payment": lambda payments, **more: payments.delete_crm_payment(payment_id=1001, **more),
    "pay_payment": lambda payments, **more: payments.pay_payment(payment_id=1001, pay_system_id=6, **more),
}
WRITES = {name: call for name, call in CALLS.items() if name != "pay_payment"}
EACH = pytest.mark.parametrize("name", list(WRITES))


@pytest.fixture
def running(task: Task) -> Iterator[Task]:
    """A @task function runs."""
    task.context["task"] = SimpleNamespace(retries=0)
    with set_current_context(task.context):
        yield task


def again(task: Task) -> None:
    """Let Airflow retry it: the next attempt has a context of its own."""
    task.again()
    task.context.pop("bitrix24_used_keys", None)


@EACH
def test_a_call_returns_the_receipt_of_the_operator(portal: Any, running: Task, name: str) -> None:
    receipt = CALLS[name](Bitrix24Hook().payments)
    assert receipt["operation"] == name
    assert receipt["outcome"] in ("paid", "created", "unpaid", "deleted")
    assert json.loads(json.dumps(receipt)) == receipt


@EACH
def test_a_retry_sends_nothing_more(portal: Any, running: Task, name: str) -> None:
    first = CALLS[name](Bitrix24Hook().payments)
    before = len(portal.ledger)
    again(running)
    if name in ("add_crm_payment", "delete_crm_payment") and not AIRFLOW_V_3_3_PLUS:
        # Without a journal the portal alone cannot tell whose payment was added, or who has deleted one.
        with pytest.raises(AirflowFailException, match="Nothing was sent by this attempt"):
            CALLS[name](Bitrix24Hook().payments)
    else:
        assert CALLS[name](Bitrix24Hook().payments)["idempotency_key"] == first["idempotency_key"]
    assert len(portal.ledger) == before


@pytest.mark.parametrize("name", list(CALLS))
def test_outside_of_a_task_nothing_is_read_or_sent(portal: Any, name: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match="only in a running task"):
        CALLS[name](Bitrix24Hook().payments)
    assert portal.requests == []


@EACH
def test_the_safeguards_are_those_of_the_operators(
    portal: Any, running: Task, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.run.run_type = "backfill"
    with pytest.raises(AirflowFailException, match="backfill run"):
        CALLS[name](Bitrix24Hook().payments)
    running.run.run_type, running.run.run_id = "manual", f"{TEMPORARY}1"
    with pytest.raises(AirflowFailException, match="temporary run"):
        CALLS[name](Bitrix24Hook().payments)
    running.run.run_id = "manual__1"
    monkeypatch.setenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT", "true")
    with pytest.raises(AirflowFailException, match="stopped all payments"):
        CALLS[name](Bitrix24Hook().payments)
    monkeypatch.delenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT")
    assert portal.requests == []
    with pytest.raises(AirflowFailException, match="max_amount"):
        CALLS[name](Bitrix24Hook().payments, max_amount="0.01")  # type: ignore[call-arg]  # of the lambda
    assert portal.ledger == []


def test_a_pay_system_that_would_do_nothing_is_refused(portal: Any, running: Task) -> None:
    with pytest.raises(AirflowFailException, match="no REST handler"):
        CALLS["pay_payment"](Bitrix24Hook().payments)
    assert portal.ledger == []


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="needs the task state")
def test_each_call_has_a_record_of_its_own(portal: Any, running: Task) -> None:
    portal.fault("drop_after", "crm.item.payment.pay", times=1)
    receipts = [CALLS[name](Bitrix24Hook().payments) for name in ("pay_invoice", "pay_crm_payment", "add_crm_payment")]
    document = running.store.get("bitrix24_payments_1")
    assert set(document["records"]) == {receipt["idempotency_key"] for receipt in receipts}
    assert {record["state"] for record in document["records"].values()} == {"done"}


def test_a_second_payment_of_one_task_needs_a_part_of_its_own(portal: Any, running: Task) -> None:
    payments = Bitrix24Hook().payments
    payments.add_crm_payment(entity_id=1)
    with pytest.raises(AirflowFailException, match="one key stands for one operation"):
        payments.add_crm_payment(entity_id=3)
    parts = [payments.add_crm_payment(entity_id=1, part=part)["payment_id"] for part in ("deposit", "rest")]
    assert len({*parts}) == 2
    assert sum(entry["event"] == "payment_added" for entry in portal.ledger) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"idempotency_key": "order-1"}, "needs a journal that all runs share"),
        ({"idempotency_key": "order-1", "part": "rest", "tag": True}, "not both"),
        ({"part": ""}, "part must be a text"),
        ({"products": [{"row_id": 1, "quantity": 1}], "fill_products": True}, "not both"),
        ({"on_unknown": "ask"}, "on_unknown must be one of fail, adopt"),
        ({"allow_backfill": "yes"}, "allow_backfill must be True or False"),
    ],
)
def test_what_must_not_be_sent_is_refused(portal: Any, running: Task, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AirflowFailException, match=words):
        Bitrix24Hook().payments.add_crm_payment(entity_id=1, **arguments)
    assert portal.requests == []


# -- in a real Airflow


class Ran(SimpleNamespace):
    """The outcome of all DAGs, and the portal that they worked on."""

    dags: dict[str, Any]
    portal: Portal

    def events(self, **fields: Any) -> list[str]:
        return [
            entry["event"].removeprefix("payment_")
            for entry in self.portal.ledger
            if entry["event"].startswith("payment_") and fields.items() <= entry.items()
        ]

    def result(self, dag_id: str, task_id: str) -> Any:
        [ti] = self.dags[dag_id][task_id]
        assert ti["state"] == "success"
        return ti["xcoms"]["return_value"]


@pytest.fixture(scope="module")
def ran(new_airflow_home: Callable[[], Path], short_waits: dict[str, Any]) -> Ran:
    home = new_airflow_home()
    portal = Portal()
    with SandboxServer(portal) as server:
        env = airflow_env(home, HERE / "changing") | {
            "AIRFLOW_CONN_BITRIX24_DEFAULT": connection_to(server, short_waits),
            "AIRFLOW_CONN_JOURNAL": json.dumps({"conn_type": "sqlite", "host": str(home / "journal.db")}),
        }
        dags = ["task_state", "sql", "taskflow", "taskflow_sql", "example"]
        command = [sys.executable, str(HERE / "run_dags.py"), *dags]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr
    return Ran(dags=printed_json(done.stdout), portal=portal, printed=done.stdout + done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(("dag_id", "payment_id"), [("task_state", 1001), ("sql", 1004)])
def test_a_payment_is_corrected_and_deleted(ran: Ran, dag_id: str, payment_id: int) -> None:
    if dag_id == "task_state" and not AIRFLOW_V_3_3_PLUS:
        pytest.skip("needs the task state")
    tasks = ("pay", "unpay", "pay_again", "unpay_again", "delete")
    assert [ran.result(dag_id, task_id)["outcome"] for task_id in tasks] == [
        "paid",
        "unpaid",
        "paid",
        "unpaid",
        "deleted",
    ]
    assert ran.events(payment_id=payment_id) == ["paid", "unpaid", "paid", "unpaid", "deleted"]


@pytest.mark.slow
@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="needs the task state")
def test_a_retry_of_a_task_function_finds_what_it_has_sent(ran: Ran) -> None:
    paid, deposit, rest = ran.result("taskflow", "work")
    assert (paid["outcome"], paid["recovered"]) == ("paid", True)
    assert [one["recovered"] for one in (deposit, rest)] == [True, True]
    added = [entry["payment_id"] for entry in ran.portal.ledger if entry.get("entity_id") == 1]
    assert [deposit["payment_id"], rest["payment_id"]] == [one for one in added if one is not None]


@pytest.mark.slow
def test_a_task_function_with_a_database(ran: Ran) -> None:
    outcomes = ran.result("taskflow_sql", "work_with_database")
    assert outcomes[1] == "created"
    assert "one key stands for one operation" in outcomes[2]


@pytest.mark.slow
def test_the_example_of_the_docs_adds_two_payments(ran: Ran) -> None:
    first, second = ran.result("example", "add_deposit_and_rest")
    assert [ran.events(payment_id=number) for number in (first, second)] == [["added"], ["added"]]
