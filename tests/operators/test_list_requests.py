"""How many requests a list takes when the portal fails, its task was killed, or it leaves the worker (virtual time)."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.at_most_once.chunks import MOST_IN_THE_FIRST
from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.operators import engines, limit_waits, list_base
from airflow_provider_bitrix24.operators.payment_lists import (
    AddCrmPaymentsOperator,
    PayCrmPaymentsOperator,
    PayInvoicesOperator,
)
from airflow_provider_bitrix24.sandbox.portal import Portal
from tests.at_most_once.conftest import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Task

pytestmark = pytest.mark.usefixtures("unmeasured")

PAY = "sale.paysystem.pay.invoice"
ADD = "crm.item.payment.add"
EVENTS = {"invoices": "invoice_paid", "payments": "payment_paid", "adds": "payment_added"}
KINDS = pytest.mark.parametrize("kind", ["invoices", "adds"])
ALL_KINDS = pytest.mark.parametrize("kind", list(EVENTS))
BATCH = 25
CHUNKS, DONE = 3, 1
"""Of a list that is killed: its chunks, and those that have ended by then."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """A portal and all clocks of the engine in this process."""
    world = World("source")
    world.connect(scopes=("crm", "sale", "pay_system"))
    monkeypatch.setattr(engines, "time", world)
    monkeypatch.setattr(list_base, "time", world)
    monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", f"sqlite:///{tmp_path / 'journal.db'}")
    return world


def objects(world: World, kind: str, count: int) -> list[int]:
    """Create what a list is about."""
    inside = world.portal
    if kind == "invoices":
        return [int(str(inside.create("invoice", {"price": "10.00"}))) for _ in range(count)]
    deals = [int(str(inside.create("deal", {"title": "Deal"}))) for _ in range(count)]
    return deals if kind != "payments" else [int(inside.act.add_payment(2, deal)) for deal in deals]


def listed(
    world: World, kind: str, count: int, folder: Path, ids: list[int] | None = None, **given: Any
) -> Callable[[], Any]:
    """Return what makes an operator for a list of so many items."""
    ids = objects(world, kind, count) if ids is None else ids

    def make() -> Any:
        options: dict[str, Any] = {"task_id": "pay", "journal_conn_id": "journal", "batch_size": BATCH, "outlets": []}
        options |= {"tag": True} if kind == "tagged adds" else {}
        options |= {"receipts_path": f"file://{folder}/receipts.jsonl", **given}
        if kind == "invoices":
            operator: Any = PayInvoicesOperator(invoices=ids, pay_system_id=31, **options)
        elif kind == "payments":
            operator = PayCrmPaymentsOperator(payments=ids, allow_zero=True, **options)
        else:
            operator = AddCrmPaymentsOperator(items=ids, **options)
        vars(operator)["hook"] = SimpleNamespace(
            client=world.client,
            run=world.run,
            call=lambda method: world.run(world.client.call(method, {}, effect=Effect.READ)),
            settings=world.client.settings,
            portal=world.client.settings.portal,
            bitrix24_conn_id="bitrix24_default",
        )
        return operator

    return make


@KINDS
@pytest.mark.parametrize("where", ["everywhere", "writes"])
@pytest.mark.parametrize("fault", ["html", "drop_before", "query_limit_exceeded"])
def test_a_portal_that_fails_everything_is_asked_a_few_times(
    world: World, task: Task, tmp_path: Path, kind: str, where: str, fault: str
) -> None:
    work = listed(world, kind, 400, tmp_path)()
    world.fault(fault, "*" if where == "everywhere" else PAY if kind == "invoices" else ADD)
    with pytest.raises((Bitrix24Error, AirflowFailException)):
        work.execute(task.context)
    assert len(world.sent) <= 50  # a chunk takes up to 48 of them
    assert world.ledger("invoice_paid", "payment_added") == []
    if "return_value" in task.xcoms:  # it came to the first write
        assert task.xcoms["return_value"]["statuses"]["not_started"] >= 400 - BATCH


class Killed(BaseException):
    """The worker is gone."""


def kill_at(world: World, monkeypatch: pytest.MonkeyPatch, write: int, *, when: str) -> None:
    """Kill the worker before or after one of its requests with writes is executed."""
    run, left, writes = world.run, [write], ("send_many", "send_one")

    def dying(flow: Any) -> Any:
        left[0] -= flow.__name__ in writes
        if left[0] or flow.__name__ not in writes:
            return run(flow)
        if when == "after":
            run(flow)
        raise Killed

    monkeypatch.setattr(world, "run", dying)


SIZES = pytest.mark.parametrize(
    ("kind", "size", "writes", "requests"),
    [
        ("invoices", 25, 1, 3),
        ("invoices", 48, 1, 3),
        ("payments", 25, 1, 3),
        ("adds", 25, 1, 4),
        ("adds", 48, 1, 4),
        ("tagged adds", 16, 1, 3),
        ("tagged adds", 25, 2, 5),
        ("tagged adds", 33, 3, 8),
        ("tagged adds", 48, 3, 8),
    ],
)
"""How many requests a chunk of a list takes, and how many of them write."""


def requests_of(world: World, work: Any, task: Task, count: int) -> int:
    """How many requests a run takes that does all items of a list."""
    before = len(world.sent)
    summary = work.execute(task.context)
    assert (summary["succeeded"], summary["failed"]) == (count, 0)
    assert sum(summary["statuses"].values()) == count
    return len(world.sent) - before


def preview(kind: str, count: int) -> int:
    """Requests before the first write: all invoices at once, 50 payments in a request."""
    return {"invoices": 2, "payments": 1 + math.ceil(count / 50)}.get(kind, 0)


@SIZES
def test_a_retry_of_a_list_that_is_done_takes_no_request(
    world: World, task: Task, tmp_path: Path, kind: str, size: int, writes: int, requests: int
) -> None:
    count = min(size, MOST_IN_THE_FIRST) + size * (CHUNKS - 1)
    make = listed(world, kind, count, tmp_path, batch_size=size)
    assert requests_of(world, make(), task, count) == CHUNKS * requests + preview(kind, count)
    task.again()
    assert requests_of(world, make(), task, count) == 0


@SIZES
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_run_takes_three_requests_more_for_the_interrupted_chunk(
    world: World,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    size: int,
    writes: int,
    requests: int,
    when: str,
) -> None:
    """A chunk takes some requests, of which some write: it is interrupted at each of those."""
    count = min(size, MOST_IN_THE_FIRST) + size * (CHUNKS - 1)
    for write in range(1, writes + 1):
        task = type(task)()
        task.ti.run_id = f"manual__{write}_{when}"
        make = listed(world, kind, count, tmp_path, batch_size=size)
        with monkeypatch.context() as dying:
            world.portal.ledger.clear()
            kill_at(world, dying, DONE * writes + write, when=when)
            with pytest.raises(Killed):
                make().execute(task.context)
        task.again()
        world.clock.advance(300)
        resumed = requests_of(world, make(), task, count)
        assert len(world.ledger(EVENTS.get(kind, "payment_added"))) == count
        # Nothing that was shown is read again; beside a whole chunk of 48, there is no room for what is asked once.
        apart = int(size > MOST_IN_THE_FIRST)
        rest = preview(kind, count - min(size, MOST_IN_THE_FIRST) * DONE) + (CHUNKS - DONE) * requests
        assert resumed <= rest + 3 + apart


# -- what the portal has shown in this round


@ALL_KINDS
@pytest.mark.parametrize("journal_conn_id", [pytest.param("task_state", marks=pytest.mark.needs_task_state), "journal"])
def test_a_retry_reads_nothing_again_and_reports_it_as_before(
    world: World, task: Task, tmp_path: Path, kind: str, journal_conn_id: str
) -> None:
    make = listed(world, kind, 4, tmp_path, journal_conn_id=journal_conn_id)
    before = make().execute(task.context)
    receipts = [json.loads(line)["receipt"] for line in (tmp_path / "receipts.jsonl").read_text().splitlines()]
    task.again()
    sent = len(world.sent)
    after = make().execute(task.context)
    assert len(world.sent) == sent
    assert after == before
    again = [json.loads(line)["receipt"] for line in (tmp_path / "receipts.jsonl").read_text().splitlines()]
    assert again == [{**receipt, "recovered": True} for receipt in receipts]


@pytest.mark.parametrize("kind", ["payments", "adds"])
@pytest.mark.parametrize(
    "who", ["cleared", "cleared while it ran", "another run", "a run of the same name", "another task"]
)
def test_a_cleared_task_and_another_one_see_what_was_undone(
    world: World, task: Task, tmp_path: Path, kind: str, who: str
) -> None:
    ids: list[Any] = objects(world, kind, 4)
    if kind == "adds":
        ids = [{"entity_id": deal, "idempotency_key": f"order {deal}"} for deal in ids]
    make = listed(world, kind, 4, tmp_path, ids)
    before = make().execute(task.context)["statuses"]
    payment_id = world.ledger(EVENTS[kind])[0]["payment_id"]
    world.person(f"crm.item.payment.{'delete' if kind == 'adds' else 'unpay'}", {"id": payment_id})
    task.again()
    assert make().execute(task.context)["statuses"] == before  # it is the same round: the portal has shown it
    if who == "cleared":
        task.clear()
    elif who == "cleared while it ran":
        task.run.clear_number += 1  # and max_tries stays as it is
        task.again()
    elif who == "a run of the same name":
        task.run.start_date = datetime(2026, 2, 1, tzinfo=UTC)
    elif who == "another run":
        task.ti.run_id = "manual__2"
    else:
        task.ti.task_id = "other"
    with pytest.raises(AirflowFailException, match="1 unknown"):
        make().execute(task.context)
    assert len(world.ledger(EVENTS[kind])) == 4


@pytest.mark.parametrize("lacks", ["start_date", "clear_number"])
def test_a_run_that_does_not_tell_when_it_began_is_read_again(
    world: World, task: Task, tmp_path: Path, lacks: str
) -> None:
    setattr(task.run, lacks, None)
    make = listed(world, "adds", 4, tmp_path)
    make().execute(task.context)
    task.again()
    sent = len(world.sent)
    assert make().execute(task.context)["statuses"] == {"existing": 4}
    assert len(world.sent) > sent


# -- under the working-time limit

TIMINGS = {
    ADD: 0.908,
    "crm.item.payment.get": 0.383,
    "crm.item.payment.list": 0.417,
    "crm.item.payment.pay": 1.191,
    "crm.item.get": 0.485,
    PAY: 0.381,
}
"""Seconds of one call, as the examples in Bitrix24's documentation say."""


LONG = {"payments": 500, "adds": 1000}
"""So many that not all fit into ten minutes."""
IN_THE_WORKER = {"payments": 78, "adds": 123, "tagged adds": 221}
"""The requests that such a list takes if it waits in the worker."""


@pytest.mark.parametrize("kind", ["payments", "adds"])
@pytest.mark.parametrize(
    ("deferrable", "journal_conn_id"),
    [pytest.param(True, "task_state", marks=pytest.mark.needs_task_state), (False, "journal")],
)
def test_a_long_list_leaves_the_worker_for_each_wait_of_a_minute(
    world: World,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    deferrable: bool,
    journal_conn_id: str,
) -> None:
    monkeypatch.setattr(limit_waits, "RESCHEDULES_ALL", True)
    world.portal = Portal(clock=world.clock, operating_limit=480.0, operating_costs=TIMINGS)
    world.connect(scopes=("crm", "sale", "pay_system"))
    options: dict[str, Any] = {"journal_conn_id": journal_conn_id, "batch_size": 50, "deferrable": deferrable}
    count, most = LONG[kind], IN_THE_WORKER[kind]
    if kind == "adds" and journal_conn_id == "task_state":
        options["tag"], most = True, IN_THE_WORKER["tagged adds"]  # untagged adds travel alone there
    make, summary, returns = listed(world, kind, count, tmp_path, **options), None, 0
    work = make().execute
    while summary is None:
        try:
            summary = work(task.context)
        except AirflowRescheduleException as leaves:
            until, work = leaves.reschedule_date, make().execute
            task.reschedule()
        except TaskDeferred as leaves:
            until, work = leaves.trigger.moment, make().resumed
        if summary is None:
            world.clock.advance(until.timestamp() - time.time() + 1)
            monkeypatch.setattr(PayCrmPaymentsOperator, "preview", lambda *_: pytest.fail("it was read before"))
            returns += 1
            assert returns < 10
    assert returns >= 1
    assert max(world.slept, default=0.0) < 60
    assert (summary["succeeded"], summary["failed"]) == (count, 0)
    assert len(world.ledger(EVENTS[kind])) == count
    assert not any(one["error"] == "OPERATION_TIME_LIMIT" for one in world.portal.requests)
    assert len(world.sent) <= most + 4 * returns
