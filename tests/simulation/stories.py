"""What the stories are told with: scripts of trouble, what is asked for, what people decide, what is on the portal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.at_most_once.record import Decision, Record
from airflow_provider_bitrix24.exceptions import PaymentAmbiguous
from airflow_provider_bitrix24.journal.cli import refuse_senseless
from airflow_provider_bitrix24.journal.inspect import SqlEntrySource
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.sandbox.faults import Fault
from tests.simulation.campaign import KEY
from tests.simulation.judge import Judge
from tests.simulation.wire import digest
from tests.tools.payments import JournalPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from tests.simulation.world import Worker, World
    from tests.tools.payments import ScriptedPayments

ADD = "crm.item.payment.add"
LOST_AND_ANOTHER = {"a": {3: "drop_after", 4: "people: adds"}}


@dataclass
class Script:
    """What strikes, or what somebody does, before the effects of each task."""

    plan: dict[str, dict[int, str | Callable[[], Any]]]
    seen: dict[str, int] = field(default_factory=dict)

    def strike(self, worker: Worker, what: str) -> str | None:
        """Do what is planned; the note that an attempt begins is not counted."""
        if what == "journal.open":
            return None
        number = self.seen.get(worker.identity, 0)
        self.seen[worker.identity] = number + 1
        planned = self.plan.get(worker.identity, {}).get(number)
        if callable(planned):
            planned()
            return None
        return planned

    def sleep(self, worker: Worker, seconds: float) -> None:
        """Let time pass."""
        worker.world.advance(seconds)


def adding(key: str = KEY, **options: Any) -> Callable[[ScriptedPayments], Receipt]:
    return lambda payments: payments.add_crm_payment(entity_id=1, entity_type_id=2, key=key, **options)


def writes(world: World, key: str = KEY) -> list[str]:
    """The writes of one key that may have been executed."""
    return [method for found, method in world.sends if found == digest(key)]


def added(world: World, key: str = KEY) -> list[int]:
    return Judge(world, key, "add_crm_payment").added()


def decision(what: Any, *candidates: int, payment_id: int | None = None) -> Decision:
    return Decision(
        what=what,
        payment_id=payment_id,
        candidates=candidates,
        by="anna",
        at="2025-11-22T10:00:00+00:00",
        through="Airflow",
    )


def entry_of(world: World, key: str = KEY) -> Record:
    """What the database holds."""
    found = JournalPage(SqlJournal(world.database, "command line:bob"), world.name, key).read()
    assert found is not None
    return found


def resolve(world: World, what: Any, payment_id: int | None = None, key: str = KEY, by: str = "bob") -> None:
    """Decide at a terminal, in the database."""
    source = SqlEntrySource(SqlJournal(world.database, f"command line:{by}"))
    [handle] = [one for one in source.entries(key) if one.entry.portal == world.name]
    assert isinstance(handle.entry, Record)
    decided = Decision(
        what=what,
        payment_id=payment_id,
        candidates=handle.entry.candidates,
        by=by,
        at="2026-11-22T10:00:00+00:00",
        through="command line",
    )
    refuse_senseless(handle.entry, decided)
    handle.decide(decided)


def fates(entry: Record) -> list[tuple[str, str, str | None]]:
    """Each decision in the record: whose, what, and why it was not carried out."""
    return [(decision.by, decision.what, decision.refused) for decision in entry.decisions]


def lost(world: World, *more: str) -> PaymentAmbiguous:
    """A key of which a person is asked: its answer was lost, and one payment (or more) is new."""
    world.director = Script({"a": {3: "drop_after", **dict(enumerate(more, 4))}})
    error = world.worker("a", 1).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    return error


def wrong_claim(world: World) -> None:
    """Key b was given the payment that key a has made, because a person took it for its own."""
    world.director = Script({"b": {3: "drop_before", 5: "drop_before"}, "a": {}})
    world.portal.faults.add(Fault(kind="drop_before", method=ADD, times=2))
    assert isinstance(world.worker("b", 1).attempt(adding("key-b")).error, PaymentAmbiguous)
    world.director = Script({"a": {3: "drop_after", 4: "killed before"}})
    world.worker("a", 1).attempt(adding())
    resolve(world, "use_payment", 1033, key="key-b")
    world.director = Script({})
    assert world.worker("b", 2).attempt(adding("key-b")).receipt is not None


def there(world: World) -> list[int]:
    """The new payments on the portal."""
    return sorted(number for number in world.portal.state.payments if number > 1032)


def receipt_of(outcome: Any) -> tuple[str, str, int]:
    """Outcome, evidence and payment of a green attempt."""
    assert outcome.receipt is not None, outcome
    return outcome.receipt.outcome, outcome.receipt.evidence, outcome.receipt.subject["payment_id"]
