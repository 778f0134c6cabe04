"""Measure memory and time of a list of 10,000 items against one of 1,000: ``python -m benchmarks.list_memory [COUNT]``.

The portal is a process of its own. Memory is what the task's process holds at most above what it held before the list.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.lists import context_of_task, make, operator

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MOST = 150.0
"""MiB above an idle task."""


def serve(kind: str, count: int, told: Connection) -> None:
    """Serve a portal with the objects of the list, until the other end says so."""
    from airflow_provider_bitrix24.sandbox.portal import Portal
    from airflow_provider_bitrix24.sandbox.server import SandboxServer

    portal = Portal()
    ids = make(portal, kind, count)
    with SandboxServer(portal) as server:
        told.send((server.url, portal.webhook.secret, ids))
        told.recv()


def carry_out(kind: str, count: int, told: Connection) -> None:
    """Carry out a list in this process, and tell how much memory and time it took."""
    logging.disable(logging.INFO)
    url, secret, ids = told.recv()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIRFLOW__BITRIX24__RATE_LIMIT"] = "off"
        os.environ["AIRFLOW_CONN_JOURNAL"] = f"sqlite:///{folder}/journal.db"
        connection = {"conn_type": "bitrix24", "host": "127.0.0.1", "schema": "http", "login": "1", "password": secret}
        connection["port"] = int(url.rstrip("/").rsplit(":", 1)[1])
        os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = json.dumps(connection)
        # What any task loads is no memory of the list.
        operator(kind, ids[:1], 48, Path(folder) / "first.jsonl").execute(context_of_task("idle"))
        idle, begun = peak(), time.monotonic()
        summary: dict[str, Any] = operator(kind, ids, 48, Path(folder) / "all.jsonl").execute(context_of_task("list"))
        told.send((peak() - idle, time.monotonic() - begun, summary["succeeded"]))


def peak() -> float:
    """Return the most MiB that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kind: str, count: int) -> dict[str, Any]:
    """Run one list in processes of its own."""
    spawn = multiprocessing.get_context("spawn")
    (portal_end, here), (task_end, there) = spawn.Pipe(), spawn.Pipe()
    portal = spawn.Process(target=serve, args=(kind, count, portal_end))
    task = spawn.Process(target=carry_out, args=(kind, count, task_end))
    portal.start()
    task.start()
    try:
        there.send(here.recv())
        memory, seconds, succeeded = there.recv()
    finally:
        here.send("end")
        task.join()
        portal.join()
    return {"job": kind, "items": count, "MiB": round(memory), "seconds": round(seconds), "succeeded": succeeded}


def main(count: int) -> int:
    """Print a line for each job and size; 1 if a list takes more memory than it should."""
    results = [measure(kind, size) for kind in ("pay invoices", "add payments") for size in (count // 10, count)]
    for result in results:
        print(json.dumps(result), flush=True)
    return int(any(result["MiB"] > MOST or result["succeeded"] != result["items"] for result in results))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
