"""A worker dies after it has written that the portal answered and shows nothing, and before its task is red.

For Airflow that is a retry like any other: nobody has looked, so nothing is sent until somebody clears the task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentNotApplied
from tests.simulation.campaign import IDENTITY, OPERATIONS, Case, tell
from tests.simulation.stories import Script, adding, entry_of, resolve
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from tests.simulation.virtual_journals import VirtualDatabase
    from tests.simulation.world import Outcome, Worker
    from tests.tools.payments import ScriptedPayments

ROW = 7
"""The effect that puts the first product row in."""
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
        ("fill", ROW, "error", 12, CLEARED),
        # The row is missed when all is read; whoever clears the task is told that it had been accepted.
        ("fill", ROW, "true_not_applied", 22, "PaymentMismatch, cleared: PaymentNotApplied"),
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
    if (name, journal) == ("payment", "sql"):
        # Before a payment is marked, the journal is asked for the other keys of it.
        sent, written = sent + 1, written + 1
    told = tell(Case(operation, journal, {sent: answer}), database)
    assert (told.effects[sent], told.effects[written], told.ended) == ("send", "journal.write", ended)
    killed = tell(Case(operation, journal, {sent: answer, written: "killed after"}), database)
    assert killed.ended == ended
    assert killed.effects.count("send") == told.effects.count("send")


class EverySend:
    """The same trouble strikes each send."""

    def __init__(self, trouble: str) -> None:
        self.trouble = trouble

    def strike(self, worker: Worker, what: str) -> str | None:
        """Strike sends."""
        return self.trouble if what == "send" else None

    def sleep(self, worker: Worker, seconds: float) -> None:
        """Let time pass."""
        worker.world.advance(seconds)


def _paying(**options: Any) -> Callable[[ScriptedPayments], Receipt]:
    return lambda payments: payments.pay_invoice(invoice_id=2, pay_system_id=31, **options)


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
        assert f"accepted the request to mark invoice 2 as paid, sent by {IDENTITY}:try:1, but does not show" in message
        assert "Nothing was sent by this attempt" in message
        assert "clear this task" in message
    assert len(world.sends) == 1


def test_whoever_clears_the_task_has_it_sent_once_more(database: VirtualDatabase) -> None:
    world = _told_and_killed(database)
    _red(world.worker(IDENTITY, 2, max_tries=3).attempt(_paying()))
    assert world.worker(IDENTITY, 3, max_tries=5).attempt(_paying()).receipt is not None
    assert len(world.sends) == 2


def test_another_task_with_the_key_is_told_before_it_sends(database: VirtualDatabase) -> None:
    """Another run, or another index of the same mapped task: nobody has looked at it yet."""
    world = _told_and_killed(database)
    world.advance(world.settle_window)  # the key is held for the dead attempt until then
    for attempt in (1, 2):
        message = _red(world.worker("tomorrow", attempt, max_tries=3).attempt(_paying()))
        assert f"the request to mark invoice 2 as paid, sent by {IDENTITY}:try:1" in message
    assert len(world.sends) == 1
    assert world.worker("tomorrow", 3, max_tries=5).attempt(_paying()).receipt is not None


def test_who_was_killed_is_told_what_another_task_has_found(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "true_not_applied", 5: "killed before"}})
    assert world.worker("a", 1, max_tries=3).attempt(_paying()).killed
    world.director = Script({})
    for task, attempt in (("b", 1), ("a", 2)):
        world.advance(world.settle_window)
        _red(world.worker(task, attempt, max_tries=3).attempt(_paying()))
    assert len(world.sends) == 1
    assert world.worker("a", 3, max_tries=5).attempt(_paying()).receipt is not None
    assert len(world.sends) == 2


def test_a_row_that_another_task_could_not_send_is_still_not_shown(database: VirtualDatabase) -> None:
    """What was not sent at all says nothing of what was sent before."""
    world = World("sql", database)
    filling = adding(fill_products=True)
    world.director = Script({"a": {ROW: "error", 11: "killed after"}})
    assert world.worker("a", 1, max_tries=3).attempt(filling).killed
    world.director = EverySend("not sent")
    for attempt, max_tries in ((1, 3), (2, 5)):
        world.advance(world.settle_window)
        assert world.worker("b", attempt, max_tries=max_tries).attempt(filling).receipt is None
    [row] = entry_of(world).steps.values()
    assert [send.result for send in row] == ["not_applied", "not_sent"]
    sends = len(world.sends)
    world.director = Script({})
    world.advance(world.settle_window)
    message = _red(world.worker("a", 2, max_tries=3).attempt(filling))
    assert "unclearly: code 0, Strange): it was sent once, by a:try:1; clearing this task sends it once" in message
    assert len(world.sends) == sends


def test_what_was_sent_as_often_as_it_may_be_is_left_to_a_person_at_once(database: VirtualDatabase) -> None:
    """Clearing would not help any more, so nobody is told to."""
    for do, fault in ((_paying(), "true_not_applied"), (adding(), "error")):
        world = World("sql", database)
        world.director = Script(
            {
                "a": {3: fault},
            }
        )
        _red(world.worker("a", 1, max_tries=3).attempt(do))
        world.director = EverySend(fault)
        error = world.worker("a", 2, max_tries=5).attempt(do).error
        assert isinstance(error, PaymentAmbiguous)
        assert "was sent twice" in str(error)
        assert "journal resolve" in str(error)


def test_what_a_person_decides_counts_in_the_same_round(database: VirtualDatabase) -> None:
    """Airflow asks in the middle of an attempt, which is none that somebody has cleared."""
    world = _told_and_killed(database)
    world.advance(world.settle_window)  # nobody decides while somebody is at work
    resolve(world, "send_again", key=f"{world.name}:invoice:2")
    assert world.worker(IDENTITY, 2, max_tries=3).attempt(_paying()).receipt is not None
    assert len(world.sends) == 2


def test_what_the_portal_shows_by_then_is_green(database: VirtualDatabase) -> None:
    world = _told_and_killed(database)
    world.people("pays")
    assert world.worker(IDENTITY, 2, max_tries=3).attempt(_paying()).receipt is not None
    assert len(world.sends) == 1


def test_nobody_is_told_to_clear_the_task_for_a_row_that_is_not_sent_again(database: VirtualDatabase) -> None:
    world, do = World("sql", database), adding(fill_products=True)
    world.director = Script({"a": {ROW: "error"}})
    _red(world.worker("a", 1, max_tries=3).attempt(do))
    world.director = EverySend("error")
    _red(world.worker("a", 2, max_tries=4).attempt(do))
    world.director, sends = Script({}), len(world.sends)
    for attempt, max_tries in ((1, 3), (2, 5)):
        world.advance(world.settle_window)
        message = _red(world.worker("b", attempt, max_tries=max_tries).attempt(do))
        assert "unclearly: code 0, Strange): it was sent twice, the last time by a:try:2" in message
        assert "clears this task" not in message
    assert len(world.sends) == sends
