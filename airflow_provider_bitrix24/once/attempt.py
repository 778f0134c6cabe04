"""The tools of one attempt: send once before a deadline, and find out by reading what became of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from airflow_provider_bitrix24.api.error_codes import TOO_MANY_REQUESTS
from airflow_provider_bitrix24.api.io import SendDeadline, Sleep
from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24NotFound,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24RateLimited,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow

T = TypeVar("T")

LEASES: Final = 5
"""How often a write that did not leave is tried, each time with a new deadline."""
READ_FAILURES_ALLOWED: Final = 5
"""How many reads in a row may fail once nothing can appear any more (each after the flow's own repeats)."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 8.0


class Run(Protocol):
    """Runs a flow to its end."""

    def __call__(self, flow: Flow[T], /) -> T:
        """Run it."""


class Clock(Protocol):
    """Both clocks; the module :mod:`time` is one."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds of a clock that nobody sets."""


class Log(Protocol):
    """Takes messages with their arguments, as every logger does."""

    def info(self, message: str, /, *args: Any) -> Any:
        """Log a step."""

    def warning(self, message: str, /, *args: Any) -> Any:
        """Log what somebody should know."""


class Intent(Protocol):
    """What is written down before a write is sent."""

    def write(self) -> None:
        """Write it down; what raises here keeps the write from being sent."""

    def withdraw(self, result: Literal["not_sent", "refused"], error: Bitrix24Error) -> None:
        """Take it back: the write certainly was not executed."""


def no_safeguard() -> None:
    """Allow every send."""


class PortalUnreadable(Exception):
    """The portal could not be read while we wanted to find out."""

    def __init__(self, cause: Bitrix24Error) -> None:
        super().__init__(cause.reason)
        self.gone = isinstance(cause, Bitrix24NotFound)
        """Whether the portal says that there is no such thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One write that left, or may have left.

    :param answer: what the portal answered, if it answered clearly.
    :param doubt: why it is not known whether the write was executed; None after a clear answer.
    :param absent_after: from when on, by the monotonic clock, nothing of it can still appear.
    :param proofs: how many reads after that must show nothing, before it is absent.
    """

    answer: Any
    doubt: Bitrix24OutcomeUnknown | None
    absent_after: float
    proofs: int

    def because(self, doubt: Bitrix24OutcomeUnknown) -> Sent:
        """Return the same with a doubt, for an answer that cannot be true."""
        return replace(self, answer=None, doubt=doubt)


@dataclass(slots=True)
class _Tries:
    """How often one write was tried without being executed."""

    started: float
    not_sent: int = 0
    pause: float = _FIRST_PAUSE


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One attempt at one portal.

    A write leaves only before a deadline that counts from when the portal was observed: what permits it was judged on
    what the portal showed then. Every wait ends that time, so that after a wait the portal is observed, and judged,
    again.
    """

    client: ApiClient
    run: Run
    clock: Clock
    log: Log
    safeguard: Callable[[], None] = no_safeguard
    """Raises if nothing may be sent now: called right before each send."""
    _observed: tuple[float, float] | None = None
    """Both clocks when the portal had shown what permits the next write."""
    _has_slot: bool = False
    """Whether the next write has its slot of the portal's rate limit."""
    _tries: dict[str, _Tries] = field(default_factory=dict)

    @property
    def portal(self) -> str:
        """The portal's name in keys, receipts and messages."""
        return self.client.settings.portal

    @property
    def is_fresh(self) -> bool:
        """Whether the last read of the portal is recent enough to permit a write."""
        if self._observed is None:
            return False
        monotonic, wall = self._observed
        age = max(self.clock.monotonic() - monotonic, self.clock.time() - wall)
        return age <= self.client.settings.send_deadline

    def observe(self, look: Flow[T]) -> T:
        """Read what the next write depends on, and remember when."""
        self._observed = None
        seen = self.run(look)
        self._observed = self.clock.monotonic(), self.clock.time()
        return seen

    def wait(self, seconds: float, reason: str) -> None:
        """Wait; afterwards the portal must be read again before a write."""
        self._observed = None
        self.run(pause(seconds, reason))

    def send(self, write: Callable[[SendDeadline, str], Flow[Any]], *, key: str, intent: Intent) -> Sent | None:
        """Send a write once, if the last read of the portal is recent enough.

        Only what certainly was not executed may be tried again, and only on a new observation: what did not leave a few
        times, what the portal's rate limit refused for as long as ``rate_limit_wait``. A lost answer is not an error
        here: it is for the caller to find out what became of the write.

        :param write: makes the flow from a deadline and the digest that goes into the header ``Idempotency-Key``.
        :param key: whose write it is.
        :param intent: written down before each deadline.
        :return: None if it certainly was not executed: the caller observes the portal, judges again, and comes back.
        :raises Bitrix24NotSent: nothing left, as often as it was tried.
        :raises Bitrix24ApiError: the portal refused; nothing was executed.
        :raises PaymentInProgress: another attempt has taken over; nothing was sent.
        :raises PaymentRefused: the safeguard forbids it; nothing was sent.
        :raises Bitrix24StoreError: the intent could not be written down, or the safeguard not be read; nothing was
            sent.
        """
        digest = hashlib.sha256(key.encode()).hexdigest()
        settings, decided = self.client.settings, self.clock.monotonic()
        tries = self._tries.setdefault(digest, _Tries(decided))
        waited = self._take_slot()
        self.safeguard()
        if self._observed is None or not self.is_fresh:
            self._refuse_if_too_late(tries, waited)
            return None
        deadline = SendDeadline(
            monotonic=self._observed[0] + settings.send_deadline, wall=self._observed[1] + settings.send_deadline
        )
        # The time runs while the intent is written: a slow journal makes it shorter, never longer.
        intent.write()
        # Whatever comes of it, the next write needs another look, unless this one has succeeded; and a slot of its own.
        observed, self._observed, self._has_slot = self._observed, None, False
        answer, doubt = None, None
        try:
            answer = self.run(write(deadline, digest))
        except (Bitrix24NotSent, Bitrix24RateLimited) as error:
            wait, why = getattr(error, "retry_after", None) or tries.pause, error.reason
            intent.withdraw("not_sent", error)
            tries.not_sent += isinstance(error, Bitrix24NotSent) and not error.deadline_passed
            patient = decided + wait <= tries.started + settings.rate_limit_wait
            if tries.not_sent >= LEASES or not patient or _resets_in_minutes(error):
                raise
        except Bitrix24OutcomeUnknown as error:
            doubt = error
        except Bitrix24Error as error:
            intent.withdraw("refused", error)
            raise
        else:
            self._observed = observed
            del self._tries[digest]
            # The request has ended: only what reads are behind by can still hide its result.
            return Sent(answer=answer, doubt=None, absent_after=self.clock.monotonic() + settings.read_lag, proofs=1)
        if doubt is None:
            tries.pause = min(2 * tries.pause, _LONGEST_PAUSE)
            self.log.warning("Not executed (%s). Reading the portal, then trying again.", why)
            self.wait(wait, "reading again for a new deadline")
            return None
        # It has left: what is sent after its outcome is known is tried again.
        del self._tries[digest]
        if doubt.answered:
            return Sent(answer=None, doubt=doubt, absent_after=self.clock.monotonic() + settings.read_lag, proofs=1)
        self.log.warning("%s. Reading for up to %.0f s what became of it.", doubt.reason, settings.settle_window)
        return Sent(answer=None, doubt=doubt, absent_after=decided + settings.settle_window, proofs=2)

    def _refuse_if_too_late(self, tries: _Tries, waited: float) -> None:
        settings = self.client.settings
        if self.clock.monotonic() <= tries.started + settings.rate_limit_wait + settings.send_deadline:
            return
        why = "reading what permits it takes longer than its deadline"
        if waited:
            why = f"its slot of the portal's rate limit came after {waited:.0f} s, too late for rate_limit_wait"
        raise Bitrix24NotSent("a write", why, True)

    def _take_slot(self) -> float:
        """Wait for the next write's rate limit slot before its deadline is set; after a wait, the portal is read again.

        :return: how long it has waited.
        """
        waited = 0.0
        if not self._has_slot:
            waited = self.run(self.client.reserve())
            self._has_slot = True
            self._observed = None if waited else self._observed
        return waited

    def find(self, read: Callable[[], Flow[T]], shows: Callable[[T], bool], sent: Sent) -> T | None:
        """Read until the portal shows the write, or cannot show it any more.

        As long as it could still appear, reads may fail in whatever way: an outage or a redirect passes.

        :param read: makes the flow that reads.
        :param shows: whether what was read shows it.
        :return: what was read when it showed it; None when it is absent.
        :raises PortalUnreadable: the portal could not be read, so that neither is known.
        """
        lag = self.client.settings.read_lag
        proofs, failures, step = 0, 0, _FIRST_PAUSE
        while True:
            asked_at = self.clock.monotonic()
            try:
                seen = self.run(read())
                failures = 0
            except Bitrix24Error as error:
                failures += asked_at >= sent.absent_after
                if failures > READ_FAILURES_ALLOWED:
                    unreadable = PortalUnreadable(error)
                    break
            else:
                if shows(seen):
                    return seen
                # A proof is a read that began when nothing could still arrive, the lag apart from the one before.
                proofs += asked_at >= sent.absent_after
                if proofs >= sent.proofs:
                    return None
            wait = self._until_next_read(sent, proofs, step, lag)
            self.wait(wait, "finding out what the portal has recorded")
            step = min(2 * step, max(lag, _FIRST_PAUSE))
        raise unreadable

    def _until_next_read(self, sent: Sent, proofs: int, step: float, lag: float) -> float:
        if proofs:
            return lag
        remaining = sent.absent_after - self.clock.monotonic()
        return min(step, max(remaining, 0.05)) if remaining > 0 else step


def _resets_in_minutes(error: Bitrix24Error) -> bool:
    """Whether the portal blocks the method for its working time, and not for the number of requests."""
    return isinstance(error, Bitrix24RateLimited) and error.portal_code.upper() != TOO_MANY_REQUESTS


def pause(seconds: float, reason: str) -> Flow[None]:
    """Wait."""
    yield Sleep(seconds, reason)
