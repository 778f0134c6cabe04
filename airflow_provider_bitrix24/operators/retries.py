"""A retry policy (Airflow 3.3) that waits as long as the portal asks for. On Airflow 3.4 such a wait uses no retry."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow.sdk import RetryDecision, RetryPolicy

from airflow_provider_bitrix24.exceptions import (
    Bitrix24RateLimited,
    PaymentInProgress,
    PaymentListUnfinished,
    PaymentUnresolved,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

SOON: Final = timedelta(seconds=15)
"""How long at least to leave alone a key that somebody else works on, or a portal that could not be read."""
RESCHEDULES_FOR: Final = timedelta(hours=1)
"""On Airflow 3.4: for how long an attempt waits without using a retry. The portal's time limits end within 10 minutes,
another task's work on a key within the settle window."""


class HonorRetryAfterPolicy(RetryPolicy):
    """The waits between attempts that the operators use unless the author of the DAG gives a policy.

    A wait is never shorter than ``retry_delay``; final errors stay final. Airflow 3.4 can run an attempt again later
    without using a retry (``up_for_reschedule``): so it waits until the portal's time limit ends, and for another task
    at work on the same key, for up to an hour. After that, and on Airflow 3.3, each wait uses one of ``retries``.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by what the portal, or another task at work on the key, needs."""
        ordinary = _ordinary_delay(context)
        if isinstance(exception, Bitrix24RateLimited | PaymentListUnfinished) and exception.retry_after is not None:
            return _wait_then_retry(timedelta(seconds=exception.retry_after), ordinary, "the portal asks for it")
        if isinstance(exception, PaymentInProgress):
            return _wait_then_retry(SOON, ordinary, "another task or attempt is at work on the same key")
        if isinstance(exception, PaymentUnresolved) and ordinary < SOON:
            return RetryDecision.retry(SOON, _reason(SOON, "the portal could not be read"))
        return RetryDecision.default()


def _wait_then_retry(wanted: timedelta, ordinary: timedelta, why: str) -> RetryDecision:
    """Return the decision to wait as long as needed, and not shorter than the author's ``retry_delay``."""
    if AIRFLOW_V_3_4_PLUS:
        wait = max(wanted, ordinary)
        # Only Airflow 3.4 has it.
        return RetryDecision.reschedule(  # type: ignore[attr-defined, no-any-return, unused-ignore]
            wait, reschedule_timeout=RESCHEDULES_FOR, reason=_reason(wait, why)
        )
    return RetryDecision.retry(wanted, _reason(wanted, why)) if wanted > ordinary else RetryDecision.default()


def _reason(wait: timedelta, why: str) -> str:
    return f"wait {wait.total_seconds():.0f} s: {why}"


def _ordinary_delay(context: Context | None) -> timedelta:
    """What the author's ``retry_delay`` makes of the wait; back-off only makes it longer."""
    delay = context["task"].retry_delay if context is not None else timedelta(0)
    return delay if isinstance(delay, timedelta) else timedelta(seconds=float(delay))
