"""A call that creates something is sent by one attempt of a task only: the note in the task state (Airflow 3.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.exceptions import Bitrix24NotSent, Bitrix24RateLimited
from airflow_provider_bitrix24.operators.calls import Bitrix24CallOperator
from airflow_provider_bitrix24.operators.sent import NOTE

if TYPE_CHECKING:
    from conftest import Task

ADD = {"method": "crm.deal.add", "parameters": {"fields": {"TITLE": "New"}}}


def call(task: Task, **arguments: Any) -> Any:
    return Bitrix24CallOperator(task_id="call", **arguments).execute(task.context)


def asked(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests]


def test_a_write_that_was_not_sent_is_retried(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", "bitrix24://1:abcdefgh1234@127.0.0.1:9/http?allow_http=true")
    for _ in range(2):  # the first attempt takes its note back
        with pytest.raises(Bitrix24NotSent):
            call(task, **ADD)
        assert task.store.get(NOTE)["sending"] is False
        task.again()


@pytest.mark.parametrize("kind", ["drop_after", "html"])
def test_a_write_whose_outcome_is_unknown_fails_without_a_retry(portal: Any, task: Task, kind: str) -> None:
    portal.fault(kind, "crm.deal.add", occurrence=1)
    with pytest.raises(AirflowFailException, match="Bitrix24OutcomeUnknown"):
        call(task, **ADD)
    assert asked(portal).count("crm.deal.add") == 1
    task.again()
    with pytest.raises(AirflowFailException, match="may have been executed already"):
        call(task, **ADD)
    assert asked(portal).count("crm.deal.add") == 1
    task.clear()  # a person has looked
    assert call(task, **ADD) > 0
    assert asked(portal).count("crm.deal.add") == 2


def test_a_worker_that_died_while_sending_has_left_its_note(portal: Any, task: Task) -> None:
    class Killed(BaseException):
        """As a SIGKILL: no handler of ours sees it."""

    operator = Bitrix24CallOperator(task_id="call", **ADD)

    def die(*_args: Any, **_kwargs: Any) -> None:
        raise Killed

    operator.hook.call_raw = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        operator.execute(task.context)
    task.again()
    with pytest.raises(AirflowFailException, match=re.escape("Attempt 1 of this task was sending it")):
        call(task, **ADD)
    assert asked(portal) == []


def test_a_refusal_takes_the_note_back(portal: Any, task: Task) -> None:
    portal.fault("error", "crm.deal.add", occurrence=1, code="OPERATION_TIME_LIMIT")
    with pytest.raises(Bitrix24RateLimited):
        call(task, **ADD)
    assert task.store.get(NOTE)["sending"] is False
    task.again()
    assert call(task, **ADD) > 0
    assert asked(portal).count("crm.deal.add") == 2


def test_other_calls_leave_no_note(portal: Any, task: Task) -> None:
    call(task, method="crm.deal.get", parameters={"id": 1})
    call(task, method="crm.item.update", parameters={"entityTypeId": 2, "id": 1, "fields": {"title": "x"}})
    assert task.store.kept == {}
