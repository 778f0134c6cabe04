"""Where the journal lives, and which keys it keeps how far."""

from __future__ import annotations

import json
import logging
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.__main__ import main
from airflow_provider_bitrix24.at_most_once.record import Record, Send
from airflow_provider_bitrix24.exceptions import PaymentAmbiguous
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.operators.journals import journal_of
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator, PayInvoiceOperator
from airflow_provider_bitrix24.sql import Database
from tests.operators.test_forgotten import undone
from tests.operators.test_operators import EACH, OPERATORS, write_requests
from tests.tools.final import raises_for_good
from tests.tools.payments import JournalPage

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Task

ADD = "crm.item.payment.add"
PORTAL = "acme.bitrix24.com"
SHORT = {
    "allow_http": True,
    "send_deadline": 1,
    "connect_timeout": 0.2,
    "network_delay": 0,
    "server_time_limit": 0.3,
    "read_lag": 0.2,
}


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of an Airflow connection of an empty database."""
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "journal.db")}
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", json.dumps(connection))
    return "payments"


def add(**arguments: Any) -> AddCrmPaymentOperator:
    return AddCrmPaymentOperator(task_id="add", **{"entity_id": 1, **arguments})


def added(portal: Any) -> list[int]:
    return [entry["payment_id"] for entry in portal.ledger if entry["event"] == "payment_added"]


def test_with_a_database_airflow_may_delete_its_state(
    portal: Any, task: Task, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")
    first = add(journal_conn_id=database).execute(task.context)
    task.store.kept.clear()
    task.again()
    again = add(journal_conn_id=database).execute(task.context)
    assert (again["payment_id"], again["outcome"]) == (first["payment_id"], "existing")
    assert len(added(portal)) == 1


@EACH
def test_a_task_that_is_cleared_without_any_journal_names_no_command(
    portal: Any, forgetful_task: Task, operation: str
) -> None:
    OPERATORS[operation]().execute(forgetful_task.context)
    undone(portal, operation)
    forgetful_task.clear()
    with raises_for_good(PaymentAmbiguous, "The journal has lost the notes") as caught:
        OPERATORS[operation]().execute(forgetful_task.context)
    assert "There is no journal that would keep a decision" in str(caught.value)
    assert "start a new run of the DAG" in str(caught.value)
    assert "resolve" not in str(caught.value)
    assert len(write_requests(portal, operation)) == 1


def test_without_any_journal_it_is_said(portal: Any, forgetful_task: Task, capfd: pytest.CaptureFixture[str]) -> None:
    assert add().execute(forgetful_task.context)["outcome"] == "created"
    assert capfd.readouterr().out.count("There is no journal: this Airflow keeps no task state") == 1


def test_a_database_keeps_the_authors_key_across_runs(portal: Any, task: Task, database: str) -> None:
    arguments = {"idempotency_key": " order-4711-deposit ", "journal_conn_id": database}
    first = add(**arguments).execute(task.context)
    assert first["idempotency_key"].endswith(":key:order-4711-deposit")
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    again = add(**arguments).execute(task.context)
    assert again == {**first, "outcome": "existing", "recovered": True}
    other = add(idempotency_key="order-4712-deposit", journal_conn_id=database)
    task.store.kept.clear()
    assert other.execute(task.context)["payment_id"] != first["payment_id"]
    assert len(added(portal)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9-4711", "cafe\u0301-4711"),
        ("order-4711", "order-\uff14\uff17\uff11\uff11"),
        ("order 4711", "order\u00a04711"),
        ("\u212b-4711", "\u00c5-4711 "),
        ("of\ufb01ce-4711", "office-4711"),
    ],
)
def test_two_spellings_of_a_key_are_one_payment(portal: Any, task: Task, database: str, one: str, other: str) -> None:
    first = add(idempotency_key=one, journal_conn_id=database).execute(task.context)
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    again = add(idempotency_key=other, journal_conn_id=database).execute(task.context)
    assert (again["payment_id"], again["idempotency_key"]) == (first["payment_id"], first["idempotency_key"])
    assert len(added(portal)) == 1


def test_an_authors_key_never_meets_a_tasks_identity(portal: Any, task: Task, database: str) -> None:
    first = add(journal_conn_id=database).execute(task.context)
    identity = first["idempotency_key"].removeprefix(portal.url.removeprefix("http://") + ":")
    task.store.kept.clear()
    other = add(journal_conn_id=database, idempotency_key=identity).execute(task.context)
    assert other["payment_id"] != first["payment_id"]


def test_the_owner_is_named_in_the_database(portal: Any, task: Task, database: str) -> None:
    add(journal_conn_id=database).execute(task.context)
    (entry,) = SqlJournal(Database.from_connection(database), "somebody else").entries()
    assert entry.task == "dag:finance:run:manual__1:task:pay:map_index:-1"
    assert [send.by for send in entry.sends] == [f"{entry.task}:try:1"]


def test_two_airflows_that_share_a_database_are_two_owners(task: Task, database: str) -> None:
    """The same DAG, run and task on both, in the same millisecond: only one may believe that the row is its own."""
    log = logging.getLogger(__name__)
    pages = [JournalPage(journal_of(task.context, database, log), PORTAL, "key") for _ in range(2)]
    entry = Record(
        key="key",
        portal=PORTAL,
        operation="add_crm_payment",
        subject="deal 4",
        parameters={},
        task="dag:finance:run:manual__1:task:pay:map_index:-1",
        sends=(
            Send(
                at=1.0, settle_until=157.0, by="dag:finance:run:manual__1:task:pay:map_index:-1:try:1", result="pending"
            ),
        ),
    )
    assert [page.read() for page in pages] == [None, None]
    assert [page.write(entry, lease=60) for page in pages] == ["saved", "overtaken"]


@pytest.mark.parametrize("journal", [True, False])
def test_an_authors_key_that_nobody_would_remember_is_refused(
    portal: Any, task: Task, forgetful_task: Task, journal: bool
) -> None:
    with pytest.raises(AirflowFailException, match="needs a journal that all runs share") as caught:
        add(idempotency_key="order-4711").execute((task if journal else forgetful_task).context)
    for words in ("journal_conn_id", "tag=True", "Nothing was sent"):
        assert words in str(caught.value)
    assert portal.requests == []


def test_with_the_tag_alone_it_holds_for_runs_one_after_another(
    portal: Any, task: Task, capfd: pytest.CaptureFixture[str]
) -> None:
    first = add(idempotency_key="order-\uff14\uff17\uff11\uff11", tag=True).execute(task.context)
    assert "not for two at the same moment" in capfd.readouterr().out
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    again = add(idempotency_key=" order-4711", tag=True).execute(task.context)
    assert (again["payment_id"], again["outcome"], again["evidence"]) == (first["payment_id"], "existing", "tag")
    assert len(added(portal)) == 1


def test_a_mark_is_known_to_other_runs(portal: Any, task: Task, database: str) -> None:
    def pay(**arguments: Any) -> dict[str, Any]:
        operator = PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, **arguments)
        return operator.execute(task.context)

    assert pay(journal_conn_id=database)["outcome"] == "paid"
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    assert pay(journal_conn_id=database)["outcome"] == "already_paid"
    assert len([entry for entry in portal.ledger if entry["event"] == "invoice_paid"]) == 1


def test_a_portal_that_is_named_later_is_noticed_before_anything_is_sent(
    portal: Any, task: Task, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection with portal_id and one without: the same key would have two rows."""
    connection = json.loads(portal.connection)
    named = connection | {"extra": SHORT | {"portal_id": "ACME"}}
    monkeypatch.setenv("AIRFLOW_CONN_NAMED", json.dumps(named))
    arguments = {"idempotency_key": "order-4711", "journal_conn_id": database}
    add(**arguments).execute(task.context)
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    host = portal.url.removeprefix("http://")
    sent = len(portal.requests)
    with pytest.raises(AirflowFailException, match=f"knows {host} as the portal '{host}'.*names it 'acme'") as caught:
        add(bitrix24_conn_id="named", **arguments).execute(task.context)
    assert len(portal.requests) == sent
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")  # the command would look for Airflow's own database
    command = str(caught.value).partition("`")[2].partition("`")[0]
    assert main(shlex.split(command)[1:]) == 0
    for spelling in ("ACME", "acme", "Acme."):
        monkeypatch.setenv("AIRFLOW_CONN_NAMED", json.dumps(named | {"extra": SHORT | {"portal_id": spelling}}))
        task.store.kept.clear()
        receipt = add(bitrix24_conn_id="named", **arguments).execute(task.context)
        assert (receipt["idempotency_key"], receipt["outcome"]) == ("acme:key:order-4711", "existing")
    with pytest.raises(AirflowFailException, match="as the portal 'acme'"):
        add(**arguments).execute(task.context)
    assert len(added(portal)) == 1
