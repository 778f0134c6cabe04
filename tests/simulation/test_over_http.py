"""A sample of the enumeration over real sockets, with real clocks and a task state that is all a dead worker leaves."""

from __future__ import annotations

import json
import logging
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from airflow_provider_bitrix24 import drivers
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
from airflow_provider_bitrix24.sql import Database
from tests.simulation.campaign import OPERATIONS, Operation
from tests.simulation.judge import Judge
from tests.simulation.strikes import Killed
from tests.simulation.world import Outcome
from tests.tools.payments import ScriptedPayments

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

TERMS = {
    "connect_timeout": 1,
    "read_timeout": 2,
    "send_deadline": 2,
    "network_delay": 0.2,
    "server_time_limit": 0.5,
    "read_lag": 0.2,
}
METHODS = {
    "tag": "batch",
    "fill": "crm.item.payment.add",
    "invoice": "sale.paysystem.pay.invoice",
    "payment": "crm.item.payment.pay",
}


class Store:
    """A task state store, in which a worker may die."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.dies_at = 0
        """At which write the worker is killed, before it is made; 0 is never."""

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.dies_at -= 1
        if self.dies_at == 0:
            raise Killed
        self.kept[key] = json.dumps(value)


def attempt(sandbox: Sandbox, store: Store, operation: Operation, try_number: int) -> Outcome:
    """One attempt, with a session of its own, as each worker has."""
    values = json.loads(sandbox.connection)
    settings = Settings.from_connection_values(
        **{name: values[name] for name in ("host", "login", "password", "port", "schema") if name in values},
        extra={**TERMS, "portal_id": "acme"},
    )
    with drivers.make_session(settings) as session:
        payments = ScriptedPayments(
            ApiClient(settings),
            lambda flow: drivers.run(flow, session),
            time,
            logging.getLogger("proof.http"),
            journal=TaskStateJournal(store),
            task=TaskAttempt(identity="a", try_number=try_number),
        )
        try:
            return Outcome(receipt=operation.do(payments))
        except Killed:
            return Outcome(killed=True)


@pytest.mark.parametrize(
    ("operation", "trouble"),
    [
        ("tag", "drop_after"),
        ("tag", "commit_later"),
        ("tag", "killed"),
        ("fill", "drop_before"),
        ("fill", "killed"),
        ("invoice", "html"),
        ("invoice", "killed"),
        ("payment", "drop_before"),
        ("payment", "commit_later"),
    ],
)
def test_a_lost_answer_and_a_killed_worker(
    bitrix24_sandbox: Sandbox, operation: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    made, store = OPERATIONS[operation], Store()
    world = SimpleNamespace(portal=bitrix24_sandbox.portal, sends=[], journal="task state", name="acme")
    judge = Judge(world, made.key(world), made.operation)  # type: ignore[arg-type]
    if trouble == "killed":
        store.dies_at = 3  # the note that it begins is the first one
    else:
        # The reads before are one batch as well.
        occurrence = 2 if operation == "tag" else 1
        options = {"commit_later": {"seconds": 0.4}, "html": {"when": "after"}}.get(trouble, {})
        bitrix24_sandbox.fault(trouble, METHODS[operation], occurrence=occurrence, **options)
    outcome = None
    for try_number in (1, 2):
        try:
            outcome = attempt(bitrix24_sandbox, store, made, try_number)
        except Exception as error:
            outcome = Outcome(error=error)  # type: ignore[arg-type]
        judge.attempt(outcome, fill=dict(made.fill) if made.fill else None)
        if outcome.receipt is not None:
            break
    judge.end()
    assert outcome is not None
    if operation == "fill" and trouble != "drop_before":
        # With the task state alone, one new payment is a candidate and no proof: a person decides.
        assert getattr(outcome.error, "candidates", None) == (1033,)
        assert judge.standing() == [1033]
    else:
        assert outcome.receipt is not None, outcome
        assert len(judge.added()) + len(judge.marks()) == 1


@pytest.mark.parametrize("trouble", ["", "drop_after", "drop_before", "html"])
def test_a_list_over_http_is_paid_once_each(
    bitrix24_sandbox: Sandbox, trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Real sockets, a real database, real time: two chunks, and trouble when the first one is sent."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    portal = bitrix24_sandbox.portal
    invoices = [int(str(portal.create("invoice", {"price": "10.00"}))) for _ in range(30)]
    if trouble:
        # What is the same for all fills the first request; the second one is the send.
        options = {"when": "after"} if trouble == "html" else {}
        bitrix24_sandbox.fault(trouble, "batch", occurrence=2, **options)
    values = json.loads(bitrix24_sandbox.connection)
    settings = Settings.from_connection_values(
        **{name: values[name] for name in ("host", "login", "password", "port", "schema") if name in values},
        extra={**TERMS, "portal_id": "acme"},
    )
    database = Database(sqlalchemy.URL.create("sqlite", database=str(tmp_path / "journal.db")), "the database")
    with drivers.make_session(settings) as session:
        engine = PaymentEngine(
            ApiClient(settings),
            lambda flow: drivers.run(flow, session),
            time,
            logging.getLogger("proof.http"),
            journal=SqlJournal(database, "a"),
            task=TaskAttempt(identity="a"),
            batch_size=20,
        )
        results = engine.run([PayInvoice(portal="acme", invoice_id=one, pay_system_id=31) for one in invoices])
    assert [getattr(result, "outcome", result) for result in results] == ["paid"] * 30
    paid = [entry["invoice_id"] for entry in portal.ledger if entry["event"] == "invoice_paid"]
    assert sorted(paid) == invoices
