"""What safety costs when nothing goes wrong: requests, journal writes, time, compared with the bare requests.

Prints two tables. The bare requests are those that the operation has sent, byte for byte, sent again by a plain
`requests.Session`; both take turns. Times are the processor's, the portal's share included, in the fastest run:
whatever else the machine does can only add to them. How long a database takes to commit is not in them.
"""

from __future__ import annotations

import functools
import json
import logging
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import sqlalchemy as sa
from airflow_task import DictStore
from clients import PAY_SYSTEM
from tables import show

from airflow_provider_bitrix24 import drivers
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Request, Response, Sleep
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.journal import NullJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import DOCUMENT, TaskStateJournal
from airflow_provider_bitrix24.sandbox.address import webhook_url
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.at_most_once.operation import Operation
    from airflow_provider_bitrix24.journal import Journal

RUNS = 25
MANY = (0, 100, 1000)
NOTHING = "no journal"
JOURNALS = (NOTHING, "task state", "SQL")
log = logging.getLogger("bench")


@dataclass
class Meter:
    """What one operation has used."""

    sent: list[Request] = field(default_factory=list)
    received: int = 0
    """Bytes."""
    sleeps: int = 0
    journal_writes: int = 0
    journal_seconds: float = 0.0
    seconds: float = 0.0

    def watch(self, flow: Flow[Any]) -> Flow[Any]:
        """Run a flow and count."""
        outcome = None
        while True:
            try:
                command = flow.send(outcome)
            except StopIteration as end:
                return end.value
            if isinstance(command, Sleep):
                self.sleeps += 1
            else:
                self.sent.append(command)
            outcome = yield command
            if isinstance(outcome, Response):
                self.received += len(outcome.body)


class Timed:
    """A journal whose work is counted and timed; everything else is the original's."""

    def __init__(self, original: Any, meter: Meter) -> None:
        self._original = original
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._original, name)
        if not callable(value):
            return value

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return value(*arguments, **options)
            finally:
                self._meter.journal_seconds += time.process_time() - start
                self._meter.journal_writes += name == "save"

        return timed


@dataclass
class Bench:
    """A portal that behaves, and the tools to work on it."""

    portal: Portal
    client: ApiClient
    ours: requests.Session
    bare: requests.Session
    folder: Path
    store: DictStore = field(default_factory=DictStore)
    tasks: int = 0

    def journal(self, name: str, owner: str) -> Journal:
        """Return a journal; that of the task state begins empty each time, as a task instance's does."""
        self.store = DictStore()
        if name == NOTHING:
            return NullJournal()
        if name == "task state":
            return TaskStateJournal(self.store)
        return SqlJournal(Database(sa.URL.create("sqlite", database=str(self.folder / "journal.db")), "SQLite"), owner)

    def run(self, journal: str, make: Callable[[], Operation]) -> Meter:
        """Do an operation as a new task and meter it."""
        self.tasks += 1
        meter, task = Meter(), TaskAttempt(identity=f"dag:bench:run:{self.tasks}:task:pay:map_index:-1")
        engine = PaymentEngine(
            self.client,
            lambda flow: drivers.run(meter.watch(flow), self.ours),
            time,
            log,
            journal=Timed(self.journal(journal, str(task)), meter),
            task=task,
        )
        operation = make()
        start = time.process_time()
        result = engine.run_one(operation)
        meter.seconds = time.process_time() - start
        if isinstance(result, Failure):
            raise result.error
        return meter

    def replay(self, sent: list[Request]) -> float:
        """Send the same requests without any protocol; return the seconds."""
        start = time.process_time()
        for request in sent:
            headers = {"Content-Type": "application/json"}
            self.bare.post(request.url, data=request.body, headers=headers, timeout=60).json()
        return time.process_time() - start

    # Every operation works on an object of its own, so that none finds what another has left.

    def add(self, *, tag: bool = False, fill: bool = False) -> Operation:
        """Add a payment to a new deal, with two product rows if they are to be put into it."""
        deal = int(self.portal.create("deal", {"title": "Deal"}))  # type: ignore[arg-type]
        for name in ("One", "Two") if fill else ():
            row = {"ownerType": "D", "ownerId": deal, "productName": name, "price": "10.00", "quantity": 1}
            self.portal.create("product_row", row)
        return self.add_to(deal, tag=tag, fill=fill)

    def add_to(self, deal: int, *, tag: bool = False, fill: bool = False) -> Operation:
        """Add a payment to a deal."""
        return AddCrmPayment(
            portal=self.client.settings.portal,
            entity_id=deal,
            entity_type_id=2,
            key=f"cost:{self.tasks}",
            tag=tag,
            fill_products=fill,
        )

    def pay_invoice(self) -> Operation:
        """Mark a new invoice as paid."""
        invoice = int(self.portal.create("invoice", {"price": "10.00"}))  # type: ignore[arg-type]
        return PayInvoice(portal=self.client.settings.portal, invoice_id=invoice, pay_system_id=PAY_SYSTEM)

    def pay_payment(self) -> Operation:
        """Mark a new payment as paid."""
        deal = int(self.portal.create("deal", {"title": "Deal"}))  # type: ignore[arg-type]
        payment_id = self.portal.act.add_payment(2, deal, amount="10.00")
        return PayCrmPayment(portal=self.client.settings.portal, payment_id=payment_id)


def operations(bench: Bench) -> list[tuple[str, Callable[[], Operation]]]:
    """Return what is measured."""
    return [
        ("pay an invoice", bench.pay_invoice),
        ("mark a payment as paid", bench.pay_payment),
        ("add a payment", bench.add),
        ("add a payment, tag", lambda: bench.add(tag=True)),
        ("add a payment, two product rows", lambda: bench.add(fill=True)),
    ]


def print_operations(bench: Bench) -> None:
    """Print the cost of each operation with each journal."""
    show(
        "| operation | journal | requests | sleeps | journal writes | its writes, bare | all its requests, bare "
        "| added | of it by the journal |"
    )
    show("| --- | --- | --: | --: | --: | --: | --: | --: | --: |")
    for what, operation in operations(bench):
        for journal in JOURNALS:
            bench.replay(bench.run(journal, operation).sent)
            meters, replayed, writes = [], [], []
            for _ in range(RUNS):
                meters.append(bench.run(journal, operation))
                replayed.append(bench.replay(meters[-1].sent))
                writes.append(bench.replay([request for request in meters[-1].sent if request.not_after]))
            last = meters[-1]
            bare = min(replayed)
            added = min(meter.seconds for meter in meters) - bare
            kept = min(meter.journal_seconds for meter in meters)
            show(
                f"| {what} | {journal} | {len(last.sent)} | {sum(meter.sleeps for meter in meters)} "
                f"| {last.journal_writes if journal != NOTHING else 0} "
                f"| {min(writes) * 1000:.1f} ms | {bare * 1000:.1f} ms "
                f"| {added * 1000:+.1f} ms ({added / bare:+.0%}) | {kept * 1000:.1f} ms |"
            )


def print_many(bench: Bench) -> None:
    """Print what adding costs on deals that have many payments: each is listed whole, the portal has no pages there."""
    show("| payments on the deal | requests | bytes received | bytes in the journal | time |")
    show("| --: | --: | --: | --: | --: |")
    first: float | None = None
    for count in MANY:
        deal = int(bench.portal.create("deal", {"title": "Deal"}))  # type: ignore[arg-type]
        for _ in range(count):
            bench.portal.act.add_payment(2, deal)
        add = functools.partial(bench.add_to, deal=deal)
        meters = [bench.run("task state", add) for _ in range(5)]
        seconds = min(meter.seconds for meter in meters)
        first = first or seconds
        kept = len(json.dumps(bench.store.get(DOCUMENT)))
        show(f"| {count:,} | {len(meters[0].sent)} | {meters[0].received:,} | {kept:,} | {seconds / first:.1f} times |")


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Measure and print."""
    portal = Portal()
    with (
        SandboxServer(portal) as server,
        requests.Session() as bare,
        tempfile.TemporaryDirectory(prefix="cost-") as folder,
    ):
        bare.trust_env = False
        client = ApiClient(Settings.from_connection_values(host=webhook_url(server.url, portal.webhook)))
        with drivers.make_session(client.settings) as ours:
            bench = Bench(portal, client, ours, bare, Path(folder))
            show("\n### What an operation costs when nothing goes wrong\n")
            print_operations(bench)
            show("\n### Adding a payment to a deal that has many\n")
            print_many(bench)
    return []
