"""Print what paying many invoices costs, as one list and one by one: ``python benchmarks/many_invoices.py [COUNT]``."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from airflow_provider_bitrix24 import drivers
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.sandbox.address import webhook_url
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger("bench")
COUNT = 1000
PAY_SYSTEM = 31
MOST_REQUESTS = 70
MOST_TRANSACTIONS = 200
"""For 1,000 invoices in batches of 50."""


@dataclass
class Cost:
    """What it took to pay the invoices."""

    how: str
    requests: int
    transactions: int
    seconds: float
    once: bool
    """Whether the ledger shows each invoice exactly once."""


def pay(count: int, size: int, *, together: bool) -> Cost:
    """Pay new invoices at a fresh portal with a fresh SQL journal, and count.

    :param size: how many share a batch.
    :param together: as one list; otherwise each by an engine of its own.
    """
    portal = Portal()
    invoices = [int(str(portal.create("invoice", {"price": "10.00"}))) for _ in range(count)]
    with tempfile.TemporaryDirectory(prefix="many-") as folder, SandboxServer(portal) as server:
        database = Database(sa.URL.create("sqlite", database=str(Path(folder) / "journal.db")), "SQLite")
        counted: Counter[str] = Counter()
        sa.event.listen(database.engine, "commit", lambda _: counted.update(["transactions"]))
        client = ApiClient(Settings.from_connection_values(host=webhook_url(server.url, portal.webhook)))
        with drivers.make_session(client.settings) as session:

            def run(flow: Any) -> Any:
                return drivers.run(_counting(flow, counted), session)

            start = time.perf_counter()
            for number, some in enumerate([invoices] if together else [[one] for one in invoices]):
                task = TaskAttempt(identity=f"task {number}")
                journal = SqlJournal(database, str(task))
                engine = PaymentEngine(client, run, time, log, journal=journal, task=task, batch_size=size)
                _pay(engine, some)
            seconds = time.perf_counter() - start
    paid = Counter(entry["invoice_id"] for entry in portal.ledger if entry["event"] == "invoice_paid")
    how = f"one list, {size} in a batch" if together else "one by one"
    return Cost(how, counted["requests"], counted["transactions"], seconds, paid == Counter(invoices))


def _pay(engine: PaymentEngine, invoices: Sequence[int]) -> None:
    operations = [PayInvoice(portal=engine.portal, invoice_id=one, pay_system_id=PAY_SYSTEM) for one in invoices]
    for result in engine.run(operations):
        if isinstance(result, Failure):
            raise result.error


def _counting(flow: Any, counted: Counter[str]) -> Iterator[Any]:
    """The same flow, with its requests counted."""
    outcome: Any = None
    while True:
        try:
            command = flow.send(outcome)
        except StopIteration as end:
            return end.value
        counted.update(["requests"] if hasattr(command, "url") else [])
        outcome = yield command


def main(count: int) -> int:
    """Measure and print; 1 if it takes more than it should."""
    logging.disable(logging.WARNING)
    costs = [pay(count, size, together=True) for size in (50, 25)]
    costs.append(pay(count, 1, together=False))
    print(f"| {count:,} invoices, SQL journal | requests | transactions | seconds | each once |")
    print("| --- | --: | --: | --: | --- |")
    for cost in costs:
        print(
            f"| {cost.how} | {cost.requests:,} | {cost.transactions:,} | {cost.seconds:.1f} "
            f"| {'yes' if cost.once else 'NO'} |"
        )
    part = count / COUNT
    first = costs[0]
    most = MOST_REQUESTS * part, MOST_TRANSACTIONS * part
    too_much = count >= COUNT and (first.requests > most[0] or first.transactions > most[1])
    return int(too_much or not all(cost.once for cost in costs))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT))
