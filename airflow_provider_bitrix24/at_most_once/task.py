"""Who asks: one attempt of one task instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_bitrix24.at_most_once.record import Send


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAttempt:
    """Who asks."""

    identity: str
    """The task instance, the same for all of its attempts."""
    try_number: int = 1
    max_tries: int | None = None
    """Airflow's, which clearing raises and a retry leaves; None if it is not known."""
    run_began: str | None = None
    """When the DAG run began, and how often something in it was cleared; None if it is not known."""
    lost: str = ""
    """Why an empty journal has forgotten this task's earlier attempts; empty if it need not have known any."""
    hint: str = ""
    """What else, beside the command line, could let a person decide; for messages."""

    def __str__(self) -> str:
        return f"{self.identity}:try:{self.try_number}"

    @property
    def round(self) -> str | None:
        """The attempts that Airflow makes by itself, until somebody clears the task."""
        return None if self.max_tries is None else f"{self._rounds}{self.max_tries}"

    @property
    def shows_in(self) -> str | None:
        """The round, and the run that it is in: a run may be deleted, and created again under the same name."""
        return None if self.round is None or self.run_began is None else f"{self.round}:{self.run_began}"

    def was_cleared_since(self, send: Send) -> bool:
        """Whether it was told that a send is not shown, and somebody has cleared it since.

        So neither a retry nor another task sends by itself what the portal has answered and does not show.
        """
        told = [one for one in send.reported_to if one.startswith(self._rounds)]
        # rule: another task is told before it sends
        return self.round is None or (bool(told) and self.round not in told)

    @property
    def _rounds(self) -> str:
        return f"{self.identity}:max_tries:"
