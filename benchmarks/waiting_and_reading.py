"""Waiting for 1,000 payments, and reading 100,000: requests, as the sandbox counts them, and whether all is known.

`python benchmarks/waiting_and_reading.py --rows 10000` reads fewer. Requests go over real HTTP on loopback. The
waits of a poll pass at once. The rate limit is off: what is compared is how many requests the same work takes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import sys
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.triggers import shared_poll
from airflow_provider_bitrix24.triggers.payments import WaitForPaymentsTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

WAITING = 1000
TICKS = 10
ROWS = 100_000
LIST = "sale.payment.list"


@dataclass
class Result:
    """One line of a table."""

    who: str
    requests: int
    known: int
    """How many payments are known in the end."""
    seconds: float


class Skipping(shared_poll.Clock):
    """A wait of a poll passes at once, as soon as all triggers wait."""

    def __init__(self, triggers: int) -> None:
        self.triggers = triggers
        self.time = 0.0
        self.ticks = 0
        self.at_tick: dict[int, Callable[[], None]] = {}

    def now(self) -> float:
        """Return the skipped time."""
        return self.time

    async def wait(self, seconds: float, wake: asyncio.Event) -> None:
        """Skip the wait."""
        while self._waiting() < self.triggers and not wake.is_set():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        if seconds >= 3600:
            await wake.wait()
        elif self._waiting() >= self.triggers:
            self.time += seconds
            self.ticks += 1
            self.at_tick.get(self.ticks, lambda: None)()

    @staticmethod
    def _waiting() -> int:
        polls = [poll for polls in shared_poll._polls.values() for poll in polls.values()]
        return sum(seat.waiting is not None and not seat.waiting.done() for poll in polls for seat in poll.seats)


def wait_deferred(sandbox: Sandbox, ids: list[int]) -> int:
    """Wait with one deferred sensor for each payment, as the triggerer does; all are paid before the last tick."""
    shared_poll.clock = clock = Skipping(len(ids))
    clock.at_tick[TICKS] = lambda: [sandbox.act.pay_payment(number) for number in ids] and None

    async def one(number: int) -> bool:
        trigger = WaitForPaymentsTrigger(
            payment_ids=[number], bitrix24_conn_id="bitrix24_default", poke_interval=60, end_time=time.time() + 10**6
        )
        return [event.payload["reason"] async for event in trigger.run()] == ["paid"]

    async def everything() -> int:
        return sum(await asyncio.gather(*map(one, ids)))

    return asyncio.run(everything())


def wait_plain(sandbox: Sandbox, ids: list[int]) -> int:
    """Read each payment by itself, as separate tasks do."""
    known = 0
    for tick in range(1, TICKS + 1):
        if tick == TICKS:
            for number in ids:
                sandbox.act.pay_payment(number)
        for number in ids:
            answer = requests.post(f"{sandbox.webhook_url}crm.item.payment.get", json={"id": number}, timeout=75)
            known += answer.json()["result"]["paid"] == "Y"
    return known


def wait_fast(sandbox: Sandbox, ids: list[int]) -> int:
    """Read all payments in one process with fast_bitrix24."""
    from fast_bitrix24 import BitrixAsync

    async def everything() -> int:
        known = 0
        for tick in range(1, TICKS + 1):
            if tick == TICKS:
                for number in ids:
                    sandbox.act.pay_payment(number)
            client = BitrixAsync(sandbox.webhook_url, verbose=False)
            found = await client.get_by_ID("crm.item.payment.get", ids, ID_field_name="id")
            known += sum(payment["paid"] == "Y" for payment in found.values())
        return known

    return asyncio.run(everything())


def read_provider(sandbox: Sandbox, ids: list[int]) -> int:
    """Read all rows with the hook."""
    return len({row["id"] for row in Bitrix24Hook().iterate(LIST, raw=True)})


def read_plain(sandbox: Sandbox, ids: list[int]) -> int:
    """Read page by page, by id, without counting: the way that Bitrix24 recommends for many rows."""
    seen: set[int] = set()
    last = 0
    while True:
        asked = {"filter": {">id": last}, "order": {"id": "ASC"}, "start": -1}
        rows = requests.post(f"{sandbox.webhook_url}{LIST}", json=asked, timeout=75).json()["result"]["payments"]
        seen |= {row["id"] for row in rows}
        if len(rows) < 50:
            return len(seen)
        last = rows[-1]["id"]


def read_sdk(sandbox: Sandbox, ids: list[int]) -> int:
    """Read all rows with Bitrix24's SDK."""
    import b24pysdk

    _, _, domain, _, user, secret, _ = sandbox.webhook_url.split("/")
    client = b24pysdk.Client(b24pysdk.BitrixWebhook(domain=domain, webhook_token=f"{user}/{secret}"))
    return len({row["id"] for row in client.sale.payment.list().as_list().result})


def read_fast(sandbox: Sandbox, ids: list[int]) -> int:
    """Read all rows with fast_bitrix24."""
    from fast_bitrix24 import BitrixAsync

    async def everything() -> int:
        client = BitrixAsync(sandbox.webhook_url, verbose=False)
        return len({row["id"] for row in await client.get_all(LIST)})

    return asyncio.run(everything())


WAYS: dict[str, dict[str, Callable[[Sandbox, list[int]], int]]] = {
    "wait": {
        "requests, one task for each payment": wait_plain,
        "fast_bitrix24, one process for all": wait_fast,
        "this provider, one deferred sensor for each payment": wait_deferred,
    },
    "read": {
        "requests, page by page": read_plain,
        "b24pysdk, as_list": read_sdk,
        "fast_bitrix24, get_all": read_fast,
        "this provider, hook.iterate": read_provider,
    },
}


def be_silent() -> None:
    """Drop what a process prints: Airflow's own logs."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def run(what: str, who: str, payments: int) -> Result:
    """Let one client do its work, against a portal of its own."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # what the other libraries warn about is their own affair
    os.environ["AIRFLOW__BITRIX24__RATE_LIMIT"] = "off"
    with SandboxServer(Portal(), tls=who.startswith("b24pysdk")) as server:
        sandbox = Sandbox(server)
        if server.ca_file:
            os.environ["REQUESTS_CA_BUNDLE"] = str(server.ca_file)
        os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = sandbox.connection
        before = 4  # what the portal starts with
        missing = payments - before if what == "read" else payments
        ids = [sandbox.act.add_payment(2, 3, amount="10.00") for _ in range(missing)]
        begin = time.monotonic()
        known = WAYS[what][who](sandbox, ids)
        seconds = time.monotonic() - begin
        sent = sum(not entry["inside_batch"] for entry in sandbox.requests)
    return Result(who, sent, known, seconds)


def compare(what: str, payments: int) -> list[Result]:
    """Run all clients, each in a process of its own."""
    results = []
    for who in WAYS[what]:
        print(f"{what}: {who} …", file=sys.stderr, flush=True)
        with multiprocessing.get_context("spawn").Pool(1, initializer=be_silent) as pool:
            results.append(pool.apply(run, (what, who, payments)))
    return results


def main(arguments: list[str] | None = None) -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="payments to read")
    parser.add_argument("--waiting", type=int, default=WAITING, help="payments to wait for")
    options = parser.parse_args(arguments)
    for what, payments, title in (
        ("wait", options.waiting, f"Waiting for {options.waiting:,} payments, read {TICKS} times"),
        ("read", options.rows, f"Reading {options.rows:,} payments"),
    ):
        print(f"\n{title}\n\n| client | requests | payments known | seconds |\n| --- | --- | --- | --- |")
        for result in compare(what, payments):
            print(f"| {result.who} | {result.requests:,} | {result.known:,} | {result.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
