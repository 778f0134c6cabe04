"""How many requests a list takes when the portal fails, and when its task was killed; in virtual time."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.at_most_once.chunks import MOST_IN_THE_FIRST
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
CHUNKS, DONE = 3, 1
"""Of a list that is killed: its chunks, and those that have ended by then."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """A portal and all clocks of the engine in this process."""
    world = World("source")
    world.connect(scopes=("crm", "sale", "pay_system"))
    monkeypatch.setattr(engines, "time", world)
    monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", f"sqlite:///{tmp_path / 'journal.db'}")
    return world


def listed(world: World, kind: str, count: int, folder: Path, size: int = BATCH) -> Callable[[], Any]:
    """Return what makes an operator for a list of so many items."""
    inside = world.portal
    if kind == "invoices":
        ids = [int(str(inside.create("invoice", {"price": "10.00"}))) for _ in range(count)]
    else:
        ids = [int(str(inside.create("deal", {"title": "Deal"}))) for _ in range(count)]

    def make() -> Any:
        options: dict[str, Any] = {"task_id": "pay", "journal_conn_id": "journal", "batch_size": size, "outlets": []}
        options["receipts_path"] = f"file://{folder}/receipts.jsonl"
        if kind == "invoices":
            operator: Any = PayInvoicesOperator(invoices=ids, pay_system_id=31, **options)
        else:
            operator = AddCrmPaymentsOperator(items=ids, tag=kind == "tagged adds", **options)
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


@pytest.mark.parametrize(
    ("kind", "size", "writes", "requests"),
    [
        ("invoices", 25, 1, 3),
        ("invoices", 48, 1, 3),
        ("adds", 25, 1, 4),
        ("adds", 48, 1, 4),
        ("tagged adds", 16, 1, 3),
        ("tagged adds", 25, 2, 5),
        ("tagged adds", 33, 3, 8),
        ("tagged adds", 48, 3, 8),
    ],
)
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

    def requests_of(work: Any, task: Task) -> int:
        before = len(world.sent)
        summary = work.execute(task.context)
        assert (summary["succeeded"], summary["failed"]) == (count, 0)
        return len(world.sent) - before

    # What a run takes that nobody interrupts, and one that finds everything done.
    other = listed(world, kind, count, tmp_path, size)
    whole = requests_of(other(), task)
    task.again()
    found = requests_of(other(), task)
    preview = 2 if kind == "invoices" else 0
    assert whole == CHUNKS * requests + preview

    for write in range(1, writes + 1):
        world.portal.ledger.clear()
        task = type(task)()
        task.ti.run_id = f"manual__{write}_{when}"
        make = listed(world, kind, count, tmp_path, size)
        with monkeypatch.context() as dying:
            kill_at(world, dying, DONE * writes + write, when=when)
            with pytest.raises(Killed):
                make().execute(task.context)
        task.again()
        world.clock.advance(300)
        resumed = requests_of(make(), task)
        assert len(world.ledger("invoice_paid", "payment_added")) == count
        read_again = (found - preview) * DONE / CHUNKS
        assert resumed <= preview + math.ceil(read_again) + (CHUNKS - DONE) * requests + 3
