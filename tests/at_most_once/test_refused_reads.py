"""Each call of a list in turn is refused for the portal's working-time limit: the list waits, and fails no item."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_payment import PayPayment
from airflow_provider_bitrix24.journal.protocol import NullJournal
from airflow_provider_bitrix24.sql import Database
from tests.at_most_once.conftest import World
from tests.at_most_once.test_lists import ADD, PORTAL, Run, adds, digest, outcomes, pays
from tests.at_most_once.test_recovery import Killed
from tests.at_most_once.test_undo import with_rest_handler
from tests.at_most_once.test_working_time import WorkingTimePause, refused, with_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 2
BESIDE_OTHERS = "adds beside others"
KINDS = (
    "invoices",
    "payments",
    "payments by pay system",
    "adds",
    BESIDE_OTHERS,
    "adds with tag",
    "adds with rows",
    "adds with both",
)
KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Run]:
    """Return what makes a portal of its own with an empty journal."""
    numbers = iter(range(10_000))

    def fresh() -> Run:
        world = World("source")
        world.connect(scopes=("crm", "sale", "pay_system"))
        url = sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / f"{next(numbers)}.db"))
        return Run(world, Database(url, "the database"))

    return fresh


def operations(run: Run, kind: str) -> list[Any]:
    if kind == "invoices":
        return pays(run.invoices(COUNT))
    if kind.startswith("payments"):
        by_pay_system = kind.endswith("pay system")
        act, system = run.world.portal.act, with_rest_handler(run.world)[1] if by_pay_system else None
        ids = [int(act.add_payment(2, deal, pay_system_id=system)) for deal in run.deals(COUNT)]
        options: dict[str, Any] = {"portal": PORTAL, "allow_zero": True}
        if by_pay_system:
            return [PayPayment(payment_id=one, pay_system_id=system, **options) for one in ids]
        return [PayCrmPayment(payment_id=one, **options) for one in ids]
    rows, tag = kind.endswith(("rows", "both")), kind.endswith(("tag", "both"))
    wanted = adds(with_rows(run, COUNT), fill_products=rows, tag=tag)
    if kind == BESIDE_OTHERS:
        deal, act = wanted[0].entity_id, run.world.portal.act
        for moment in (ADD, f"batch:{digest(wanted[0].key)}"):
            run.world.before[moment] = lambda: act.add_payment(2, deal, user_id=7)
    return wanted


def done(run: Run, kind: str) -> Counter[Any]:
    """How often each object was paid, or got a payment of ours."""
    events = ("payment_added",) if kind.startswith("adds") else ("invoice_paid", "payment_paid")
    names = ("invoice_id", "entity_id", "payment_id")
    ours = [entry for entry in run.world.ledger(*events) if entry["by"] != "person"]
    return Counter(next(entry[name] for name in names if entry.get(name)) for entry in ours)


def calls(run: Run, since: int = 0) -> list[tuple[str, int]]:
    """Each call that was made, and the how manyth of its method it was."""
    counts: Counter[str] = Counter()
    found = []
    for request in list(run.world.portal.requests)[since:]:
        counts[request["method"]] += 1
        found.append((request["method"], counts[request["method"]]))
    return found


def check(run: Run, kind: str, wanted: list[Any], results: Any) -> None:
    """Check that all have succeeded, and that nothing was done twice."""
    assert not [result for result in results if isinstance(result, Failure)], outcomes(results)
    assert set(outcomes(results)) <= {"paid", "created"}
    assert set(done(run, kind).values()) == {1}
    assert len(done(run, kind)) == len(wanted)
    rows = Counter((entry["payment_id"], entry["rowId"]) for entry in run.world.ledger("product_added"))
    assert set(rows.values()) <= {1}
    if kind.endswith(("rows", "both")):
        assert [result.money.amount for result in results] == [30] * COUNT


def check_each_refusal(
    make: Callable[[], Run], kind: str, attempt: Callable[[Run, Callable[[], None]], tuple[list[Any], Any]]
) -> None:
    """Refuse each call of an attempt in turn.

    :param attempt: calls the function that it is given when the calls begin that are refused.
    """
    undisturbed = make()
    check(undisturbed, kind, *attempt(undisturbed, undisturbed.world.portal.requests.clear))
    every = calls(undisturbed)
    assert len(every) >= 5
    last = dict(every)
    for method, occurrence in every:
        # The first of each group is refused with those after it. While an outcome is looked for, there are many.
        if occurrence in range(1, 3 * COUNT, COUNT) or occurrence == last[method]:
            run = make()
            wanted, results = attempt(run, partial(refuse_for_a_minute, run.world, method, occurrence))
            assert refused(run.world)
            check(run, kind, wanted, results)


def refuse_for_a_minute(world: World, method: str, occurrence: int) -> None:
    """Refuse this call of the method, and the next ones; a portal that is asked again too soon refuses for longer."""
    world.fault("operation_time_limit", method, occurrence=occurrence, times=1_000)
    advance = world.clock.advance

    def pass_time(seconds: float) -> None:
        if seconds >= 59:
            world.portal.faults.clear()
        advance(seconds)

    world.clock.advance = pass_time  # type: ignore[method-assign]


@KIND
@pytest.mark.parametrize("remembers", [True, False])
def test_a_list_in_which_any_call_is_refused_fails_no_item(make: Callable[[], Run], kind: str, remembers: bool) -> None:
    def attempt(run: Run, refuse: Callable[[], None]) -> tuple[list[Any], Any]:
        wanted = operations(run, kind)
        refuse()
        pause = WorkingTimePause(run.world)
        journal = {} if remembers else {"journal": NullJournal()}
        results = run.engine(pause=pause, **journal).run(wanted)
        # Where a later attempt knows what was sent, the task may leave the worker. An add can do without some calls.
        assert pause.after_refusal or not refused(run.world) or not remembers or kind.startswith("adds")
        return wanted, results

    check_each_refusal(make, kind, attempt)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != BESIDE_OTHERS])  # nobody knows whose they are
@pytest.mark.parametrize("how", ["killed", "reply lost"])
def test_what_was_sent_is_found_although_any_read_is_refused(make: Callable[[], Run], kind: str, how: str) -> None:
    """The writes were executed, and nobody has heard of it: everything is read again."""

    def attempt(run: Run, refuse: Callable[[], None]) -> tuple[list[Any], Any]:
        world, wanted = run.world, operations(run, kind)
        if how == "killed":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(world, "run", partial(killed_after_the_writes, world.run))
                with pytest.raises(Killed):
                    run.engine().run(wanted)
            world.clock.advance(300)
        else:
            world.fault("drop_after", "batch", occurrence=2)
        refuse()
        return wanted, run.engine(pause=WorkingTimePause(world)).run(wanted)

    check_each_refusal(make, kind, attempt)


def killed_after_the_writes(run: Callable[[Any], Any], flow: Any) -> Any:
    result = run(flow)
    if flow.__name__ == "send_many":
        raise Killed
    return result
