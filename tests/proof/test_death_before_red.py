"""A worker dies after it has written that the portal answered and shows nothing, and before its task is red.

For Airflow that is a retry like any other: nobody has looked, so nothing is sent until somebody clears the task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import PaymentNotApplied
from tests.proof.campaign import IDENTITY, OPERATIONS, Case, tell
from tests.proof.stories import Script, resolve
from tests.proof.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.once import Once, Receipt
    from tests.proof.virtual_journals import VirtualDatabase
    from tests.proof.world import Outcome

CLEARED = "PaymentNotApplied, cleared: green"


@pytest.mark.parametrize("journal", ["task state", "sql"])
@pytest.mark.parametrize(
    ("name", "sent", "answer", "written", "ended"),
    [
        ("invoice", 3, "true_not_applied", 8, CLEARED),
        ("invoice", 3, "error", 8, CLEARED),
        ("payment", 3, "true_not_applied", 8, CLEARED),
        ("add", 3, "error", 8, CLEARED),
        ("fill", 3, "error", 8, CLEARED),
        ("fill", 7, "error", 11, CLEARED),
        # The row is missed when all is read; whoever clears the task is told that it had been accepted.
        ("fill", 7, "true_not_applied", 22, "PaymentMismatch, cleared: PaymentNotApplied"),
    ],
)
def test_nothing_is_sent_until_somebody_clears_the_task(
    name: str,
    sent: int,
    answer: str,
    written: int,
    ended: str,
    journal: str,
    database: VirtualDatabase,
) -> None:
    operation = OPERATIONS[name]
    told = tell(Case(operation, journal, {sent: answer}), database)
    assert (told.effects[sent], told.effects[written], told.ended) == ("send", "journal.write", ended)
    killed = tell(Case(operation, journal, {sent: answer, written: "killed after"}), database)
    assert killed.ended == ended
    assert killed.effects.count("send") == told.effects.count("send")


def _paying(**options: Any) -> Callable[[Once], Receipt]:
    return lambda once: once.pay_invoice(invoice_id=2, pay_system_id=31, **options)


def _told_and_killed(database: VirtualDatabase) -> World:
    """The worker dies right after it has written that invoice 2 is not shown as paid."""
    world = World("sql", database)
    world.director = Script({IDENTITY: {3: "true_not_applied", 8: "killed after"}})
    assert world.worker(IDENTITY, 1, max_tries=3).attempt(_paying()).killed
    world.director = Script({})
    assert len(world.sends) == 1
    return world


def _red(outcome: Outcome) -> str:
    assert isinstance(outcome.error, PaymentNotApplied)
    return str(outcome.error)


def test_the_retry_says_what_the_dead_attempt_could_not_say(database: VirtualDatabase) -> None:
    world = _told_and_killed(database)
    for attempt in (2, 3):
        message = _red(world.worker(IDENTITY, attempt, max_tries=3).attempt(_paying()))
        assert f"The portal answered {IDENTITY}:try:1" in message
        assert "Nothing was sent by this attempt" in message
        assert "clear this task" in message
    assert len(world.sends) == 1


def test_whoever_clears_the_task_has_it_sent_once_more(database: VirtualDatabase) -> None:
    world = _told_and_killed(database)
    _red(world.worker(IDENTITY, 2, max_tries=3).attempt(_paying()))
    assert world.worker(IDENTITY, 3, max_tries=5).attempt(_paying()).receipt is not None
    assert len(world.sends) == 2


def test_another_run_is_not_a_retry(database: VirtualDatabase) -> None:
    world = _told_and_killed(database)
    assert world.worker("tomorrow", 1, max_tries=3).attempt(_paying()).receipt is not None


def test_what_a_person_decides_counts_in_the_same_round(database: VirtualDatabase) -> None:
    """Airflow asks in the middle of an attempt, which is none that somebody has cleared."""
    world = _told_and_killed(database)
    world.advance(world.settle_window)  # nobody decides while somebody is at work
    resolve(world, "pay_again", key=f"{world.name}:invoice:2")
    world.red.clear()  # a person has decided that it is sent once more
    assert world.worker(IDENTITY, 2, max_tries=3).attempt(_paying()).receipt is not None
    assert len(world.sends) == 2


def test_what_the_portal_shows_by_then_is_green(database: VirtualDatabase) -> None:
    world = _told_and_killed(database)
    world.people("pays")
    assert world.worker(IDENTITY, 2, max_tries=3).attempt(_paying()).receipt is not None
    assert len(world.sends) == 1
