"""How many HTTP requests an operator or one look of a sensor takes: counted by the sandbox, not by us."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from airflow_task import Task
from clients import PAY_SYSTEM

from airflow_provider_bitrix24.operators.payment_lists import PayInvoicesOperator
from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)
from airflow_provider_bitrix24.operators.safeguards import SWITCH
from airflow_provider_bitrix24.sandbox.address import connection_json
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

MANY = 1000


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Run each operation against a fresh portal."""
    portal = Portal()
    paid_invoices: list[Any] = [portal.create("invoice", {"price": "10.00"}) for _ in range(MANY)]
    payments = [portal.act.add_payment(2, 1, amount="10.00") for _ in range(MANY)]
    for invoice_id in paid_invoices:
        portal.act.pay_invoice(invoice_id)
    for payment_id in payments:
        portal.act.pay_payment(payment_id)
    common: dict[str, Any] = {"task_id": "bench"}
    operations: list[tuple[str, Callable[[], Any], int]] = [
        ("pay an invoice", lambda: PayInvoiceOperator(invoice_id=2, pay_system_id=31, **common), 3),
        ("add a payment", lambda: AddCrmPaymentOperator(entity_id=2, **common), 3),
        ("add a payment, tagged", lambda: AddCrmPaymentOperator(entity_id=2, tag=True, **common), 3),
        ("mark a payment as paid", lambda: PayCrmPaymentOperator(payment_id=1003, **common), 3),
        (f"one look at {MANY:,} invoices", lambda: InvoicePaidSensor(invoice_id=paid_invoices, **common), 20),
        (f"one look at {MANY:,} payments", lambda: CrmPaymentPaidSensor(payment_id=payments, **common), 20),
        (
            f"one look at {MANY:,} payments of one deal",
            lambda: CrmPaymentPaidSensor(payment_id=payments, entity_type_id=2, entity_id=1, **common),
            1,
        ),
    ]
    rows = []
    os.environ[f"AIRFLOW_VAR_{SWITCH.format('bitrix24_default').upper()}"] = "false"  # so that nobody asks a database
    with SandboxServer(portal) as server:
        os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = connection_json(server.url, portal.webhook)
        os.environ["AIRFLOW__BITRIX24__RATE_LIMIT"] = "off"
        for what, make, most in operations:
            before = len(portal.requests)
            make().execute(Task("bench").context)
            count = sum(not request["inside_batch"] for request in portal.requests[before:])
            rows.append((f"HTTP requests: {what}", str(count), "1" if most == 1 else f"≤ {most}"))
    return [*rows, *measure_again(portal)]


def measure_again(portal: Portal) -> list[tuple[str, str, str]]:
    """Pay a list, and then again by tasks of other runs."""
    invoices: list[Any] = [portal.create("invoice", {"price": "10.00"}) for _ in range(MANY)]
    rows = []
    with SandboxServer(portal) as server, tempfile.TemporaryDirectory() as folder:
        os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = connection_json(server.url, portal.webhook)
        os.environ["AIRFLOW_CONN_JOURNAL"] = f"sqlite:///{folder}/journal.db"
        for times, size in enumerate((50, 50, 25)):
            before = len(portal.requests)
            summary = PayInvoicesOperator(
                task_id="bench",
                invoices=invoices,
                pay_system_id=PAY_SYSTEM,
                batch_size=size,
                receipts_path=f"file://{folder}/receipts.jsonl",
                journal_conn_id="journal",
            ).execute(Task(f"bench_{times}").context)
            if times:
                count = sum(not request["inside_batch"] for request in portal.requests[before:])
                what = f"HTTP requests: pay {MANY:,} invoices again, `batch_size` {size}"
                rows.append((what, f"{count}; {summary['already_paid']:,} were paid", ""))
    return rows
