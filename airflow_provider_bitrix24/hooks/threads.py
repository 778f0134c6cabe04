"""Work that nothing interrupts: no timeout of a task, and no end of a trigger. And work that nobody waits for long."""

from __future__ import annotations

import contextvars
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_THREADS: Final = 4


def run_uninterrupted(work: Callable[..., T], *arguments: Any) -> T:
    """Do it in a thread: a timeout of the task interrupts this one, but not the refresh."""
    done = threads(os.getpid()).submit(work, *arguments)
    try:
        return done.result()
    finally:
        wait([done])


async def arun_uninterrupted(work: Callable[..., T], *arguments: Any) -> T:
    """Async twin of `run_uninterrupted`: when the trigger is cancelled, the thread goes on."""
    from asgiref.sync import sync_to_async

    # Not asyncio.to_thread: the triggerer of Airflow 3.1 answers only to threads that asgiref has made.
    return await sync_to_async(work, thread_sensitive=False, executor=threads(os.getpid()))(*arguments)


def within(seconds: float, work: Callable[..., T], *arguments: Any) -> T:
    """Do it in a thread, and give up waiting for it: what it hangs in, such as DNS, may know no limit.

    :raises TimeoutError: it is not done. It goes on, and keeps no process from ending.
    """
    done: Future[T] = Future()
    context = contextvars.copy_context()

    def do() -> None:
        try:
            done.set_result(context.run(work, *arguments))
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            done.set_exception(error)

    # Not one of the threads below: Python waits for those before it ends.
    threading.Thread(target=do, name="bitrix24-impatient", daemon=True).start()
    return done.result(seconds)


@lru_cache(maxsize=2)
def threads(pid: int) -> ThreadPoolExecutor:
    """The threads of this process; a forked one has none of them."""
    return ThreadPoolExecutor(_THREADS, f"bitrix24-tokens-{pid}")
