"""A running task's context, small, and a connection whose waits are short."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

from airflow_provider_bitrix24.operators import journals
from airflow_provider_bitrix24.operators.base import PaymentOperator
from tests.tools.clock import skip_waits

if TYPE_CHECKING:
    from pathlib import Path

SHORT = {
    "allow_http": True,
    "send_deadline": 3,
    "connect_timeout": 0.2,
    "network_delay": 0,
    "server_time_limit": 0.3,
    "read_timeout": 2,
    "read_lag": 0.2,
}
"""Extras of the connection for tasks in an Airflow of their own, which wait in real time."""
PATIENT = SHORT | {"send_deadline": 10, "connect_timeout": 10, "read_timeout": 20}
"""Extras for tests on a clock that skips waits: longer deadlines cost no time, and a slow machine keeps them."""


class Store:
    """A task state store that holds what Airflow's would: JSON."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.retentions: list[Any] = []

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.kept[key] = json.dumps(value)
        self.retentions.append(retention)


class Task:
    """What an operator sees of Airflow while it runs; without a store it is an Airflow before 3.3."""

    def __init__(self, *, store: bool = AIRFLOW_V_3_3_PLUS) -> None:
        self.xcoms: dict[str, Any] = {}
        self.new_ids = AIRFLOW_V_3_4_PLUS
        """Whether a retry is told nothing of the attempt before, because it has an id of its own (Airflow 3.4)."""
        self.ti = SimpleNamespace(
            dag_id="finance",
            run_id="manual__1",
            task_id="pay",
            map_index=-1,
            try_number=1,
            max_tries=0,
            _ti_context_from_server=SimpleNamespace(xcom_keys_to_clear=[], task_reschedule_count=0),
            xcom_push=lambda key, value: self.xcoms.__setitem__(key, value),
        )
        self.run = SimpleNamespace(
            run_id="manual__1", run_type="manual", start_date=datetime(2026, 1, 1, tzinfo=UTC), clear_number=0
        )
        self.store = Store()
        self.context: Any = {"ti": self.ti, "dag_run": self.run}
        if store:
            self.context["task_state_store"] = self.store

    def again(self) -> None:
        """Let Airflow retry it."""
        self.ti.try_number += 1
        self.ti._ti_context_from_server.xcom_keys_to_clear = [] if self.new_ids else list(self.xcoms)
        self.xcoms.clear()

    def reschedule(self) -> None:
        """Let Airflow 3.4 run it again later, as the same attempt."""
        self.ti._ti_context_from_server.task_reschedule_count += 1
        self.ti._ti_context_from_server.xcom_keys_to_clear = list(self.xcoms)
        self.xcoms.clear()

    def clear(self) -> None:
        """Let a person clear it."""
        self.ti.max_tries = self.ti.try_number
        self.run.clear_number += 1
        self.again()


@pytest.fixture(scope="session")
def short_waits() -> dict[str, Any]:
    """The extra of a connection with a short settle window."""
    return SHORT


@pytest.fixture
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be asked is raised."""

    def ask(self: Any, context: Any, unclear: Exception, *rest: Any) -> None:
        raise unclear

    monkeypatch.setattr(PaymentOperator, "_ask", ask)


@pytest.fixture
def task() -> Task:
    return Task()


@pytest.fixture
def forgetful_task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task in an Airflow that keeps no task state."""
    monkeypatch.setattr(journals, "AIRFLOW_V_3_4_PLUS", False)
    task = Task(store=False)
    task.new_ids = False
    return task


@pytest.fixture(params=[pytest.param("task_state", marks=pytest.mark.needs_task_state), "database"])
def journal_conn_id(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each journal, as an operator's argument names it."""
    monkeypatch.setenv("AIRFLOW_CONN_DATABASE", f"sqlite:///{tmp_path / 'each.db'}")
    return str(request.param)


@pytest.fixture
def portal(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sandbox over HTTP, on a clock that skips waits."""
    connect(bitrix24_sandbox, monkeypatch)
    skip_waits(monkeypatch)
    return bitrix24_sandbox


def connect(portal: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Let the default connection be a webhook of the portal: a new one if options say of what kind."""
    text = portal.connection_of(portal.add_webhook(**options)) if options else portal.connection
    connection = json.loads(text)
    connection["extra"] = PATIENT
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
