"""Task state from outside a task: Airflow's public REST API, as far as the command line needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError
from airflow_provider_bitrix24.journal.entry import Entry
from airflow_provider_bitrix24.journal.task_state import DOCUMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@dataclass(frozen=True)
class TaskName:
    """One task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def path(self) -> str:
        """Its path in Airflow's API."""
        dag_id, run_id, task_id = (quote(part, safe="") for part in (self.dag_id, self.run_id, self.task_id))
        return f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"


class AirflowApi:
    """Airflow's public REST API, as far as it is needed here.

    :param url: address of Airflow's UI.
    :param token: a token of Airflow's API; None where Airflow runs without a login.
    """

    def __init__(self, url: str, token: str | None) -> None:
        import httpx

        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=f"{self._url}/api/v2", headers=headers, timeout=30)

    def tasks(self, dag_id: str, run_id: str) -> Iterator[TaskName]:
        """The task instances of a run."""
        path = TaskName(dag_id, run_id, "").path.removesuffix("/")
        offset, size = 0, 100
        while True:
            answer = self._call("GET", path, params={"limit": size, "offset": offset, "order_by": "map_index"})
            found = answer.json()["task_instances"]
            for one in found:
                yield TaskName(dag_id, run_id, one["task_id"], one["map_index"])
            offset += size
            if len(found) < size:
                return

    def state(self, task: TaskName) -> str | None:
        """The state of a task instance."""
        path = task.path if task.map_index < 0 else f"{task.path}/{task.map_index}"
        state: str | None = self._call("GET", path).json()["state"]
        return state

    def entry(self, task: TaskName) -> Entry | None:
        """What a task instance has noted; None if it has noted nothing."""
        answer = self._call("GET", self._document(task), params={"map_index": task.map_index}, may_be_missing=True)
        if answer.status_code == 404:
            return None
        return Entry.read(answer.json()["value"], where="the task's Storage tab")

    def put(self, task: TaskName, entry: Entry) -> None:
        """Change what a task instance has noted."""
        body = {"value": entry.document()}
        self._call("PATCH", self._document(task), params={"map_index": task.map_index}, json=body)

    @staticmethod
    def _document(task: TaskName) -> str:
        return f"{task.path}/state-store/{DOCUMENT}"

    def _call(self, method: str, path: str, *, may_be_missing: bool = False, **options: Any) -> httpx.Response:
        import httpx

        answer = None
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            trouble = type(error).__name__
        if answer is None:
            raise Bitrix24StoreError(f"Airflow's API at {self._url}", trouble)
        if answer.status_code in (401, 403):
            raise Bitrix24ConfigError(
                f"Airflow at {self._url} does not let us in (HTTP {answer.status_code}): give a token of its API in "
                "the environment variable AIRFLOW_API_TOKEN."
            )
        if answer.status_code == 404 and not may_be_missing:
            raise Bitrix24ConfigError(f"Airflow at {self._url} does not know {path}.")
        if not answer.is_success and answer.status_code != 404:
            raise Bitrix24StoreError(f"Airflow's API at {self._url}", f"HTTP {answer.status_code} to {method} {path}")
        return answer
