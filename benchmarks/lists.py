"""Count the requests of the operators for lists: python -m benchmarks.lists [COUNT].

The sandbox counts, with the documented rate limit on; everything goes over HTTP.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

RATE_LIMIT = (50.0, 2.0)
AGAIN = "pay invoices that are all paid"


def operator(kind: str, ids: list[int], size: int, receipts: Path) -> Any:
    """Return the operator for a list."""
    from airflow_provider_bitrix24.operators.payment_lists import (
        AddCrmPaymentsOperator,
        PayCrmPaymentsOperator,
        PayInvoicesOperator,
    )

    options = {
        "task_id": "pay",
        "batch_size": size,
        "receipts_path": f"file://{receipts}",
        "journal_conn_id": "journal",
    }
    if kind.startswith("pay invoices"):
        return PayInvoicesOperator(invoices=ids, pay_system_id=31, **options)
    if kind == "mark payments":
        return PayCrmPaymentsOperator(payments=ids, **options)
    return AddCrmPaymentsOperator(items=ids, **options)


def context_of_task(task_id: str) -> Any:
    """Return what Airflow hands over to a task."""
    ti = SimpleNamespace(
        dag_id="d", run_id="r", task_id=task_id, map_index=-1, try_number=1, max_tries=0, xcom_push=lambda **_: None
    )
    return {"ti": ti, "dag_run": SimpleNamespace(run_id="r", run_type="manual")}


def make(portal: Portal, kind: str, count: int) -> list[int]:
    """Make the objects that the operator works on."""
    if kind.startswith("pay invoices"):
        return [int(portal.create("invoice", {"price": "100.00"})) for _ in range(count)]  # type: ignore[arg-type]
    deals = [int(portal.create("deal", {"title": f"Deal {number}"})) for number in range(count)]  # type: ignore[arg-type]
    return [portal.act.add_payment(2, deal, amount="10.00") for deal in deals] if kind == "mark payments" else deals


def measure(kind: str, count: int, size: int) -> dict[str, Any]:
    """Run one list against a new portal with a new journal."""
    portal = Portal(rate_limit=RATE_LIMIT)
    with SandboxServer(portal) as server, tempfile.TemporaryDirectory() as folder:
        ids = make(portal, kind, count)
        os.environ["AIRFLOW_CONN_JOURNAL"] = f"sqlite:///{folder}/journal.db"
        os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = json.dumps(
            {
                "conn_type": "bitrix24",
                "host": "127.0.0.1",
                "schema": "http",
                "port": int(server.url.rsplit(":", 1)[1]),
                "login": "1",
                "password": portal.webhook.secret,
            }
        )
        context = context_of_task("t")
        if kind == AGAIN:
            for number in ids:
                portal.act.pay_invoice(invoice_id=number)
        before = time.monotonic()
        summary = operator(kind, ids, size, Path(folder) / "receipts.jsonl").execute(context)
        seconds = time.monotonic() - before
        requests = [one for one in portal.requests if not one["inside_batch"]]
        changed = [
            one for one in portal.ledger if one["by"] == "rest" and one["event"].startswith(("invoice_p", "payment_"))
        ]
        return {
            "job": kind,
            "items": count,
            "batch size": size,
            "requests": len(requests),
            "refused": sum(one["status"] == 503 for one in requests),
            "seconds": round(seconds),
            "succeeded": summary["succeeded"],
            "on the portal": len(changed),
        }


def main(count: int) -> None:
    """Print a line for each job and batch size."""
    logging.disable(logging.INFO)
    for kind in ("pay invoices", AGAIN, "mark payments", "add payments"):
        for size in (50, 25):
            print(json.dumps(measure(kind, count, size)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
