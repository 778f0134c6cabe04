"""When to come back (Airflow 3.3): not before the portal asks for it. How often stays the author's business."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_provider_bitrix24.exceptions import (
    Bitrix24RateLimited,
    PaymentInProgress,
    PaymentUnresolved,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

SOON: Final = timedelta(seconds=15)
"""How long at least to leave alone a key that somebody else works on, or a portal that could not be read."""


class ComeBackWhenAsked(RetryPolicy):
    """The waits between attempts that the operators use unless the author of the DAG gives a policy.

    It only ever makes a wait longer than ``retry_delay`` would, never the number of retries; final errors stay final.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by what the portal, or another task at work on the key, needs."""
        if isinstance(exception, Bitrix24RateLimited) and exception.retry_after is not None:
            wanted, who = timedelta(seconds=exception.retry_after), "the portal asks for it"
        elif isinstance(exception, PaymentInProgress):
            wanted, who = SOON, "another task or attempt is at work on the same key"
        elif isinstance(exception, PaymentUnresolved):
            wanted, who = SOON, "the portal could not be read"
        else:
            return RetryDecision.default()
        if wanted <= _ordinary_delay(context):
            return RetryDecision.default()
        return RetryDecision.retry(wanted, f"wait {wanted.total_seconds():.0f} s: {who}")


def _ordinary_delay(context: Context | None) -> timedelta:
    """What the author's ``retry_delay`` makes of the wait; back-off only makes it longer."""
    delay = context["task"].retry_delay if context is not None else timedelta(0)
    return delay if isinstance(delay, timedelta) else timedelta(seconds=float(delay))
