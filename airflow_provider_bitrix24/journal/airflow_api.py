"""Task state from outside a task: Airflow's public REST API, as far as the command line needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError
from airflow_provider_bitrix24.journal.task_state import CHUNK, DECISIONS, DOCUMENT
from airflow_provider_bitrix24.journal.terminal import TaskName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bitrix24.at_most_once.record import Decision


class AirflowApi:
    """Airflow's public REST API, as far as it is needed here.

    :param url: address of Airflow's UI.
    :param token: a token of Airflow's API; None where Airflow runs without a login.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def tasks(self, dag_id: str, run_id: str) -> Iterator[TaskName]:
        """The task instances of a run."""
        path = TaskName(dag_id, run_id, "").path.removesuffix("/")
        offset, size = 0, 100
        while True:
            found = self._call("GET", path, params={"limit": size, "offset": offset, "order_by": "map_index"})[
                "task_instances"
            ]
            for one in found:
                region = (one["region_id"], one["region_index"]) if one.get("region_id") else None
                yield TaskName(dag_id, run_id, one["task_id"], one["map_index"], region)
            offset += size
            if len(found) < size:
                return

    def state(self, task: TaskName) -> str | None:
        """The state of a task instance."""
        path = f"{task.path}/{task.map_index}" if task.map_index >= 0 and task.region is None else task.path
        state: str | None = self._call("GET", path, params=task.query if task.region else {})["state"]
        return state

    def documents(self, task: TaskName) -> Iterator[tuple[str, Any]]:
        """The records that a task instance has noted, as JSON, each with its key if that can be told."""
        document = self._value(task, DOCUMENT)
        if document is not None:
            yield "", document
        number = 1
        while (chunk := self._value(task, CHUNK.format(number))) is not None:
            records = chunk.get("records") if isinstance(chunk, dict) else None
            yield from records.items() if isinstance(records, dict) else [("", chunk)]
            number += 1

    def decisions(self, task: TaskName) -> list[Any]:
        """What people have decided about it at a terminal."""
        return self._value(task, DECISIONS) or []

    def decide(self, task: TaskName, decision: Decision) -> None:
        """Add a decision; what the task itself has noted is not touched.

        :raises Bitrix24StoreError: somebody else has decided at the same moment.
        """
        added = decision.document()
        body = {"value": [*self.decisions(task), added], "expires_at": None}
        self._call("PUT", _path(task, DECISIONS), params=task.query, json=body)
        if added not in self.decisions(task):
            raise Bitrix24StoreError(f"Airflow's API at {self._url}", "somebody else has decided at this very moment")

    def _value(self, task: TaskName, name: str) -> Any:
        answer = self._call("GET", _path(task, name), params=task.query, may_be_missing=True)
        return None if answer is None else answer["value"]

    def _call(self, method: str, path: str, *, may_be_missing: bool = False, **options: Any) -> Any:
        import httpx

        answer = None
        try:
            # It leaves no connection open.
            url = f"{self._url}/api/v2{path}"
            answer = httpx.request(method, url, headers=self._headers, timeout=30, **options)
        except httpx.HTTPError as error:
            trouble = type(error).__name__
        if answer is None:
            raise self._away(trouble)
        if answer.status_code in (401, 403):
            raise Bitrix24ConfigError(
                f"Airflow at {self._url} does not let us in (HTTP {answer.status_code}): give a token of its API in "
                "the environment variable AIRFLOW_API_TOKEN."
            )
        if answer.status_code == 404:
            if may_be_missing:
                return None
            raise Bitrix24ConfigError(f"Airflow at {self._url} does not know {path}.")
        if not answer.is_success:
            raise self._away(f"HTTP {answer.status_code} to {method} {path}")
        try:
            return answer.json() if answer.content else None
        except ValueError:
            pass
        raise self._away(f"no JSON in answer to {method} {path}")

    def _away(self, trouble: str) -> Bitrix24StoreError:
        advice = "give the address of Airflow's UI by --airflow-url or in the environment variable AIRFLOW_URL"
        return Bitrix24StoreError(f"Airflow's API at {self._url}", f"{trouble}. If that is another address, {advice}")


def _path(task: TaskName, name: str) -> str:
    return f"{task.path}/state-store/{name}"
