"""Decisions at a terminal and answers in Airflow: each is heard once, and by those whom it concerns."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.at_most_once.record import Decision, Record
from airflow_provider_bitrix24.exceptions import (
    PaymentAmbiguous,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.inspect import TaskEntrySource
from airflow_provider_bitrix24.journal.task_state import DECISIONS, DOCUMENT
from airflow_provider_bitrix24.journal.terminal import TaskName
from airflow_provider_bitrix24.sandbox.faults import Fault
from tests.simulation.campaign import KEY
from tests.simulation.stories import (
    ADD,
    Script,
    adding,
    decision,
    entry_of,
    fates,
    lost,
    resolve,
    writes,
)
from tests.simulation.world import World
from tests.tools.payments import JournalPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulation.virtual_journals import VirtualDatabase


@dataclass
class TerminalApi:
    """What the command line uses of Airflow's API, on the task state of this world."""

    world: World
    meanwhile: Callable[[], object] = lambda: None

    def documents(self, task: TaskName) -> Iterator[tuple[str, Any]]:
        document = self._value(DOCUMENT)
        if document is not None:
            yield KEY, document

    def decisions(self, task: TaskName) -> Any:
        return self._value(DECISIONS) or []

    def state(self, task: TaskName) -> str:
        self.meanwhile()
        return "running"

    def decide(self, task: TaskName, decided: Decision) -> None:
        documents = self.world.states["a"].documents
        documents[DECISIONS] = json.dumps([*self.decisions(task), decided.document()])

    def tasks(self, dag_id: str, run_id: str) -> list[TaskName]:
        return [TaskName(dag_id, run_id, "pay")]

    def _value(self, name: str) -> Any:
        found = self.world.states["a"].documents.get(name)
        return None if found is None else json.loads(found)


@pytest.mark.parametrize("what", ["send_again", "use_payment", "abandon"])
def test_who_decides_while_a_retry_begins_takes_nothing_from_it(what: Any) -> None:
    """The retry writes its intent after the terminal has read the entry, and before it puts the decision."""
    world = World("task state")
    world.director = Script({"a": {3: "drop_before", 4: "killed before"}})
    world.worker("a", 1).attempt(adding())
    world.advance(1000)
    world.director = Script({"a": {7: "drop_after", 8: "killed before"}})
    retry = world.worker("a", 2)
    api: Any = TerminalApi(world, meanwhile=lambda: retry.attempt(adding()))
    [handle] = TaskEntrySource(api, "d", "r", None, None).entries(KEY)
    assert isinstance(handle.entry, Record)
    decided = decision(what, payment_id=1033 if what == "use_payment" else None)
    _, todo = handle.decide(replace(decided, about=handle.entry.digest, through="command line"))
    assert "The task is running" in todo
    sent = json.loads(world.states["a"].documents[DOCUMENT])["sends"]
    assert len(sent) == 2
    world.director = Script({})
    outcome = world.worker("a", 3).attempt(adding())
    assert len(writes(world)) == 2
    entry = Record.read(world.states["a"].documents[DOCUMENT], where="the Storage tab")
    if what == "abandon":
        assert isinstance(outcome.error, PaymentRefused)
        assert fates(entry) == [("anna", "abandon", None)]
    else:
        assert isinstance(outcome.error, PaymentAmbiguous)
        assert outcome.error.candidates == (1033,)
        assert fates(entry) == [("anna", what, "the task had gone on before it saw the decision")]


@pytest.mark.parametrize("what", ["send_again", "use_payment", "abandon"])
def test_a_decision_at_a_terminal_reaches_the_next_attempt(what: Any) -> None:
    world = World("task state")
    lost(world)
    api: Any = TerminalApi(world)
    [handle] = TaskEntrySource(api, "d", "r", "pay", -1).entries()
    assert isinstance(handle.entry, Record)
    decided = decision(what, 1033, payment_id=1033 if what == "use_payment" else None)
    entry, _ = handle.decide(replace(decided, about=handle.entry.digest))
    assert entry.state == "decision_pending"
    for attempt in (2, 3):
        outcome = world.worker("a", attempt).attempt(adding())
        assert (outcome.receipt is None) == (what == "abandon")
    assert len(writes(world)) == (2 if what == "send_again" else 1)
    [found] = TaskEntrySource(api, "d", "r", None, None).entries()
    assert isinstance(found.entry, Record)
    assert fates(found.entry) == [("anna", what, None)]


def test_who_has_given_up_may_go_on_with_the_same_payment(database: VirtualDatabase) -> None:
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    resolve(world, "abandon")
    resolve(world, "use_payment", 1033)
    receipt = world.worker("a", 2).attempt(adding()).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence, entry_of(world).state) == (1033, "response", "done")
    assert writes(world) == [ADD]


def test_of_two_payments_with_one_tag_a_person_chooses_though_nothing_was_sent() -> None:
    world = World("task state")
    assert world.worker("run1", 1).attempt(adding(tag=True)).receipt is not None
    copy = world.portal.act.add_payment(2, 1, user_id=7)
    world.portal.state.payments[copy].xml_id = world.portal.state.payments[1033].xml_id
    asked = world.worker("a", 1).attempt(adding(tag=True)).error
    assert isinstance(asked, PaymentAmbiguous)
    answer = decision("use_payment", *asked.candidates, payment_id=1033)
    receipt = world.worker("a", 1).attempt(adding(tag=True, decision=answer)).receipt
    assert receipt is not None
    assert (receipt.outcome, receipt.subject["payment_id"], receipt.evidence) == ("existing", 1033, "person")
    entry = Record.read(world.states["a"].documents[DOCUMENT], where="the Storage tab")
    assert (entry.state, entry.question, entry.candidates) == ("done", None, ())
    assert fates(entry) == [("anna", "use_payment", None)]


@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state"])
def test_an_answer_outlives_an_outage(journal: str, database: VirtualDatabase) -> None:
    world = World(journal, database)
    candidates = lost(world, "people: adds").candidates
    world.director = Script({"a": dict.fromkeys(range(9), "outage 400")})
    answer = decision("use_payment", *candidates, payment_id=1033)
    outcome = world.worker("a", 1).attempt(adding(decision=answer))
    assert outcome.error is not None
    assert not outcome.error.final
    world.director = Script({})
    world.advance(1000)
    receipt = world.worker("a", 2).attempt(adding()).receipt
    assert receipt is not None
    assert (receipt.subject["payment_id"], receipt.evidence) == (1033, "person")
    assert writes(world) == [ADD]


@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_an_answer_that_comes_twice_is_carried_out_once(
    journal: str,
    database: VirtualDatabase,
) -> None:
    world = World(journal, database)
    world.portal.faults.add(Fault(kind="drop_before", method=ADD))
    assert isinstance(world.worker("a", 1).attempt(adding()).error, PaymentAmbiguous)
    assert len(writes(world)) == 2
    for _ in range(3):
        outcome = world.worker("a", 1).attempt(adding(decision=decision("send_again")))
        assert isinstance(outcome.error, PaymentAmbiguous)
        assert len(writes(world)) == 3
    entry = JournalPage(world.journal_for("a", 2), world.name, KEY).read()
    assert fates(entry) == [("anna", "send_again", None)]


def test_who_gives_one_key_up_has_not_given_up_the_next_one_of_that_task() -> None:
    world = World("task state")
    world.portal.act.add_payment(2, 1, user_id=7)
    first = adding("key-one", if_unpaid_exists="return")
    assert world.worker("a", 1).attempt(first).receipt is not None
    api: Any = TerminalApi(world)
    [handle] = TaskEntrySource(api, "d", "r", None, None).entries("key-one")
    assert isinstance(handle.entry, Record)
    handle.decide(replace(decision("abandon"), about=handle.entry.digest))
    assert isinstance(world.worker("a", 2).attempt(first).error, PaymentRefused)
    # Nothing of it was sent, so the task may work on another key.
    world.director = Script({"a": {4: "drop_after", 5: "killed before"}})
    assert world.worker("a", 3).attempt(adding("key-two")).killed
    world.advance(1000)
    world.director = Script({})
    outcome = world.worker("a", 4).attempt(adding("key-two", on_unknown="adopt"))
    assert outcome.receipt is not None
    assert writes(world, "key-two") == [ADD]


def test_payments_that_were_asked_about_do_not_bind_who_decides_about_a_known_one(
    database: VirtualDatabase,
) -> None:
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    world.people("deletes")
    assert world.worker("b", 1).attempt(adding("key-b")).receipt is not None
    resolve(world, "use_payment", 1034)
    assert "has claimed it" in str(world.worker("a", 2).attempt(adding()).error)
    theirs = world.portal.act.add_payment(2, 1, user_id=7)
    resolve(world, "use_payment", theirs)
    receipt = world.worker("a", 3).attempt(adding()).receipt
    assert receipt is not None
    assert receipt.subject["payment_id"] == theirs
