"""Eight workers and a triggerer, each a process of its own, at one portal. Run by `test_pacing`; prints their waits."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import sys
from typing import Any

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

WORKERS = 8
CALLS = 8


class Waits(logging.Handler):
    """Counts the waits that the drivers announce."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = self.refused = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.slots += record.getMessage().startswith("The portal's rate limit: ")
        self.refused += "too many requests" in record.getMessage()


async def watch(hook: Bitrix24Hook) -> None:
    """As a triggerer: all at once in one event loop."""
    await asyncio.gather(*(hook.acall("crm.deal.get", {"id": 1}) for _ in range(CALLS)))


def serve(pipe: Any, hook: Bitrix24Hook, kind: str) -> None:
    waits = Waits()
    logger = logging.getLogger("airflow_provider_bitrix24.drivers")
    logger.addHandler(waits)
    logger.setLevel(logging.INFO)
    pipe.send("ready")
    pipe.recv()
    if kind == "triggerer":
        asyncio.run(watch(hook))
    else:
        for _ in range(CALLS):
            hook.call("crm.deal.get", {"id": 1})
    pipe.send((waits.slots, waits.refused))


def main() -> None:
    context = multiprocessing.get_context("fork")  # this process has no threads
    hook = Bitrix24Hook()
    _ = hook.client  # what a fork takes along must do no harm
    pipes = []
    for kind in [*["worker"] * WORKERS, "triggerer"]:
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, hook, kind), daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    print(json.dumps([pipe.recv() for pipe in pipes]))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
