"""How many requests a list takes when the portal fails, and when its task was killed; in virtual time."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.operators import engines
from airflow_provider_bitrix24.operators.payment_lists import AddCrmPaymentsOperator, PayInvoicesOperator
from tests.at_most_once.conftest import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Task

pytestmark = pytest.mark.usefixtures("unmeasured")

PAY = "sale.paysystem.pay.invoice"
ADD = "crm.item.payment.add"
KINDS = pytest.mark.parametrize("kind", ["invoices", "adds"])
BATCH = 25
COUNT, CHUNKS, DONE = 250, 10, 4
"""Of a list that is killed: its items, its chunks, and those that have ended by then."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """A portal and all clocks of the engine in this process."""
    world = World("source")
    world.connect(scopes=("crm", "sale", "pay_system"))
    monkeypatch.setattr(engines, "time", world)
    monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", f"sqlite:///{tmp_path / 'journal.db'}")
    return world


def listed(world: World, kind: str, count: int, folder: Path) -> Callable[[], Any]:
    """Return what makes an operator for a list of so many items."""
    inside = world.portal
    if kind == "invoices":
        ids = [int(str(inside.create("invoice", {"price": "10.00"}))) for _ in range(count)]
    else:
        ids = [int(str(inside.create("deal", {"title": "Deal"}))) for _ in range(count)]

    def make() -> Any:
        options: dict[str, Any] = {"task_id": "pay", "journal_conn_id": "journal", "batch_size": BATCH, "outlets": []}
        options["receipts_path"] = f"file://{folder}/receipts.jsonl"
        if kind == "invoices":
            operator: Any = PayInvoicesOperator(invoices=ids, pay_system_id=31, **options)
        else:
            operator = AddCrmPaymentsOperator(items=ids, **options)
        vars(operator)["hook"] = SimpleNamespace(
            client=world.client,
            run=world.run,
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
    work = listed(world, kind, 1000, tmp_path)()
    world.fault(fault, "*" if where == "everywhere" else PAY if kind == "invoices" else ADD)
    with pytest.raises((Bitrix24Error, AirflowFailException)):
        work.execute(task.context)
    assert len(world.sent) <= 100
    assert world.ledger("invoice_paid", "payment_added") == []
    if "return_value" in task.xcoms:  # it came to the first write
        assert task.xcoms["return_value"]["statuses"]["not_started"] >= 1000 - BATCH


class Killed(BaseException):
    """The worker is gone."""


def kill_at(world: World, monkeypatch: pytest.MonkeyPatch, write: int, *, when: str) -> None:
    """Kill the worker before or after one of its batches of writes is executed."""
    run, left = world.run, [write]

    def dying(flow: Any) -> Any:
        left[0] -= flow.__name__ == "send_many"
        if left[0] or flow.__name__ != "send_many":
            return run(flow)
        if when == "after":
            run(flow)
        raise Killed

    monkeypatch.setattr(world, "run", dying)


@KINDS
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_run_takes_three_reads_more_for_the_interrupted_chunk(
    world: World, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, when: str
) -> None:
    def requests_of(work: Any, task: Task) -> int:
        before = len(world.sent)
        summary = work.execute(task.context)
        assert (summary["succeeded"], summary["failed"]) == (COUNT, 0)
        return len(world.sent) - before

    # What a run takes that nobody interrupts, and one that finds everything done.
    other = listed(world, kind, COUNT, tmp_path)
    whole = requests_of(other(), task)
    task.again()
    found = requests_of(other(), task)
    assert whole <= CHUNKS * (4 if kind == "adds" else 3) + 3

    world.portal.ledger.clear()
    task = type(task)()
    task.ti.run_id = "manual__2"
    make = listed(world, kind, COUNT, tmp_path)
    with monkeypatch.context() as dying:
        kill_at(world, dying, DONE + 1, when=when)
        with pytest.raises(Killed):
            make().execute(task.context)
    task.again()
    world.clock.advance(300)
    resumed = requests_of(make(), task)
    assert len(world.ledger("invoice_paid", "payment_added")) == COUNT
    preview = 2 if kind == "invoices" else 0
    rest = (whole - preview) * (CHUNKS - DONE) / CHUNKS
    read_again = (found - preview) * DONE / CHUNKS
    assert resumed <= math.ceil(preview + rest + read_again) + 3
