"""A worker dies at every effect, the journal forgets, and the task is cleared: nothing is sent a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentNotApplied
from airflow_provider_bitrix24.journal.sql import SqlJournal
from tests.simulation.campaign import IDENTITY, OPERATIONS, Case, Strikes, tell
from tests.simulation.judge import Judge
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.campaign import Operation
    from tests.simulation.virtual_journals import VirtualDatabase

pytestmark = pytest.mark.usefixtures("unmeasured")

TABLES = ("bitrix24_journal", "bitrix24_claim", "bitrix24_late_reply")


def forget(world: World) -> None:
    """Empty what keeps the journal, as Clear does with the task state, or whoever replaces a database."""
    world.states.clear()
    if world.database is not None and world.journal != "task state":
        SqlJournal(world.database, "somebody").load(world.name, [""])  # its tables, if nobody has come so far
        with world.database.begin() as connection:
            for table in TABLES:
                connection.execute(sa.text(f"delete from {table} where portal = :portal"), {"portal": world.name})


def live_on(world: World, operation: Operation, judge: Judge) -> bool:
    """Clear the task until it ends for good; return whether it succeeded."""
    for number in range(2, 5):
        # As long as a request of the dead attempt may arrive, and when it cannot any more.
        world.advance(0 if number == 2 else world.settle_window)
        worker = world.worker(IDENTITY, number, max_tries=number, lost="It was cleared.")
        outcome = worker.attempt(operation.do)
        judge.attempt(outcome, fill=dict(operation.fill) if operation.fill else None)
        if outcome.receipt is not None:
            return True
        # That a payment is gone does not show which one it was, so its amount is not known: a person looks.
        gone = operation.name == "delete" and isinstance(outcome.error, PaymentNotApplied)
        assert gone or isinstance(outcome.error, PaymentAmbiguous), outcome
    return False


@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state"])
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_whatever_was_forgotten_is_not_sent_again(name: str, journal: str, database: VirtualDatabase) -> None:
    operation = OPERATIONS[name]
    calm = tell(Case(operation, journal, {}), database)
    greens = 0
    for effect in range(-1, calm.effects.index("send") + 12):
        for strike in ("killed before", "killed after"):
            world = World(journal, database)
            operation.prepare(world)
            judge = Judge(world, operation.key(world), operation.operation)
            world.director = Strikes({effect: strike})
            world.worker(IDENTITY, 1, max_tries=0).attempt(operation.do)
            sends = len(world.sends)
            world.director = Strikes({})
            forget(world)
            greens += live_on(world, operation, judge)
            # What completes a payment that its tag has proved may still be sent.
            assert len(world.sends) == sends or name == "tag", "\n".join(world.trace)
            assert len(judge.added()) + len(judge.marks()) <= 1, "\n".join(world.trace)
            judge.end()
    # A tag, or a mark that is there, needs no journal.
    assert bool(greens) == (name not in ("add", "fill", "delete"))
