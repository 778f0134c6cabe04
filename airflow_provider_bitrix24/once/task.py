"""Who asks: one attempt of one task instance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Who asks."""

    identity: str
    """The task instance, the same for all of its attempts."""
    try_number: int = 1
    max_tries: int | None = None
    """Airflow's, which clearing raises and a retry leaves; None if it is not known."""
    hint: str = ""
    """What else, beside the command line, could let a person decide; for messages."""

    def __str__(self) -> str:
        return f"{self.identity}:try:{self.try_number}"

    @property
    def round(self) -> str | None:
        """The attempts that Airflow makes by itself, until somebody clears the task."""
        return None if self.max_tries is None else f"{self.identity}:max_tries:{self.max_tries}"
