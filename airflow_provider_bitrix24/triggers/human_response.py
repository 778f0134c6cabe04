"""Read a person's decision that Airflow already has (3.3); only a trigger can read it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAUSE: Final = 5.0
"""Seconds until it looks. The scheduler must know by then that the task is deferred: a task that goes on sooner is
taken for killed, and Airflow starts another attempt."""


class StoredResponseTrigger(BaseTrigger):
    """Report the decision for a task instance, or that there is none, or no question.

    :meta private:

    :param ti_id: id of the task instance.
    """

    def __init__(self, ti_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's class
        self.ti_id = ti_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and everything the constructor takes."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"ti_id": self.ti_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read once."""
        from airflow.sdk.exceptions import AirflowRuntimeError
        from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail
        from asgiref.sync import sync_to_async

        from airflow_provider_bitrix24.journal.task_state import reason_of

        await asyncio.sleep(PAUSE)
        try:
            found = await sync_to_async(get_hitl_detail_content_detail)(ti_id=UUID(self.ti_id))
        except AirflowRuntimeError as error:
            if reason_of(error) != "not_found":
                raise
            # Airflow 3.4 gives each attempt an id of its own: the question of the one before is not this one's.
            yield TriggerEvent({"chosen_options": [], "asked": False})  # type: ignore[no-untyped-call]  # Airflow's class
            return
        user = found.responded_by_user
        answer = {
            "chosen_options": list(found.chosen_options or []),
            "responded_at": found.responded_at.isoformat() if found.responded_at else None,
            "responded_by_user": {"id": user.id, "name": user.name} if user else None,
        }
        yield TriggerEvent(answer)  # type: ignore[no-untyped-call]  # Airflow's class
