"""Journals that change between attempts, and people whose answers come too late: stories that a hostile reader told."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
)
from airflow_provider_bitrix24.journal import Decision, Entry
from airflow_provider_bitrix24.journal.cli import refuse_senseless
from airflow_provider_bitrix24.journal.database import SqlJournal
from airflow_provider_bitrix24.journal.shelves import SqlShelf, find
from airflow_provider_bitrix24.journal.task_state import DOCUMENT
from tests.proof.campaign import KEY
from tests.proof.test_rules import ADD, Script, added, adding, database, decision, writes  # noqa: F401 - a fixture
from tests.proof.world import VirtualDatabase, World

LOST_AND_ANOTHER = {"a": {3: "drop_after", 4: "people: adds"}}


def resolve(world: World, what: Any, payment_id: int | None = None, key: str = KEY) -> None:
    """Decide at a terminal, in the database."""
    journal = SqlJournal(world.database, "command line:bob")
    [drawer] = find(SqlShelf(journal), lambda entry: entry.key == key and entry.portal == world.name)
    decided = Decision(
        what=what,
        payment_id=payment_id,
        candidates=drawer.entry.candidates,
        by="bob",
        at="2026-11-22T10:00:00+00:00",
        through="command line",
    )
    refuse_senseless(drawer.entry, decided)
    drawer.replace(drawer.entry.but(decision=decided))


@pytest.mark.parametrize("trouble", ["drop_after", None])
def test_a_database_given_later_knows_what_the_task_state_knew(
    trouble: str | None,
    database: VirtualDatabase,  # noqa: F811
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


@pytest.mark.parametrize(("what", "payment_id"), [("pay_again", None), ("adopt", 1034), ("give_up", None)])
def test_an_answer_to_a_question_that_was_settled_meanwhile_is_not_carried_out(
    what: str,
    payment_id: int | None,
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("sql and task state", database)
    world.director = Script(LOST_AND_ANOTHER)
    asked = world.worker("a", 1).attempt(adding()).error
    assert isinstance(asked, PaymentAmbiguous)
    resolve(world, "adopt", 1033)
    settled = world.worker("b", 1).attempt(adding()).receipt
    assert settled is not None
    late = decision(what, *asked.candidates).model_copy(update={"payment_id": payment_id})
    outcome = world.worker("a", 1).attempt(adding(decision=late))
    assert outcome.receipt is not None
    assert (outcome.receipt.outcome, outcome.receipt.subject["payment_id"]) == ("existing", 1033)
    assert writes(world) == [ADD]


def test_the_copy_in_the_task_state_is_not_the_place_to_decide(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql and task state", database)
    world.director = Script(LOST_AND_ANOTHER)
    assert isinstance(world.worker("a", 1).attempt(adding()).error, PaymentAmbiguous)
    copy = Entry.read(json.loads(world.states["a"].documents[DOCUMENT]), where="the Storage tab")
    with pytest.raises(Bitrix24ConfigError, match=r"only a copy.*--conn-id"):
        refuse_senseless(copy, decision("give_up"))


def test_only_what_may_be_ours_can_be_adopted(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    world.director = Script(LOST_AND_ANOTHER)
    world.worker("a", 1).attempt(adding())
    with pytest.raises(Bitrix24ConfigError, match=r"payment 9999 is none of those that may be its own \(1033, 1034\)"):
        resolve(world, "adopt", 9999)


def test_one_payment_is_returned_to_many_keys(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    receipts = [
        world.worker(name, 1).attempt(adding(f"run-{name}", if_unpaid_exists="return")).receipt for name in "abc"
    ]
    assert [receipt and (receipt.outcome, receipt.subject["payment_id"]) for receipt in receipts] == [
        ("created", 1033),
        ("existing", 1033),
        ("existing", 1033),
    ]


def test_a_returned_payment_that_is_gone_can_be_added_after_all(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("sql", database)
    world.portal.act.add_payment(2, 1, user_id=7)
    do = adding(if_unpaid_exists="return")
    assert world.worker("a", 1).attempt(do).receipt is not None
    world.people("deletes")
    assert isinstance(world.worker("a", 2).attempt(do).error, PaymentNotApplied)
    resolve(world, "pay_again")
    receipt = world.worker("a", 3).attempt(do).receipt
    assert receipt is not None
    assert (receipt.outcome, writes(world)) == ("created", [ADD])


def test_prices_that_rise_while_nobody_works_are_not_filled_in(database: VirtualDatabase) -> None:  # noqa: F811
    world = World("task state", database)
    world.director = Script({"a": {4: "killed after"}})
    do = adding(fill_products=True, max_amount=Decimal(2000))
    world.worker("a", 1).attempt(do)
    for row in world.portal.state.product_rows.values():
        row.price = Decimal(50_000)
    outcome = world.worker("a", 2).attempt(do)
    assert isinstance(outcome.error, PaymentMismatch)
    assert "more than the max_amount 2000" in str(outcome.error)
    assert [entry for entry in world.portal.ledger if entry["event"] == "product_added"] == []


def test_what_an_overtaken_attempt_was_told_is_not_sent_again_if_it_does_not_show(
    database: VirtualDatabase,  # noqa: F811
) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "killed after"}})
    world.worker("a", 1).attempt(adding())
    world.advance(1000)
    page = SqlJournal(world.database, "zombie").page(world.name, KEY)
    entry = page.read()
    assert entry is not None
    page.write(entry)
    overtaken = SqlJournal(world.database, "late").page(world.name, KEY)
    overtaken.read()
    page.write(entry)
    with pytest.raises(PaymentInProgress):
        overtaken.write(entry.but(payment_id=1033, evidence="answer").last_send(result="answered"))
    world.people("deletes")
    for attempt in (2, 3):
        assert isinstance(world.worker("a", attempt).attempt(adding()).error, PaymentNotApplied)
    assert writes(world) == [ADD]
