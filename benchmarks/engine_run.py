"""What paying many invoices costs as one list of `PaymentEngine.run`, and one by one: requests and transactions."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from clients import PAY_SYSTEM
from side_by_side import make
from tables import show, show_head, show_row

from airflow_provider_bitrix24 import drivers
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.sandbox.address import webhook_url
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from argparse import Namespace

log = logging.getLogger("bench")


def pay(count: int, size: int, *, together: bool) -> tuple[int, int, int]:
    """Pay new invoices at a fresh portal with a fresh SQL journal.

    :param size: how many share a batch.
    :param together: as one list; otherwise each by an engine of its own.
    :return: requests, transactions that were committed, and how many invoices the ledger shows exactly once.
    """
    portal = Portal()
    invoices = make(portal, "pay", count)
    with tempfile.TemporaryDirectory(prefix="engine-") as folder, SandboxServer(portal) as server:
        database = Database(sa.URL.create("sqlite", database=str(Path(folder) / "journal.db")), "SQLite")
        commits: list[Any] = []
        sa.event.listen(database.engine, "commit", commits.append)
        client = ApiClient(Settings.from_connection_values(host=webhook_url(server.url, portal.webhook)))
        with drivers.make_session(client.settings) as session:
            for number, some in enumerate([invoices] if together else [[one] for one in invoices]):
                task = TaskAttempt(identity=f"task {number}")
                engine = PaymentEngine(
                    client,
                    lambda flow: drivers.run(flow, session),
                    time,
                    log,
                    journal=SqlJournal(database, str(task)),
                    task=task,
                    batch_size=size,
                )
                engine.run([PayInvoice(portal=engine.portal, invoice_id=one, pay_system_id=PAY_SYSTEM) for one in some])
    paid = Counter(entry["invoice_id"] for entry in portal.ledger if entry["event"].startswith("invoice_"))
    requests = sum(not entry["inside_batch"] for entry in portal.requests)
    return requests, len(commits), sum(paid[one] == 1 for one in invoices)


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Compare lists with one by one."""
    count = options.count
    show()
    show_head(f"{count:,} invoices, SQL journal", "requests", "transactions", "paid exactly once")
    figures = []
    for how, size, together in (
        ("one list, 50 in a batch", 50, True),
        ("one list, 25 in a batch", 25, True),
        ("one by one", 1, False),
    ):
        requests, transactions, once = pay(count, size, together=together)
        show_row(how, requests, transactions, once)
        if size == 50:
            what = f"`PaymentEngine.run` of {count:,} invoices: requests; transactions"
            figures.append((what, f"{requests}; {transactions}", "≤ 70; ≤ 200"))
    return figures
