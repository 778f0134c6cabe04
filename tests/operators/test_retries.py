"""How long to wait between attempts: not before the portal asks, and whatever the author says about retries stays."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

if not AIRFLOW_V_3_3_PLUS:
    pytest.skip("retry policies are new in Airflow 3.3", allow_module_level=True)

from airflow.sdk import DAG, ExceptionRetryPolicy, RetryAction
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_bitrix24 import exceptions
from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator
from airflow_provider_bitrix24.operators.retries import RESCHEDULES_FOR, SOON, HonorRetryAfterPolicy


def limited(retry_after: float | None) -> exceptions.Bitrix24RateLimited:
    return exceptions.Bitrix24RateLimited("OPERATION_TIME_LIMIT", 429, "crm.item.payment.add", retry_after=retry_after)


def after(seconds: float) -> dict[str, Any]:
    """A context whose task has such a retry_delay."""
    return {"task": SimpleNamespace(retry_delay=timedelta(seconds=seconds))}


WAITS_WITHOUT_A_RETRY = RetryAction("reschedule") if AIRFLOW_V_3_4_PLUS else RetryAction.RETRY
"""Airflow 3.4 runs an attempt again later without using a retry."""


@pytest.mark.parametrize(
    ("error", "context", "seconds"),
    [
        (limited(540), after(300), 540),
        (limited(540), after(0), 540),
        (limited(540), None, 540),
        (exceptions.PaymentListUnfinished("9 of 10 invoices are not done", retry_after=540), after(300), 540),
        (exceptions.PaymentInProgress("busy"), after(0), SOON.total_seconds()),
    ],
)
def test_a_wait_that_somebody_asks_for_is_kept(error: BaseException, context: Any, seconds: float) -> None:
    decision = HonorRetryAfterPolicy().evaluate(error, 1, 3, context)
    assert (decision.action, decision.retry_delay) == (WAITS_WITHOUT_A_RETRY, timedelta(seconds=seconds))
    assert decision.reason is not None
    assert decision.reason.startswith(f"wait {seconds:.0f} s: ")


@pytest.mark.parametrize("error", [limited(20), exceptions.PaymentInProgress("busy")])
@pytest.mark.parametrize("delay", [timedelta(seconds=300), 300])
def test_a_wait_is_never_shorter_than_the_authors(error: BaseException, delay: Any) -> None:
    decision = HonorRetryAfterPolicy().evaluate(error, 1, 3, {"task": SimpleNamespace(retry_delay=delay)})  # type: ignore[typeddict-item]
    if AIRFLOW_V_3_4_PLUS:
        assert (decision.action, decision.retry_delay) == (WAITS_WITHOUT_A_RETRY, timedelta(seconds=300))
    else:
        assert decision.action is RetryAction.DEFAULT


def test_an_attempt_does_not_wait_for_ever_without_a_retry() -> None:
    decision = HonorRetryAfterPolicy().evaluate(limited(540), 1, 3, after(300))
    assert getattr(decision, "reschedule_timeout", None) == (RESCHEDULES_FOR if AIRFLOW_V_3_4_PLUS else None)
    assert timedelta(minutes=10) < RESCHEDULES_FOR  # in which the portal's time limits end


def test_a_portal_that_cannot_be_read_uses_retries() -> None:
    decision = HonorRetryAfterPolicy().evaluate(exceptions.PaymentUnresolved("away"), 1, 3, after(0))
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, SOON)
    assert decision.reason == "wait 15 s: the portal could not be read"


@pytest.mark.parametrize(
    ("error", "context"),
    [
        (limited(None), after(300)),
        (exceptions.PaymentUnresolved("away"), after(300)),
        (exceptions.Bitrix24NotSent("m", "refused"), after(0)),
        (AirflowTaskTimeout("over"), after(300)),
        (ValueError("not ours"), after(300)),
    ],
)
def test_everything_else_is_retried_as_the_author_says(error: BaseException, context: Any) -> None:
    assert HonorRetryAfterPolicy().evaluate(error, 1, 3, context).action is RetryAction.DEFAULT


def test_the_authors_policy_wins() -> None:
    arguments: dict[str, Any] = {"task_id": "pay", "invoice_id": 2, "pay_system_id": 31}
    theirs = ExceptionRetryPolicy(rules=[])
    assert isinstance(PayInvoiceOperator(**arguments).retry_policy, HonorRetryAfterPolicy)
    assert PayInvoiceOperator(**arguments, retry_policy=theirs).retry_policy is theirs
    with DAG("of_the_author", default_args={"retry_policy": theirs}):
        assert PayInvoiceOperator(**arguments).retry_policy is theirs


def test_the_number_of_retries_is_the_authors() -> None:
    assert PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, retries=4).retries == 4
