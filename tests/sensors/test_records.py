"""Waiting for any object over real HTTP: poke, reschedule, deferred, and what ends a wait."""

from __future__ import annotations

import asyncio
import json
import re
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_bitrix24.exceptions import Bitrix24NoAnswer
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.sensors.records import Bitrix24RecordSensor
from airflow_provider_bitrix24.triggers.records import RecordTrigger

if TYPE_CHECKING:
    from conftest import Task

DEAL = {"method": "crm.deal.get", "parameters": {"id": 1}}
ITEM = {"method": "crm.item.get", "parameters": {"entityTypeId": 2, "id": 1}}


def sensor(**options: Any) -> Any:
    return Bitrix24RecordSensor(
        **{"task_id": "wait", "poke_interval": 0.05, "timeout": 30, "deferrable": False, **DEAL, **options}
    )


def move(stage: str) -> None:
    fields = {"entityTypeId": 2, "id": 1, "fields": {"stageId": stage}}
    Bitrix24Hook().call("crm.item.update", fields)


def looks(portal: Any, method: str = "crm.deal.get") -> int:
    return sum(request["method"] == method for request in portal.requests)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_holds_already_ends_the_wait_at_the_first_look(
    portal: Any, task: Task, mode: str, deferrable: bool
) -> None:
    task.ti.get_first_reschedule_date = lambda context: None
    move("WON")
    found = sensor(condition={"STAGE_ID": "WON"}, mode=mode, deferrable=deferrable).execute(task.context)
    assert (found["ID"], found["STAGE_ID"]) == ("1", "WON")
    assert json.loads(json.dumps(found)) == found
    assert looks(portal) == 1


def test_the_object_may_stand_under_a_key(portal: Any, task: Task) -> None:
    move("WON")
    found = sensor(**ITEM, condition={"stageId": ["WON", "LOSE"], ">=opportunity": "0"}).execute(task.context)
    assert found["id"] == 1
    assert not isinstance(found["opportunity"], float | Decimal)


def test_poke_waits_until_it_holds(portal: Any, task: Task) -> None:
    hold = portal.fault("hold", "crm.deal.get", occurrence=3, when="before", times=1)
    import threading

    def colleague() -> None:
        while looks(portal) < 3:
            time.sleep(0.02)
        move("WON")
        while not portal.release(hold):
            time.sleep(0.02)

    threading.Thread(target=colleague, daemon=True).start()
    assert sensor(condition={"STAGE_ID": "WON"}).execute(task.context)["STAGE_ID"] == "WON"
    assert looks(portal) >= 3


def test_reschedule_leaves_the_worker(portal: Any, task: Task) -> None:
    task.ti.get_first_reschedule_date = lambda context: None
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class lives elsewhere in every version of Airflow
        sensor(condition={"STAGE_ID": "WON"}, mode="reschedule").execute(task.context)
    assert type(caught.value).__name__ == "AirflowRescheduleException"


def test_the_time_is_over(portal: Any, task: Task) -> None:
    with pytest.raises(AirflowSensorTimeout):
        sensor(condition={"STAGE_ID": "WON"}, timeout=0.2).execute(task.context)


# -- what ends a wait


def test_fail_when_ends_the_wait(portal: Any, task: Task) -> None:
    move("LOSE")
    waiting = {"condition": {"STAGE_ID": "WON"}, "fail_when": {"STAGE_ID": "LOSE"}}
    with pytest.raises(AirflowFailException, match="fail_when holds"):
        sensor(**waiting).execute(task.context)
    with pytest.raises(AirflowSkipException):
        sensor(**waiting, soft_fail=True).execute(task.context)


def test_an_object_that_does_not_exist_ends_the_wait(portal: Any, task: Task) -> None:
    with pytest.raises(AirflowFailException, match="no such object"):
        sensor(parameters={"id": 9999}, condition={"STAGE_ID": "WON"}).execute(task.context)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"condition": {}}, "condition must be a mapping"),
        ({"condition": {"STAGE_ID": "WON"}, "fail_when": "LOSE"}, "fail_when must be a mapping"),
        ({"condition": {"STAGE": "WON"}}, "did you mean 'STAGE_ID'"),
        ({"condition": {"a": 1}, "parameters": "x"}, "parameters must be a mapping"),
        ({"condition": {"a": 1}, "method": "crm.item.payment.pay"}, "must be a REST method that reads"),
        ({"condition": {"a": 1}, "method": "event.offline.get"}, "must be a REST method that reads"),
        ({"condition": {"a": 1}, "method": 5}, "must be a REST method that reads"),
        ({"condition": {"a": 1}, "method": "crm.deal.list"}, "reads a list"),
        ({"condition": {"a": 1}, "method": "scope", "parameters": None}, "returns list, not one object"),
    ],
)
def test_arguments_that_cannot_be_meant(portal: Any, task: Task, options: Any, words: str) -> None:
    with pytest.raises(AirflowFailException, match=re.escape(words)):
        sensor(**options).execute(task.context)
    assert portal.ledger == []


# -- deferred


def deferred(task: Task, **options: Any) -> RecordTrigger:
    with pytest.raises(TaskDeferred) as caught:
        sensor(deferrable=True, **options).execute(task.context)
    assert caught.value.method_name == "execute_complete"
    path, arguments = caught.value.trigger.serialize()
    assert path == "airflow_provider_bitrix24.triggers.records.RecordTrigger"
    return RecordTrigger(**json.loads(json.dumps(arguments)))


async def report(trigger: RecordTrigger) -> dict[str, Any]:
    (event,) = [event async for event in trigger.run()]
    assert json.loads(json.dumps(event.payload)) == event.payload
    return dict(event.payload)


def test_deferred_until_it_holds(portal: Any, task: Task) -> None:
    condition = {"STAGE_ID": "WON", ">=OPPORTUNITY": Decimal("0.5")}
    trigger = deferred(task, condition=condition)
    move("WON")
    event = asyncio.run(report(trigger))
    assert event["reason"] == "met"
    found = sensor(condition=condition).execute_complete(task.context, event)
    assert found["STAGE_ID"] == "WON"
    assert [entry["event"] for entry in portal.ledger] == ["item_changed"]  # by the test


@pytest.mark.parametrize(
    ("stage", "deal", "reason"), [("LOSE", 1, "failed"), ("NEW", 1, "timeout"), ("NEW", 9999, "deleted")]
)
def test_deferred_without_success(portal: Any, task: Task, stage: str, deal: int, reason: str) -> None:
    waiting = {"condition": {"STAGE_ID": "WON"}, "fail_when": {"STAGE_ID": "LOSE"}}
    trigger = deferred(task, **waiting)
    move(stage)
    trigger.parameters, trigger.end_time = {"id": deal}, time.time() + 0.2
    event = asyncio.run(report(trigger))
    assert event["reason"] == reason
    error = AirflowSensorTimeout if reason == "timeout" else AirflowFailException
    with pytest.raises(error):
        sensor(**waiting).execute_complete(task.context, event)


def test_a_trigger_that_cannot_evaluate_says_why(portal: Any, task: Task) -> None:
    trigger = deferred(task, condition={"STAGE_ID": "WON"})
    trigger.condition = {"STAGE": "WON"}
    event = asyncio.run(report(trigger))
    assert event["reason"] == "refused"
    assert "did you mean 'STAGE_ID'" in event["message"]


def test_a_portal_that_stays_away(portal: Any, task: Task) -> None:
    event = {"reason": "unreadable", "message": "Look 11 in a row failed", "items": []}
    with pytest.raises(Bitrix24NoAnswer):
        sensor(condition={"STAGE_ID": "WON"}).execute_complete(task.context, event)


@pytest.mark.parametrize(
    "event",
    [
        None, {}, {"reason": "met", "message": "x"}, {"reason": "met", "message": "x", "items": []},
        {"reason": "waiting", "message": "x", "items": []}, {"reason": "nonsense", "message": "x", "items": []},
        {"reason": "timeout", "message": "x", "items": [{"ID": 1}]},
    ],
)  # fmt: skip
def test_an_event_of_another_form_decides_nothing(portal: Any, task: Task, event: Any) -> None:
    with pytest.raises(ValueError, match="Nothing is decided"):
        sensor(condition={"STAGE_ID": "WON"}).execute_complete(task.context, event)
