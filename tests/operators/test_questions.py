"""How a person's answer is carried out. The asking itself is in `tests/e2e/crash`, with a real Airflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.at_most_once.record import Decision
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, PaymentAmbiguous
from airflow_provider_bitrix24.operators import questions
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator, PayInvoiceOperator
from airflow_provider_bitrix24.triggers.human_response import StoredResponseTrigger
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from conftest import Task

ASKED: dict[str, Any] = {
    "options": {
        "Use payment 1034 (0.00 EUR)": {"what": "use_payment", "payment_id": 1034},
        "Give up": {"what": "abandon", "payment_id": None},
        "Add again (may pay twice)": {"what": "send_again", "payment_id": None},
    },
    "candidates": [1034],
    "timeout": "1 day",
    "command": "bitrix24-airflow journal resolve KEY --conn-id payments",
}
AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def event(option: str, **more: Any) -> dict[str, Any]:
    user = {"id": "7", "name": "Ada"}
    answer = {"chosen_options": [option], "params_input": {}, "responded_at": AT, "responded_by_user": user}
    return {**answer, "timedout": False, **more}


@pytest.mark.parametrize(
    ("option", "what", "payment_id"),
    [
        ("Use payment 1034 (0.00 EUR)", "use_payment", 1034),
        ("Add again (may pay twice)", "send_again", None),
        ("Give up", "abandon", None),
    ],
)
def test_an_answer_is_a_decision(option: str, what: Any, payment_id: int | None) -> None:
    decision = questions.decision_of(event(option), ASKED)
    assert decision is not None
    assert decision == Decision(
        what=what,
        payment_id=payment_id,
        candidates=(1034,),
        by="Ada (7)",
        at="2026-11-22T03:00:00+00:00",
        through="Airflow",
    )


@pytest.mark.parametrize(
    ("user", "name"),
    [({"id": "ada", "name": "ada"}, "ada"), ({"id": "7", "name": ""}, "(7)"), ({}, "unknown"), (None, "unknown")],
)
def test_whoever_answers_is_named(user: Any, name: str) -> None:
    decision = questions.decision_of(event("Give up", responded_by_user=user), ASKED)
    assert decision is not None
    assert decision.by == name


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "The response timeout has passed.", "error_type": "timeout"},
        event("Give up", timedout=True),
        event("Give up", chosen_options=[]),
        event("Give up", chosen_options=["Add again", "Give up"]),
        event("Something else"),
        None,
        "Give up",
    ],
)
def test_what_is_no_answer_ends_red_and_sends_nothing(portal: Any, task: Task, answer: Any) -> None:
    with pytest.raises(PaymentAmbiguous, match=r"within 1 day\. Nothing was sent by this task since") as caught:
        questions.decision_of(answer, ASKED)
    assert caught.value.candidates == (1034,)
    assert f"decide by `{ASKED['command']}` with --use-payment ID" in str(caught.value)
    operator = AddCrmPaymentOperator(task_id="add", entity_id=1, on_unknown="ask")
    with raises_for_good(PaymentAmbiguous, r"has no effect.* asks again"):
        operator.answered(task.context, answer, ASKED)
    assert portal.requests == []


def test_a_question_of_the_release_before_named_no_command() -> None:
    asked = {name: value for name, value in ASKED.items() if name != "command"}
    with pytest.raises(PaymentAmbiguous, match="decide by `bitrix24-airflow journal resolve` with"):
        questions.decision_of(event("Give up", timedout=True), asked)


def test_a_task_that_only_looks_for_an_answer_and_finds_none_goes_on() -> None:
    timed_out = {"error": "The response timeout has passed.", "error_type": "timeout"}
    assert questions.decision_of(timed_out, {**ASKED, "looking": True}) is None
    found = questions.decision_of(event("Give up"), {**ASKED, "looking": True})
    assert found is not None
    assert found.what == "abandon"


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=1), "1 day"),
        (timedelta(hours=8, minutes=30), "8 hours 30 minutes"),
        (timedelta(days=2, seconds=1), "2 days 1 second"),
        (timedelta(minutes=1), "1 minute"),
    ],
)
def test_a_length_of_time_is_told_in_words(length: timedelta, words: str) -> None:
    assert questions.span(length) == words


def test_nobody_can_be_asked_in_an_older_airflow(portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "AIRFLOW_V_3_3_PLUS", False)
    with pytest.raises(Bitrix24ConfigError, match=r"needs Airflow 3\.3 or newer"):
        questions.refuse_if_nobody_can_be_asked()
    with pytest.raises(AirflowFailException, match=r"on_unknown='ask' needs Airflow 3\.3 or newer.*Nothing was sent"):
        PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, on_unknown="ask").execute(task.context)
    assert portal.requests == []


def test_the_trigger_that_reads_an_answer_is_made_again_from_what_airflow_keeps() -> None:
    trigger = StoredResponseTrigger("0199")
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_bitrix24.triggers.human_response.StoredResponseTrigger"
    assert StoredResponseTrigger(**arguments).serialize() == trigger.serialize()


def test_where_there_is_nothing_to_decide_nobody_is_asked(portal: Any, task: Task) -> None:
    """Two unpaid payments: nothing was sent, so a person has to tidy up on the portal, not to decide."""
    for _ in range(2):
        portal.act.add_payment(2, 1, amount="5.00")
    operator = AddCrmPaymentOperator(task_id="add", entity_id=1, if_unpaid_exists="return", on_unknown="ask")
    with raises_for_good(PaymentAmbiguous, "Deal 1 has 2 unpaid payments"):
        operator.execute(task.context)
