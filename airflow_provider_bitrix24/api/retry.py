"""How long one call goes on: tenacity's engine, driven step by step, so that waiting is a `Sleep` and not a sleep.

Repeating is decided by `AttemptResult.retry`, never here. What is bounded here: the sum of all waits for the portal's
rate limit, the number of failures on the way, and the repeats of all calls together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from tenacity import DoAttempt, DoSleep, RetryCallState, Retrying, retry_if_result, wait_random_exponential

from airflow_provider_bitrix24.api.io import Reserve, Sleep, Slot
from airflow_provider_bitrix24.exceptions import TOO_MANY_REQUESTS, Bitrix24RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.api.envelope import Reply
    from airflow_provider_bitrix24.api.io import Flow, Outcome, Request
    from airflow_provider_bitrix24.exceptions import Bitrix24Error

TRIES: Final = 3
"""How often a call may fail on the way before it gives up."""
REPEATS: Final = 50
"""How many repeats all calls of one task run may use up; each call that succeeds gives one back."""


class RetryReason(Enum):
    """Why a call may be repeated."""

    BUSY = "Bitrix24 says that there are too many requests"
    TROUBLE = "no usable response"


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What one outcome means: a reply, or an error that may be worth another try."""

    reply: Reply | None = None
    error: Bitrix24Error | None = None
    retry: RetryReason | None = None
    retry_after: float | None = None
    """Seconds that the portal asked for."""


_JITTER: Final = {
    RetryReason.BUSY: wait_random_exponential(multiplier=1, max=15),
    RetryReason.TROUBLE: wait_random_exponential(multiplier=0.5, max=5),
}


class RetryQuota:
    """The number of repeats that all calls of a task run share, so that a failing portal is not called without end."""

    def __init__(self, repeats: int = REPEATS) -> None:
        self._most = repeats
        self.left = repeats

    def take(self) -> bool:
        """Use up one repeat, if there is one."""
        taken = self.left > 0
        self.left -= taken
        return taken

    def give_back(self) -> None:
        """Count a call that succeeded."""
        self.left = min(self.left + 1, self._most)


class _RetryState:
    """The waits of one call."""

    def __init__(
        self, classify: Callable[[Outcome], AttemptResult], longest_wait: float, tries: int, quota: RetryQuota
    ) -> None:
        self._classify = classify
        self._longest_wait = longest_wait
        self._tries = tries
        self._quota = quota
        self._troubles = 0
        self.result = AttemptResult()
        self.queued = 0.0
        """Seconds waited for slots."""

    def classify(self, outcome: Outcome) -> AttemptResult:
        self.result = self._classify(outcome)
        self._troubles += self.result.retry is RetryReason.TROUBLE
        if self.result.reply is not None:
            self._quota.give_back()
        return self.result

    def wait(self, state: RetryCallState) -> float:
        if self.result.retry is None or self.result.retry is RetryReason.TROUBLE:
            return _JITTER[RetryReason.TROUBLE](state)
        seconds = max(_JITTER[RetryReason.BUSY](state), self.result.retry_after or 0.0)
        return min(seconds, self.left(state))

    def stop(self, state: RetryCallState) -> bool:
        return self._over(state) or not self._quota.take()

    def left(self, state: RetryCallState) -> float:
        """Seconds that this call may still wait."""
        return self._longest_wait - state.idle_for - self.queued

    def _over(self, state: RetryCallState) -> bool:
        if self.result.retry is RetryReason.TROUBLE:
            return self._troubles >= self._tries
        return (self.result.retry_after or 0.0) >= self.left(state)


def send_with_retries(
    request: Request,
    classify: Callable[[Outcome], AttemptResult],
    *,
    longest_wait: float,
    tries: int = TRIES,
    quota: RetryQuota | None = None,
    paced: bool = False,
) -> Flow[AttemptResult]:
    """Send a request until its result is final or the retries are used up.

    :param request: what to send.
    :param classify: what an outcome means.
    :param longest_wait: seconds that all waits for the rate limit may take together.
    :param tries: how often the call may fail on the way.
    :param quota: the repeats that are left to all calls.
    :param paced: whether each request takes a slot of the rate limit. A request with a deadline has its first slot:
        the caller has waited for it before the deadline was set.
    :return: the last result.
    :raises Bitrix24RateLimited: there is no slot in time; the request was not sent.
    """
    retries = _RetryState(classify, longest_wait, tries, RetryQuota() if quota is None else quota)
    retrying = Retrying(
        retry=retry_if_result(lambda result: result.retry is not None),
        wait=retries.wait,
        stop=retries.stop,
        retry_error_callback=lambda state: retries.result,
    )
    state = RetryCallState(retrying, None, (), {})
    retrying.begin()
    has_slot = not paced or request.not_after is not None
    while True:
        step = retrying.iter(state)
        if isinstance(step, DoAttempt):
            if not has_slot:
                busy = retries.result.retry is RetryReason.BUSY
                left = retries.left(state)
                retries.queued += yield from wait_for_slot(request.method, within=left, drained=busy)
            has_slot = not paced
            outcome = yield request
            if isinstance(outcome, Slot | None):
                raise TypeError("the driver has not answered a request")
            state.set_result(retries.classify(outcome))
        elif isinstance(step, DoSleep):
            state.prepare_for_next_attempt()
            yield Sleep(float(step), _why(request, retries.result))
        else:
            # tenacity's objects refer to each other: a reply in them would stay in memory until the next collection.
            result, retries.result, state.outcome = retries.result, AttemptResult(), None
            return result


def wait_for_slot(method: str, *, within: float, drained: bool = False) -> Flow[float]:
    """Wait until the portal's rate limit allows another request.

    :param method: what will be sent, for the messages.
    :param within: seconds that it may wait.
    :param drained: the portal has just said that there are too many requests.
    :return: the seconds waited.
    :raises Bitrix24RateLimited: the next free slot is later than that.
    """
    slot = yield Reserve(within=max(0.0, within), drained=drained)
    if not isinstance(slot, Slot):
        raise TypeError("the driver has not answered a reservation")
    if not slot.granted:  # rule: without a slot nothing is sent
        words = (
            f"Not sent: the portal's rate limit. {method} would have to wait {slot.wait:.0f} s behind other requests, "
            f"and may wait {max(0.0, within):.0f} s more (rate_limit_wait)."
        )
        raise Bitrix24RateLimited(TOO_MANY_REQUESTS, 0, method, words, retry_after=slot.wait)
    if slot.wait > 0:
        yield Sleep(slot.wait, f"The portal's rate limit: {method} will be sent")
    return slot.wait


def _why(request: Request, result: AttemptResult) -> str:
    again = result.retry or RetryReason.TROUBLE
    return f"{again.value}: {request.method} will be repeated"
