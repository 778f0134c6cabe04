"""Four clients under the same load of lost responses, retried as Airflow does: what the portal shows, what they report.

`python benchmarks/side_by_side.py --intents 1000` prints a table for adding payments and one for paying invoices. The
oracle is the sandbox's ledger. Requests go over real HTTP on loopback; waiting is skipped on a clock that the portal
shares, so that neither timeouts nor terms are shortened.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import statistics
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clients import Client, Fast, Place, Plain, Sdk
from load import BETWEEN_INTENTS, INTENTS_PER_DEAL, Intent, Kind, SkippingClock, StormyPortal
from provider import Provider

from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24OutcomeUnknown,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
)
from airflow_provider_bitrix24.sandbox.address import webhook_url
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Sequence

ATTEMPTS = 4
"""The first, and three retries."""
RETRY_DELAY = 300.0
"""Seconds: Airflow's default."""
SEED = 24
ADDED = ("payment_added",)
MARKED = ("invoice_paid", "invoice_changed")
ASKS_A_PERSON = (PaymentAmbiguous, PaymentNotApplied, PaymentMismatch, Bitrix24OutcomeUnknown)
"""Errors that end the task, name the deal or the invoice and say what to look at."""

CONDITIONS = (
    f"Real HTTP on loopback; {ATTEMPTS - 1} retries, {RETRY_DELAY:.0f} s apart, each by new client objects that find "
    "no more than a journal has kept.\nAll waits, the other clients' own included, are skipped on a clock that "
    "the portal shares: nothing is shortened."
)
CLIENTS: dict[Kind, list[Client]] = {
    "add": [
        Plain(),
        Sdk(),
        Fast(),
        Provider("no journal"),
        Provider("task state"),
        Provider("task state", tag=True),
        Provider("task state", adopt=True),
        Provider("SQL"),
    ],
    "invoice": [Plain(), Sdk(), Fast(), Provider("no journal"), Provider("task state"), Provider("SQL")],
}


@dataclass
class Tally:
    """The outcome of all intents of one client."""

    client: str
    intents: int = 0
    duplicates: int = 0
    """What the portal holds beyond one payment, or one mark, for each intent."""
    lost: int = 0
    """Tasks that failed without sending anybody to look, whether or not the payment is on the portal."""
    false: int = 0
    """Succeeded tasks that the portal does not confirm: no payment or mark, or another payment than was reported."""
    person: int = 0
    """Failed tasks that say what a person is to look at."""
    on_the_portal: int = 0
    """How many of those are on the portal."""
    calls: list[int] = field(default_factory=list)
    """HTTP requests of each task."""
    retried: int = 0
    """Tasks that needed more than one attempt."""
    waited: float = 0.0
    """Seconds that were skipped, the waits for Airflow's next attempt included."""
    reasons: Counter[str] = field(default_factory=Counter)
    """What the failed tasks ended with."""
    cases: list[str] = field(default_factory=list)
    """What went wrong, to find out why."""


def run_client(kind: Kind, index: int, intents: int, seed: int) -> Tally:
    """Put one client through the load, against a portal of its own."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # what the other libraries warn about is their own affair
    client, clock = CLIENTS[kind][index], SkippingClock()
    portal = StormyPortal(kind, seed=seed, clock=clock, https=client.https)
    tally = Tally(client.name, intents=intents)
    with SandboxServer(portal, tls=client.https) as server:
        if server.ca_file:
            os.environ["REQUESTS_CA_BUNDLE"] = str(server.ca_file)
        place = Place(webhook_url(server.url, portal.webhook), clock)
        client.begin(place)
        for intent in portal.plan(intents):
            portal.begin(intent)
            run_task(client, place, portal, intent, tally)
            tally.calls.append(portal.calls)
            clock.skip(BETWEEN_INTENTS)
    tally.waited = clock.skipped - intents * BETWEEN_INTENTS
    return tally


def run_task(client: Client, place: Place, portal: StormyPortal, intent: Intent, tally: Tally) -> None:
    """Attempt an intent until it is done, or Airflow gives up; then look at the portal."""
    entries = len(portal.ledger)
    reported: int | None = None
    error: Exception | None = None
    for number in range(1, ATTEMPTS + 1):
        try:
            reported, error = client.attempt(place, intent, number), None
        except (AttributeError, ImportError, NameError, TypeError):
            raise  # this file's own fault, not the client's
        except Exception as caught:  # noqa: BLE001 - whatever a client raises is a failed attempt
            error = caught
        if error is None or (isinstance(error, Bitrix24Error) and error.final):
            break
        if number < ATTEMPTS:
            place.clock.skip(RETRY_DELAY)
    tally.retried += number > 1
    judge(intent, reported, error, portal.ledger[entries:], tally)


def judge(
    intent: Intent, reported: int | None, error: Exception | None, entries: Sequence[dict[str, Any]], tally: Tally
) -> None:
    """Compare what a task has reported with what the portal shows."""
    events = ADDED if intent.kind == "add" else MARKED
    made = [entry for entry in entries if entry["event"] in events]
    ids = [entry["payment_id"] if intent.kind == "add" else None for entry in made]
    what = f"{intent}: reported {reported}, error {error!r}, portal {[(e['event'], e['payment_id']) for e in made]}"
    if len(made) > 1:
        tally.duplicates += len(made) - 1
        tally.cases.append(f"duplicate: {what}")
    if error is None:
        if reported not in ids:
            tally.false += 1
            tally.cases.append(f"false: {what}")
        return
    tally.reasons[type(error).__name__] += 1
    if isinstance(error, ASKS_A_PERSON):
        tally.person += 1
        tally.on_the_portal += bool(made)
        tally.cases.append(f"left for a person: {what}")
    else:
        tally.lost += 1
        tally.cases.append(f"lost: {what}")


def run_all(
    kinds: Sequence[Kind], clients: Sequence[str], intents: int, seed: int, workers: int
) -> dict[Kind, list[Tally]]:
    """Put clients through the load, some of them at the same time, each in a process of its own."""
    jobs = [
        (kind, index)
        for kind in kinds
        for index, client in enumerate(CLIENTS[kind])
        if not clients or client.name in clients
    ]
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawning, max_tasks_per_child=1) as pool:
        running = [(kind, pool.submit(run_client, kind, index, intents, seed)) for kind, index in jobs]
        tallies: dict[Kind, list[Tally]] = {}
        for kind, future in running:
            tally = future.result()
            tallies.setdefault(kind, []).append(tally)
            print(f"{kind}: {tally.client}", file=sys.stderr, flush=True)
    return tallies


def print_table(kind: Kind, tallies: Sequence[Tally], seed: int) -> None:
    """Print the outcome of one kind of intent, as Markdown."""
    intents = tallies[0].intents
    deals = f" on {-(-intents // INTENTS_PER_DEAL):,} deals" if kind == "add" else ""
    what = f"{intents:,} payments to add{deals}" if kind == "add" else f"{intents:,} invoices to mark as paid"
    print(f"\n### {what} (seed {seed})\n")
    print(
        "| client | duplicates | lost | falsely reported | left for a person | retried by Airflow | requests per task |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for tally in tallies:
        person = f"{tally.person}, {tally.on_the_portal} on the portal" if tally.person else "0"
        calls = f"{statistics.mean(tally.calls):.2f}, median {statistics.median(tally.calls):.0f}"
        wrong = f"{tally.duplicates} | {tally.lost} | {tally.false}"
        print(f"| {tally.client} | {wrong} | {person} | {tally.retried} | {calls} |")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intents", type=int, default=1000, help="how many of each kind")
    parser.add_argument("--seed", type=int, default=SEED, help="what goes wrong")
    parser.add_argument("--only", choices=list(CLIENTS), help="one of the two tables")
    names = {client.name for clients in CLIENTS.values() for client in clients}
    parser.add_argument("--client", action="append", choices=sorted(names), help="only this one; may be given again")
    parser.add_argument("--workers", type=int, default=2, help="how many clients at the same time")
    parser.add_argument("--cases", action="store_true", help="print the end of every task that went wrong or failed")
    arguments = parser.parse_args(argv)
    print(f"\n{CONDITIONS}")
    kinds: list[Kind] = [arguments.only] if arguments.only else list(CLIENTS)
    done = run_all(kinds, arguments.client or (), arguments.intents, arguments.seed, arguments.workers)
    for kind, tallies in done.items():
        print_table(kind, tallies, arguments.seed)
        for tally in tallies if arguments.cases else []:
            print(f"\n{tally.client}: {dict(tally.reasons)}, {tally.retried} retried, {tally.waited:.0f} s skipped")
            print("\n".join(tally.cases))


if __name__ == "__main__":
    main()
