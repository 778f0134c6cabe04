"""The database is away in the middle of an attempt, so that only the task state knows what has happened since."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24StoreError, PaymentAmbiguous, PaymentNotApplied, PaymentRefused
from tests.simulation.campaign import OPERATIONS
from tests.simulation.stories import Script, added, adding, entry_of, receipt_of, resolve, there, writes
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.virtual_journals import VirtualDatabase
    from tests.simulation.world import Worker

LOST_AND_DEAD = {3: "drop_after", 4: "killed before"}
THE_ANSWER = (2, 3, 4, 5)
"""All tries of writing down what the portal has answered."""


def keep_only_in_the_task_state(worker: Worker, *numbers: int) -> None:
    """These writes reach the task state, and then the database is away."""
    journal = worker.journal._journal  # type: ignore[attr-defined]
    real, seen = journal.save, 0

    def save(changes: Any) -> Any:
        nonlocal seen
        seen += not changes[0].opens
        if changes[0].opens or seen not in numbers:
            return real(changes)
        journal._fence.save([replace(one, record=one.record.copied_from(journal.name)) for one in changes])
        worker.answered.clear()
        raise Bitrix24StoreError("the test database", "away")

    journal.save = save


def test_what_only_the_task_state_knew_is_a_rival(database: VirtualDatabase) -> None:
    """Key k was going to send when the database went away, and r has sent: nobody knows whose the new payment is."""
    world = World("sql and task state", database)
    k = world.worker("k", 1)
    keep_only_in_the_task_state(k, 1)
    assert isinstance(k.attempt(adding("key-k")).error, Bitrix24StoreError)
    assert world.sends == []
    world.director = Script({"r": LOST_AND_DEAD})
    assert world.worker("r", 1).attempt(adding("key-r")).killed
    world.director = Script({})
    error = world.worker("k", 2).attempt(adding("key-k")).error
    assert isinstance(error, PaymentAmbiguous)
    assert error.candidates == (1033,)
    assert "The key 'key-r' may have added it as well" in str(error)
    assert (added(world, "key-k"), added(world, "key-r")) == ([], [1033])


def test_what_was_sent_before_there_was_a_database_is_a_rival(database: VirtualDatabase) -> None:
    """Key k was sent without a database, and r, whose request never arrived, does not take k's payment for its own."""
    world = World("task state", database)
    world.director = Script({"k": {3: "commit_latest", 4: "killed before"}})
    assert world.worker("k", 1).attempt(adding("key-k")).killed
    world.journal = "sql and task state"
    world.director = Script({"k": {1: "timeout after"}, "r": {3: "drop_before"}})
    assert world.worker("k", 2).attempt(adding("key-k")).timed_out
    error = world.worker("r", 1).attempt(adding("key-r")).error
    assert isinstance(error, PaymentAmbiguous)
    assert "The key 'key-k' may have added it as well" in str(error)
    assert (added(world, "key-k"), added(world, "key-r")) == ([1033], [])


@pytest.mark.parametrize("people", ["adds", "deletes"])
def test_the_portals_answer_is_not_forgotten(people: str, database: VirtualDatabase) -> None:
    world = World("sql and task state", database)
    a = world.worker("a", 1)
    keep_only_in_the_task_state(a, *THE_ANSWER)
    assert isinstance(a.attempt(adding()).error, Bitrix24StoreError)
    assert entry_of(world).state == "unknown"
    world.people(people)
    world.advance(1000)
    outcome = world.worker("a", 2).attempt(adding())
    if people == "adds":
        assert receipt_of(outcome) == ("created", "response", 1033)
        assert there(world) == [1033, 1034]
    else:
        assert isinstance(outcome.error, PaymentNotApplied)
        assert "Payment 1033 of deal 1 was added according to the portal's reply" in str(outcome.error)
    assert added(world) == [1033]
    assert len(writes(world)) == 1
    assert (entry_of(world).payment_id, entry_of(world).evidence) == (1033, "response")


def test_a_yes_to_a_mark_is_not_forgotten(database: VirtualDatabase) -> None:
    """Else it would look as if the mark had never arrived, and it would be made again by itself."""
    world, pay = World("sql and task state", database), OPERATIONS["invoice"]
    world.director = Script({"a": {3: "true_not_applied"}})
    a = world.worker("a", 1)
    keep_only_in_the_task_state(a, *THE_ANSWER)
    assert isinstance(a.attempt(pay.do).error, Bitrix24StoreError)
    world.director = Script({})
    world.advance(1000)
    error = world.worker("a", 2).attempt(pay.do).error
    assert isinstance(error, PaymentNotApplied)
    assert "The portal accepted the request to mark invoice 2 as paid" in str(error)
    assert len(writes(world, pay.key(world))) == 1


def test_what_a_person_has_decided_since_counts_more(database: VirtualDatabase) -> None:
    world = World("sql and task state", database)
    a = world.worker("a", 1)
    keep_only_in_the_task_state(a, *THE_ANSWER)
    assert isinstance(a.attempt(adding()).error, Bitrix24StoreError)
    world.advance(1000)
    resolve(world, "abandon")
    assert isinstance(world.worker("a", 2).attempt(adding()).error, PaymentRefused)
    assert entry_of(world).state == "abandoned"


def _without_time(reply: Any) -> Any:
    """A reply as a portal gives it whose time some proxy has taken out."""
    if not isinstance(reply.body, dict):
        return reply
    body = {name: value for name, value in reply.body.items() if name != "time"}
    return replace(reply, body=body, headers={n: v for n, v in reply.headers.items() if n.lower() != "date"})


@pytest.mark.parametrize(("journal", "end"), [("task state", "killed before"), ("sql", "timeout before")])
def test_a_window_by_the_workers_clock_is_waited_for_as_a_whole(
    journal: str, end: str, database: VirtualDatabase
) -> None:
    """The reads before the send tell no time, and the worker's clock is behind by more than the settle window."""
    world = World(journal, database)
    real = world.portal.handle
    world.portal.handle = lambda *args, **options: _without_time(real(*args, **options))  # type: ignore[method-assign]
    world.director = Script({"a": {3: "commit_latest", 4: end}})
    world.worker("a", 1, clock_off_by=-60).attempt(adding())
    world.portal.handle = real  # type: ignore[method-assign]
    world.director = Script({})
    error = world.worker("a", 2).attempt(adding(on_unknown="adopt")).error
    assert isinstance(error, PaymentAmbiguous)
    assert error.candidates == (1033,)  # it came at another time than the worker's clock says
    world.advance(100)
    assert added(world) == there(world) == [1033]
    assert len(writes(world)) == 1
