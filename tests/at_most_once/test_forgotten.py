"""A journal that has forgotten what earlier attempts have sent, in virtual time: each operation, each journal."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from airflow_provider_bitrix24.at_most_once.record import Decision
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24StoreError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentNotApplied,
    PaymentUnresolved,
)
from airflow_provider_bitrix24.journal.fenced import FencedJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import DOCUMENT, TaskStateJournal
from airflow_provider_bitrix24.sql import Database
from tests.tools.payments import JournalPage, ScriptedPayments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import World

LOST = "It was cleared."
KEY = "acme.bitrix24.com:key:order-17"
WORK: dict[str, Callable[[ScriptedPayments], Any]] = {
    "pay_invoice": lambda payments: payments.pay_invoice(invoice_id=2, pay_system_id=31),
    "pay_crm_payment": lambda payments: payments.pay_crm_payment(payment_id=1001),
    "add_crm_payment": lambda payments: payments.add_crm_payment(entity_id=1, entity_type_id=2, key=KEY),
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
    return lambda: (
        FencedJournal(Database(url, "the database"), "me", fence=state)
        if "and" in kind
        else SqlJournal(Database(url, "the database"), "me")
    )


def attempt(world: World, journal: Any, number: int, lost: str = LOST, identity: str = "task") -> ScriptedPayments:
    task = TaskAttempt(identity=identity, try_number=number, lost=lost)
    return ScriptedPayments(world.client, world.run, world, logging.getLogger("payments"), journal=journal, task=task)


@EACH
def test_nothing_is_sent_and_every_later_attempt_knows_that_notes_are_lost(
    world: World, journal: Callable[[], Any], operation: str
) -> None:
    for number, lost in ((2, LOST), (3, LOST), (4, "")):
        with pytest.raises(PaymentAmbiguous, match="lost the notes of earlier attempts of task") as told:
            WORK[operation](attempt(world, journal(), number, lost))
        assert (f" {LOST} " in str(told.value)) == bool(lost)
    assert world.writes() == []


@EACH
def test_a_portal_that_cannot_be_read_is_no_denial(world: World, journal: Callable[[], Any], operation: str) -> None:
    world.fault("internal_server_error")
    with pytest.raises(PaymentUnresolved, match="money may have been recorded"):
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

    task = TaskAttempt(identity="task")
    payments = ScriptedPayments(
        world.client, world.run, world, logging.getLogger("payments"), journal=journal(), task=task, check=Stop().check
    )
    with pytest.raises(Dies):
        WORK[operation](payments)
    # So the journal is not empty, and has forgotten nothing: nothing was sent.
    assert WORK[operation](attempt(world, journal(), 2)).outcome in ("created", "paid")


def test_the_note_of_another_task_does_not_speak_for_this_one(world: World, tmp_path: Path) -> None:
    url = sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / "journal.db"))
    journal = SqlJournal(Database(url, "the database"), "me")
    with pytest.raises(Exception, match="deal 999"):
        attempt(world, journal, 1, "", "another").add_crm_payment(entity_id=999, entity_type_id=2, key=KEY)
    with pytest.raises(PaymentAmbiguous, match="has lost the notes of earlier attempts of task"):
        WORK["add_crm_payment"](attempt(world, journal, 2))
    assert world.writes() == []


def test_two_that_begin_at_the_same_moment_add_one_payment(world: World, tmp_path: Path) -> None:
    url = sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / "journal.db"))
    database = Database(url, "the database")

    class Slow(SqlJournal):
        """Somebody else is faster between its first look and its note."""

        was_slow = False

        def save(self, changes: Any) -> Any:
            if not self.was_slow and changes[0].opens:
                self.was_slow = True
                WORK["add_crm_payment"](attempt(world, SqlJournal(database, "other"), 1, "", "other"))
            return super().save(changes)

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
A_PROXY = {"status_code": 404, "detail": {"detail": "Not Found"}}


class NotKept(State):
    """A task state that does not keep what the portal has answered."""

    def __init__(self, said: dict[str, Any], times: int) -> None:
        self.said, self.left = said, times

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        sends = value.get("sends") if isinstance(value, dict) else None
        if sends and sends[-1].get("result") == "acknowledged" and self.left:
            self.left -= 1
            error = RuntimeError("API_SERVER_ERROR")
            error.error = SimpleNamespace(detail=self.said)  # type: ignore[attr-defined]
            raise error
        super().set(key, value, retention=retention)


@EACH
@pytest.mark.parametrize(
    ("said", "kind"), [(AIRFLOWS_OWN, PaymentInProgress), (A_PROXY, Bitrix24StoreError)], ids=["airflow", "proxy"]
)
def test_an_answer_that_cannot_be_kept_is_told(
    world: World, operation: str, said: dict[str, Any], kind: type[Bitrix24Error]
) -> None:
    state = NotKept(said, times=99)
    recorded = (
        "the payment exists: do not add" if operation == "add_crm_payment" else "the money is recorded: do not mark"
    )
    with pytest.raises(kind, match=f"According to the reply, {recorded}") as caught:
        WORK[operation](attempt(world, TaskStateJournal(state), 1, lost=""))
    done = {
        "pay_invoice": "invoice 2 was marked as paid",
        "pay_crm_payment": "payment 1001 was marked as paid",
        "add_crm_payment": "payment 1033 of deal 1 was added",
    }
    assert f"The portal replied that {done[operation]}" in str(caught.value)
    assert ("Airflow has given this attempt up" in str(caught.value)) is (said is AIRFLOWS_OWN)
    assert caught.value.sent == "yes" if said is AIRFLOWS_OWN else caught.value.sent != "no"
    assert len(world.writes()) == 1


@EACH
def test_a_wrong_not_found_does_not_stop_the_write_of_an_answer(world: World, operation: str) -> None:
    receipt = WORK[operation](attempt(world, TaskStateJournal(NotKept(A_PROXY, times=2)), 1, lost=""))
    assert receipt.outcome in ("created", "paid")
    assert len(world.writes()) == 1


# -- the first send is still in flight

WRITES = {
    "pay_invoice": "sale.paysystem.pay.invoice",
    "pay_crm_payment": "crm.item.payment.pay",
    "add_crm_payment": "crm.item.payment.add",
}
KEYS = {
    "pay_invoice": "acme.bitrix24.com:invoice:2",
    "pay_crm_payment": "acme.bitrix24.com:payment:1001",
    "add_crm_payment": KEY,
}
RESULTS = ("payment_added", "payment_paid", "invoice_paid")


def forgotten_in_flight(world: World, operation: str, seconds: float = 60) -> None:
    """An attempt sends, dies, and its notes are lost; the portal executes what it sent only later."""
    world.fault("commit_later", WRITES[operation], seconds=seconds, occurrence=1)
    world.before["crm.item.payment.list"] = world.before["crm.item.payment.get"] = world.before["crm.invoice.get"] = die
    with pytest.raises(Dies):
        WORK[operation](attempt(world, TaskStateJournal(State()), 1, ""))
    world.before.clear()


def die() -> None:
    raise Dies


def pay_again(world: World, journal: Any, operation: str, candidates: tuple[int, ...], number: int = 2) -> Any:
    decided = Decision(what="send_again", candidates=candidates, by="ann", at="2026-11-27T10:00:00Z", through="Airflow")
    payments = attempt(world, journal, number)
    if operation == "pay_invoice":
        return payments.pay_invoice(invoice_id=2, pay_system_id=31, decision=decided)
    if operation == "pay_crm_payment":
        return payments.pay_crm_payment(payment_id=1001, decision=decided)
    return payments.add_crm_payment(entity_id=1, entity_type_id=2, key=KEY, decision=decided)


def results(world: World) -> int:
    world.clock.advance(300)
    world.person("crm.item.payment.list", {"entityId": 1, "entityTypeId": 2})
    return len(world.ledger(*RESULTS))


def test_a_person_is_asked_when_a_forgotten_add_has_arrived(world: World, journal: Callable[[], Any]) -> None:
    forgotten_in_flight(world, "add_crm_payment")
    with pytest.raises(PaymentAmbiguous) as told:
        WORK["add_crm_payment"](attempt(world, journal(), 2))
    assert 1033 in told.value.candidates
    assert results(world) == 1


@pytest.mark.parametrize("operation", ["pay_invoice", "pay_crm_payment"])
def test_a_forgotten_mark_that_arrives_late_is_found(world: World, journal: Callable[[], Any], operation: str) -> None:
    forgotten_in_flight(world, operation)
    assert WORK[operation](attempt(world, journal(), 2)).outcome == "already_paid"
    assert results(world) == 1


@EACH
def test_pay_again_waits_until_nothing_forgotten_can_arrive(
    world: World, journal: Callable[[], Any], operation: str
) -> None:
    forgotten_in_flight(world, operation)
    world.fault("internal_server_error", "batch", times=50)
    with pytest.raises(PaymentUnresolved):
        WORK[operation](attempt(world, journal(), 2))
    world.portal.faults.clear()
    # A release that did not wait has asked a person already.
    page = JournalPage(journal(), "acme.bitrix24.com", KEYS[operation])
    page.write(replace(page.read(), question="Is it there?"), lease=0)
    if operation == "add_crm_payment":
        with pytest.raises(PaymentAmbiguous, match=r"meanwhile .*1033 .*appeared"):
            pay_again(world, journal(), operation, ())
    else:
        assert pay_again(world, journal(), operation, ()).outcome == "already_paid"
    assert results(world) == 1


@EACH
def test_later_attempts_wait_only_for_what_is_left(world: World, journal: Callable[[], Any], operation: str) -> None:
    for number in (2, 3):
        before = world.clock.time()
        with pytest.raises(PaymentAmbiguous):
            WORK[operation](attempt(world, journal(), number))
        waited = world.clock.time() - before
        assert waited > world.client.settings.settle_window if number == 2 else waited < 5
    before = world.clock.time()
    candidates = tuple(one["id"] for one in world.person("crm.item.payment.list", {"entityId": 1, "entityTypeId": 2}))
    assert pay_again(world, journal(), operation, candidates, 4).sent
    assert world.clock.time() - before < 5


def test_a_tag_that_shows_ends_the_wait(world: World, journal: Callable[[], Any]) -> None:
    world.connect(scopes=("crm", "sale", "pay_system"))
    lost = TaskStateJournal(State())
    add = {"entity_id": 1, "entity_type_id": 2, "key": KEY, "tag": True}
    attempt(world, lost, 1, "").add_crm_payment(**add)
    before = world.clock.time()
    assert attempt(world, journal(), 2).add_crm_payment(**add).evidence == "tag"
    assert world.clock.time() - before < 5
    assert results(world) == 1


@EACH
def test_without_the_portals_time_each_attempt_waits_the_whole_window(
    world: World, journal: Callable[[], Any], operation: str
) -> None:
    answer = world._answer

    def timeless(request: Any) -> Any:
        response = answer(request)
        body = json.loads(response.body)
        body.pop("time", None)
        return replace(response, body=json.dumps(body).encode())

    world._answer = timeless  # type: ignore[method-assign]
    for number in (2, 3):
        before = world.clock.time()
        with pytest.raises(PaymentAmbiguous):
            WORK[operation](attempt(world, journal(), number))
        assert world.clock.time() - before > world.client.settings.settle_window
    assert world.writes() == []


@EACH
def test_a_portal_that_cannot_be_read_while_it_is_waited_for_is_no_answer(
    world: World, journal: Callable[[], Any], operation: str
) -> None:
    def away() -> None:
        for method in ("batch", "crm.invoice.get", "crm.item.payment.get"):
            world.fault("drop_before", method)

    world.before["batch:scope"] = lambda: world.before.update(
        dict.fromkeys(("batch:scope", "crm.invoice.get", "crm.item.payment.get"), away)
    )
    with pytest.raises(PaymentUnresolved, match="money may have been recorded"):
        WORK[operation](attempt(world, journal(), 2))
    assert world.writes() == []


@pytest.mark.parametrize("number", [2, 3])
def test_what_was_deleted_after_a_send_is_not_called_unreadable(
    world: World, journal: Callable[[], Any], number: int
) -> None:
    world.fault("drop_after", "crm.item.payment.pay", times=1)
    world.before["crm.item.payment.get"] = die
    with pytest.raises(Dies):
        WORK["pay_crm_payment"](attempt(world, journal(), 1, ""))
    world.portal.act.delete_payment(1001)
    with pytest.raises(PaymentNotApplied, match=r"money may have been recorded.* There is no payment 1001") as caught:
        WORK["pay_crm_payment"](attempt(world, journal(), number, ""))
    assert caught.value.final


def test_what_was_sent_twice_is_left_to_a_person_also_if_the_attempt_died_before_it_asked(
    world: World, journal: Callable[[], Any]
) -> None:
    world.fault("drop_before", WRITES["add_crm_payment"], times=9)
    with pytest.raises(PaymentAmbiguous):
        WORK["add_crm_payment"](attempt(world, journal(), 1, ""))
    sent = len(world.writes())
    page = JournalPage(journal(), "acme.bitrix24.com", KEY)
    page.write(page.read().unasked(), lease=0)
    with pytest.raises(PaymentAmbiguous):
        WORK["add_crm_payment"](attempt(world, journal(), 2, ""))
    assert len(world.writes()) == sent
    assert world.ledger(*RESULTS) == []


@EACH
def test_pay_again_waits_for_what_is_in_flight_though_a_person_was_asked_at_once(
    world: World, journal: Callable[[], Any], operation: str
) -> None:
    forgotten_in_flight(world, operation)
    payments = attempt(world, journal(), 2)
    payments.check = die
    with pytest.raises(Dies):
        WORK[operation](payments)
    page = JournalPage(journal(), "acme.bitrix24.com", KEYS[operation])
    page.write(replace(page.read(), question="Is it there?"), lease=0)
    if operation == "add_crm_payment":
        with pytest.raises(PaymentAmbiguous, match=r"meanwhile .*1033 .*appeared"):
            pay_again(world, journal(), operation, ())
    else:
        assert pay_again(world, journal(), operation, ()).outcome == "already_paid"
    assert results(world) == 1
