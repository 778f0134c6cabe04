"""A key in the task state and in a database, and other keys that claim its payment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.at_most_once.record import Record
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.cli import refuse_senseless
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import DOCUMENT
from tests.simulation.campaign import KEY, OPERATIONS
from tests.simulation.stories import (
    ADD,
    LOST_AND_ANOTHER,
    Script,
    added,
    adding,
    decision,
    entry_of,
    lost,
    resolve,
    writes,
)
from tests.simulation.world import World
from tests.tools.payments import JournalPage

if TYPE_CHECKING:
    from tests.simulation.virtual_journals import VirtualDatabase


@pytest.mark.parametrize("trouble", ["drop_after", None])
def test_a_database_given_later_knows_what_the_task_state_knew(
    trouble: str | None,
    database: VirtualDatabase,
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


def test_the_copy_in_the_task_state_is_not_the_place_to_decide(database: VirtualDatabase) -> None:
    world = World("sql and task state", database)
    world.director = Script(LOST_AND_ANOTHER)
    assert isinstance(world.worker("a", 1).attempt(adding()).error, PaymentAmbiguous)
    copy = Record.read(json.loads(world.states["a"].documents[DOCUMENT]), where="the Storage tab")
    with pytest.raises(Bitrix24ConfigError, match=r"only a copy.*--conn-id"):
        refuse_senseless(copy, decision("abandon"))


def test_what_an_overtaken_attempt_was_told_is_not_sent_again_if_it_does_not_show(
    database: VirtualDatabase,
) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "killed after"}})
    world.worker("a", 1).attempt(adding())
    world.advance(1000)
    page = JournalPage(SqlJournal(world.database, "zombie"), world.name, KEY)
    entry = page.read()
    assert entry is not None
    page.write(entry)
    overtaken = JournalPage(SqlJournal(world.database, "late"), world.name, KEY)
    overtaken.read()
    page.write(entry)
    assert overtaken.write(entry.identified(1033, "response").acknowledged()) == "overtaken"
    world.people("deletes")
    for attempt in (2, 3):
        assert isinstance(world.worker("a", attempt).attempt(adding()).error, PaymentNotApplied)
    assert writes(world) == [ADD]


def claim_for_another_key(world: World) -> None:
    """Another key has taken payment 1033 for its own, without proof."""
    page = JournalPage(SqlJournal(world.database, "b"), world.name, "key-b")
    page.read()
    page.write(
        Record(
            key="key-b",
            portal=world.name,
            operation="add_crm_payment",
            subject="deal 1",
            parameters={"entity_id": 1, "entity_type_id": 2},
            task="b",
            payment_id=1033,
            evidence="only_new_payment",
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
    database: VirtualDatabase,
) -> None:
    world = World("task state", database)
    claimed_meanwhile(world, {5: "killed before"}, fill_products=True)
    do = adding(fill_products=True)
    for attempt in (2, 3):
        error = world.worker("a", attempt).attempt(do).error
        assert isinstance(error, PaymentAmbiguous)
        assert error.candidates == (1033,)
        assert "the key 'key-b' has claimed it" in str(error)
        assert "resolve key-b --conn-id YOUR_JOURNAL --abandon` ends it" in str(error)
        entry = entry_of(world)
        assert (entry.state, entry.payment_id, entry.question) == ("needs_decision", 1033, str(error))
    rows = [event for event in world.portal.ledger if event["event"] == "product_added"]
    assert rows == []
    resolve(world, "abandon", key="key-b")
    receipt = world.worker("a", 4).attempt(do).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence, entry_of(world).state) == (1033, "response", "done")
    assert writes(world).count(ADD) == 1


@pytest.mark.parametrize("strikes", [{5: "killed before"}, {}], ids=["incomplete", "done"])
def test_a_key_whose_payment_another_one_has_claimed_can_be_given_up(
    strikes: dict[int, Any],
    database: VirtualDatabase,
) -> None:
    world = World("task state", database)
    claimed_meanwhile(world, strikes)
    assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentAmbiguous)
    assert entry_of(world).state == "needs_decision"
    resolve(world, "abandon")
    assert isinstance(world.worker("a", 3).attempt(adding()).error, PaymentRefused)
    # Adopted again, it is still the other one's.
    resolve(world, "use_payment", 1033)
    assert "has claimed it" in str(world.worker("a", 4).attempt(adding()).error)
    assert writes(world) == [ADD]


def test_who_was_asked_about_a_payment_does_not_take_it_from_another_key(
    database: VirtualDatabase,
) -> None:
    world = World("sql", database)
    assert lost(world, "people: adds").candidates == (1033, 1034)
    world.people("deletes")
    claim_for_another_key(world)
    world.director = Script({})
    error = world.worker("a", 2).attempt(adding(on_unknown="adopt")).error
    assert isinstance(error, PaymentAmbiguous)
    assert "still needs a person's decision" in str(error)
    assert (entry_of(world).state, entry_of(world).payment_id) == ("needs_decision", None)
    resolve(world, "use_payment", 1033)
    error = world.worker("a", 3).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    assert "Payment 1033 (person) may be that of the key" in str(error)
    assert (entry_of(world).state, entry_of(world).payment_id) == ("needs_decision", None)


@pytest.mark.parametrize("operation", ["add", "invoice", "payment"])
def test_what_only_the_task_state_knew_is_in_the_database_for_other_runs(
    operation: str,
    database: VirtualDatabase,
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
    database: VirtualDatabase,
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
    assert (receipt.subject["payment_id"], receipt.evidence) == (1033, "response")
    assert writes(world) == [ADD]
