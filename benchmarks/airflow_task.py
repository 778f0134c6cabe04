"""A running task as its operator sees it, without an Airflow around."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any


class DictStore:
    """Airflow's task state store of one task instance, as far as a journal sees it."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        return self._values.get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Keep a value."""
        self._values[key] = value


class Task:
    """A task instance.

    :param name: its own, so that its keys are.
    :param retries: of the operator.
    :param store: whether this Airflow keeps a task state.
    """

    def __init__(self, name: str, *, retries: int = 0, store: bool = True) -> None:
        self._pushed: dict[str, Any] = {}
        self._server = SimpleNamespace(xcom_keys_to_clear=[], task_reschedule_count=0)
        self._ti = SimpleNamespace(
            dag_id="bench",
            run_id="bench",
            task_id=name,
            map_index=-1,
            try_number=1,
            max_tries=retries,
            _ti_context_from_server=self._server,
            xcom_push=lambda key, value: self._pushed.__setitem__(key, value),
        )
        began = datetime(2026, 1, 1, tzinfo=UTC)
        run = SimpleNamespace(run_id="bench", run_type="manual", start_date=began, clear_number=0)
        self.context: Any = {"ti": self._ti, "dag_run": run}
        if store:
            self.context["task_state_store"] = DictStore()

    def retry(self) -> None:
        """Begin the next attempt."""
        self._ti.try_number += 1
        self._forget_xcoms()

    def reschedule(self) -> None:
        """Begin the same attempt again."""
        self._server.task_reschedule_count += 1
        self._forget_xcoms()

    def _forget_xcoms(self) -> None:
        self._server.xcom_keys_to_clear = list(self._pushed)
        self._pushed.clear()
