"""Eight workers and one triggerer, each a process of its own, at one portal. Run by `test_many_workers`.

Reads a line for each round: every worker makes its calls in it. Prints a line for each round: what went wrong, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
from typing import Any

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

WORKERS = 8
CALLS = 8
TRIGGERS = 12


def work(hook: Bitrix24Hook) -> None:
    """As a task: reads, and a write that repeating leaves alone."""
    for number in range(CALLS):
        if number % 4:
            hook.get_crm_payment(payment_id=1001)
        else:
            hook.update_crm_payment(payment_id=1001, pay_system_id=6)


async def watch(hooks: list[Bitrix24Hook]) -> None:
    """As a triggerer: many triggers in one event loop, each with a hook of its own."""
    await asyncio.gather(*(hook.aget_crm_payment(payment_id=1001) for hook in hooks))


def serve(pipe: Any, kind: str) -> None:
    """Do one round for each message; answer with the error, or nothing."""
    hooks = [Bitrix24Hook() for _ in range(TRIGGERS if kind == "triggerer" else 1)]
    while pipe.recv():
        try:
            asyncio.run(watch(hooks)) if kind == "triggerer" else work(hooks[0])
        except Exception as error:
            pipe.send(f"{kind}: {type(error).__name__}: {error}")
        else:
            pipe.send(None)


def main() -> None:
    context = multiprocessing.get_context(
        "fork"
    )  # this process has no threads; importing Airflow nine times takes long
    pipes = []
    for kind in [*["worker"] * WORKERS, "triggerer"]:
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, kind), daemon=True).start()
        pipes.append(ours)
    print("ready", flush=True)
    for _ in sys.stdin:
        for pipe in pipes:
            pipe.send("go")
        print(json.dumps([error for error in (pipe.recv() for pipe in pipes) if error]), flush=True)


if __name__ == "__main__":
    main()
