"""What people decide, what other keys claim and what overtaken attempts conclude never leads to a second payment."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentInProgress, PaymentMismatch, PaymentRefused
from airflow_provider_bitrix24.journal.task_state import DECISIONS
from tests.simulation.campaign import KEY, OPERATIONS, Case, tell
from tests.simulation.stories import (
    ADD,
    Script,
    adding,
    decision,
    entry_of,
    receipt_of,
    resolve,
    there,
    writes,
    wrong_claim,
)
from tests.simulation.world import World
from tests.tools.payments import JournalPage

if TYPE_CHECKING:
    from tests.simulation.virtual_journals import VirtualDatabase


def test_what_an_overtaken_attempt_wanted_to_return_is_not_taken_for_the_portals_answer(
    database: VirtualDatabase,
) -> None:
    world = World("sql", database)
    theirs = world.portal.act.add_payment(2, 1, user_id=7)
    do = adding(fill_products=True, if_unpaid_exists="return")

    def meanwhile() -> None:
        world.portal.act.pay_payment(theirs, by="person", user_id=7)
        world.worker("b", 1).attempt(do)  # sees none to return, adds one, and dies

    world.director = Script({"a": {2: meanwhile}, "b": {3: "killed after"}})
    # Overtaken, it looks again, and finds what the other one has made.
    assert receipt_of(world.worker("a", 1).attempt(do)) == ("created", "only_new_payment", theirs + 1)
    world.portal.act.unpay_payment(theirs, user_id=7)
    world.advance(1000)
    world.director = Script({})
    assert receipt_of(world.worker("c", 1).attempt(do)) == ("existing", "only_new_payment", theirs + 1)
    filled = {item.payment_id for item in world.portal.state.payable_items.values() if item.payment_id > 1032}
    assert filled == {theirs + 1}


def test_what_another_key_has_wrongly_claimed_is_not_absent(database: VirtualDatabase) -> None:
    world = World("sql", database)
    wrong_claim(world)
    for attempt in (2, 3):
        error = world.worker("a", attempt).attempt(adding()).error
        assert isinstance(error, PaymentAmbiguous)
        assert "the key 'key-b' has claimed it" in str(error)
    assert (writes(world), there(world)) == ([ADD], [1033])


def test_what_another_key_has_provably_made_is_not_taken_for_ours(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "drop_before", 4: "killed before"}})
    assert world.worker("a", 1).attempt(adding()).killed
    world.director = Script({})
    assert receipt_of(world.worker("b", 1).attempt(adding("key-b"))) == ("created", "response", 1033)
    assert receipt_of(world.worker("a", 2).attempt(adding())) == ("created", "response", 1034)


def test_who_is_shown_another_payment_can_pay_again(database: VirtualDatabase) -> None:
    """Ours was deleted, and somebody has added another one: turned down once, because it was not shown."""
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    world.people("deletes")
    world.people("adds")
    resolve(world, "send_again")
    error = world.worker("a", 2).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert "meanwhile payment 1034 appeared on deal 1, which bob was not shown" in str(error)
    resolve(world, "send_again")
    world.answered.clear()  # a person has decided that it is sent once more
    assert receipt_of(world.worker("a", 3).attempt(adding())) == ("created", "response", 1035)
    assert entry_of(world).dismissed == (1033, 1034)


@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_nobody_pays_again_beside_the_payment_that_carries_the_tag(
    journal: str,
    database: VirtualDatabase,
) -> None:
    world = World("task state")
    assert world.worker("run1", 1).attempt(adding(tag=True)).receipt is not None
    if journal == "sql":
        world.journal, world.database, database.world = "sql", database, world
    assert receipt_of(world.worker("run2", 1).attempt(adding(tag=True))) == ("existing", "tag", 1033)
    if journal == "sql":
        resolve(world, "send_again")
    else:
        found = JournalPage(world.journal_for("run2", 2), world.name, KEY).read()
        decided = replace(decision("send_again"), about=found.digest, through="command line")
        world.states["run2"].documents[DECISIONS] = json.dumps([decided.document()])
    error = world.worker("run2", 2).attempt(adding(tag=True)).error
    assert isinstance(error, PaymentAmbiguous)
    assert "payment 1033, which is this key's, is still on deal 1" in str(error)
    assert there(world) == [1033]


@pytest.mark.parametrize("how", ["command line", "Airflow"])
def test_nobody_pays_again_beside_what_the_portal_has_told_an_overtaken_attempt(
    how: str,
    database: VirtualDatabase,
) -> None:
    world = World("sql", database)

    def meanwhile() -> None:
        world.advance(1000)
        world.people("adds")
        error = world.worker("b", 1).attempt(adding()).error
        assert isinstance(error, PaymentAmbiguous)
        assert error.candidates == (1033, 1034)

    world.director = Script({"a": {4: meanwhile}})  # it has the answer 1033 in its hands
    assert isinstance(world.worker("a", 1).attempt(adding()).error, PaymentInProgress)
    decided = decision("send_again", 1033, 1034) if how == "Airflow" else None
    if decided is None:
        resolve(world, "send_again")
    error = world.worker("b", 2).attempt(adding(decision=decided)).error
    assert isinstance(error, PaymentAmbiguous)
    assert "payment 1033, which is this key's, is still on deal 1" in str(error)
    assert receipt_of(world.worker("b", 3).attempt(adding())) == ("created", "response", 1033)
    assert writes(world) == [ADD]


def test_who_gives_up_has_not_said_that_the_payment_is_not_ours(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "drop_after"}})
    assert receipt_of(world.worker("a", 1).attempt(adding())) == ("created", "only_new_payment", 1033)
    resolve(world, "abandon")
    resolve(world, "send_again")
    error = world.worker("a", 2).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert "meanwhile payment 1033 appeared" in str(error)
    assert there(world) == [1033]
    resolve(world, "use_payment", 1033)
    assert receipt_of(world.worker("a", 3).attempt(adding())) == ("created", "person", 1033)


@pytest.mark.parametrize("fill_products", [False, True])
def test_paying_again_is_about_the_same_object(fill_products: bool, database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.portal.act.add_payment(2, 1, user_id=7, amount="99.00")
    options = {"if_unpaid_exists": "return", "fill_products": fill_products}

    def do(deal: int) -> Any:
        return lambda payments: payments.add_crm_payment(entity_id=deal, entity_type_id=2, key=KEY, **options)

    assert receipt_of(world.worker("a", 1).attempt(do(1))) == ("existing", "portal_state", 1033)
    resolve(world, "send_again")
    error = world.worker("a", 2).attempt(do(4)).error
    assert isinstance(error, PaymentMismatch)
    assert "entity_id was 1, now 4. bob decided to send again for the former ones" in str(error)
    assert writes(world) == []
    # For the same object as before it is carried out.
    assert receipt_of(world.worker("a", 3).attempt(do(1))) == ("created", "response", 1034)


def test_giving_up_in_the_database_is_not_undone_by_the_copy(database: VirtualDatabase) -> None:
    world = World("sql and task state", database)
    world.portal.act.add_payment(2, 1, user_id=7)
    do = adding(if_unpaid_exists="return")
    assert receipt_of(world.worker("a", 1).attempt(do)) == ("existing", "portal_state", 1033)
    resolve(world, "abandon")
    for attempt in (2, 3):
        error = world.worker("a", attempt).attempt(do).error
        assert isinstance(error, PaymentRefused)
        assert "bob has abandoned deal 1" in str(error)


def test_what_is_adopted_in_place_of_a_returned_one_is_filled(database: VirtualDatabase) -> None:
    world = World("sql", database)
    do = adding(fill_products=True, if_unpaid_exists="return")
    world.portal.act.add_payment(2, 1, user_id=7, amount="99.00")
    assert receipt_of(world.worker("a", 1).attempt(do)) == ("existing", "portal_state", 1033)
    world.people("deletes")
    theirs = world.portal.act.add_payment(2, 1, user_id=7)
    assert world.worker("a", 2).attempt(do).error is not None
    resolve(world, "use_payment", theirs)
    outcome = world.worker("a", 3).attempt(do)
    assert receipt_of(outcome) == ("existing", "person", theirs)
    assert outcome.receipt.money.amount == 1020


def test_who_has_given_up_is_told_what_is_on_the_portal(database: VirtualDatabase) -> None:
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    resolve(world, "abandon")
    error = world.worker("a", 2).attempt(adding()).error
    assert isinstance(error, PaymentRefused)
    assert "succeeded for deal 1, with payment 1033" in str(error)
    resolve(world, "send_again")
    error = world.worker("a", 3).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert "payment 1033, which is this key's, is still on deal 1" in str(error)
    assert "it goes on with payment 1033" not in str(error)  # it does not: it is given up
    assert isinstance(world.worker("a", 4).attempt(adding()).error, PaymentRefused)


def test_what_does_not_fit_us_and_another_key_has_adopted_is_not_waited_for(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script({name: {3: "drop_before", 4: "killed before"} for name in "ab"})
    assert world.worker("b", 1).attempt(adding("key-b")).killed
    assert world.worker("a", 1).attempt(adding()).killed
    world.director = Script({})
    world.people("adds")
    assert isinstance(world.worker("b", 2).attempt(adding("key-b")).error, PaymentAmbiguous)
    resolve(world, "use_payment", 1033, key="key-b")
    assert receipt_of(world.worker("b", 3).attempt(adding("key-b"))) == ("created", "person", 1033)
    # Somebody else has made it: it is not a's, whoever has it.
    assert receipt_of(world.worker("a", 2).attempt(adding())) == ("created", "response", 1034)


@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_a_redirect_does_not_deny_a_mark_that_was_taken_back(journal: str, database: VirtualDatabase) -> None:
    """What the pairs of strikes have found: who is redirected knows nothing of this call, nor denies the one before."""
    for strike, ended in (("redirect", "PaymentAmbiguous"), ("redirect after", "green")):
        case = Case(OPERATIONS["invoice"], journal, {4: "people: takes back", 12: strike})
        told = tell(case, database)
        assert told.effects[12] == "send"
        assert told.ended == f"PaymentNotApplied, cleared: {ended}"
        assert [line for line in told.trace if "not executed" in line] == []


@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_who_pays_again_after_an_unclear_answer_need_not_clear_twice(journal: str, database: VirtualDatabase) -> None:
    """An unclear answer, and somebody adds a payment: it is not ours, says the person, so add it again."""
    world = World(journal, database)
    world.director = Script({"a": {3: "error", 4: "people: adds"}})
    error = world.worker("a", 1, max_tries=3).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    decided = decision("send_again", *error.candidates)
    outcome = world.worker("a", 2, max_tries=5).attempt(adding(decision=decided))
    assert receipt_of(outcome) == ("created", "response", 1034)


def test_who_marks_again_after_an_unclear_answer_need_not_clear_twice(database: VirtualDatabase) -> None:
    world, key = World("sql", database), "invoice:2"
    world.director = Script({"a": {3: "error", 5: "killed before"}})
    assert world.worker("a", 1, max_tries=3).attempt(OPERATIONS["invoice"].do).killed
    world.director = Script({})
    world.advance(2 * world.settle_window)
    resolve(world, "send_again", key=f"{world.name}:{key}")
    receipt = world.worker("a", 2, max_tries=5).attempt(OPERATIONS["invoice"].do).receipt
    assert receipt is not None
    assert receipt.outcome == "paid"


def test_a_call_that_was_not_sent_does_not_speak_for_the_ones_before_it() -> None:
    """Without a journal: a green mark was taken back, the green task is cleared, and the portal is away."""
    strikes = {6: "people: takes back", 10: "outage 6"}
    assert tell(Case(OPERATIONS["invoice"], "none", strikes), None).ended == "green"
