"""The journal in Airflow's task state store, and the store as the fence of a database: Airflow 3.3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Task

pytestmark = pytest.mark.needs_task_state


def add(**arguments: Any) -> AddCrmPaymentOperator:
    return AddCrmPaymentOperator(task_id="add", **{"entity_id": 1, **arguments})


def test_the_task_state_store_keeps_it_for_ever_and_readable(portal: Any, task: Task) -> None:
    from airflow.sdk.execution_time.context import NEVER_EXPIRE  # older Airflows have none

    receipt = add().execute(task.context)
    assert sorted(task.store.kept) == ["bitrix24_attempts", "bitrix24_payment"]
    document = json.loads(task.store.kept["bitrix24_payment"])
    assert json.loads(task.store.kept["bitrix24_attempts"]) == {"begun": ["try 1"], "lost": "", "documents": 1}
    assert set(task.store.retentions) == {NEVER_EXPIRE}
    assert (document["state"], document["subject"], document["payment_id"]) == ("done", "deal 1", receipt["payment_id"])
    assert portal.secret not in json.dumps(document)


def test_airflow_that_would_delete_it_is_refused(portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")
    with raises_for_good(Bitrix24ConfigError, r"\[state_store\] clear_on_success is on"):
        add().execute(task.context)
    assert portal.requests == []


def test_the_task_state_is_the_fence_of_the_database(
    portal: Any, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "journal.db")}
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", json.dumps(connection))

    def overtaken(key: str, value: Any, *, retention: Any = None) -> None:
        raise RuntimeError("the API server does not know this attempt")

    task.store.set = overtaken  # type: ignore[method-assign]
    with pytest.raises(Exception, match="does not know this attempt"):
        add(journal_conn_id="payments").execute(task.context)
    assert portal.ledger == []
