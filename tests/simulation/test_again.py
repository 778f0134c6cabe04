"""Pay, set back to unpaid, and pay again: what makes the second payment a new operation, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_bitrix24.exceptions import PaymentInProgress, PaymentNotApplied
from tests.simulation.stories import Script, entry_of
from tests.simulation.world import REST_SYSTEM, World

if TYPE_CHECKING:
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from tests.simulation.virtual_journals import VirtualDatabase
    from tests.simulation.world import Worker
    from tests.tools.payments import ScriptedPayments

EVENTS = ("payment_paid", "payment_unpaid", "payment_deleted")
ACROSS_TASKS = pytest.mark.parametrize("journal", ["sql", "sql and task state"])


def pay(payments: ScriptedPayments) -> Receipt:
    return payments.pay_crm_payment(payment_id=1001)


def pay_through_its_pay_system(payments: ScriptedPayments) -> Receipt:
    return payments.pay_payment(payment_id=1001, pay_system_id=REST_SYSTEM)


def unpay(payments: ScriptedPayments) -> Receipt:
    return payments.unpay_crm_payment(payment_id=1001)


def delete(payments: ScriptedPayments) -> Receipt:
    return payments.delete_crm_payment(payment_id=1001)


class KilledBeforeItSends(Script):
    """Kills each attempt before its write leaves."""

    def strike(self, worker: Worker, what: str) -> str | None:
        """Kill before a send."""
        return "killed before" if what == "send" else None


def events(world: World) -> list[str]:
    return [entry["event"].removeprefix("payment_") for entry in world.portal.ledger if entry["event"] in EVENTS]


def outcomes(world: World, *steps: tuple[str, object]) -> list[str]:
    found = []
    for identity, work in steps:
        receipt = world.worker(identity, 1).attempt(work).receipt  # type: ignore[arg-type]  # a function of payments
        assert receipt is not None
        found.append(receipt.outcome)
    return found


@pytest.mark.parametrize("paying", [pay, pay_through_its_pay_system])
@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state"])
def test_pay_and_unpay_alternate_as_often_as_tasks_ask_for_it(
    journal: str, paying: object, database: VirtualDatabase
) -> None:
    world = World(journal, database)
    world.use_rest_handler(1001)
    steps = [(f"task{number}", (paying, unpay)[number % 2]) for number in range(6)]
    assert outcomes(world, *steps) == ["paid", "unpaid"] * 3
    assert events(world) == ["paid", "unpaid"] * 3


@ACROSS_TASKS
def test_the_task_that_paid_does_not_pay_again_after_the_reset(journal: str, database: VirtualDatabase) -> None:
    world = World(journal, database)
    outcomes(world, ("first", pay), ("reset", unpay))
    assert isinstance(world.worker("first", 2).attempt(pay).error, PaymentNotApplied)
    assert events(world) == ["paid", "unpaid"]


@ACROSS_TASKS
def test_no_task_of_an_earlier_round_pays_in_a_later_one(journal: str, database: VirtualDatabase) -> None:
    """Also not when the attempt of the later round was refused, so that the key has nothing executed."""
    world = World(journal, database)
    outcomes(world, ("first", pay), ("reset", unpay), ("second", pay), ("reset again", unpay))
    assert entry_of(world, f"{world.name}:payment:1001").earlier_tasks == ("first",)
    for identity in ("first", "second", "first"):
        assert isinstance(world.worker(identity, 2).attempt(pay).error, PaymentNotApplied)
    assert events(world) == ["paid", "unpaid"] * 2


@ACROSS_TASKS
def test_what_somebody_else_set_back_is_for_a_person(journal: str, database: VirtualDatabase) -> None:
    """A reset of ours that is older than the payment opens nothing."""
    world = World(journal, database)
    outcomes(world, ("first", pay), ("reset", unpay), ("second", pay))
    payment = world.portal.state.payments[1001]
    payment.paid = "N"
    assert isinstance(world.worker("third", 1).attempt(pay).error, PaymentNotApplied)
    assert events(world) == ["paid", "unpaid", "paid"]


@ACROSS_TASKS
@pytest.mark.parametrize("work", [pay, delete])
def test_nothing_is_sent_while_another_operation_may_still_arrive(
    journal: str, work: object, database: VirtualDatabase
) -> None:
    """A reset is killed before it is sent; until its settle window is over, nobody can know."""
    world = World(journal, database)
    outcomes(world, ("first", pay))
    sends = len(world.sends)
    world.director = KilledBeforeItSends({})
    assert world.worker("reset", 1).attempt(unpay).killed
    world.director = Script({})
    assert len(world.sends) == sends
    world.portal.state.payments[1001].paid = "N"  # somebody does it by hand
    error = world.worker("another", 1).attempt(work).error  # type: ignore[arg-type]
    assert isinstance(error, PaymentInProgress)
    assert "may still arrive" in str(error)
    assert len(world.sends) == sends
    world.advance(2 * world.settle_window)
    assert world.worker("reset", 2).attempt(unpay).receipt is not None
    assert world.worker("another", 2).attempt(work).receipt is not None  # type: ignore[arg-type]
    assert len(world.sends) == sends + 1
