"""Answers that Airflow holds already (3.3), to a question whose note is not found, or that Airflow does not know."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24.operators import questions
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator
from airflow_provider_bitrix24.triggers import human_response
from airflow_provider_bitrix24.triggers.human_response import StoredResponseTrigger

if TYPE_CHECKING:
    from conftest import Task

AT = "2026-11-22T03:00:00+00:00"

if AIRFLOW_V_3_3_PLUS:
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType, TaskAwaitingInput, TaskDeferred
    from airflow.sdk.execution_time import hitl
    from airflow.sdk.execution_time.comms import ErrorResponse

    @pytest.fixture
    def asks(portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """What Airflow is told to ask: each such call drops the answer that it holds."""
        upserts: list[dict[str, Any]] = []
        monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **question: upserts.append(question))
        task.ti.id = "01a21d64-798c-7dc2-97a2-b98bfbd4b0fe"
        portal.fault("drop_after", "crm.item.payment.add", times=1)
        return upserts

    def ask(task: Task) -> None:
        AddCrmPaymentOperator(task_id="add", entity_id=1, on_unknown="ask").execute(task.context)

    def go_on(task: Task, event: Any, deferred: Any) -> dict[str, Any]:
        operator = AddCrmPaymentOperator(task_id="add", entity_id=1, on_unknown="ask")
        return operator.answered(task.context, event, **deferred.kwargs)

    @pytest.mark.parametrize("hidden", [1, 2, 99])
    def test_an_answer_that_airflow_holds_is_read_before_anything_is_asked(
        asks: list[dict[str, Any]], task: Task, portal: Any, hidden: int
    ) -> None:
        """Also if the note of the question is not found: then the journal knows that somebody was asked."""
        with pytest.raises(TaskAwaitingInput):
            ask(task)
        task.again()
        get, left = task.store.get, [hidden]

        def not_found(key: str, default: Any = None) -> Any:
            if key == questions.ASKED and left[0]:
                left[0] -= 1
                return default
            return get(key, default)

        task.store.get = not_found  # type: ignore[method-assign]
        with pytest.raises(TaskDeferred) as caught:
            ask(task)
        assert len(asks) == 1
        found = {"chosen_options": ["Use payment 1033 (0.00 EUR)"], "responded_at": AT}
        assert go_on(task, found, caught.value)["payment_id"] == 1033
        assert len([entry for entry in portal.ledger if entry["event"] == "payment_added"]) == 1

    def test_a_question_that_airflow_does_not_know_is_asked_again(asks: list[dict[str, Any]], task: Task) -> None:
        """Airflow 3.4 gives each attempt an id of its own."""
        with pytest.raises(TaskAwaitingInput):
            ask(task)
        task.again()
        with pytest.raises(TaskDeferred) as caught:
            ask(task)
        with pytest.raises(TaskAwaitingInput):
            go_on(task, {"chosen_options": [], "asked": False}, caught.value)
        assert [question["options"] for question in asks] == [asks[0]["options"]] * 2
        task.again()
        with pytest.raises(TaskDeferred) as caught:
            ask(task)
        with pytest.raises(TaskAwaitingInput):
            go_on(task, {"chosen_options": []}, caught.value)  # it is shown, and nobody has answered yet
        assert len(asks) == 2

    @pytest.mark.parametrize("reason", ["not_found", None])
    def test_the_trigger_believes_only_airflow_that_there_is_no_question(
        reason: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(ti_id: Any) -> Any:
            said = {"reason": reason, "message": "HITLDetail not found."} if reason else "Not Found"
            detail = {"status_code": 404, "message": "Server returned error", "detail": {"detail": said}}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))

        monkeypatch.setattr(hitl, "get_hitl_detail_content_detail", unknown)
        monkeypatch.setattr(human_response, "PAUSE", 0)

        async def report() -> Any:
            return [
                event.payload async for event in StoredResponseTrigger("01a21d64-798c-7dc2-97a2-b98bfbd4b0fe").run()
            ]

        if reason is None:
            with pytest.raises(AirflowRuntimeError):
                asyncio.run(report())
            return
        assert asyncio.run(report()) == [{"chosen_options": [], "asked": False}]
