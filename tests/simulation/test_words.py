"""What messages say of what was sent before, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.exceptions import (
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.sandbox.faults import Fault
from tests.simulation.campaign import KEY, OPERATIONS
from tests.simulation.stories import (
    Script,
    adding,
    entry_of,
    writes,
)
from tests.simulation.world import World
from tests.tools.payments import JournalPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.virtual_journals import VirtualDatabase
    from tests.simulation.world import Worker


def test_what_was_sent_before_is_not_denied(database: VirtualDatabase) -> None:
    """The invoice is cancelled between two attempts, the first of which has sent a mark that did not arrive."""
    world, pay = World("sql", database), OPERATIONS["invoice"]
    world.director = Script({"a": {3: "drop_before", 4: "killed before"}})
    world.worker("a", 1).attempt(pay.do)
    world.advance(1000)
    world.portal.state.invoices[2].canceled = "Y"
    error = world.worker("a", 2).attempt(pay.do).error
    assert isinstance(error, PaymentRefused)
    assert "Invoice 2 is cancelled. Nothing was sent by this attempt. a:try:1 sent a write for invoice 2" in str(error)


def test_what_this_attempt_has_sent_is_not_denied(database: VirtualDatabase) -> None:
    world, pay = World("sql", database), OPERATIONS["invoice"]

    def cancels() -> None:
        world.portal.state.invoices[2].canceled = "Y"

    world.director = Script({"a": {3: "drop_before", 4: cancels}})
    error = world.worker("a", 1).attempt(pay.do).error
    assert isinstance(error, PaymentRefused)
    assert "Invoice 2 is cancelled. Nothing more was sent. a:try:1 sent a write for invoice 2" in str(error)


def test_a_second_send_that_was_refused_does_not_deny_the_first(database: VirtualDatabase) -> None:
    """The first one did not arrive, and somebody pays while the second one waits for the rate limit."""
    world, pay = World("sql", database), OPERATIONS["payment"]
    sends: list[str | None] = ["drop_before", "query_limit_exceeded"]

    class Pays(Script):
        def strike(self, worker: Worker, what: str) -> str | None:
            if what == "send":
                return sends.pop(0)
            paid_now = what == "read" and not sends
            sends.extend([None] if paid_now else [])
            return "people: pays" if paid_now else None

    world.director = Pays({})
    receipt = world.worker("a", 1).attempt(pay.do).receipt
    assert receipt is not None
    assert (receipt.outcome, receipt.sent) == ("already_paid", True)


def test_without_a_journal_nobody_is_sent_to_a_terminal() -> None:
    world, pay = World("none"), OPERATIONS["invoice"]
    world.portal.faults.add(Fault(kind="drop_before", method="sale.paysystem.pay.invoice"))
    error = world.worker("a", 1).attempt(pay.do).error
    assert isinstance(error, PaymentAmbiguous)
    assert "There is no journal that would keep a decision." in str(error)
    assert "if it is unpaid, remove the cause and clear this task" in str(error)
    assert "python -m" not in str(error)


def test_who_waits_for_another_task_that_goes_on_and_on_comes_back_later(
    database: VirtualDatabase,
) -> None:
    world = World("sql", database)
    other = JournalPage(SqlJournal(world.database, "b:try:1"), world.name, KEY)
    other.read()
    world.director = Script({"a": {3: "killed before"}})
    world.worker("a", 1).attempt(adding())
    world.advance(1000)
    entry = entry_of(world)
    other.read()
    other.write(entry, lease=100)

    class GoesOn(Script):
        def sleep(self, worker: Any, seconds: float) -> None:
            super().sleep(worker, seconds)
            other.write(entry, lease=100)

    world.director = GoesOn({})
    outcome = world.worker("a", 2).attempt(adding())
    assert isinstance(outcome.error, PaymentInProgress)
    assert "b:try:1) is working on" in str(outcome.error)
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
    assert "succeeded for deal 1, with payment 1033. Nothing was sent by this attempt." in later


def test_a_task_that_has_sent_is_not_told_that_it_has_not(database: VirtualDatabase) -> None:
    """Task a has sent and died, b has asked a person, and a's retry finds the question."""
    world = World("sql", database)
    world.director = Script({"a": {3: "drop_after", 4: "killed before"}})
    assert world.worker("a", 1).attempt(adding()).killed
    world.people("adds")
    world.director = Script({})
    assert isinstance(world.worker("b", 1).attempt(adding()).error, PaymentAmbiguous)
    message = str(world.worker("a", 2).attempt(adding()).error)
    assert "to the request to add a payment to deal 1, sent by a:try:1. 2 new payments exist" in message
    assert message.endswith("A person is asked about it in another task (b). Nothing was sent by this attempt.")


def test_somebody_elses_mark_is_not_called_ours(database: VirtualDatabase) -> None:
    """Our call was lost on its way; a person changed the sum, and marked it by hand."""
    world, pay = World("sql", database), OPERATIONS["invoice"]
    invoice = world.portal.state.invoices[2]

    def by_hand() -> None:
        invoice.price = type(invoice.price)(2000)
        world.people("pays")

    world.director = Script({"a": {3: "drop_before", 4: by_hand}})
    error = world.worker("a", 1).attempt(pay.do).error
    assert isinstance(error, PaymentMismatch)
    assert "It was probably marked as paid by somebody else. Somebody changed it in between" in str(error)
    assert "by this key" not in str(error)


def test_an_attempt_that_has_put_a_row_in_and_was_overtaken_is_over(database: VirtualDatabase) -> None:
    """It comes back with the portal's answer in its hands when another attempt has gone on with the payment."""
    world, do = World("sql", database), adding(fill_products=True)
    world.director = Script({"a": {5: "killed before"}})
    assert world.worker("a", 1).attempt(do).killed
    world.advance(1000)

    def meanwhile() -> None:
        world.advance(1000)
        assert world.worker("b", 1).attempt(do).receipt is not None

    world.director = sent = SendThen(meanwhile)
    error = world.worker("a", 2).attempt(do).error
    assert sent.done
    assert isinstance(error, PaymentInProgress)
    assert "This attempt sends nothing more" in str(error)
    rows = [event for event in world.portal.ledger if event["event"] == "product_added"]
    assert len(rows) == len(entry_of(world).plan)


class SendThen:
    """Something happens when a's first answer is about to be written down."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then
        self.sent = self.done = False

    def strike(self, worker: Worker, what: str) -> None:
        """Wait for the moment."""
        if worker.identity != "a" or self.done:
            return
        if what == "journal.write" and self.sent:
            self.done = True
            self.then()
        self.sent |= what == "send"

    def sleep(self, worker: Worker, seconds: float) -> None:
        """Let time pass."""
        worker.world.advance(seconds)
