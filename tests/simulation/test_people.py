"""What people decide, and how it is carried out when things have changed meanwhile."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.sandbox.faults import Fault
from tests.simulation.campaign import KEY, OPERATIONS
from tests.simulation.stories import (
    ADD,
    LOST_AND_ANOTHER,
    Script,
    adding,
    decision,
    entry_of,
    fates,
    lost,
    resolve,
    writes,
    wrong_claim,
)
from tests.simulation.world import World
from tests.tools.payments import JournalPage

if TYPE_CHECKING:
    from tests.simulation.virtual_journals import VirtualDatabase


@pytest.mark.parametrize(("what", "payment_id"), [("send_again", None), ("use_payment", 1034), ("abandon", None)])
def test_an_answer_to_a_question_that_was_settled_meanwhile_is_not_carried_out(
    what: str,
    payment_id: int | None,
    database: VirtualDatabase,
) -> None:
    world = World("sql and task state", database)
    world.director = Script(LOST_AND_ANOTHER)
    asked = world.worker("a", 1).attempt(adding()).error
    assert isinstance(asked, PaymentAmbiguous)
    resolve(world, "use_payment", 1033)
    settled = world.worker("b", 1).attempt(adding()).receipt
    assert settled is not None
    late = decision(what, *asked.candidates, payment_id=payment_id)
    outcome = world.worker("a", 1).attempt(adding(decision=late))
    assert outcome.receipt is not None
    assert (outcome.receipt.outcome, outcome.receipt.subject["payment_id"]) == ("existing", 1033)
    assert writes(world) == [ADD]


def test_only_what_may_be_ours_can_be_adopted(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script(LOST_AND_ANOTHER)
    world.worker("a", 1).attempt(adding())
    with pytest.raises(Bitrix24ConfigError, match=r"payment 9999 is none of those that may be its own \(1033, 1034\)"):
        resolve(world, "use_payment", 9999)


def test_one_payment_is_returned_to_many_keys(database: VirtualDatabase) -> None:
    world = World("sql", database)
    receipts = [
        world.worker(name, 1).attempt(adding(f"run-{name}", if_unpaid_exists="return")).receipt for name in "abc"
    ]
    assert [receipt and (receipt.outcome, receipt.subject["payment_id"]) for receipt in receipts] == [
        ("created", 1033),
        ("existing", 1033),
        ("existing", 1033),
    ]


def test_a_returned_payment_that_is_gone_can_be_added_after_all(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.portal.act.add_payment(2, 1, user_id=7)
    do = adding(if_unpaid_exists="return")
    assert world.worker("a", 1).attempt(do).receipt is not None
    world.people("deletes")
    assert isinstance(world.worker("a", 2).attempt(do).error, PaymentNotApplied)
    resolve(world, "send_again")
    receipt = world.worker("a", 3).attempt(do).receipt
    assert receipt is not None
    assert (receipt.outcome, writes(world)) == ("created", [ADD])


def test_prices_that_rise_while_nobody_works_are_not_filled_in(database: VirtualDatabase) -> None:
    world = World("task state", database)
    world.director = Script({"a": {4: "killed after"}})
    do = adding(fill_products=True, max_amount=Decimal(2000))
    world.worker("a", 1).attempt(do)
    for row in world.portal.state.product_rows.values():
        row.price = Decimal(50_000)
    outcome = world.worker("a", 2).attempt(do)
    assert isinstance(outcome.error, PaymentMismatch)
    assert "the max_amount of this task is 2000" in str(outcome.error)
    assert [entry for entry in world.portal.ledger if entry["event"] == "product_added"] == []


def test_who_adopts_what_is_gone_is_asked_again(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script(LOST_AND_ANOTHER)
    world.worker("a", 1).attempt(adding())
    resolve(world, "use_payment", 1034)
    world.people("deletes")
    error = world.worker("a", 2).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert error.candidates == (1033,)
    entry = entry_of(world)
    assert (entry.state, entry.candidates, entry.question) == ("needs_decision", (1033,), str(error))
    assert fates(entry) == [("bob", "use_payment", "deal 1 has no such payment now")]
    # Decided again, it goes on.
    resolve(world, "use_payment", 1033)
    assert world.worker("a", 3).attempt(adding()).receipt is not None
    assert fates(entry_of(world))[1:] == [("bob", "use_payment", None)]


@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_who_was_not_shown_everything_stays_in_the_record(
    journal: str,
    database: VirtualDatabase,
) -> None:
    world = World(journal, database)
    candidates = lost(world, "people: adds").candidates
    world.people("adds")
    outcome = world.worker("a", 2).attempt(adding(decision=decision("send_again", *candidates)))
    assert isinstance(outcome.error, PaymentAmbiguous)
    page = JournalPage(world.journal_for("a", 3), world.name, KEY)
    entry = page.read()
    assert (entry.state, entry.candidates) == ("needs_decision", outcome.error.candidates)
    why = "meanwhile payment 1035 appeared on deal 1, which anna was not shown"
    assert fates(entry) == [("anna", "send_again", why)]


def test_a_decision_that_another_one_replaces_stays_in_the_record(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script(LOST_AND_ANOTHER)
    world.worker("a", 1).attempt(adding())
    resolve(world, "use_payment", 1034, by="bob")
    resolve(world, "use_payment", 1033, by="carol")
    receipt = world.worker("a", 2).attempt(adding()).receipt
    assert receipt is not None
    assert receipt.subject["payment_id"] == 1033
    assert fates(entry_of(world)) == [("bob", "use_payment", "carol has decided again"), ("carol", "use_payment", None)]


def test_an_answer_that_came_too_late_stays_in_the_record(database: VirtualDatabase) -> None:
    world = World("sql and task state", database)
    world.director = Script(LOST_AND_ANOTHER)
    asked = world.worker("a", 1).attempt(adding()).error
    assert isinstance(asked, PaymentAmbiguous)
    resolve(world, "use_payment", 1033)
    assert world.worker("b", 1).attempt(adding()).receipt is not None
    late = decision("send_again", *asked.candidates)
    assert world.worker("a", 1).attempt(adding(decision=late)).receipt is not None
    why = f"the question no longer applies: {KEY} is in the state done"
    assert fates(entry_of(world)) == [("bob", "use_payment", None), ("anna", "send_again", why)]


def test_a_decision_to_adopt_a_mark_is_turned_down(database: VirtualDatabase) -> None:
    """The command line refuses it; a document that was edited by hand may hold it."""
    world = World("sql", database)
    world.portal.faults.add(Fault(kind="drop_before", method="sale.paysystem.pay.invoice"))
    pay = OPERATIONS["invoice"]
    world.worker("a", 1).attempt(pay.do)
    key = pay.key(world)
    journal = SqlJournal(world.database, "somebody")
    page = JournalPage(journal, world.name, key)
    entry = page.read()
    assert entry is not None
    page.write(entry.decided(decision("use_payment", payment_id=5)), lease=0)
    error = world.worker("a", 2).attempt(pay.do).error
    assert isinstance(error, PaymentAmbiguous)
    assert "adds no payment, so there is none to use" in str(error)
    assert entry_of(world, key).state == "needs_decision"


def test_what_a_person_has_set_aside_is_named(
    database: VirtualDatabase,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("proof"), "disabled", False)
    world = World("sql", database)
    candidates = lost(world, "people: adds").candidates
    world.director = Script({})
    world.portal.faults.add(Fault(kind="drop_before", method=ADD))
    with caplog.at_level("INFO", logger="proof"):
        error = world.worker("a", 2).attempt(adding(decision=decision("send_again", *candidates))).error
    words = "anna has set payments 1033, 1034 aside (Airflow, 2025-11-22T10:00:00+00:00)"
    assert isinstance(error, PaymentAmbiguous)
    assert words in str(error)
    logged = [record.getMessage() for record in caplog.records]
    assert len([line for line in logged if "read twice after everything" in line]) == 3
    assert all(words in line for line in logged if "read twice after everything" in line or "decided" in line)
    entry = entry_of(world)
    assert [decided.set_aside for decided in entry.decisions] == [(1033, 1034)]
    assert words in str(entry.sends[0].portal_message)


def test_a_payment_that_has_taken_the_place_of_ours_can_be_adopted(database: VirtualDatabase) -> None:
    world = World("sql", database)
    do = adding(fill_products=True)
    assert world.worker("a", 1).attempt(do).receipt is not None
    world.people("deletes")
    theirs = world.portal.act.add_payment(2, 1, user_id=7)
    outcome = world.worker("a", 2).attempt(do)
    assert isinstance(outcome.error, PaymentNotApplied)
    assert f"journal resolve {KEY} --conn-id" in str(outcome.error)
    resolve(world, "use_payment", theirs)
    receipt = world.worker("a", 3).attempt(do).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence) == (theirs, "person")
    rows = [item.target_id for item in world.portal.state.payable_items.values() if item.payment_id == theirs]
    assert sorted(rows) == [1, 2]
    assert len([method for method in writes(world) if method == ADD]) == 1


def test_ours_is_not_replaced_while_it_is_there(database: VirtualDatabase) -> None:
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    theirs = world.portal.act.add_payment(2, 1, user_id=7)
    resolve(world, "use_payment", theirs)
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
    database: VirtualDatabase,
) -> None:
    world, made = World("sql", database), OPERATIONS[operation]
    key = made.key(world)
    assert world.worker("a", 1).attempt(made.do).receipt is not None
    world.people(undo)
    resolve(world, "abandon", key=key)
    assert entry_of(world, key).state == "abandoned"
    for attempt in (2, 3):
        error = world.worker("a", attempt).attempt(made.do).error
        assert isinstance(error, PaymentRefused)
        assert "bob has abandoned" in str(error)
    assert len(writes(world, key)) == 1
    # And taken up again.
    resolve(world, "send_again", key=key)
    world.answered.clear()  # a person has decided that it is sent once more
    assert world.worker("a", 4).attempt(made.do).receipt is not None
    assert len(writes(world, key)) == 2


def test_a_wrong_claim_is_ended_by_a_person(database: VirtualDatabase) -> None:
    world = World("sql", database)
    wrong_claim(world)
    # Nothing else is there for key a, and what is there is claimed: a person knows better.
    world.portal.faults.add(Fault(kind="drop_before", method=ADD))
    assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentAmbiguous)
    resolve(world, "use_payment", 1033)
    error = world.worker("a", 3).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    command = "bitrix24-airflow journal"
    assert f"`{command} show key-b --conn-id YOUR_JOURNAL`" in str(error)
    assert f"`{command} resolve key-b --conn-id YOUR_JOURNAL --abandon`" in str(error)
    refused = entry_of(world).decisions[-1].refused
    assert entry_of(world).state == "needs_decision"
    assert refused is not None
    assert refused.startswith("Payment 1033 (person) may be that of the key")
    resolve(world, "abandon", key="key-b")
    given_up = entry_of(world, "key-b")
    assert (given_up.state, given_up.payment_id, given_up.dismissed) == ("abandoned", None, ())
    resolve(world, "use_payment", 1033)
    receipt = world.worker("a", 4).attempt(adding()).receipt
    assert receipt is not None
    assert receipt.subject["payment_id"] == 1033
    assert isinstance(world.worker("b", 3).attempt(adding("key-b")).error, PaymentRefused)
    assert len(world.portal.state.payments) == 5


def test_what_the_portal_has_proved_is_not_let_go(database: VirtualDatabase) -> None:
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    resolve(world, "abandon")
    entry = entry_of(world)
    assert (entry.state, entry.payment_id, entry.evidence) == ("abandoned", 1033, "response")
    resolve(world, "send_again")
    assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentAmbiguous)
    assert writes(world) == [ADD]
