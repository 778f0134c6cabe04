"""A key of which a person is asked: sent only after a decision, and what a decision does for the other keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentRefused
from airflow_provider_bitrix24.journal import report
from tests.simulation.stories import (
    ADD,
    LOST_AND_ANOTHER,
    Script,
    adding,
    decision,
    entry_of,
    fates,
    receipt_of,
    resolve,
    there,
    writes,
)
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.virtual_journals import VirtualDatabase

JOURNALS = ["task state", "sql", "sql and task state"]


def parked(world: World) -> PaymentAmbiguous:
    """Two payments are new, and a person is asked which one is ours."""
    world.director = Script(LOST_AND_ANOTHER)
    asked = world.worker("a", 1).attempt(adding()).error
    assert isinstance(asked, PaymentAmbiguous)
    assert asked.candidates == (1033, 1034)
    return asked


@pytest.mark.parametrize(
    ("journal", "how"),
    [
        *((journal, how) for journal in JOURNALS for how in ("retried", "cleared", "killed while it was looked at")),
        ("sql", "another task"),
        ("sql and task state", "another task"),
    ],
)
def test_what_is_deleted_meanwhile_is_no_decision(journal: str, how: str, database: VirtualDatabase) -> None:
    world = World(journal, database)
    asked = parked(world)
    for _ in asked.candidates:
        world.people("deletes")
    world.advance(1000)
    identity, number = ("b", 1) if how == "another task" else ("a", 2)
    if how == "killed while it was looked at":
        world.director = Script({"a": {2: "killed before"}})
        world.worker("a", number).attempt(adding())
        world.director, number = Script({}), 3
    again = world.worker(identity, number, max_tries=9 if how == "cleared" else None).attempt(adding()).error
    assert isinstance(again, PaymentAmbiguous)
    assert again.candidates == asked.candidates
    assert (writes(world), there(world)) == ([ADD], [])


@pytest.mark.parametrize("journal", JOURNALS)
def test_what_is_deleted_meanwhile_is_sent_once_a_person_has_decided(journal: str, database: VirtualDatabase) -> None:
    world = World(journal, database)
    asked = parked(world)
    for _ in asked.candidates:
        world.people("deletes")
    assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentAmbiguous)
    do = adding(decision=decision("send_again", *asked.candidates))
    assert receipt_of(world.worker("a", 3).attempt(do)) == ("created", "response", 1035)
    assert writes(world) == [ADD, ADD]


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_decision_that_a_dying_attempt_has_begun_to_carry_out_counts(journal: str, database: VirtualDatabase) -> None:
    world = World(journal, database)
    asked = parked(world)
    for _ in asked.candidates:
        world.people("deletes")
    world.director = Script({"a": {6: "killed before"}})
    assert world.worker("a", 2).attempt(adding(decision=decision("send_again", *asked.candidates))).killed
    world.director = Script({})
    assert receipt_of(world.worker("a", 3).attempt(adding())) == ("created", "response", 1035)
    assert writes(world) == [ADD, ADD]


@pytest.mark.parametrize("fill_products", [False, True])
@pytest.mark.parametrize("on_unknown", ["fail", "adopt"])
def test_what_is_left_of_several_is_not_proved_to_be_ours(
    on_unknown: str, fill_products: bool, database: VirtualDatabase
) -> None:
    """Ours may be the one that was deleted; nothing is put into the other one."""
    world = World("sql", database)
    do = adding(on_unknown=on_unknown, fill_products=fill_products)
    world.director = Script({"a": {3: "drop_after", 4: "people: the connection's user adds"}})
    assert isinstance(world.worker("a", 1).attempt(do).error, PaymentAmbiguous)
    world.portal.act.delete_payment(1033, user_id=7)
    for attempt in (2, 3):
        error = world.worker("a", attempt).attempt(do).error
        assert isinstance(error, PaymentAmbiguous)
        assert error.candidates == (1033, 1034)
        assert "still needs a person's decision" in str(error)
    assert writes(world) == [ADD]


def test_a_new_payment_joins_those_that_a_person_was_shown(database: VirtualDatabase) -> None:
    """What is gone stays in the question: it may have been ours."""
    world = World("sql", database)
    parked(world)
    world.portal.act.delete_payment(1033, user_id=7)
    world.people("adds")
    error = world.worker("a", 2).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert (error.candidates, entry_of(world).candidates) == ((1033, 1034, 1035), (1033, 1034, 1035))
    assert writes(world) == [ADD]


@pytest.mark.parametrize("attempts", [1, 2])
def test_what_a_person_has_chosen_wrongly_does_not_make_the_other_one_ours(
    attempts: int, database: VirtualDatabase
) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "drop_after", 4: "people: the connection's user adds"}})
    world.worker("a", 1).attempt(adding())
    resolve(world, "use_payment", 1034)
    world.people("deletes")
    for attempt in range(2, 3 + attempts):
        assert isinstance(world.worker("a", attempt).attempt(adding()).error, PaymentAmbiguous)
    resolve(world, "use_payment", 1033)
    assert receipt_of(world.worker("a", 9).attempt(adding())) == ("created", "person", 1033)


# -- answers that do not fit any more


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("what", ["use_payment", "send_again"])
def test_an_answer_about_what_the_journal_does_not_know_sends_nothing(
    journal: str, what: str, database: VirtualDatabase
) -> None:
    """The question was put, and the journal has lost the key since."""
    world = World(journal, database)
    late = replace(decision(what, 1033, 1034), payment_id=1033 if what == "use_payment" else None)
    outcome = world.worker("a", 2).attempt(adding(decision=late))
    assert isinstance(outcome.error, PaymentAmbiguous)
    assert "the question no longer applies" in str(outcome.error)
    assert "not carried out, and nothing was sent by this attempt" in str(outcome.error)
    assert (writes(world), there(world)) == ([], [])


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("asked", [True, False])
def test_who_gives_up_is_always_heard(journal: str, asked: bool, database: VirtualDatabase) -> None:
    world = World(journal, database)
    if asked:
        parked(world)
        for _ in (1033, 1034):
            world.people("deletes")
    error = world.worker("a", 2).attempt(adding(decision=decision("abandon", 1))).error
    assert isinstance(error, PaymentRefused)
    assert "anna has abandoned deal 1" in str(error)
    assert writes(world) == ([ADD] if asked else [])
    assert isinstance(world.worker("a", 3).attempt(adding()).error, PaymentRefused)


@pytest.mark.parametrize("journal", JOURNALS)
def test_who_adopts_what_is_gone_has_nothing_added(journal: str, database: VirtualDatabase) -> None:
    world = World(journal, database)
    asked = parked(world)
    for _ in asked.candidates:
        world.people("deletes")
    late = decision("use_payment", *asked.candidates, payment_id=1034)
    first = world.worker("a", 2).attempt(adding(decision=late)).error
    assert isinstance(first, PaymentAmbiguous)
    assert "anna decided to use payment 1034, but deal 1 has no such payment now" in str(first)
    assert isinstance(world.worker("a", 3).attempt(adding()).error, PaymentAmbiguous)
    assert writes(world) == [ADD]


# -- the other keys on the object


def unresolved_keys(world: World) -> PaymentAmbiguous:
    """Two keys were sent to one deal at the same time, and both replies were lost: key b cannot tell."""
    world.director = Script({"a": {3: "drop_after", 4: lambda: b_is_lost(world)}, "b": {3: "drop_after"}})
    asked = world.worker("a", 1).attempt(adding()).error
    assert isinstance(asked, PaymentAmbiguous)
    return asked


def b_is_lost(world: World) -> None:
    error = world.worker("b", 1).attempt(adding("key-b")).error
    assert isinstance(error, PaymentAmbiguous)


def test_the_question_names_the_other_key(database: VirtualDatabase) -> None:
    world = World("sql", database)
    asked = unresolved_keys(world)
    assert "The key 'key-b' may have added it as well" in str(asked)
    assert "journal resolve key-b --conn-id" in str(asked)
    entry = entry_of(world)
    assert entry.unresolved_keys == ("key-b",)
    assert report.line(entry)[2:] == ["  ambiguous because of the key key-b"]
    assert any(line.startswith("because of  key-b") for line in report.details(entry))


def test_a_payment_that_a_person_gave_to_the_other_key_is_not_ours(database: VirtualDatabase) -> None:
    world = World("sql", database)
    asked = unresolved_keys(world)
    assert len(asked.candidates) == 2
    ours, theirs = asked.candidates
    resolve(world, "use_payment", theirs, key="key-b")
    assert receipt_of(world.worker("b", 2).attempt(adding("key-b"))) == ("created", "person", theirs)
    assert receipt_of(world.worker("a", 2).attempt(adding())) == ("created", "only_new_payment", ours)
    assert entry_of(world).unresolved_keys == ()
    assert (writes(world), writes(world, "key-b")) == ([ADD], [ADD])


def test_who_gave_the_other_key_up_was_shown_what_may_be_its_own(database: VirtualDatabase) -> None:
    """Only key b's payment is there: that bob gave b up does not make it a's."""
    world = World("sql", database)
    world.director = Script({"a": {3: "drop_before", 4: lambda: b_is_lost(world)}, "b": {3: "drop_after"}})
    asked = world.worker("a", 1).attempt(adding()).error
    assert isinstance(asked, PaymentAmbiguous)
    resolve(world, "abandon", key="key-b")
    error = world.worker("a", 2).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert (error.candidates, asked.candidates, there(world)) == ((1033,), (1033,), [1033])
    assert fates(entry_of(world, "key-b")) == [("bob", "abandon", None)]


@pytest.mark.parametrize("given_up", [True, False])
def test_what_the_key_that_was_given_up_cannot_have_made_is_ours(given_up: bool, database: VirtualDatabase) -> None:
    """Key b was at work when a began; bob was shown all that may be b's, and a's own payment came later."""
    world = World("sql", database)

    def meanwhile() -> None:
        error = world.worker("b", 1).attempt(adding("key-b")).error
        assert isinstance(error, PaymentAmbiguous)
        assert error.candidates == (1033, 1034)
        if given_up:
            resolve(world, "abandon", key="key-b")

    world.director = Script({"a": {1: meanwhile, 3: "drop_after"}, "b": {3: "drop_after", 4: "people: adds"}})
    outcome = world.worker("a", 1).attempt(adding())
    if given_up:
        assert receipt_of(outcome) == ("created", "only_new_payment", 1035)
    else:
        assert isinstance(outcome.error, PaymentAmbiguous)
        assert entry_of(world).unresolved_keys == ("key-b",)
        resolve(world, "abandon", key="key-b")
        assert receipt_of(world.worker("a", 2).attempt(adding())) == ("created", "only_new_payment", 1035)
    assert (writes(world), writes(world, "key-b")) == ([ADD], [ADD])
