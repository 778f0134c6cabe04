"""Wait in the triggerer until a point in time. Nothing is read, and nothing is sent."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class WaitUntilTrigger(BaseTrigger):
    """Fire when a point in time has come.

    :meta private:

    :param at: seconds since the epoch.
    """

    def __init__(self, at: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's class
        self.at = at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and everything the constructor takes."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"at": self.at}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        await asyncio.sleep(max(0.0, self.at - time.time()))
        yield TriggerEvent({"at": self.at})  # type: ignore[no-untyped-call]  # Airflow's class
