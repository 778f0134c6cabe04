"""Waiting for 1,000 payments and reading 100,000: what the sandbox counts, and whether all is known."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import clock
import requests
from clients import BATCH, sdk, wait_less
from side_by_side import RATE_LIMIT, connect
from tables import show, show_head, show_row

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.triggers import shared_poll
from airflow_provider_bitrix24.triggers.payments import WaitForPaymentsTrigger

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

TICKS = 3
GET, LIST = "crm.item.payment.get", "sale.payment.list"


def post(portal: Sandbox, method: str, params: dict[str, Any]) -> Any:
    """Post with requests; what is refused for the rate limit is repeated a second later, which harms no read."""
    while True:
        reply = requests.post(f"{portal.webhook_url}{method}", json=params, timeout=75)
        if reply.status_code != 503:
            return reply.json()["result"]
        time.sleep(1)


# -- one look at all payments; each returns how many are known


def look_plain(portal: Sandbox, ids: list[int]) -> int:
    """Read each payment by itself, as separate tasks do."""
    return len({post(portal, GET, {"id": number})["id"] for number in ids})


def look_sdk(portal: Sandbox, ids: list[int]) -> int:
    """Read all payments in one process with Bitrix24's SDK."""
    client = sdk(portal)
    calls = {str(number): client.crm.item.payment.get(bitrix_id=number) for number in ids}
    return len(client.call_batches(calls).result.result)


def look_fast(portal: Sandbox, ids: list[int]) -> int:
    """Read all payments in one process with fast_bitrix24."""
    from fast_bitrix24 import BitrixAsync

    async def look() -> int:
        return len(await BitrixAsync(portal.webhook_url, verbose=False).get_by_ID(GET, ids, ID_field_name="id"))

    return int(wait_less(portal, look()))


class Polls(shared_poll.Clock):
    """Lets a wait of the shared poll pass at once, as soon as all triggers wait; before the last look, all is paid."""

    def __init__(self, portal: Sandbox, ids: list[int]) -> None:
        self._portal, self._ids = portal, ids
        self._passed = 0.0
        self._looks = 0

    def now(self) -> float:
        """Return the time that has passed."""
        return self._passed

    async def wait(self, seconds: float, wake: asyncio.Event) -> None:
        """Let the wait pass."""
        while self._waiting() < len(self._ids) and not wake.is_set():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        if seconds >= 3600:
            await wake.wait()
        elif self._waiting() >= len(self._ids):
            self._passed += seconds
            self._looks += 1
            for number in self._ids if self._looks == TICKS else ():
                self._portal.act.pay_payment(number)

    @staticmethod
    def _waiting() -> int:
        polls = [poll for polls in shared_poll._polls.values() for poll in polls.values()]
        return sum(seat.waiting is not None and not seat.waiting.done() for poll in polls for seat in poll.seats)


def look_provider(portal: Sandbox, ids: list[int]) -> int:
    """Wait with a deferred sensor for each payment, as the triggerer does, for some ticks."""
    shared_poll.clock = Polls(portal, ids)

    async def one(number: int) -> bool:
        trigger = WaitForPaymentsTrigger(
            payment_ids=[number], bitrix24_conn_id="bitrix24_default", poke_interval=60, end_time=time.time() + 10**6
        )
        return [event.payload["reason"] async for event in trigger.run()] == ["paid"]

    async def everything() -> int:
        return sum(await asyncio.gather(*map(one, ids)))

    return asyncio.run(everything())


# -- all payments; each returns how many different ones it has read


def read_plain(portal: Sandbox, ids: list[int]) -> int:
    """Read page by page, by id, without counting: the way that Bitrix24 recommends for many rows."""
    seen: set[int] = set()
    while True:
        last = max(seen, default=0)
        rows = post(portal, LIST, {"filter": {">id": last}, "order": {"id": "ASC"}, "start": -1})["payments"]
        seen |= {row["id"] for row in rows}
        if len(rows) < BATCH:
            return len(seen)


def read_sdk(portal: Sandbox, ids: list[int]) -> int:
    """Read all rows with Bitrix24's SDK."""
    return len({row["id"] for row in sdk(portal).sale.payment.list().as_list().result})


def read_fast(portal: Sandbox, ids: list[int]) -> int:
    """Read all rows with fast_bitrix24."""
    from fast_bitrix24 import BitrixAsync

    async def read() -> int:
        return len({row["id"] for row in await BitrixAsync(portal.webhook_url, verbose=False).get_all(LIST)})

    return int(wait_less(portal, read()))


def read_provider(portal: Sandbox, ids: list[int]) -> int:
    """Read all rows with the hook."""
    return len({row["id"] for row in Bitrix24Hook().iterate(LIST, raw=True)})


LOOKS: dict[str, Callable[[Sandbox, list[int]], int]] = {
    "requests, a task for each payment": look_plain,
    "b24pysdk, call_batches": look_sdk,
    "fast_bitrix24, get_by_ID": look_fast,
    "this provider, a deferred sensor for each payment": look_provider,
}
READS: dict[str, Callable[[Sandbox, list[int]], int]] = {
    "requests, page by page": read_plain,
    "b24pysdk, as_list": read_sdk,
    "fast_bitrix24, get_all": read_fast,
    "this provider, hook.iterate": read_provider,
}


def run(who: str, payments: int) -> tuple[int, int, int, int]:
    """Let one client do its work against a portal of its own; return the cells of its line."""
    portal = Portal(clock=clock.CLOCK, rate_limit=RATE_LIMIT)
    with (
        SandboxServer(portal, tls=who.startswith("b24pysdk")) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        sandbox = Sandbox(server)
        connect(sandbox.connection, folder, server.ca_file)
        there = len(portal.state.payments)
        ids = [portal.act.add_payment(2, 3, amount="10.00") for _ in range(payments - there * (who in READS))]
        begin = clock.CLOCK.time()
        known = (LOOKS | READS)[who](sandbox, ids)
        sent = [entry["status"] for entry in sandbox.requests if not entry["inside_batch"]]
        seconds = clock.CLOCK.time() - begin
    looks = TICKS if who.startswith("this provider, a") else 1
    return math.ceil(len(sent) / looks), sent.count(503), round(seconds), known


def compare(title: str, clients: dict[str, Any], payments: int) -> int:
    """Run all clients, each in a process of its own, and print a table; return the provider's requests."""
    show(f"\n**{title}**\n")
    show_head("client", "requests", "refused", "portal seconds", "payments known")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn, initializer=clock.install, max_tasks_per_child=1) as pool:
        for who, future in {who: pool.submit(run, who, payments) for who in clients}.items():
            cells = future.result()
            show_row(who, *cells)
    return cells[0]


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Compare one look at payments that are waited for."""
    count = options.count
    sent = compare(f"Look once at {count:,} payments that are waited for", LOOKS, count)
    return [(f"{count:,} waiting sensors: requests in a tick", str(sent), "1")]


def measure_reading(options: Namespace) -> list[tuple[str, str, str]]:
    """Compare reading all payments."""
    sent = compare(f"Read {options.rows:,} payments", READS, options.rows)
    return [(f"read {options.rows:,} payments: requests", str(sent), "≤ 42")]
