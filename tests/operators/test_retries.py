"""How long to wait between attempts: not before the portal asks, and whatever the author says about retries stays."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, ExceptionRetryPolicy, RetryAction
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_bitrix24 import exceptions
from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator
from airflow_provider_bitrix24.operators.retries import SOON, ComeBackWhenAsked


def limited(retry_after: float | None) -> exceptions.Bitrix24RateLimited:
    return exceptions.Bitrix24RateLimited("OPERATION_TIME_LIMIT", 429, "crm.item.payment.add", retry_after=retry_after)


def after(seconds: float) -> dict[str, Any]:
    """A context whose task has such a retry_delay."""
    return {"task": SimpleNamespace(retry_delay=timedelta(seconds=seconds))}


@pytest.mark.parametrize(
    ("error", "context", "seconds"),
    [
        (limited(540), after(300), 540),
        (limited(540), after(0), 540),
        (limited(540), None, 540),
        (limited(20), after(300), None),
        (limited(None), after(300), None),
        (exceptions.PaymentInProgress("busy"), after(0), SOON.total_seconds()),
        (exceptions.PaymentUnresolved("away"), after(0), SOON.total_seconds()),
        (exceptions.PaymentUnresolved("away"), after(300), None),
        (exceptions.Bitrix24NotSent("m", "refused"), after(0), None),
        (AirflowTaskTimeout("over"), after(300), None),
        (ValueError("not ours"), after(300), None),
    ],
)
def test_a_wait_is_only_ever_made_longer(error: BaseException, context: Any, seconds: float | None) -> None:
    decision = ComeBackWhenAsked().evaluate(error, 1, 3, context)
    if seconds is None:
        assert decision.action is RetryAction.DEFAULT
    else:
        assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=seconds))
        assert decision.reason


def test_a_delay_given_as_seconds_counts() -> None:
    decision = ComeBackWhenAsked().evaluate(limited(20), 1, 3, {"task": SimpleNamespace(retry_delay=30)})  # type: ignore[typeddict-item]
    assert decision.action is RetryAction.DEFAULT


def test_the_authors_policy_wins() -> None:
    arguments: dict[str, Any] = {"task_id": "pay", "invoice_id": 2, "pay_system_id": 31}
    theirs = ExceptionRetryPolicy(rules=[])
    assert isinstance(PayInvoiceOperator(**arguments).retry_policy, ComeBackWhenAsked)
    assert PayInvoiceOperator(**arguments, retry_policy=theirs).retry_policy is theirs
    with DAG("of_the_author", default_args={"retry_policy": theirs}):
        assert PayInvoiceOperator(**arguments).retry_policy is theirs


def test_the_number_of_retries_is_the_authors() -> None:
    assert PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, retries=4).retries == 4
