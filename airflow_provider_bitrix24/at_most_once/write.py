"""One write of an operation, and how its outcome is read: what `engine.carry_out` carries out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.attempt import CLOCK_STEP
from airflow_provider_bitrix24.at_most_once.course import read
from airflow_provider_bitrix24.at_most_once.next_step import ABSENCES_NEEDED, Observation, Policy, Recorded
from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24NotFound, Bitrix24OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.next_step import LastSend
    from airflow_provider_bitrix24.at_most_once.record import Record, Send

T = TypeVar("T")

READ_FAILURES_ALLOWED: Final = 5
"""How many reads in a row may fail once nothing can appear any more (each after the client's own repeats)."""
FIRST_PAUSE: Final = 1.0

PAYMENT: Final = Policy()
"""A payment is added, or marked as paid."""
ADDED_PAYMENT: Final = Policy(confirmed_absences=1)
"""A payment is added: one that was absent before may have appeared, and then a second one would be too many."""
PRODUCT_ROW: Final = Policy(asks=False)
"""A product row is put into a payment."""
SETTING: Final = Policy(sends=1, asks=False)
"""A value is set: once in each attempt, because repeating it changes nothing."""


class PortalUnreadable(Exception):
    """The portal could not be read while an outcome was looked for."""

    def __init__(self, cause: Bitrix24Error) -> None:
        super().__init__(cause.reason)
        self.gone = isinstance(cause, Bitrix24NotFound)
        """Whether the portal says that there is no such object."""


@dataclass(slots=True, kw_only=True)
class Watch:
    """The outcome of a send is looked for.

    :param absent_after: from when on, by the monotonic clock, nothing of it can still appear.
    :param doubt: why it is not known whether the send was executed; None after a clear reply.
    :param confirms: whether an earlier attempt has found already that the portal does not show it.
    """

    absent_after: float
    doubt: Bitrix24OutcomeUnknown | None = None
    confirms: bool = False
    absences: int = 0
    failures: int = 0
    begun: bool = False
    pause: float = FIRST_PAUSE
    trouble: Bitrix24Error | None = None
    """Why the portal cannot be read, once it is given up."""

    @property
    def is_answered(self) -> bool:
        """Whether a reply came, clear or not."""
        return self.doubt is None or self.doubt.answered

    def next_wait(self, now: float, lag: float) -> float:
        """Seconds until the next read."""
        if self.absences:
            return lag
        remaining = self.absent_after - now
        wait = min(self.pause, max(remaining, 0.05)) if remaining > 0 else self.pause
        self.pause = min(2 * self.pause, max(lag, FIRST_PAUSE))
        return wait


def after_reply(attempt: Attempt, doubt: Bitrix24OutcomeUnknown | None = None) -> Watch:
    """Watch a request that has ended: only the read lag can still hide its result."""
    return Watch(absent_after=attempt.now()[0] + attempt.settings.read_lag, doubt=doubt)


def after_lost_attempt(attempt: Attempt, send: Send, method: str) -> Watch:
    """Watch a send of an attempt that ended before a reply was saved."""
    clock = attempt.portal_clock
    left = attempt.settings.settle_window + CLOCK_STEP
    # A portal that does not tell its time, now or then, cannot say how much of the window is over.
    if clock.is_told and not send.worker_clock:  # rule: times by the worker's clock tell nothing
        # rule: absent after the settle window: later attempt
        left = send.settle_until - clock.at_the_earliest  # below 0 if it is over
    doubt = Bitrix24OutcomeUnknown(method, text=f"{send.by} ended before one was recorded")
    return Watch(absent_after=attempt.now()[0] + left, doubt=doubt)


def read_once(
    attempt: Attempt, watch: Watch, query: Query[T], shows: Callable[[T], bool]
) -> Course[tuple[bool, T | None]]:
    """Read once, after a wait if it was read before.

    As long as something can still appear, reads may fail in whatever way: an outage or a redirect passes.

    :return: whether the portal shows it, and what was read; None if it could not be read.
    :raises Bitrix24RateLimited: the portal's working-time limit is reached, and the journal lets the task go on later.
    """
    if watch.begun:
        wait = watch.next_wait(attempt.now()[0], attempt.settings.read_lag)
        yield from attempt.wait(wait, "Reading the portal again")
    watch.begun = True
    asked_at = attempt.now()[0]
    try:
        found = yield from read(query)
    except Bitrix24Error as error:
        # rule: a read-back that the time limit refused is no failed read
        if (yield from attempt.wait_for_time_limit(error)):
            return False, None
        watch.failures += asked_at >= watch.absent_after
        watch.trouble = error if watch.failures > READ_FAILURES_ALLOWED else None
        return False, None
    watch.failures = 0
    if shows(found):
        return True, found
    # An absence is a read that began when nothing could still arrive, the read lag after the one before.
    watch.absences += asked_at >= watch.absent_after
    return False, found


def find(attempt: Attempt, watch: Watch, query: Query[T], shows: Callable[[T], bool]) -> Course[T | None]:
    """Read until the portal shows something, or cannot show it any more.

    :return: what was read when it showed it; None when it is absent.
    :raises PortalUnreadable: neither is known.
    """
    needed = ABSENCES_NEEDED["acknowledged" if watch.is_answered else "pending"]
    while watch.absences < needed:
        shown, found = yield from read_once(attempt, watch, query, shows)
        if shown:
            return found
        if watch.trouble is not None:
            raise PortalUnreadable(watch.trouble)
    return None


@dataclass(slots=True)
class SendTries:
    """How often and since when one send was tried without being executed."""

    started: float
    """When the first one began, by the monotonic clock."""
    not_sent: int = 0
    """How many did not leave."""
    pause: float = FIRST_PAUSE
    """Seconds to wait before the next one."""


class Write:
    """One write: the payment or mark itself, or a step that completes a payment.

    A subclass says what is sent, how it is read, and what must be refused.

    :param step: name of the step in the record; None for the write itself.
    :param key: whose write it is.
    """

    policy: Policy
    method: str
    """REST method."""
    tag: str | None = None
    """What an added payment is tagged with in the same request."""

    def __init__(self, attempt: Attempt, key: str, step: str | None = None) -> None:
        self.attempt = attempt
        self.step = step
        self.digest = hashlib.sha256(key.encode()).hexdigest()
        self.watch: Watch | None = None
        self.tries: SendTries | None = None
        self.shown = False
        """Whether the portal shows it."""
        self.ambiguous = False
        """Whether it shows something that may be the write."""
        self.replaced = False
        """Whether it shows something that is used instead."""
        self._before = len(self._possible) if self.policy is SETTING else 0

    # -- what the table needs

    def recorded(self) -> Recorded:
        """What the journal says about this write; of a setting, only what this attempt has sent.

        What is known to be done was acknowledged: the portal is only asked whether it still shows it.
        """
        if self.is_known:
            return Recorded(last="acknowledged")
        record, possible = self.attempt.record, self._possible[self._before :]
        last = possible[-1] if possible else None
        earlier = self.watch is None or self.watch.confirms
        return Recorded(
            last=None if last is None else cast("LastSend", last.result),
            sends=len(possible),
            granted=0 if self.step else sum(one.what == "send_again" for one in record.decisions_carried_out),
            needs_decision=self.step is None and record.question is not None,
            # What this attempt has found out itself, nobody has looked into.
            cleared=last is not None and earlier and self.attempt.task.was_cleared_since(last),
        )

    def observation(self) -> Observation:
        """What the portal has shown of it."""
        watch = self.watch
        return Observation(
            shown=self.shown,
            absences=watch.absences if watch else 0,
            ambiguous=self.ambiguous,
            replaced=self.replaced,
            readable=watch is None or watch.trouble is None,
            read_at=self.attempt.read_at,
        )

    @property
    def is_known(self) -> bool:
        """Whether the journal says that it is done."""
        return False

    @property
    def last(self) -> Send | None:
        """The last send that may have been executed."""
        return self.attempt.record.last_send(self.step)

    @property
    def times(self) -> int:
        """How many sends may have been executed."""
        return len(self._possible)

    @property
    def doubt(self) -> Bitrix24OutcomeUnknown | None:
        """Why the outcome of the send that is watched is not known; None after a clear reply."""
        return self.watch.doubt if self.watch else None

    @property
    def _possible(self) -> tuple[Send, ...]:
        return tuple(one for one in self.attempt.record.sends_of(self.step) if one.may_have_run)

    # -- what a subclass says

    def call(self) -> Call[Any]:
        """The call to send."""
        raise NotImplementedError

    def look(self) -> Course[None]:
        """Read everything that permits the send."""
        raise NotImplementedError

    def query(self) -> Query[Any]:
        """What is read to find the outcome of a send."""
        raise NotImplementedError

    def shows(self, found: Any) -> bool:
        """Whether what was read shows the write."""
        raise NotImplementedError

    def refuse(self) -> Course[None]:
        """Refuse what must not be sent, by what was read last.

        :raises Bitrix24Error: it must not be sent.
        """
        yield from ()

    def take(self, found: Any) -> Course[None]:
        """Take over what was read when the portal shows the write."""
        self.shown = True
        yield from ()

    def conclude(self, found: Any) -> Course[None]:
        """Take over what was read when everything that was sent must have ended, and the write is not shown."""
        if not self.is_known:
            yield from self.save_absence()

    def prepared(self, record: Record) -> Record:
        """The record right before the intent is added."""
        return record

    def replied(self, result: Any) -> Course[Bitrix24OutcomeUnknown | None]:
        """Save a clear reply.

        :return: why it cannot be believed; None if it can.
        """
        # rule: reply before read back: a mark
        yield from self.attempt.keep(self.attempt.record.acknowledged(step=self.step))
        return None

    # -- watching

    def watch_earlier(self) -> Watch:
        """Watch the last send, which this attempt has not sent; or what is known, whether it is still there."""
        last = self.last
        if last is None or self.is_known:
            return after_reply(self.attempt)
        if last.result == "pending":
            return after_lost_attempt(self.attempt, last, self.method)
        doubt, answered = None, last.result != "absent"
        if last.portal_message or not answered:
            doubt = Bitrix24OutcomeUnknown(self.method, answered=answered, text=last.portal_message)
        watch = after_reply(self.attempt, doubt)
        watch.confirms = last.result in ("absent", "not_applied")
        return watch

    def save_absence(self) -> Course[None]:
        """Save that the portal does not show the last send."""
        attempt, watch = self.attempt, self.watch
        words = None if watch is None or watch.doubt is None else watch.doubt.words
        if watch is None or watch.is_answered:
            yield from self.report_not_applied(words)
            return
        aside = f";{attempt.set_aside}" if attempt.set_aside and not self.step else ""
        yield from attempt.keep(attempt.record.absent(f"{words}{aside}", step=self.step))
        attempt.log.warning("%s", messages.is_absent(self.step or attempt.record.subject, attempt.set_aside))

    def report(self) -> Course[None]:
        """Save that this task fails because the last send was not applied, if that is so."""
        last = self.last
        if last is not None and last.result == "not_applied" and not self.is_known:
            yield from self.report_not_applied(last.portal_message)

    def report_not_applied(self, words: str | None) -> Course[None]:
        """Save that the last send was not applied, and that this task fails because of it."""
        record = self.attempt.record
        told = record.not_applied(words, report_to=self.attempt.task.round, step=self.step)
        if told != record:
            yield from self.attempt.keep(told)
