"""A running task's context, small, and a connection whose waits are short."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

SHORT = {
    "allow_http": True,
    "send_deadline": 1,
    "connect_timeout": 0.2,
    "network_delay": 0,
    "server_time_limit": 0.3,
    "read_timeout": 2,
    "read_lag": 0.2,
}


class Task:
    """What a sensor sees of Airflow while it runs."""

    def __init__(self, try_number: int = 1) -> None:
        self.xcoms: dict[str, Any] = {}
        self.ti = SimpleNamespace(
            dag_id="finance",
            run_id="manual__1",
            task_id="pay",
            map_index=-1,
            try_number=try_number,
            xcom_push=lambda key, value: self.xcoms.__setitem__(key, value),
        )
        self.context: Any = {"ti": self.ti}


@pytest.fixture
def task() -> Task:
    return Task()


@pytest.fixture
def portal(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sandbox over HTTP, reached by a connection with a short settle window."""
    connect(bitrix24_sandbox, monkeypatch)
    return bitrix24_sandbox


def connect(portal: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Let the default connection be a webhook of the portal: a new one if options say of what kind."""
    text = portal.connection_of(portal.add_webhook(**options)) if options else portal.connection
    connection = json.loads(text)
    connection["extra"] = SHORT
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
