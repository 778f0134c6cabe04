"""Lists of 1,000 by four clients: requests, refusals, portal seconds, and what the portal shows of what they report.

The oracle is the sandbox's ledger, the counts are its request log's. Requests go over real HTTP on loopback; waits are
skipped on a clock that the portal shares (see `clock`).
"""

from __future__ import annotations

import math
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import clock
import sqlalchemy as sa
from clients import JOBS, RETRIES, Client, Fast, Plain, Report, Sdk
from provider import Lists, Singles
from tables import show, show_head, show_row

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence
    from pathlib import Path

RUNS = 3
"""How often each list is done under faults: a list in batches is so few requests that one run shows little."""
AT_ONCE = 2
"""Processes."""
RETRY_DELAY = 300.0
"""Seconds: Airflow's default."""
RATE_LIMIT = (50.0, 2.0)
LIMIT = 480.0
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "drop_after", "probability": 0.05},
    {"kind": "html", "when": "after", "status": 502, "probability": 0.02},
    {"kind": "drop_before", "probability": 0.03},
)
NOT_APPLIED = {"kind": "true_not_applied", "method": JOBS["pay"].method, "probability": 0.1}
TIMINGS = {
    "crm.item.payment.add": 0.908,
    "crm.item.payment.get": 0.383,
    "crm.item.payment.list": 0.417,
    "crm.item.payment.pay": 1.191,
    "crm.item.get": 0.485,
    "crm.orderentity.list": 0.711,
    "sale.payment.list": 0.459,
    "sale.paysystem.pay.invoice": 0.381,
}
"""Seconds of one call, as the examples in Bitrix24's documentation say; a method without one takes 0.2 s."""
CONDITIONS = {
    "nothing goes wrong": {},
    "faults": {"faults": FAULTS},
    "working-time limit": {"operating_limit": LIMIT, "operating_costs": TIMINGS},
}
MOST = {("pay", "50"): 65, ("pay", "25"): 125, ("mark", "50"): 85, ("mark", "25"): 165}
MOST |= {("add", "50"): 85, ("add", "25"): 165}
"""Requests for 1,000."""
OTHERS: tuple[Client, ...] = (Plain(), Sdk(), Fast())
ALIKE = (Plain(), Singles("no journal"), Singles("task state"), Singles("SQL"))
ONE_BY_ONE: dict[str, tuple[Client, ...]] = {
    "pay": ALIKE,
    "add": (*ALIKE, Singles("task state", tag=True), Singles("task state", on_unknown="adopt")),
}
HEAD = ["client", "requests", "refused", "portal seconds", "duplicates", "lost", "falsely reported"]
HEAD += ["left for a person", "ids known"]


@dataclass(frozen=True)
class Work:
    """What one client does, in a process of its own."""

    client: Client
    job: str
    count: int
    seed: int
    portal: Mapping[str, Any]
    """Options of the portal, and what goes wrong there: ``faults``."""


@dataclass
class Tally:
    """What the portal shows in the end."""

    client: str
    requests: int
    refused: int
    """Requests and commands that the portal has refused for one of its limits."""
    seconds: float
    duplicates: int
    """What the ledger shows beyond one payment, or one mark, for each object."""
    lost: int
    """Objects that are neither done nor left for a person, as far as the client reports."""
    false: int
    """Objects that are reported as done, and the ledger shows no such payment or mark."""
    person: int
    known: int
    """Objects whose payment is known: the ledger shows what was reported."""

    @property
    def row(self) -> tuple[str | int, ...]:
        """The cells of the table."""
        numbers = (self.requests, self.refused, round(self.seconds), self.duplicates, self.lost, self.false)
        return (self.client, *numbers, self.person, self.known)


def make(portal: Portal, job: str, count: int) -> list[int]:
    """Make the objects of a list."""
    if job == "pay":
        return [int(portal.create("invoice", {"price": "100.00"})) for _ in range(count)]  # type: ignore[arg-type]
    deals = [int(portal.create("deal", {"title": f"Deal {number}"})) for number in range(count)]  # type: ignore[arg-type]
    return deals if job == "add" else [portal.act.add_payment(2, deal, amount="10.00") for deal in deals]


def connect(connection: str, folder: str, ca_file: Path | None = None) -> None:
    """Let Airflow's connections lead to a portal, and to an empty journal whose clock is that of the process."""
    tempfile.tempdir = folder
    os.environ["AIRFLOW_CONN_JOURNAL"] = f"sqlite:///{folder}/journal.db"
    os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = connection
    if ca_file:
        os.environ["REQUESTS_CA_BUNDLE"] = str(ca_file)
    Database.now = property(lambda _: sa.literal(time.time(), sa.Double))  # type: ignore[assignment,method-assign]


def run(work: Work) -> Tally:
    """Let a client do the list, retried as Airflow does, against a portal of its own."""
    options = dict(work.portal)
    faults = options.pop("faults", ())
    portal = Portal(clock=clock.CLOCK, rate_limit=RATE_LIMIT, random_seed=work.seed, **options)
    with SandboxServer(portal, tls=work.client.https) as server, tempfile.TemporaryDirectory() as folder:
        sandbox, ids = Sandbox(server), make(portal, work.job, work.count)
        connect(sandbox.connection, folder, server.ca_file)
        for fault in faults:
            sandbox.fault(**fault)
        begin, report = clock.CLOCK.time(), Report()
        for number in range(1 + RETRIES):
            if number:
                clock.CLOCK.skip(RETRY_DELAY)
            latest = work.client.attempt(sandbox, work.job, [one for one in ids if one not in report.done])
            report.done |= latest.done
            report.for_a_person |= latest.for_a_person
            if len(report.done.keys() | report.for_a_person) == len(ids):
                break
        return judge(work, ids, report, sandbox, clock.CLOCK.time() - begin)


def judge(work: Work, ids: Sequence[int], report: Report, portal: Sandbox, seconds: float) -> Tally:
    """Compare what was reported with what the ledger shows."""
    job = JOBS[work.job]
    entries = [entry for entry in portal.ledger if entry["event"] in job.events and entry["by"] == "rest"]
    made = Counter(entry[job.subject] for entry in entries)
    added = {(entry["entity_id"], entry["payment_id"]) for entry in entries}

    def is_shown(number: int) -> bool:
        reported = report.done[number]
        return (number, reported) in added if work.job == "add" else reported is not False and made[number] > 0

    true = sum(map(is_shown, report.done))
    log = portal.requests
    return Tally(
        client=work.client.name,
        requests=sum(not entry["inside_batch"] for entry in log),
        refused=sum(entry["status"] == 503 or entry["error"] == "OPERATION_TIME_LIMIT" for entry in log),
        seconds=seconds,
        duplicates=sum(count - 1 for count in made.values()),
        lost=len(set(ids) - report.done.keys() - report.for_a_person),
        false=len(report.done) - true,
        person=len(report.for_a_person - report.done.keys()),
        known=true,
    )


def mean(tallies: Sequence[Tally]) -> Tally:
    """Return the mean of some runs, rounded up: what has gone wrong once is not 0."""
    cells = zip(*(tally.row[1:] for tally in tallies), strict=True)
    return Tally(tallies[0].client, *(math.ceil(sum(each) / len(tallies)) for each in cells))  # type: ignore[arg-type]


def print_table(title: str, works: Sequence[Work], *, runs: int = 1) -> list[Tally]:
    """Run clients, each in a process of its own; print what came out, as Markdown.

    :param runs: how often, each with a seed of its own.
    """
    show(f"\n**{title}**\n")
    show_head(*HEAD)
    spawn, tallies = multiprocessing.get_context("spawn"), []
    with ProcessPoolExecutor(AT_ONCE, mp_context=spawn, initializer=clock.install, max_tasks_per_child=1) as pool:
        running = [[pool.submit(run, replace(work, seed=work.seed + more)) for more in range(runs)] for work in works]
        for futures in running:
            tallies.append(mean([future.result() for future in futures]))
            show_row(*tallies[-1].row)
    return tallies


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Print a table for each job and condition."""
    figures = []
    for job in options.job or JOBS:
        title = JOBS[job].title.format(options.count)
        for condition, portal in CONDITIONS.items():
            ours = (Lists(50), Lists(25)) if condition == "nothing goes wrong" else (Lists(50),)
            runs = RUNS if condition == "faults" else 1
            works = chosen(options, job, portal, (*OTHERS, *ours))
            for tally in print_table(f"{title}: {condition}", works, runs=runs):
                if tally.client.startswith("this"):
                    what, cells, wanted = figure(job, condition, tally, options.count)
                    figures.append((f"{title}, {tally.client.split()[-1]}, {condition}: {what}", cells, wanted))
    return figures


def chosen(options: Namespace, job: str, portal: Mapping[str, Any], clients: Sequence[Client]) -> list[Work]:
    """Return the work of the clients that were asked for."""
    names = options.client or [""]
    asked = [one for one in clients if any(name in one.name for name in names)]
    return [Work(one, job, options.count, options.seed, portal) for one in asked]


def figure(job: str, condition: str, tally: Tally, count: int) -> tuple[str, str, str]:
    """Return what counts under a condition, what was measured, and what is wanted."""
    if condition == "nothing goes wrong":
        return "requests; refused", f"{tally.requests}; {tally.refused}", f"≤ {MOST[job, tally.client[-2:]]}; 0"
    if condition == "faults":
        return "duplicates; lost; falsely reported", f"{tally.duplicates}; {tally.lost}; {tally.false}", "0; 0; 0"
    floor = 600 * (math.ceil(TIMINGS[JOBS[job].method] * count / LIMIT) - 1)
    most = f"≤ {1.1 * floor:.0f}" if floor else "any"
    measured = f"{tally.seconds:.0f}; {tally.refused}; {tally.known:,}"
    return "portal seconds; refused; ids known", measured, f"{most}; 0; {count:,}"


def measure_one_by_one(options: Namespace) -> list[tuple[str, str, str]]:
    """Print what each journal is good for, under faults; 10 % of the marks of invoices do nothing."""
    portal = {"faults": (*FAULTS, NOT_APPLIED)}
    for job in options.job or ONE_BY_ONE:
        title = f"{JOBS[job].title.format(options.count)}, one by one: faults"
        print_table(title, chosen(options, job, portal, ONE_BY_ONE[job]))
    return []
