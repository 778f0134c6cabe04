"""Attempts after the first: what Airflow's task state store tells them (Airflow 3.3)."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConnectionNotFound,
    Bitrix24RateLimited,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
)
from tests.operators.conftest import PATIENT
from tests.operators.test_operators import (
    EACH,
    MARKS,
    OPERATORS,
    WRITES,
    adopting,
    end_before_anything_is_sent,
    write_requests,
)
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from types import FrameType

    from conftest import Task

pytestmark = pytest.mark.needs_task_state


@MARKS
@pytest.mark.parametrize("if_paid", ["skip", "fail"])
@pytest.mark.parametrize("start", ["again", "clear"])
def test_what_an_earlier_attempt_has_marked_is_neither_skipped_nor_failed(
    portal: Any, task: Task, operation: str, if_paid: str, start: str
) -> None:
    first = OPERATORS[operation]().execute(task.context)
    getattr(task, start)()  # the worker died here, or a person cleared the task
    receipt = OPERATORS[operation](if_paid=if_paid).execute(task.context)
    assert receipt == {**first, "recovered": True}
    assert len([entry for entry in portal.ledger if entry["event"].endswith("_paid")]) == 1


@EACH
def test_what_gets_lost_again_and_again_fails_for_good_without_a_chain(portal: Any, task: Task, operation: str) -> None:
    portal.fault("drop_before", WRITES[operation])
    for start in (lambda: None, task.again, task.clear):
        start()
        with raises_for_good(PaymentAmbiguous, r"sent twice.*journal resolve") as caught:
            OPERATORS[operation]().execute(task.context)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert portal.secret not in str(caught.value)
    assert portal.ledger == []
    assert len(write_requests(portal, operation)) == 2


@EACH
def test_a_passing_error_is_left_to_airflows_retries(portal: Any, task: Task, operation: str) -> None:
    portal.fault("operation_time_limit", WRITES[operation])
    with pytest.raises(Bitrix24RateLimited):
        OPERATORS[operation]().execute(task.context)
    assert portal.ledger == []
    portal.clear_faults()
    task.again()
    assert OPERATORS[operation]().execute(task.context)["recovered"] is False
    assert len(write_requests(portal, operation)) == 2


@pytest.mark.parametrize("start", ["again", "clear"])
def test_a_second_attempt_returns_the_payment_of_the_first(portal: Any, task: Task, start: str) -> None:
    first = OPERATORS["add_crm_payment"](fill_products=True).execute(task.context)
    getattr(task, start)()  # the worker died after the last request, or a person cleared the task
    again = OPERATORS["add_crm_payment"](fill_products=True).execute(task.context)
    assert again == {**first, "outcome": "existing", "recovered": True}
    assert len(write_requests(portal, "add_crm_payment")) == 1


def test_a_second_attempt_with_other_arguments_is_refused(portal: Any, task: Task) -> None:
    OPERATORS["add_crm_payment"]().execute(task.context)
    task.again()
    with raises_for_good(PaymentMismatch, r"was used before.*entity_id was 1, now 2"):
        OPERATORS["add_crm_payment"](entity_id=2).execute(task.context)
    assert len(write_requests(portal, "add_crm_payment")) == 1


@EACH
def test_a_time_out_of_the_task_passes_untouched_and_is_resolved_later(
    portal: Any, task: Task, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_time_out(_number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == weakref.__file__:
                signal.setitimer(signal.ITIMER_REAL, 0.01)  # Python swallows what is raised in a finalizer
                return
            frame = frame.f_back
        raise AirflowTaskTimeout("time is up")

    def interrupt_the_held_write() -> None:
        while not write_requests(portal, operation):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGALRM)

    connection = json.loads(portal.connection)
    connection["extra"] = PATIENT | {"read_timeout": 60}  # longer than the time-out takes, however slow the machine is
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    portal.fault("hold", WRITES[operation], when="before")
    before = signal.signal(signal.SIGALRM, raise_time_out)
    timer = threading.Thread(target=interrupt_the_held_write, daemon=True)
    timer.start()
    try:
        with pytest.raises(AirflowTaskTimeout, match="time is up"):
            OPERATORS[operation]().execute(task.context)
    finally:
        timer.join()
        signal.signal(signal.SIGALRM, before)
    portal.clear_faults()  # what was held is executed
    task.again()
    receipt = OPERATORS[operation](**adopting(operation)).execute(task.context)
    assert len([entry for entry in portal.ledger if entry["event"].endswith(("_paid", "_added"))]) == 1
    assert receipt["outcome"] == ("created" if operation == "add_crm_payment" else "paid")


@MARKS
@pytest.mark.parametrize(("if_paid", "outcome"), [("skip", AirflowSkipException), ("fail", AirflowFailException)])
def test_what_no_attempt_has_marked_is_not_ours_whoever_did(
    portal: Any, task: Task, operation: str, if_paid: str, outcome: Any
) -> None:
    end_before_anything_is_sent(portal, task, operation)
    if operation == "pay_invoice":
        portal.act.pay_invoice(2, by="person", user_id=1)
    else:
        portal.act.pay_payment(1001, by="person", user_id=1)
    task.again()
    with pytest.raises(outcome, match="is paid already"):
        OPERATORS[operation](if_paid=if_paid).execute(task.context)


# -- words


@pytest.mark.parametrize(
    "arguments",
    [
        {"entity_id": "None"},
        {"max_amount": "much"},
        {"on_unknown": "guess"},
        {"idempotency_key": "order-17"},
        {"journal_conn_id": 5},
    ],
    ids=str,
)
def test_a_wrong_argument_does_not_deny_what_an_earlier_attempt_has_made(
    portal: Any, task: Task, arguments: dict[str, Any]
) -> None:
    made = OPERATORS["add_crm_payment"]().execute(task.context)["payment_id"]
    task.again()
    with pytest.raises(AirflowFailException, match="Nothing was sent by this attempt") as caught:
        OPERATORS["add_crm_payment"](**arguments).execute(task.context)
    assert f"succeeded for deal 1, with payment {made}." in str(caught.value)
    assert "Nothing was sent." not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("argument", ["journal_conn_id", "bitrix24_conn_id"])
def test_a_connection_that_is_not_found_is_retried_and_denies_nothing(portal: Any, task: Task, argument: str) -> None:
    made = OPERATORS["add_crm_payment"]().execute(task.context)["payment_id"]
    task.again()
    words = rf"The Airflow connection 'nowhere' \({argument}\) was not found"
    with pytest.raises(Bitrix24ConnectionNotFound, match=words) as caught:
        OPERATORS["add_crm_payment"](**{argument: "nowhere"}).execute(task.context)
    assert "Nothing was sent by this attempt. dag:finance:run:manual__1:task:pay:map_index:-1 succeeded" in str(
        caught.value
    )
    assert f"with payment {made}." in str(caught.value)
    assert caught.value.__context__ is None


def test_a_safeguard_names_what_an_earlier_attempt_has_made(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = OPERATORS["add_crm_payment"]().execute(task.context)["payment_id"]
    monkeypatch.setenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT", "true")
    words = rf"This attempt read and sent nothing\. .* with payment {made}\. When payments may go on"
    with pytest.raises(AirflowFailException, match=words):
        OPERATORS["add_crm_payment"]().execute(task.context)


def test_nothing_is_known_of_attempts_that_sent_nothing(portal: Any, task: Task) -> None:
    value = r"not 'None' \(a template or the task before gave None\)"
    with pytest.raises(AirflowFailException, match=rf"{value}\. Nothing was sent\.$"):
        OPERATORS["add_crm_payment"](entity_id="None").execute(task.context)
    task.again()
    with pytest.raises(AirflowFailException, match=rf"{value}\. Nothing was sent by this attempt\.$"):
        OPERATORS["add_crm_payment"](entity_id="None").execute(task.context)


def test_what_cannot_be_read_or_was_not_kept_is_not_denied(portal: Any, task: Task, forgetful_task: Task) -> None:
    OPERATORS["add_crm_payment"]().execute(task.context)
    task.store.kept["bitrix24_payment"] = "{}"
    with pytest.raises(AirflowFailException, match="The notes of earlier attempts cannot be read: money may have been"):
        OPERATORS["add_crm_payment"](entity_id="None").execute(task.context)
    forgetful_task.again()
    with pytest.raises(AirflowFailException, match=r"by this attempt\. An earlier attempt may have sent something"):
        OPERATORS["add_crm_payment"](entity_id="None").execute(forgetful_task.context)


@EACH
def test_the_message_says_how_to_decide_about_this_very_task(portal: Any, task: Task, operation: str) -> None:
    portal.fault("drop_before", WRITES[operation])
    with raises_for_good(PaymentAmbiguous) as caught:
        OPERATORS[operation]().execute(task.context)
    [command] = re.findall(r"`(bitrix24-airflow journal resolve [^`]*)`", str(caught.value))
    words = shlex.split(command)
    assert words[words.index("--dag") :] == ["--dag", "finance", "--run", "manual__1", "--task", "pay"]
    document = json.loads(task.store.kept["bitrix24_payment"])
    assert words[words.index("resolve") + 1] == document["key"]
    assert ("--use-payment ID" in str(caught.value)) == (operation == "add_crm_payment")
    assert "(with on_unknown='ask', Airflow asks a person instead)" in str(caught.value)


@pytest.mark.usefixtures("nobody_is_asked")
def test_a_message_that_airflow_asks_by_does_not_recommend_to_ask(portal: Any, task: Task) -> None:
    portal.fault("drop_before", WRITES["pay_invoice"])
    operator = OPERATORS["pay_invoice"](on_unknown="ask")
    with pytest.raises(PaymentAmbiguous, match="journal resolve") as caught:
        operator.execute(task.context)
    assert "on_unknown" not in str(caught.value)


@MARKS
def test_what_was_answered_and_is_not_shown_is_sent_again_when_it_is_cleared_not_when_it_is_retried(
    portal: Any, task: Task, operation: str
) -> None:
    portal.fault("true_not_applied", WRITES[operation], times=1)
    for _ in range(2):  # the worker dies before Airflow knows that the task is red
        with raises_for_good(PaymentNotApplied, r"does not show it as paid"):
            OPERATORS[operation]().execute(task.context)
        task.again()
    assert (len(write_requests(portal, operation)), portal.ledger) == (1, [])
    task.clear()
    assert OPERATORS[operation]().execute(task.context)["outcome"] == "paid"
    assert len(write_requests(portal, operation)) == 2
