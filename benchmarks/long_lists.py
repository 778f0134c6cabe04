"""Memory and time of lists of 10,000 items against lists of 1,000.

The portal is a process of its own. Memory is what the task's process holds at most above what it held after a list of
one. Time is that of the task's processor: a busy machine takes longer, but does not work more.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from typing import TYPE_CHECKING, Any

from airflow_task import Task
from provider import Lists
from side_by_side import connect, make
from tables import show, show_head, show_row

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from argparse import Namespace
    from multiprocessing.connection import Connection


def serve(job: str, count: int, told: Connection) -> None:
    """Serve a portal with the objects of the list, until the other end says so."""
    portal = Portal()
    ids = make(portal, job, count)
    with SandboxServer(portal) as server:
        told.send((Sandbox(server).connection, ids))
        told.recv()


def carry_out(job: str, told: Connection) -> None:
    """Carry out a list in this process, and tell how much memory and time it took."""
    connection, ids = told.recv()
    os.environ["AIRFLOW__BITRIX24__RATE_LIMIT"] = "off"
    with tempfile.TemporaryDirectory() as folder:
        connect(connection, folder)
        # What any task loads is no memory of the list.
        Lists().operator(job, ids[:1]).execute(Task("idle").context)
        idle, begun = peak(), time.process_time()
        summary: dict[str, Any] = Lists().operator(job, ids).execute(Task("list").context)
        told.send((peak() - idle, time.process_time() - begun, summary["succeeded"]))


def peak() -> float:
    """Return the most MiB that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(job: str, count: int) -> tuple[float, float, int]:
    """Run one list in processes of its own; return MiB, seconds, and how many items succeeded."""
    spawn = multiprocessing.get_context("spawn")
    (portal_end, here), (task_end, there) = spawn.Pipe(), spawn.Pipe()
    portal = spawn.Process(target=serve, args=(job, count, portal_end))
    task = spawn.Process(target=carry_out, args=(job, task_end))
    portal.start()
    task.start()
    try:
        there.send(here.recv())
        return there.recv()  # type: ignore[no-any-return]
    finally:
        here.send("end")
        task.join()
        portal.join()


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Compare both sizes."""
    many = options.items
    show()
    show_head("job", "items", "succeeded", "MiB above an idle task", "processor time")
    figures = []
    for job in ("pay", "add"):
        first = 0.0
        for count in (many // 10, many):
            memory, seconds, succeeded = run(job, count)
            first = first or seconds
            show_row(job, count, succeeded, round(memory), f"{seconds / first:.1f} times")
        what = f"list of {many:,} ({job}): memory above an idle task; time against {many // 10:,}"
        figures.append((what, f"{memory:.0f} MiB; {seconds / first:.1f} times", "< 150 MiB; about 10"))
    return figures
