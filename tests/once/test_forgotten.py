"""A journal that has forgotten what earlier attempts have sent, in virtual time: each operation, each journal."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24StoreError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentUnresolved,
)
from airflow_provider_bitrix24.journal.database import SqlJournal
from airflow_provider_bitrix24.journal.task_state import DOCUMENT, TaskStateJournal
from airflow_provider_bitrix24.once import Once, Task
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import World

LOST = "It was cleared."
KEY = "acme.bitrix24.com:key:order-17"
WORK: dict[str, Callable[[Once], Any]] = {
    "pay_invoice": lambda once: once.pay_invoice(invoice_id=2, pay_system_id=31),
    "pay_crm_payment": lambda once: once.pay_crm_payment(payment_id=1001),
    "add_crm_payment": lambda once: once.add_crm_payment(entity_id=1, entity_type_id=2, key=KEY),
}
EACH = pytest.mark.parametrize("operation", list(WORK))


class State(dict[str, str]):
    """A task state store."""

    def get(self, key: str, default: Any = None) -> Any:  # type: ignore[override]
        return json.loads(self[key]) if key in self else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = json.dumps(value)


@pytest.fixture(params=["task state", "sql", "sql and task state"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Makes an empty journal, or the one that was made before."""
    state, kind = TaskStateJournal(State()), request.param
    if kind == "task state":
        return lambda: state
    url = sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / "journal.db"))
    return lambda: SqlJournal(Database(url, "the database"), "me", state if "and" in kind else None)


def attempt(world: World, journal: Any, number: int, lost: str = LOST, identity: str = "task") -> Once:
    task = Task(identity=identity, try_number=number, lost=lost)
    return Once(world.caller, world.run, world, logging.getLogger("once"), journal=journal, task=task)


@EACH
def test_nothing_is_sent_and_every_later_attempt_knows_that_notes_are_lost(
    world: World, journal: Callable[[], Any], operation: str
) -> None:
    for number, lost in ((2, LOST), (3, LOST), (4, "")):
        with pytest.raises(PaymentAmbiguous, match="The journal has lost what earlier attempts of task noted") as told:
            WORK[operation](attempt(world, journal(), number, lost))
        assert (f" {LOST} " in str(told.value)) == bool(lost)
    assert world.writes() == []


@EACH
def test_a_portal_that_cannot_be_read_is_no_denial(world: World, journal: Callable[[], Any], operation: str) -> None:
    world.fault("internal_server_error")
    with pytest.raises(PaymentUnresolved, match="MAY be on the books"):
        WORK[operation](attempt(world, journal(), 2))
    assert world.writes() == []


@EACH
def test_an_attempt_that_must_have_left_nothing_begins(
    world: World, journal: Callable[[], Any], operation: str
) -> None:
    assert WORK[operation](attempt(world, journal(), 2, lost="")).outcome in ("created", "paid")


@EACH
def test_what_is_known_is_not_lost(world: World, journal: Callable[[], Any], operation: str) -> None:
    WORK[operation](attempt(world, journal(), 1, lost=""))
    assert WORK[operation](attempt(world, journal(), 2)).recovered
    assert len(world.writes()) == 1


class Dies(Exception):
    """The worker is gone."""


@EACH
def test_an_attempt_that_dies_before_it_reads_the_portal_has_noted_that_it_began(
    world: World, journal: Callable[[], Any], operation: str
) -> None:
    class Stop:
        def check(self) -> None:
            raise Dies

    task = Task(identity="task")
    once = Once(world.caller, world.run, world, logging.getLogger("once"), journal=journal(), task=task, brake=Stop())
    with pytest.raises(Dies):
        WORK[operation](once)
    # So the journal is not empty, and has forgotten nothing: nothing was sent.
    assert WORK[operation](attempt(world, journal(), 2)).outcome in ("created", "paid")


def test_the_note_of_another_task_does_not_speak_for_this_one(world: World, tmp_path: Path) -> None:
    url = sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / "journal.db"))
    journal = SqlJournal(Database(url, "the database"), "me")
    with pytest.raises(Exception, match="deal 999"):
        attempt(world, journal, 1, "", "another").add_crm_payment(entity_id=999, entity_type_id=2, key=KEY)
    with pytest.raises(PaymentAmbiguous, match="has lost what earlier attempts of task noted"):
        WORK["add_crm_payment"](attempt(world, journal, 2))
    assert world.writes() == []


def test_two_that_begin_at_the_same_moment_add_one_payment(world: World, tmp_path: Path) -> None:
    url = sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / "journal.db"))
    database = Database(url, "the database")

    class Slow(SqlJournal):
        """Somebody else is faster between its first look and its note."""

        def page(self, portal: str, key: str) -> Any:
            page = super().page(portal, key)
            opened = page.open

            def open(entry: Any) -> bool:
                page.open = opened  # type: ignore[method-assign]
                WORK["add_crm_payment"](attempt(world, SqlJournal(database, "other"), 1, "", "other"))
                return opened(entry)

            page.open = open  # type: ignore[method-assign]
            return page

    receipt = WORK["add_crm_payment"](attempt(world, Slow(database, "me"), 1, ""))
    assert (receipt.outcome, receipt.recovered) == ("existing", True)
    assert world.writes() == ["crm.item.payment.add"]


def test_a_document_that_was_there_and_is_gone_is_noticed(world: World) -> None:
    state = State()
    first = TaskStateJournal(state)
    assert first.begin("try 1", lost="", first=True) == ""
    WORK["add_crm_payment"](attempt(world, first, 1, ""))
    del state[DOCUMENT]
    second = TaskStateJournal(state)
    assert second.begin("try 2", lost="", first=False) == ""
    with pytest.raises(PaymentAmbiguous, match="had a document bitrix24_payment, and no longer has it"):
        WORK["add_crm_payment"](attempt(world, second, 2, ""))
    assert len(world.writes()) == 1


AIRFLOWS_OWN = {
    "status_code": 404,
    "detail": {"detail": {"reason": "not_found", "message": "Task instance 1 not found"}},
}
PROXYS = {"status_code": 404, "detail": {"detail": "Not Found"}}


class NotKept(State):
    """A task state that does not keep what the portal has answered."""

    def __init__(self, said: dict[str, Any], times: int) -> None:
        self.said, self.left = said, times

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        sends = value.get("sends")
        if sends and sends[-1]["result"] == "answered" and self.left:
            self.left -= 1
            error = RuntimeError("API_SERVER_ERROR")
            error.error = SimpleNamespace(detail=self.said)  # type: ignore[attr-defined]
            raise error
        super().set(key, value, retention=retention)


@EACH
@pytest.mark.parametrize(
    ("said", "kind"), [(AIRFLOWS_OWN, PaymentInProgress), (PROXYS, Bitrix24StoreError)], ids=["airflow", "proxy"]
)
def test_an_answer_that_cannot_be_kept_is_told(
    world: World, operation: str, said: dict[str, Any], kind: type[Bitrix24Error]
) -> None:
    state = NotKept(said, times=99)
    with pytest.raises(kind, match="y its answer the money is recorded") as caught:
        WORK[operation](attempt(world, TaskStateJournal(state), 1, lost=""))
    done = {
        "pay_invoice": "invoice 2 was marked as paid",
        "pay_crm_payment": "payment 1001 was marked as paid",
        "add_crm_payment": "payment 1033 was added to deal 1",
    }
    assert f"The portal answered that {done[operation]}" in str(caught.value)
    assert ("Airflow has given this attempt up" in str(caught.value)) is (said is AIRFLOWS_OWN)
    assert caught.value.sent == "yes" if said is AIRFLOWS_OWN else caught.value.sent != "no"
    assert len(world.writes()) == 1


@EACH
def test_a_wrong_not_found_does_not_stop_the_write_of_an_answer(world: World, operation: str) -> None:
    receipt = WORK[operation](attempt(world, TaskStateJournal(NotKept(PROXYS, times=2)), 1, lost=""))
    assert receipt.outcome in ("created", "paid")
    assert len(world.writes()) == 1
