"""What messages say of what was sent before, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.exceptions import (
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.database import SqlJournal
from airflow_provider_bitrix24.sandbox.faults import Fault
from tests.proof.campaign import KEY, OPERATIONS
from tests.proof.stories import (
    Script,
    adding,
    entry_of,
    writes,
)
from tests.proof.world import World

if TYPE_CHECKING:
    from tests.proof.virtual_journals import VirtualDatabase


def test_what_was_sent_before_is_not_denied(database: VirtualDatabase) -> None:
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


def test_what_this_attempt_has_sent_is_not_denied(database: VirtualDatabase) -> None:
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
    database: VirtualDatabase,
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


def test_rows_that_this_attempt_has_put_in_are_not_denied(database: VirtualDatabase) -> None:
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
