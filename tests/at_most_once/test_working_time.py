"""Lists under the portal's working-time limit: they stop before it, wait, and go on, in virtual time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.exceptions import Bitrix24RateLimited
from airflow_provider_bitrix24.journal.protocol import NullJournal
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sql import Database
from tests.at_most_once.conftest import START
from tests.at_most_once.test_lists import ADD, GET, PAY, Run, adds, outcomes, pays

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import World

pytestmark = pytest.mark.parametrize("world", ["source"], indirect=True)
LIMIT = 480.0
PUT = "crm.item.payment.product.add"
TAG = "sale.payment.update"
PAY_SYSTEM = "crm.item.payment.update"
COST = {ADD: 0.9, PAY: 0.9}


@pytest.fixture
def limited(world: World, tmp_path: Path) -> Run:
    """A portal that counts 0.9 s for each write, and allows 480 s in ten minutes."""
    world.portal = Portal(clock=world.clock, operating_limit=LIMIT, operating_costs=COST)
    world.connect(scopes=("crm", "sale", "pay_system"))
    database = Database(sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / "j.db")), "the database")
    return Run(world, database, batch_size=50)


class WorkingTimePause:
    """Waits on the worker, and remembers it."""

    def __init__(self, world: World, *, goes_on: int = 100) -> None:
        self.world = world
        self.planned: list[float] = []
        self.after_refusal: list[float] = []
        self.goes_on = goes_on

    def __call__(self, seconds: float, *, refused: bool) -> bool:
        (self.after_refusal if refused else self.planned).append(seconds)
        if refused and len(self.after_refusal) > self.goes_on:
            return False
        self.world.clock.advance(seconds)
        return True


def refused(world: World) -> list[Any]:
    return [one for one in world.portal.requests if one["error"] == "OPERATION_TIME_LIMIT"]


def test_a_thousand_payments_are_added_without_one_refusal(limited: Run) -> None:
    world, pause = limited.world, WorkingTimePause(limited.world)
    deals = limited.deals(1000)
    assert outcomes(limited.engine(pause=pause).run(adds(deals))) == ["created"] * 1000
    assert set(limited.added().values()) == {1}
    assert refused(world) == []
    assert pause.after_refusal == []
    # 900 s of work: 470 at once, and the rest when the first ten minutes are over.
    assert world.clock.time() - START <= 660
    assert sum(pause.planned) > 400


def test_an_attempt_that_knows_nothing_goes_on_after_the_refusal(limited: Run) -> None:
    """Another host has used up the time, and this one is told so by the portal only."""
    world, pause = limited.world, WorkingTimePause(limited.world)
    first, second = limited.invoices(520), limited.invoices(40)
    client = world.client
    limited.engine(pause=pause).run(pays(first))
    world.client = type(client)(client.settings)
    results = limited.engine(pause=pause).run(pays(second))
    assert outcomes(results) == ["paid"] * 40
    assert set(limited.paid().values()) == {1}
    assert len(pause.after_refusal) == 1
    assert 0 < len(refused(world)) <= 40


def test_a_portal_that_refuses_all_the_same_is_not_waited_for_without_end(limited: Run) -> None:
    world, pause = limited.world, WorkingTimePause(limited.world, goes_on=2)
    world.fault("operation_time_limit", PAY)
    results = limited.engine(pause=pause).run(pays(limited.invoices(10)))
    assert outcomes(results) == ["portal.rate_limited"] * 10
    assert limited.paid() == {}
    assert len(pause.after_refusal) == 3


def test_what_has_ended_is_told_before_the_wait_for_the_rest(limited: Run) -> None:
    told: dict[int, Any] = {}
    before_the_waits = []

    def pause(seconds: float, *, refused: bool) -> bool:
        before_the_waits.append(len(told))
        return False

    for occurrence in (3, 4):
        limited.world.fault("operation_time_limit", PAY, occurrence=occurrence)
    for results in limited.engine(pause=pause).run_in_chunks(dict(enumerate(pays(limited.invoices(4))))):
        assert results
        told |= results
    assert before_the_waits == [2]
    assert outcomes([told[number] for number in range(4)]) == ["paid", "paid", *["portal.rate_limited"] * 2]


def test_without_a_journal_only_what_was_not_sent_is_carried_out_again(limited: Run) -> None:
    world, pause = limited.world, WorkingTimePause(limited.world)
    world.fault("operation_time_limit", ADD, occurrence=2)
    results = limited.engine(journal=NullJournal(), pause=pause).run(adds(limited.deals(3)))
    assert outcomes(results) == ["created"] * 3
    assert set(limited.added().values()) == {1}


def test_without_a_journal_a_retry_does_not_carry_out_again_what_may_have_been_sent(limited: Run) -> None:
    world, pause = limited.world, WorkingTimePause(limited.world)
    limited.tries = 1  # an earlier attempt, of which nothing is known
    world.fault("operation_time_limit", PAY, occurrence=1)
    [result] = limited.engine(journal=NullJournal(), pause=pause).run(pays(limited.invoices(1)))
    assert isinstance(result, Failure)
    assert (result.code, result.sent) == ("portal.rate_limited", "unknown")
    assert pause.after_refusal == []
    assert limited.paid() == {}


def test_without_a_journal_a_retry_waits_until_it_may_read(limited: Run) -> None:
    world = limited.world
    limited.tries = 1  # an earlier attempt, of which nothing is known
    world.fault("operation_time_limit", GET, occurrence=1)
    before = world.clock.time()
    [result] = limited.engine(journal=NullJournal()).run(pays(limited.invoices(1)))
    assert outcomes([result]) == ["paid"]
    assert len(refused(world)) == 1
    assert world.clock.time() - before >= 60
    assert sum(limited.paid().values()) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_sent_that_the_portal_would_refuse(limited: Run, count: int) -> None:
    """Without a pause, as for a single operation, the task is told when to come back."""
    world = limited.world
    limited.engine(pause=WorkingTimePause(world)).run(pays(limited.invoices(522)))
    before = len(limited.paid())
    limited.tries = 0  # another task
    results = limited.engine("other").run(pays(limited.invoices(count)))
    for result in results:
        assert isinstance(result, Failure)
        assert isinstance(result.error, Bitrix24RateLimited)
        assert "working-time limit" in str(result.error)
        assert (result.sent, result.error.status) == ("no", 0)
        assert result.retry_after is not None
        assert 0 < result.retry_after <= 601
    assert len(limited.paid()) == before
    assert refused(world) == []


def test_a_batch_takes_no_longer_than_half_of_what_the_portal_allows(limited: Run) -> None:
    world = limited.world
    world.portal = Portal(clock=world.clock, operating_limit=LIMIT, operating_costs={PAY: 2.0})
    world.connect(scopes=("crm", "sale", "pay_system"))
    limited.engine(pause=WorkingTimePause(world)).run(pays(limited.invoices(2)))
    operations = dict(enumerate(pays(limited.invoices(40))))
    chunks = list(limited.engine(pause=WorkingTimePause(world)).run_in_chunks(operations))
    assert [len(chunk) for chunk in chunks] == [15, 15, 10]


def test_the_limit_can_be_switched_off(limited: Run) -> None:
    world = limited.world
    world.connect(scopes=("crm", "sale", "pay_system"), working_time_limit=0)
    results = limited.engine().run(pays(limited.invoices(560)))
    assert outcomes(results).count("paid") == 534
    assert len(refused(world)) > 0


# -- what completes a payment


STEPS = pytest.mark.parametrize(
    ("step", "options"),
    [
        (PUT, {"fill_products": True}),
        (PUT, {"fill_products": True, "tag": True}),
        (TAG, {"tag": True}),
    ],
)


def with_rows(run: Run, count: int) -> list[int]:
    """Deals with two product rows each."""
    found = run.deals(count)
    for deal in found:
        for price in ("10.00", "20.00"):
            fields = {"ownerType": "D", "ownerId": deal, "productName": "Row", "price": price, "quantity": "1"}
            run.world.portal.create("product_row", fields)
    return found


def check_each_is_added_once(limited: Run, deals: list[int], results: Any, options: dict[str, Any]) -> None:
    """Check that each has its payment, complete, and that nothing was done twice."""
    assert outcomes(results) == ["created"] * len(deals)
    assert limited.added() == Counter(deals)
    payments = {result.subject["payment_id"] for result in results}
    assert len(payments) == len(deals)
    rows = Counter((entry["payment_id"], entry["rowId"]) for entry in limited.world.ledger("product_added"))
    assert set(rows.values()) <= {1}
    if "fill_products" in options:
        assert [result.money.amount for result in results] == [30] * len(deals)
        assert len(rows) == 2 * len(deals)
        assert {payment for payment, _ in rows} == payments


@STEPS
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("first", [1, 2])
def test_a_step_that_is_refused_pauses_the_list(
    limited: Run, step: str, options: dict[str, Any], count: int, first: int
) -> None:
    world, pause = limited.world, WorkingTimePause(limited.world)
    deals = with_rows(limited, count)
    for occurrence in range(first, first + count):
        world.fault("operation_time_limit", step, occurrence=occurrence)
    results = limited.engine(pause=pause).run(adds(deals, **options))
    check_each_is_added_once(limited, deals, results, options)
    assert bool(pause.after_refusal) == bool(refused(world))


@STEPS
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("pauses", [True, False])
def test_without_a_journal_a_step_that_is_refused_is_waited_for(
    limited: Run, step: str, options: dict[str, Any], count: int, pauses: bool
) -> None:
    world, pause = limited.world, WorkingTimePause(limited.world) if pauses else None
    deals = with_rows(limited, count)
    world.fault("operation_time_limit", step, occurrence=1)
    before = world.clock.time()
    results = limited.engine(journal=NullJournal(), pause=pause).run(adds(deals, **options))
    check_each_is_added_once(limited, deals, results, options)
    assert len(refused(world)) == 1
    # Of several tags only one is refused, and a portal that is asked again at once has none against it.
    assert world.clock.time() - before >= 60 or (step, count) == (TAG, 6)
    assert pause is None or pause.after_refusal == []


@pytest.mark.parametrize("remembers", [True, False])
def test_a_pay_system_that_must_wait_is_corrected_after_the_wait(limited: Run, remembers: bool) -> None:
    world, pause = limited.world, WorkingTimePause(limited.world)
    world.fault("operation_time_limit", PAY_SYSTEM, occurrence=2)
    other = {"id": 1033, "fields": {"paySystemId": 6}}
    world.before["crm.item.payment.list"] = lambda: world.person(PAY_SYSTEM, other)
    journal = {} if remembers else {"journal": NullJournal()}
    [result] = limited.engine(pause=pause, **journal).run(adds(limited.deals(1), pay_system_id=8))
    assert not isinstance(result, Failure)
    assert (result.outcome, result.pay_system_id) == ("created", 8)
    assert len(pause.after_refusal) == remembers
    assert sum(limited.added().values()) == 1


def test_without_a_journal_a_portal_that_only_refuses_a_step_ends_it(limited: Run) -> None:
    world = limited.world
    world.fault("operation_time_limit", PUT)
    [result] = limited.engine(journal=NullJournal()).run(adds(with_rows(limited, 1), fill_products=True))
    assert isinstance(result, Failure)
    assert "Complete or delete it in Bitrix24; do not add another one before" in str(result.error)
    assert 1 < len(refused(world)) <= 21
    assert 600 < world.clock.time() - START < 1300
    assert sum(limited.added().values()) == 1
