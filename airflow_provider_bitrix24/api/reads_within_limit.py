"""Wait before each request that the portal would refuse for the working time of its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from airflow_provider_bitrix24.api.io import Request, Sleep
from airflow_provider_bitrix24.api.working_time import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow, Outcome, Slot

T = TypeVar("T")


def read_within_limit(client: ApiClient, flow: Flow[T], now: Callable[[], float]) -> Flow[T]:
    """Run a flow that only reads; wait before each request that the limit would refuse, which may take minutes.

    :param now: the clock of this host.
    """
    outcome: Outcome | Slot | None = None
    while True:
        try:
            command = flow.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(command, Request):
            batch = command.params["cmd"].values() if command.method == BATCH else (command.method,)
            methods = [text.partition("?")[0] for text in batch]
            while not client.working_time.fits(methods, now()):  # rule: reads stop before the limit
                wait = client.working_time.wait(methods, now())
                yield Sleep(wait, f"The portal's working-time limit: {methods[0]} will be sent")
        outcome = yield command
