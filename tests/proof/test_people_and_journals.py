"""Journals that change between attempts, and people whose answers come too late: stories that a hostile reader told."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal import Decision, Entry
from airflow_provider_bitrix24.journal.cli import refuse_senseless
from airflow_provider_bitrix24.journal.commands import TaskName
from airflow_provider_bitrix24.journal.database import SqlJournal
from airflow_provider_bitrix24.journal.shelves import SqlShelf, TaskShelf
from airflow_provider_bitrix24.journal.task_state import DECISIONS, DOCUMENT
from airflow_provider_bitrix24.sandbox.faults import Fault
from tests.proof.campaign import KEY, OPERATIONS
from tests.proof.test_rules import ADD, Script, added, adding, database, decision, writes  # noqa: F401 - a fixture
from tests.proof.world import VirtualDatabase, World

if TYPE_CHECKING:
    from collections.abc import Callable

LOST_AND_ANOTHER = {"a": {3: "drop_after", 4: "people: adds"}}


def entry_of(world: World, key: str = KEY) -> Entry:
    """What the database holds."""
    found = SqlJournal(world.database, "command line:bob").page(world.name, key).read()
    assert found is not None
    return found


def resolve(world: World, what: Any, payment_id: int | None = None, key: str = KEY, by: str = "bob") -> None:
    """Decide at a terminal, in the database."""
    shelf = SqlShelf(SqlJournal(world.database, f"command line:{by}"))
    [drawer] = [one for one in shelf.drawers(key) if one.entry.portal == world.name]
    assert isinstance(drawer.entry, Entry)
    decided = Decision(
        what=what,
        payment_id=payment_id,
        candidates=drawer.entry.candidates,
        by=by,
        at="2026-11-22T10:00:00+00:00",
        through="command line",
    )
    refuse_senseless(drawer.entry, decided)
    drawer.decide(decided)


@pytest.mark.parametrize("trouble", ["drop_after", None])
def test_a_database_given_later_knows_what_the_task_state_knew(
    trouble: str | None,
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("task state", database)
    world.director = Script({"a": {3: trouble} if trouble else {}})
    first = world.worker("a", 1).attempt(adding())
    world.advance(1000)
    world.journal = "sql and task state"
    second = world.worker("a", 2).attempt(adding())
    assert writes(world) == [ADD]
    assert added(world) == [1033]
    if trouble is None:
        assert first.receipt is not None
        assert second.receipt is not None
        assert second.receipt.outcome == "existing"


@pytest.mark.parametrize(("what", "payment_id"), [("pay_again", None), ("adopt", 1034), ("give_up", None)])
def test_an_answer_to_a_question_that_was_settled_meanwhile_is_not_carried_out(
    what: str,
    payment_id: int | None,
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("sql and task state", database)
    world.director = Script(LOST_AND_ANOTHER)
    asked = world.worker("a", 1).attempt(adding()).error
    assert isinstance(asked, PaymentAmbiguous)
    resolve(world, "adopt", 1033)
    settled = world.worker("b", 1).attempt(adding()).receipt
    assert settled is not None
    late = decision(what, *asked.candidates).model_copy(update={"payment_id": payment_id})
    outcome = world.worker("a", 1).attempt(adding(decision=late))
    assert outcome.receipt is not None
    assert (outcome.receipt.outcome, outcome.receipt.subject["payment_id"]) == ("existing", 1033)
    assert writes(world) == [ADD]


def test_the_copy_in_the_task_state_is_not_the_place_to_decide(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql and task state", database)
    world.director = Script(LOST_AND_ANOTHER)
    assert isinstance(world.worker("a", 1).attempt(adding()).error, PaymentAmbiguous)
    copy = Entry.read(json.loads(world.states["a"].documents[DOCUMENT]), where="the Storage tab")
    with pytest.raises(Bitrix24ConfigError, match=r"only a copy.*--conn-id"):
        refuse_senseless(copy, decision("give_up"))


def test_only_what_may_be_ours_can_be_adopted(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    world.director = Script(LOST_AND_ANOTHER)
    world.worker("a", 1).attempt(adding())
    with pytest.raises(Bitrix24ConfigError, match=r"payment 9999 is none of those that may be its own \(1033, 1034\)"):
        resolve(world, "adopt", 9999)


def test_one_payment_is_returned_to_many_keys(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    receipts = [
        world.worker(name, 1).attempt(adding(f"run-{name}", if_unpaid_exists="return")).receipt for name in "abc"
    ]
    assert [receipt and (receipt.outcome, receipt.subject["payment_id"]) for receipt in receipts] == [
        ("created", 1033),
        ("existing", 1033),
        ("existing", 1033),
    ]


def test_a_returned_payment_that_is_gone_can_be_added_after_all(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    world.portal.act.add_payment(2, 1, user_id=7)
    do = adding(if_unpaid_exists="return")
    assert world.worker("a", 1).attempt(do).receipt is not None
    world.people("deletes")
    assert isinstance(world.worker("a", 2).attempt(do).error, PaymentNotApplied)
    resolve(world, "pay_again")
    receipt = world.worker("a", 3).attempt(do).receipt
    assert receipt is not None
    assert (receipt.outcome, writes(world)) == ("created", [ADD])


def test_prices_that_rise_while_nobody_works_are_not_filled_in(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("task state", database)
    world.director = Script({"a": {4: "killed after"}})
    do = adding(fill_products=True, max_amount=Decimal(2000))
    world.worker("a", 1).attempt(do)
    for row in world.portal.state.product_rows.values():
        row.price = Decimal(50_000)
    outcome = world.worker("a", 2).attempt(do)
    assert isinstance(outcome.error, PaymentMismatch)
    assert "more than the max_amount 2000" in str(outcome.error)
    assert [entry for entry in world.portal.ledger if entry["event"] == "product_added"] == []


def test_what_an_overtaken_attempt_was_told_is_not_sent_again_if_it_does_not_show(
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "killed after"}})
    world.worker("a", 1).attempt(adding())
    world.advance(1000)
    page = SqlJournal(world.database, "zombie").page(world.name, KEY)
    entry = page.read()
    assert entry is not None
    page.write(entry)
    overtaken = SqlJournal(world.database, "late").page(world.name, KEY)
    overtaken.read()
    page.write(entry)
    with pytest.raises(PaymentInProgress):
        overtaken.write(entry.but(payment_id=1033, evidence="answer").last_send(result="answered"))
    world.people("deletes")
    for attempt in (2, 3):
        assert isinstance(world.worker("a", attempt).attempt(adding()).error, PaymentNotApplied)
    assert writes(world) == [ADD]


# -- what becomes of decisions


def fates(entry: Entry) -> list[tuple[str, str, str | None]]:
    """Each decision in the record: whose, what, and why it was not carried out."""
    return [(decision.by, decision.what, decision.refused) for decision in entry.decisions]


def lost(world: World, *more: str) -> PaymentAmbiguous:
    """A key of which a person is asked: its answer was lost, and one payment (or more) is new."""
    world.director = Script({"a": {3: "drop_after", **dict(enumerate(more, 4))}})
    error = world.worker("a", 1).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    return error


def test_who_adopts_what_is_gone_is_asked_again(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    world.director = Script(LOST_AND_ANOTHER)
    world.worker("a", 1).attempt(adding())
    resolve(world, "adopt", 1034)
    world.people("deletes")
    error = world.worker("a", 2).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert error.candidates == (1033,)
    entry = entry_of(world)
    assert (entry.state, entry.candidates, entry.question) == ("parked", (1033,), str(error))
    assert fates(entry) == [("bob", "adopt", "deal 1 has no such payment now")]
    # Decided anew, it goes on.
    resolve(world, "adopt", 1033)
    assert world.worker("a", 3).attempt(adding()).receipt is not None
    assert fates(entry_of(world))[1:] == [("bob", "adopt", None)]


@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_who_was_not_shown_everything_stays_in_the_record(
    journal: str,
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World(journal, database)
    candidates = lost(world, "people: adds").candidates
    world.people("adds")
    outcome = world.worker("a", 2).attempt(adding(decision=decision("pay_again", *candidates)))
    assert isinstance(outcome.error, PaymentAmbiguous)
    page = world.journal_for("a", 3).page(world.name, KEY)
    entry = page.read()
    assert (entry.state, entry.candidates) == ("parked", outcome.error.candidates)
    why = "meanwhile payment 1035 appeared on deal 1, which anna was not shown"
    assert fates(entry) == [("anna", "pay_again", why)]


def test_a_decision_that_another_one_replaces_stays_in_the_record(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    world.director = Script(LOST_AND_ANOTHER)
    world.worker("a", 1).attempt(adding())
    resolve(world, "adopt", 1034, by="bob")
    resolve(world, "adopt", 1033, by="carol")
    receipt = world.worker("a", 2).attempt(adding()).receipt
    assert receipt is not None
    assert receipt.subject["payment_id"] == 1033
    assert fates(entry_of(world)) == [("bob", "adopt", "carol has decided anew"), ("carol", "adopt", None)]


def test_an_answer_that_came_too_late_stays_in_the_record(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql and task state", database)
    world.director = Script(LOST_AND_ANOTHER)
    asked = world.worker("a", 1).attempt(adding()).error
    assert isinstance(asked, PaymentAmbiguous)
    resolve(world, "adopt", 1033)
    assert world.worker("b", 1).attempt(adding()).receipt is not None
    late = decision("pay_again", *asked.candidates)
    assert world.worker("a", 1).attempt(adding(decision=late)).receipt is not None
    why = f"the question does not stand any more: {KEY} is done"
    assert fates(entry_of(world)) == [("bob", "adopt", None), ("anna", "pay_again", why)]


def test_a_decision_to_adopt_a_mark_is_turned_down(database: VirtualDatabase) -> None:  # noqa: F811
    """The command line refuses it; a document that was edited by hand may hold it."""
    world = World("sql", database)
    world.portal.faults.add(Fault(kind="drop_before", method="sale.paysystem.pay.invoice"))
    pay = OPERATIONS["invoice"]
    world.worker("a", 1).attempt(pay.do)
    key = pay.key(world)
    journal = SqlJournal(world.database, "somebody")
    page = journal.page(world.name, key)
    entry = page.read()
    assert entry is not None
    page.write(entry.decide(decision("adopt", payment_id=5)), hold=0)
    error = world.worker("a", 2).attempt(pay.do).error
    assert isinstance(error, PaymentAmbiguous)
    assert "so there is nothing to adopt" in str(error)
    assert entry_of(world, key).state == "parked"


def test_what_a_person_has_set_aside_is_named(
    database: VirtualDatabase,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("proof"), "disabled", False)
    world = World("sql", database)
    candidates = lost(world, "people: adds").candidates
    world.director = Script({})
    world.portal.faults.add(Fault(kind="drop_before", method=ADD))
    with caplog.at_level("INFO", logger="proof"):
        error = world.worker("a", 2).attempt(adding(decision=decision("pay_again", *candidates))).error
    words = "anna has set payments 1033, 1034 aside (Airflow, 2025-11-22T10:00:00+00:00)"
    assert isinstance(error, PaymentAmbiguous)
    assert words in str(error)
    logged = [record.getMessage() for record in caplog.records]
    assert len([line for line in logged if "no new payment" in line]) == 2
    assert all(words in line for line in logged if "no new payment" in line or "decided" in line)
    assert all("no new payment is there" not in line for line in logged)
    entry = entry_of(world)
    assert [decided.set_aside for decided in entry.decisions] == [(1033, 1034)]
    assert words in str(entry.sends[0].said)


# -- payments that are gone, or were another key's


def test_a_payment_that_has_taken_the_place_of_ours_can_be_adopted(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    do = adding(fill_products=True)
    assert world.worker("a", 1).attempt(do).receipt is not None
    world.people("deletes")
    theirs = world.portal.act.add_payment(2, 1, user_id=7)
    outcome = world.worker("a", 2).attempt(do)
    assert isinstance(outcome.error, PaymentNotApplied)
    assert f"journal resolve {KEY} --conn-id" in str(outcome.error)
    resolve(world, "adopt", theirs)
    receipt = world.worker("a", 3).attempt(do).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence) == (theirs, "person")
    rows = [item.target_id for item in world.portal.state.payable_items.values() if item.payment_id == theirs]
    assert sorted(rows) == [1, 2]
    assert len([method for method in writes(world) if method == ADD]) == 1


def test_ours_is_not_replaced_while_it_is_there(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    theirs = world.portal.act.add_payment(2, 1, user_id=7)
    resolve(world, "adopt", theirs)
    error = world.worker("a", 2).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert "payment 1033, which this key has" not in str(error)
    assert "payment 1033, which is this key's, is still on deal 1" in str(error)
    # Nothing is undone by that.
    receipt = world.worker("a", 3).attempt(adding()).receipt
    assert receipt is not None
    assert (receipt.outcome, receipt.subject["payment_id"]) == ("existing", 1033)
    assert entry_of(world).state == "done"


@pytest.mark.parametrize(
    ("operation", "undo"), [("add", "deletes"), ("invoice", "takes back"), ("payment", "takes back")]
)
def test_a_done_key_that_was_undone_can_be_given_up(
    operation: str,
    undo: str,
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world, made = World("sql", database), OPERATIONS[operation]
    key = made.key(world)
    assert world.worker("a", 1).attempt(made.do).receipt is not None
    world.people(undo)
    resolve(world, "give_up", key=key)
    assert entry_of(world, key).state == "given_up"
    for attempt in (2, 3):
        error = world.worker("a", attempt).attempt(made.do).error
        assert isinstance(error, PaymentRefused)
        assert "bob has given" in str(error)
    assert len(writes(world, key)) == 1
    # And taken up again.
    resolve(world, "pay_again", key=key)
    world.answered.clear()  # a person has decided that it is sent once more
    assert world.worker("a", 4).attempt(made.do).receipt is not None
    assert len(writes(world, key)) == 2


def wrong_claim(world: World) -> None:
    """Key b was given the payment that key a has made, because a person took it for its own."""
    world.director = Script({"b": {3: "drop_before", 5: "drop_before"}, "a": {}})
    world.portal.faults.add(Fault(kind="drop_before", method=ADD, times=2))
    assert isinstance(world.worker("b", 1).attempt(adding("key-b")).error, PaymentAmbiguous)
    world.director = Script({"a": {3: "drop_after", 4: "killed before"}})
    world.worker("a", 1).attempt(adding())
    resolve(world, "adopt", 1033, key="key-b")
    world.director = Script({})
    assert world.worker("b", 2).attempt(adding("key-b")).receipt is not None


def test_a_wrong_claim_is_ended_by_a_person(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    wrong_claim(world)
    # Nothing else is there for key a, and what is there is claimed: a person knows better.
    world.portal.faults.add(Fault(kind="drop_before", method=ADD))
    assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentAmbiguous)
    resolve(world, "adopt", 1033)
    error = world.worker("a", 3).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    command = "python -m airflow_provider_bitrix24 journal"
    assert f"`{command} show key-b --conn-id YOUR_JOURNAL`" in str(error)
    assert f"`{command} resolve key-b --conn-id YOUR_JOURNAL --give-up`" in str(error)
    refused = entry_of(world).decisions[-1].refused
    assert entry_of(world).state == "parked"
    assert refused is not None
    assert refused.startswith("Payment 1033 (person) looks like that of the key")
    resolve(world, "give_up", key="key-b")
    given_up = entry_of(world, "key-b")
    assert (given_up.state, given_up.payment_id, given_up.dismissed) == ("given_up", None, ())
    resolve(world, "adopt", 1033)
    receipt = world.worker("a", 4).attempt(adding()).receipt
    assert receipt is not None
    assert receipt.subject["payment_id"] == 1033
    assert isinstance(world.worker("b", 3).attempt(adding("key-b")).error, PaymentRefused)
    assert len(world.portal.state.payments) == 5


def test_what_the_portal_has_proved_is_not_let_go(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    resolve(world, "give_up")
    entry = entry_of(world)
    assert (entry.state, entry.payment_id, entry.evidence) == ("given_up", 1033, "answer")
    resolve(world, "pay_again")
    assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentAmbiguous)
    assert writes(world) == [ADD]


# -- at a terminal, beside a task that goes on


@dataclass
class TerminalApi:
    """What the command line uses of Airflow's API, on the task state of this world."""

    world: World
    meanwhile: Callable[[], object] = lambda: None

    def document(self, task: TaskName) -> Any:
        return self._value(DOCUMENT)

    def decisions(self, task: TaskName) -> Any:
        return self._value(DECISIONS) or []

    def state(self, task: TaskName) -> str:
        self.meanwhile()
        return "running"

    def decide(self, task: TaskName, decided: Decision) -> None:
        documents = self.world.states["a"].documents
        documents[DECISIONS] = json.dumps([*self.decisions(task), decided.model_dump(mode="json")])

    def tasks(self, dag_id: str, run_id: str) -> list[TaskName]:
        return [TaskName(dag_id, run_id, "pay")]

    def _value(self, name: str) -> Any:
        found = self.world.states["a"].documents.get(name)
        return None if found is None else json.loads(found)


@pytest.mark.parametrize("what", ["pay_again", "adopt", "give_up"])
def test_who_decides_while_a_retry_begins_takes_nothing_from_it(what: Any) -> None:
    """The retry writes its intent after the terminal has read the entry, and before it puts the decision."""
    world = World("task state")
    world.director = Script({"a": {3: "drop_before", 4: "killed before"}})
    world.worker("a", 1).attempt(adding())
    world.advance(1000)
    world.director = Script({"a": {7: "drop_after", 8: "killed before"}})
    retry = world.worker("a", 2)
    api: Any = TerminalApi(world, meanwhile=lambda: retry.attempt(adding()))
    [drawer] = TaskShelf(api, "d", "r", None, None).drawers(KEY)
    assert isinstance(drawer.entry, Entry)
    decided = decision(what, payment_id=1033 if what == "adopt" else None)
    _, todo = drawer.decide(decided.model_copy(update={"about": drawer.entry.digest, "through": "command line"}))
    assert "The task is running" in todo
    sent = json.loads(world.states["a"].documents[DOCUMENT])["sends"]
    assert len(sent) == 2
    world.director = Script({})
    outcome = world.worker("a", 3).attempt(adding())
    assert len(writes(world)) == 2
    entry = Entry.read(world.states["a"].documents[DOCUMENT], where="the Storage tab")
    if what == "give_up":
        assert isinstance(outcome.error, PaymentRefused)
        assert fates(entry) == [("anna", "give_up", None)]
    else:
        assert isinstance(outcome.error, PaymentAmbiguous)
        assert outcome.error.candidates == (1033,)
        assert fates(entry) == [("anna", what, "the task had gone on before it saw the decision")]


@pytest.mark.parametrize("what", ["pay_again", "adopt", "give_up"])
def test_a_decision_at_a_terminal_reaches_the_next_attempt(what: Any) -> None:
    world = World("task state")
    lost(world)
    api: Any = TerminalApi(world)
    [drawer] = TaskShelf(api, "d", "r", "pay", -1).drawers()
    assert isinstance(drawer.entry, Entry)
    decided = decision(what, 1033, payment_id=1033 if what == "adopt" else None)
    entry, _ = drawer.decide(decided.model_copy(update={"about": drawer.entry.digest}))
    assert entry.state == "decided"
    for attempt in (2, 3):
        outcome = world.worker("a", attempt).attempt(adding())
        assert (outcome.receipt is None) == (what == "give_up")
    assert len(writes(world)) == (2 if what == "pay_again" else 1)
    [found] = TaskShelf(api, "d", "r", None, None).drawers()
    assert isinstance(found.entry, Entry)
    assert fates(found.entry) == [("anna", what, None)]


# -- words


def test_what_was_sent_before_is_not_denied(database: VirtualDatabase) -> None:  # noqa: F811
    """The invoice is cancelled between two attempts, the first of which has sent a mark that did not arrive."""
    world, pay = World("sql", database), OPERATIONS["invoice"]
    world.director = Script({"a": {3: "drop_before", 4: "killed before"}})
    world.worker("a", 1).attempt(pay.do)
    world.advance(1000)
    world.portal.state.invoices[2].canceled = "Y"
    error = world.worker("a", 2).attempt(pay.do).error
    assert isinstance(error, PaymentRefused)
    assert "Invoice 2 is cancelled. Nothing was sent by this attempt. a:try:1 has sent a write for invoice 2" in str(
        error
    )


def test_what_this_attempt_has_sent_is_not_denied(database: VirtualDatabase) -> None:  # noqa: F811
    world, pay = World("sql", database), OPERATIONS["invoice"]

    def cancels() -> None:
        world.portal.state.invoices[2].canceled = "Y"

    world.director = Script({"a": {3: "drop_before", 4: cancels}})
    error = world.worker("a", 1).attempt(pay.do).error
    assert isinstance(error, PaymentRefused)
    assert "Invoice 2 is cancelled. Nothing more was sent. a:try:1 has sent a write for invoice 2" in str(error)


def test_without_a_journal_nobody_is_sent_to_a_terminal() -> None:
    world, pay = World("none"), OPERATIONS["invoice"]
    world.portal.faults.add(Fault(kind="drop_before", method="sale.paysystem.pay.invoice"))
    error = world.worker("a", 1).attempt(pay.do).error
    assert isinstance(error, PaymentAmbiguous)
    assert "there is no journal that would keep a decision: if it is unpaid, clear this task" in str(error)
    assert "python -m" not in str(error)


def test_who_waits_for_another_task_that_goes_on_and_on_comes_back_later(
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("sql", database)
    other = SqlJournal(world.database, "b:try:1").page(world.name, KEY)
    other.read()
    world.director = Script({"a": {3: "killed before"}})
    world.worker("a", 1).attempt(adding())
    world.advance(1000)
    entry = entry_of(world)
    other.read()
    other.write(entry, hold=100)

    class GoesOn(Script):
        def sleep(self, worker: Any, seconds: float) -> None:
            super().sleep(worker, seconds)
            other.write(entry, hold=100)

    world.director = GoesOn({})
    outcome = world.worker("a", 2).attempt(adding())
    assert isinstance(outcome.error, PaymentInProgress)
    assert "b:try:1 is at work on" in str(outcome.error)
    assert writes(world) == []


# -- answers that are heard once, and by those whom they concern


def test_who_has_given_up_may_go_on_with_the_same_payment(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    resolve(world, "give_up")
    resolve(world, "adopt", 1033)
    receipt = world.worker("a", 2).attempt(adding()).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence, entry_of(world).state) == (1033, "answer", "done")
    assert writes(world) == [ADD]


def test_of_two_payments_with_one_tag_a_person_chooses_though_nothing_was_sent() -> None:
    world = World("task state")
    assert world.worker("run1", 1).attempt(adding(tag=True)).receipt is not None
    copy = world.portal.act.add_payment(2, 1, user_id=7)
    world.portal.state.payments[copy].xml_id = world.portal.state.payments[1033].xml_id
    asked = world.worker("a", 1).attempt(adding(tag=True)).error
    assert isinstance(asked, PaymentAmbiguous)
    answer = decision("adopt", *asked.candidates, payment_id=1033)
    receipt = world.worker("a", 1).attempt(adding(tag=True, decision=answer)).receipt
    assert receipt is not None
    assert (receipt.outcome, receipt.subject["payment_id"], receipt.evidence) == ("existing", 1033, "person")
    entry = Entry.read(world.states["a"].documents[DOCUMENT], where="the Storage tab")
    assert (entry.state, entry.question, entry.candidates) == ("done", None, ())
    assert fates(entry) == [("anna", "adopt", None)]


@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state"])
def test_an_answer_outlives_an_outage(journal: str, database: VirtualDatabase) -> None:  # noqa: F811
    world = World(journal, database)
    candidates = lost(world, "people: adds").candidates
    world.director = Script({"a": dict.fromkeys(range(9), "outage 400")})
    answer = decision("adopt", *candidates, payment_id=1033)
    outcome = world.worker("a", 1).attempt(adding(decision=answer))
    assert outcome.error is not None
    assert not outcome.error.final
    world.director = Script({})
    world.advance(1000)
    receipt = world.worker("a", 2).attempt(adding()).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence) == (1033, "person")
    assert writes(world) == [ADD]


@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_an_answer_that_comes_twice_is_carried_out_once(
    journal: str,
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World(journal, database)
    world.portal.faults.add(Fault(kind="drop_before", method=ADD))
    assert isinstance(world.worker("a", 1).attempt(adding()).error, PaymentAmbiguous)
    assert len(writes(world)) == 2
    for _ in range(3):
        outcome = world.worker("a", 1).attempt(adding(decision=decision("pay_again")))
        assert isinstance(outcome.error, PaymentAmbiguous)
        assert len(writes(world)) == 3
    entry = world.journal_for("a", 2).page(world.name, KEY).read()
    assert fates(entry) == [("anna", "pay_again", None)]


def test_who_gives_one_key_up_has_not_given_up_the_next_one_of_that_task() -> None:
    world = World("task state")
    world.portal.act.add_payment(2, 1, user_id=7)
    first = adding("key-one", if_unpaid_exists="return")
    assert world.worker("a", 1).attempt(first).receipt is not None
    api: Any = TerminalApi(world)
    [drawer] = TaskShelf(api, "d", "r", None, None).drawers("key-one")
    assert isinstance(drawer.entry, Entry)
    drawer.decide(decision("give_up").but(about=drawer.entry.digest))
    assert isinstance(world.worker("a", 2).attempt(first).error, PaymentRefused)
    # Nothing of it was sent, so the task may work on another key.
    world.director = Script({"a": {4: "drop_after", 5: "killed before"}})
    assert world.worker("a", 3).attempt(adding("key-two")).killed
    world.advance(1000)
    world.director = Script({})
    outcome = world.worker("a", 4).attempt(adding("key-two", on_unknown="adopt"))
    assert outcome.receipt is not None
    assert writes(world, "key-two") == [ADD]


def test_payments_that_were_asked_about_do_not_bind_who_decides_about_a_known_one(
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    world.people("deletes")
    assert world.worker("b", 1).attempt(adding("key-b")).receipt is not None
    resolve(world, "adopt", 1034)
    assert "has claimed it" in str(world.worker("a", 2).attempt(adding()).error)
    theirs = world.portal.act.add_payment(2, 1, user_id=7)
    resolve(world, "adopt", theirs)
    receipt = world.worker("a", 3).attempt(adding()).receipt
    assert receipt is not None
    assert receipt.subject["payment_id"] == theirs


# -- two journals


def claim_for_another_key(world: World) -> None:
    """Another key has taken payment 1033 for its own, without proof."""
    page = SqlJournal(world.database, "b").page(world.name, "key-b")
    page.read()
    page.write(
        Entry(
            key="key-b",
            portal=world.name,
            operation="add_crm_payment",
            subject="deal 1",
            parameters={"entity_id": 1, "entity_type_id": 2},
            task="b",
            payment_id=1033,
            evidence="difference",
        )
    )


def claimed_meanwhile(world: World, strikes: dict[int, Any], **options: Any) -> None:
    """What this task has added is known to its task state alone, and another key has claimed it in the database."""
    world.director = Script({"a": strikes})
    world.worker("a", 1).attempt(adding(**options))
    claim_for_another_key(world)
    world.advance(1000)
    world.director = Script({})
    world.journal = "sql and task state"


def test_what_another_key_has_claimed_is_left_to_a_person_whatever_is_written(
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("task state", database)
    claimed_meanwhile(world, {5: "killed before"}, fill_products=True)
    do = adding(fill_products=True)
    for attempt in (2, 3):
        error = world.worker("a", attempt).attempt(do).error
        assert isinstance(error, PaymentAmbiguous)
        assert error.candidates == (1033,)
        assert "the key 'key-b' has claimed it" in str(error)
        assert "resolve key-b --conn-id YOUR_JOURNAL --give-up` ends it" in str(error)
        entry = entry_of(world)
        assert (entry.state, entry.payment_id, entry.question) == ("parked", 1033, str(error))
    rows = [event for event in world.portal.ledger if event["event"] == "product_added"]
    assert rows == []
    resolve(world, "give_up", key="key-b")
    receipt = world.worker("a", 4).attempt(do).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence, entry_of(world).state) == (1033, "answer", "done")
    assert writes(world).count(ADD) == 1


@pytest.mark.parametrize("strikes", [{5: "killed before"}, {}], ids=["incomplete", "done"])
def test_a_key_whose_payment_another_one_has_claimed_can_be_given_up(
    strikes: dict[int, Any],
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("task state", database)
    claimed_meanwhile(world, strikes)
    assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentAmbiguous)
    assert entry_of(world).state == "parked"
    resolve(world, "give_up")
    assert isinstance(world.worker("a", 3).attempt(adding()).error, PaymentRefused)
    # Adopted again, it is still the other one's.
    resolve(world, "adopt", 1033)
    assert "has claimed it" in str(world.worker("a", 4).attempt(adding()).error)
    assert writes(world) == [ADD]


def test_who_was_asked_about_a_payment_does_not_take_it_from_another_key(
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("sql", database)
    assert lost(world, "people: adds").candidates == (1033, 1034)
    world.people("deletes")
    claim_for_another_key(world)
    world.director = Script({})
    error = world.worker("a", 2).attempt(adding(on_unknown="adopt")).error
    assert isinstance(error, PaymentAmbiguous)
    assert "Payment 1033 (difference) looks like that of the key" in str(error)
    assert (entry_of(world).state, entry_of(world).payment_id) == ("parked", None)


@pytest.mark.parametrize("operation", ["add", "invoice", "payment"])
def test_what_only_the_task_state_knew_is_in_the_database_for_other_runs(
    operation: str,
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world, made = World("task state", database), OPERATIONS[operation]
    key = made.key(world)
    assert world.worker("run1", 1).attempt(made.do).receipt is not None
    world.journal = "sql and task state"
    assert world.worker("run1", 2).attempt(made.do).receipt is not None
    assert entry_of(world, key).state == "done"
    assert world.worker("run2", 1).attempt(made.do).receipt is not None
    assert len(writes(world, key)) == 1


def test_what_the_portal_has_answered_is_known_though_airflow_had_given_the_attempt_up(
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("sql and task state", database)

    def meanwhile() -> None:
        world.advance(1000)
        world.people("adds")
        assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentAmbiguous)

    world.director = Script({"a": {4: meanwhile}})
    assert isinstance(world.worker("a", 1).attempt(adding()).error, PaymentInProgress)
    world.director = Script({})
    receipt = world.worker("a", 3).attempt(adding()).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence) == (1033, "answer")
    assert writes(world) == [ADD]


def test_rows_that_this_attempt_has_put_in_are_not_denied(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    world.director = Script({"a": {5: "killed before"}})
    assert world.worker("a", 1).attempt(adding(fill_products=True)).killed
    world.advance(1000)
    world.director = Script({})
    other = adding(fill_products=True, pay_system_id=5)
    error = world.worker("a", 2).attempt(other).error
    assert isinstance(error, PaymentMismatch)
    assert len([event for event in world.portal.ledger if event["event"] == "product_added"]) == 2
    assert "Payment 1033 was added for it and is there. Nothing more was sent. One key stands for" in str(error)
    later = str(world.worker("a", 3).attempt(other).error)
    assert "Payment 1033 was added for it then. Nothing was sent by this attempt." in later
