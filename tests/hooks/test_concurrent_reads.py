"""Several reads at once: in order, no more than allowed, and an end when nobody wants more."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api import reading
from airflow_provider_bitrix24.api.pacing import NAMED, Limits
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.hooks.concurrent_reads import ain_order, in_order, reads_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

LIST = "sale.payment.list"


@pytest.mark.parametrize(
    ("limits", "at_once"),
    [
        (NAMED["standard"], 4),
        (NAMED["enterprise"], 8),
        (NAMED["off"], 4),
        (Limits(50, 0.5), 1),
        (Limits(50, 0.1), 1),
        (Limits(1000, 100), 8),
    ],
)
def test_the_rate_limit_says_how_many(limits: Limits, at_once: int) -> None:
    assert reads_at_once(limits) == at_once


class Counted:
    """Work that counts how much of it runs at the same time."""

    def __init__(self, together: int) -> None:
        self.barrier = threading.Barrier(together)
        self.begun: list[int] = []

    def __call__(self, number: int) -> int:
        self.begun.append(number)
        if number < self.barrier.parties:
            self.barrier.wait(60)  # for ever, if they do not run together
        time.sleep(0.01 * (number % 3))
        return number


def test_results_come_in_order_and_run_together() -> None:
    work = Counted(together=3)
    assert list(in_order([partial(work, number) for number in range(20)], 3)) == list(range(20))


def test_what_nobody_waits_for_is_not_begun() -> None:
    work = Counted(together=1)
    results = in_order([partial(work, number) for number in range(20)], 3)
    assert next(results) == 0
    results.close()
    assert set(work.begun) <= {0, 1, 2}


def test_an_error_is_raised_in_its_place() -> None:
    def fail() -> int:
        raise ValueError("no")

    results = in_order([lambda: 1, fail, lambda: 3], 3)
    assert next(results) == 1
    with pytest.raises(ValueError, match="no"):
        next(results)


def test_the_context_of_the_task_goes_along() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("task")
    variable.set("pay")
    assert list(in_order([variable.get] * 3, 2)) == ["pay"] * 3


async def test_the_async_twin_does_the_same() -> None:
    running = most = 0

    async def one(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (number % 3))
        running -= 1
        return number

    assert [number async for number in ain_order([partial(one, n) for n in range(20)], 4)] == list(range(20))
    assert most == 4


async def test_the_async_twin_ends_what_nobody_wants() -> None:
    ended: list[int] = []

    async def one(number: int) -> int:
        if number == 0:
            return 0
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(number)
        return number

    async with aclosing(ain_order([partial(one, n) for n in range(20)], 3)) as results:
        assert await anext(results) == 0
        await asyncio.sleep(0)
    assert sorted(ended) == [1, 2]


@pytest.mark.usefixtures("unmeasured")
async def test_a_long_list_is_read_side_by_side(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", bitrix24_sandbox.connection)
    monkeypatch.setattr(reading, "FEWEST_RANGES", 2)
    for _ in range(5_200):
        bitrix24_sandbox.act.add_payment(2, 3, amount="1.00")
    at_once: list[int] = []

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(work: Any, number: int) -> Any:
            at_once.append(number)
            return real(work, number)

        return counted

    monkeypatch.setattr("airflow_provider_bitrix24.hooks.concurrent_reads.in_order", counting(in_order))
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.concurrent_reads.ain_order", counting(ain_order))
    hook = Bitrix24Hook()
    ids = [row["id"] for row in hook.iterate(LIST, raw=True)]
    assert len(ids) == len(set(ids)) == 5_200 + 4  # those that the portal begins with
    assert ids == sorted(ids)
    assert sum(not request["inside_batch"] for request in bitrix24_sandbox.requests) == 1 + 1 + 2 + 1
    assert [row["id"] async for row in hook.aiterate(LIST, raw=True)] == ids
    assert at_once == [4, 4]
    first = hook.iterate(LIST, raw=True)
    assert [next(first)["id"] for _ in range(60)] == ids[:60]
    first.close()
