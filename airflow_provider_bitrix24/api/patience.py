"""How long one call goes on: tenacity's engine, driven step by step, so that waiting is a `Sleep` and not a sleep.

Repeating is decided by `Verdict.again`, never here. What is bounded here: the sum of all waits for the portal's rate
limit, and the number of failures on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from tenacity import DoAttempt, DoSleep, RetryCallState, Retrying, retry_if_result, wait_random_exponential

from airflow_provider_bitrix24.api.effects import Sleep

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.api.effects import Flow, Outcome, Request
    from airflow_provider_bitrix24.api.envelope import Reply
    from airflow_provider_bitrix24.exceptions import Bitrix24Error

TRIES: Final = 3
"""How often a call may fail on the way before it gives up."""


class Again(Enum):
    """Why a call may be repeated."""

    BUSY = "Bitrix24 says that there are too many requests"
    TROUBLE = "no usable answer"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one outcome means: a reply, or an error that may be worth another try."""

    reply: Reply | None = None
    error: Bitrix24Error | None = None
    again: Again | None = None
    retry_after: float | None = None
    """Seconds that the portal asked for."""


_JITTER: Final = {
    Again.BUSY: wait_random_exponential(multiplier=1, max=15),
    Again.TROUBLE: wait_random_exponential(multiplier=0.5, max=5),
}


class _Patience:
    """The waits of one call."""

    def __init__(self, judge: Callable[[Outcome], Verdict], longest_wait: float, tries: int) -> None:
        self._judge = judge
        self._longest_wait = longest_wait
        self._tries = tries
        self._troubles = 0
        self.verdict = Verdict()

    def judge(self, outcome: Outcome) -> Verdict:
        self.verdict = self._judge(outcome)
        self._troubles += self.verdict.again is Again.TROUBLE
        return self.verdict

    def wait(self, state: RetryCallState) -> float:
        if self.verdict.again is None or self.verdict.again is Again.TROUBLE:
            return _JITTER[Again.TROUBLE](state)
        seconds = max(_JITTER[Again.BUSY](state), self.verdict.retry_after or 0.0)
        return min(seconds, self._longest_wait - state.idle_for)

    def stop(self, state: RetryCallState) -> bool:
        if self.verdict.again is Again.TROUBLE:
            return self._troubles >= self._tries
        return state.idle_for + (self.verdict.retry_after or 0.0) >= self._longest_wait


def persist(
    request: Request, judge: Callable[[Outcome], Verdict], *, longest_wait: float, tries: int = TRIES
) -> Flow[Verdict]:
    """Send a request until its verdict is final or patience is over.

    :param request: what to send.
    :param judge: what an outcome means.
    :param longest_wait: seconds that all waits for the rate limit may take together.
    :param tries: how often the call may fail on the way.
    :return: the last verdict.
    """
    patience = _Patience(judge, longest_wait, tries)
    retrying = Retrying(
        retry=retry_if_result(lambda verdict: verdict.again is not None),
        wait=patience.wait,
        stop=patience.stop,
        retry_error_callback=lambda state: patience.verdict,
    )
    state = RetryCallState(retrying, None, (), {})
    retrying.begin()
    while True:
        step = retrying.iter(state)
        if isinstance(step, DoAttempt):
            outcome = yield request
            assert outcome is not None  # noqa: S101 - a driver answers every request
            state.set_result(patience.judge(outcome))
        elif isinstance(step, DoSleep):
            state.prepare_for_next_attempt()
            yield Sleep(float(step), _why(request, patience.verdict))
        else:
            return patience.verdict


def _why(request: Request, verdict: Verdict) -> str:
    again = verdict.again or Again.TROUBLE
    return f"{again.value}: {request.method} will be repeated"
