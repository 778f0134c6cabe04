"""Attempts after the first: what Airflow's task state store tells them (Airflow 3.3)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from airflow_provider_bitrix24.exceptions import Bitrix24RateLimited
from tests.operators.test_operators import EACH, MARKS, OPERATORS, WRITES, adopting, write_requests

if TYPE_CHECKING:
    from conftest import Task


@MARKS
@pytest.mark.parametrize("if_paid", ["skip", "fail"])
def test_what_an_earlier_attempt_has_marked_is_neither_skipped_nor_failed(
    portal: Any, task: Task, operation: str, if_paid: str
) -> None:
    first = OPERATORS[operation]().execute(task.context)  # the worker dies here
    task.again()
    receipt = OPERATORS[operation](if_paid=if_paid).execute(task.context)
    assert receipt == {**first, "recovered": True}
    assert len([entry for entry in portal.ledger if entry["event"].endswith("_paid")]) == 1


@EACH
def test_what_gets_lost_again_and_again_fails_for_good_without_a_chain(portal: Any, task: Task, operation: str) -> None:
    portal.fault("drop_before", WRITES[operation])
    for _ in range(2):  # a retry, or a cleared task, does not change that
        with pytest.raises(AirflowFailException, match=r"PaymentAmbiguous: .*2 times.*journal resolve") as caught:
            OPERATORS[operation]().execute(task.context)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert portal.secret not in str(caught.value)
        task.again()
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


def test_a_second_attempt_returns_the_payment_of_the_first(portal: Any, task: Task) -> None:
    first = OPERATORS["add_crm_payment"](fill_products=True).execute(task.context)
    task.again()  # a cleared task, or a worker that died after the last request
    again = OPERATORS["add_crm_payment"](fill_products=True).execute(task.context)
    assert again == {**first, "outcome": "existing", "recovered": True}
    assert len(write_requests(portal, "add_crm_payment")) == 1


def test_a_second_attempt_with_other_arguments_is_refused(portal: Any, task: Task) -> None:
    OPERATORS["add_crm_payment"]().execute(task.context)
    task.again()
    with pytest.raises(AirflowFailException, match=r"PaymentMismatch: .*was used before.*entity_id 1 instead of 2"):
        OPERATORS["add_crm_payment"](entity_id=2).execute(task.context)
    assert len(write_requests(portal, "add_crm_payment")) == 1


@EACH
def test_a_time_out_of_the_task_passes_untouched_and_is_resolved_later(portal: Any, task: Task, operation: str) -> None:
    def ring(*_: Any) -> None:
        raise AirflowTaskTimeout("time is up")

    portal.fault("hold", WRITES[operation], when="before")
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(AirflowTaskTimeout, match="time is up"):
            OPERATORS[operation]().execute(task.context)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    portal.clear_faults()  # what was held goes through now
    task.again()
    receipt = OPERATORS[operation](**adopting(operation)).execute(task.context)
    assert len([entry for entry in portal.ledger if entry["event"].endswith(("_paid", "_added"))]) == 1
    assert receipt["outcome"] == ("created" if operation == "add_crm_payment" else "paid")


@MARKS
@pytest.mark.parametrize(("if_paid", "outcome"), [("skip", AirflowSkipException), ("fail", AirflowFailException)])
def test_what_no_attempt_has_marked_is_not_ours_whoever_did(
    portal: Any, task: Task, operation: str, if_paid: str, outcome: Any
) -> None:
    if operation == "pay_invoice":
        portal.act.pay_invoice(2, by="person", user_id=1)
    else:
        portal.act.pay_payment(1001, by="person", user_id=1)
    task.again()
    with pytest.raises(outcome, match="is paid already"):
        OPERATORS[operation](if_paid=if_paid).execute(task.context)
