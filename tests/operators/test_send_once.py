"""A call that creates something is sent by one attempt of a task only: the note in the task state (Airflow 3.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.exceptions import Bitrix24NotSent, Bitrix24OutcomeUnknown, Bitrix24RateLimited
from airflow_provider_bitrix24.operators import journals
from airflow_provider_bitrix24.operators.calls import Bitrix24CallOperator
from airflow_provider_bitrix24.operators.send_once import NOTE
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from conftest import Task

pytestmark = pytest.mark.needs_task_state

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
    with raises_for_good(Bitrix24OutcomeUnknown):
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


@pytest.fixture(params=["3.3", "3.4"])
def retried(task: Task, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task with task state whose retries are told of the attempts before (Airflow 3.3), or not (3.4)."""
    task.context["task_state_store"] = task.store
    task.new_ids = request.param == "3.4"
    monkeypatch.setattr(journals, "AIRFLOW_V_3_4_PLUS", task.new_ids)
    return task


def dies_in_the_send(portal: Any, task: Task) -> None:
    portal.fault("drop_after", "crm.deal.add", times=1)
    with raises_for_good(Bitrix24OutcomeUnknown):
        call(task, **ADD)


@pytest.mark.parametrize("hidden", [1, 2])
def test_a_note_is_read_again_before_it_counts_as_missing(portal: Any, retried: Task, hidden: int) -> None:
    dies_in_the_send(portal, retried)
    retried.again()
    get, left = retried.store.get, [hidden]

    def not_found(key: str, default: Any = None) -> Any:
        if left[0]:
            left[0] -= 1
            return default
        return get(key, default)

    retried.store.get = not_found  # type: ignore[method-assign]
    with pytest.raises(AirflowFailException, match="Attempt 1 of this task was sending it when it ended"):
        call(retried, retries=1, **ADD)
    assert asked(portal).count("crm.deal.add") == 1


@pytest.mark.parametrize("how", ["again", "reschedule", "a retry after it was cleared"])
def test_a_note_that_is_lost_is_no_proof(portal: Any, retried: Task, how: str) -> None:
    dies_in_the_send(portal, retried)
    retried.store.kept.clear()
    if how == "a retry after it was cleared":
        retried.clear()
        dies_in_the_send(portal, retried)  # a person has decided that it is sent again
        retried.store.kept.clear()
        retried.again()
    else:
        getattr(retried, how)()
    sent = asked(portal).count("crm.deal.add")
    with pytest.raises(AirflowFailException, match=r"its note is not found\. Nothing was sent by this attempt"):
        call(retried, **ADD)
    assert asked(portal).count("crm.deal.add") == sent


def test_a_task_that_was_cleared_without_its_state_is_sent_again(portal: Any, retried: Task) -> None:
    """Clearing is a person's decision; Airflow 3.4 discards the note."""
    call(retried, **ADD)
    retried.store.kept.clear()
    retried.clear()
    assert call(retried, **ADD) > 0


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
