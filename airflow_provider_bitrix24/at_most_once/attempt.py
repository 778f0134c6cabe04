"""One attempt at one operation: what the journal says of its key, what the portal has shown, what was sent.

Every time in the journal is by the portal's clock, as far as the portal shows one: workers' clocks may be off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from airflow_provider_bitrix24.api.io import SendDeadline
from airflow_provider_bitrix24.api.working_time import WINDOW
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.chunks import SOON
from airflow_provider_bitrix24.at_most_once.course import Wait, WaitForJournal, do, load, read_with_time, save
from airflow_provider_bitrix24.at_most_once.next_step import is_fresh
from airflow_provider_bitrix24.at_most_once.portal_clock import Clock, PortalClock
from airflow_provider_bitrix24.at_most_once.record import Send
from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24OutcomeUnknown,
    Bitrix24StoreError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
    PaymentUnresolved,
)
from airflow_provider_bitrix24.journal.protocol import Loaded

if TYPE_CHECKING:
    from collections.abc import Collection

    import pendulum

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.next_step import Reading
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Decision, Record
    from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
    from airflow_provider_bitrix24.journal.protocol import Journal, Saved

LONGEST_WAIT: Final = 2 * WINDOW
"""Seconds: how long a payment waits on the worker for the portal's working-time limit, which ends in ten minutes."""
SAVES: Final = 4
"""How often the journal is asked to keep what the portal has replied."""
CLOCK_STEP: Final = 1.0
"""The portal's times may be cut to whole seconds."""


class Log(Protocol):
    """Takes messages with their arguments, as every logger does."""

    def info(self, message: str, /, *args: Any) -> Any:
        """Log a step."""

    def warning(self, message: str, /, *args: Any) -> Any:
        """Log what somebody should know."""


class View(Protocol):
    """What was read before a write, with the portal's clock in it."""

    @property
    def at(self) -> pendulum.DateTime | None:
        """The portal's clock when it replied; None if it does not tell."""


T = TypeVar("T")
V = TypeVar("V", bound=View)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all attempts of one run share."""

    client: ApiClient
    clock: Clock
    log: Log
    journal: Journal
    task: TaskAttempt


class Attempt:
    """One attempt at one operation.

    :param wanted: what the record is before anything was sent.
    :param patient: whether to wait for another attempt that is at work on the key.
    """

    def __init__(self, tools: Tools, wanted: Record, *, patient: bool = True) -> None:
        self.settings = tools.client.settings
        self.log = tools.log
        self.journal = tools.journal
        self.task = tools.task
        self.wanted = wanted
        self.record = wanted
        self.sent_now = False
        """Whether this attempt has sent the write itself."""
        self.refused_decision: tuple[Decision, str] | None = None
        """The decision of this attempt that does not apply any more, and why."""
        self.read_at: Reading | None = None
        """When everything that permits a send was read; None if there was a wait since."""
        self.asked_at: float | None = None
        """When the last read before a send began, by the monotonic clock."""
        self._limit_until: float | None = None
        """Until when the portal's working-time limit is waited for on the worker, by the monotonic clock."""
        self.portal_clock = PortalClock(tools.clock)
        self.patient = patient
        self.loaded = Loaded()
        self.resumes = False
        """Whether an earlier attempt may have sent something; set when the decisions of people are carried out."""

    # -- the journal

    def is_outdated(self) -> Course[bool]:
        """Whether this attempt has executed nothing, and another one has since it began."""
        if not self.record.nothing_executed:
            return False
        loaded = yield from load()
        return loaded.record is not None and not loaded.record.nothing_executed

    # -- what is known

    @property
    def key(self) -> str:
        """The idempotency key."""
        return self.wanted.key

    @property
    def portal(self) -> str:
        """The portal's name in keys, receipts and messages."""
        return self.settings.portal

    @property
    def has_sent(self) -> bool:
        """Whether this attempt has sent anything, also what only completes the payment."""
        return self.sent_now or any(send.by == str(self.task) for send in self.record.possible_step_sends)

    @property
    def may_be_forgotten(self) -> bool:
        """Whether an earlier attempt may have sent something that was never saved."""
        return not self.journal.durable and self.task.try_number > 1

    @property
    def known(self) -> str:
        """What is known of this key without the portal, as sentences; empty if certainly nothing was executed."""
        if self.record.nothing_executed and self.may_be_forgotten:
            return messages.earlier_attempts_unknown(self.task.try_number, self.record.subject)
        return messages.known(self.record, self.why_notes_lost)

    @property
    def why_notes_lost(self) -> str:
        """Why the journal has lost the notes of earlier attempts, as sentences; empty if it need not have known any."""
        return self.task.lost or self.loaded.forgot

    @property
    def not_by_this_attempt(self) -> str:
        """What this attempt has not sent, where what was sent before is said already."""
        return messages.MORE_WAS_NOT_SENT if self.has_sent else messages.NOT_BY_THIS_ATTEMPT

    @property
    def changed(self) -> Literal["no", "unknown", "yes"]:
        """Whether this key has changed something on the portal."""
        record = self.record
        if record.possible_sends and (record.receipt is not None or record.payment_id is not None):
            return "yes"
        # Where nothing is noted, an earlier attempt may have been forgotten.
        noted = self.journal.durable and self.loaded.record is not None
        certain = self.task.try_number == 1 or noted
        # What comes before the write itself has changed something as well.
        nothing = record.nothing_executed and not record.possible_step_sends
        return "no" if certain and nothing and not self.has_sent else "unknown"

    def as_the_end(self, error: Bitrix24Error) -> Bitrix24Error:
        """Return an error as the end of this attempt: it does not deny what was sent before."""
        ended = self.with_what_was_sent(error)
        ended.sent = self.changed
        return ended

    def with_what_was_sent(self, error: Bitrix24Error) -> Bitrix24Error:
        """Return an error that does not deny what was sent before."""
        known, sent = self.known, self.has_sent
        return error.after(known, sent=sent) if known or sent else error

    def refuse_other_parameters(self, happened: str) -> None:
        """Refuse to go on with a key that was used for something else.

        :param happened: its outcome then, as a sentence.
        :raises PaymentMismatch: the parameters differ.
        """
        differing = self.record.differing(self.wanted.parameters)
        if differing:  # rule: compare parameters
            raise PaymentMismatch(messages.other_parameters(self.record, differing, happened, self.not_by_this_attempt))

    # -- the portal and time

    def now(self) -> Reading:
        """What the worker's clocks show: monotonic and wall."""
        return self.portal_clock.reading()

    @property
    def is_fresh(self) -> bool:
        """Whether what was read last is recent enough to permit a send."""
        return is_fresh(self.read_at, self.now(), self.settings.send_deadline)

    def deadline(self) -> SendDeadline:
        """Until when what was read last permits a send."""
        monotonic, wall = self.now() if self.read_at is None else self.read_at
        allowed = self.settings.send_deadline
        return SendDeadline(monotonic=monotonic + allowed, wall=wall + allowed)

    def wait(self, seconds: float, reason: str) -> Course[None]:
        """Wait; afterwards the portal must be read again before a send."""
        self.read_at = None  # rule: a wait ends what permits a send
        yield from do(Wait(seconds, reason))

    def wait_for_time_limit(self, error: Bitrix24Error) -> Course[bool]:
        """Wait on the worker until the portal's working-time limit is over, if that is what has refused a request.

        Nobody would remember what was sent, so it must be read back and completed now.

        :return: whether to go on; False if something else is wrong, or the limit did not end in time.
        :raises Bitrix24RateLimited: the journal remembers: the task goes on when the limit is over.
        """
        if not error.is_time_limit:
            return False
        if self.journal.durable:  # rule: what the time limit has refused to read is read later
            raise error
        now, seconds = self.now()[0], min(getattr(error, "retry_after", None) or SOON, WINDOW)
        self._limit_until = self._limit_until or now + LONGEST_WAIT
        if now + seconds > self._limit_until:
            return False
        yield from self.wait(seconds, f"The portal's working-time limit: going on with {self.record.subject}")
        return True

    def read_before_send(self, query: Query[V]) -> Course[V]:
        """Read what the next write depends on, and remember when.

        :raises PaymentNotApplied: the object is not there any more, and something of this key may have been.
        :raises PaymentUnresolved: it cannot be read, and something of this key may be there.
        :raises Bitrix24RateLimited: the same for the portal's working-time limit: the task goes on when that is over.
        :raises Bitrix24OutcomeUnknown: the same, if a retry cannot help, or nothing would be remembered.
        :raises Bitrix24Error: it cannot be read, and nothing of this key is there.
        """
        while True:
            self.read_at = None
            left = self.now()
            try:
                view, came = yield from read_with_time(query)
            except Bitrix24Error as error:
                if self.record.nothing_executed and not self.may_be_forgotten:
                    raise
                trouble = error
            else:
                self.read_at, self.asked_at = came, left[0]
                self.portal_clock.set(view.at, left)
                return view
            if not (yield from self.wait_for_time_limit(trouble)):
                break
        if isinstance(trouble, PaymentRefused):
            raise PaymentNotApplied(messages.object_is_gone(self.known, trouble.reason, self.not_by_this_attempt))
        message = messages.portal_cannot_be_read(self.known, trouble.reason, self.not_by_this_attempt)
        # Without a journal, a later attempt would not know what this one has sent.
        if trouble.final or (self.sent_now and not self.journal.durable):
            raise Bitrix24OutcomeUnknown("batch", message=message)
        raise PaymentUnresolved(message)

    def look(self, query: Query[T]) -> Course[T]:
        """Read what the next write that completes a payment depends on, and remember when."""
        self.read_at = None
        found, self.read_at = yield from read_with_time(query)
        return found

    def new_send(self) -> Send:
        """A send that has not left yet."""
        at = round(self.portal_clock.at_the_latest, 3)
        window = self.settings.settle_window + CLOCK_STEP
        told = self.portal_clock.is_told
        return Send(at=at, settle_until=at + window, by=str(self.task), result="pending", worker_clock=not told)

    # -- saving

    def write(self, record: Record, *, lease: float | None = None) -> Course[None]:
        """Save once: what is not saved is not acted upon.

        :raises PaymentInProgress: another attempt has taken over.
        :raises PaymentAmbiguous: another key has claimed its payment.
        :raises Bitrix24StoreError: the journal cannot be reached.
        """
        saved = yield from save(record, lease=lease)
        if saved.outcome == "overtaken":
            raise PaymentInProgress(saved.message)
        if saved.outcome == "claimed":
            yield from self._ask_about_claim(record, saved)
        self.record = record

    def keep(self, record: Record, *, lease: float | None = None) -> Course[None]:
        """Save what is known now, patiently: a journal may be away for some seconds."""
        left = SAVES
        ended: Bitrix24Error
        while True:
            left -= 1
            try:
                return (yield from self.write(record, lease=lease))
            except PaymentInProgress as error:
                done = messages.done_by_reply(record, self.record)
                ended = error
                if done:  # rule: who was overtaken says what the portal replied
                    ended = PaymentInProgress(f"{error} {done}")
                    ended.sent = "yes"
                break
            except Bitrix24StoreError as error:
                if not left:
                    done = messages.done_by_reply(record, self.record)
                    ended = error.after(messages.unsaved_reply(done) if done else messages.known(record))
                    break
                self.log.warning("%s Trying again.", error)
            self.read_at = None
            yield from do(WaitForJournal(2.0 ** (SAVES - left - 1), "waiting for the journal"))
        raise ended

    def finish(self, receipt: Receipt) -> Course[Receipt]:
        """Save the receipt, release the key, and return the receipt."""
        record = self.record
        found_only = receipt.evidence == "portal_state" and record.payment_id is None
        if not (found_only and not record.possible_sends):  # nothing sent, nothing found: the portal is the record
            yield from self.keep(record.finished(receipt.as_dict(), self.task.shows_in), lease=0)
        return receipt

    # -- people

    def ask(
        self,
        question: str,
        candidates: Collection[int] = (),
        *,
        unresolved_keys: Collection[str] = (),
        why: str = "a person was asked again before it was carried out",
    ) -> Course[None]:
        """Leave it to a person.

        :param unresolved_keys: the keys whose unknown outcome makes this one ambiguous.
        :param why: why a decision that waits is not carried out.
        :raises PaymentAmbiguous: always.
        """
        unclear = PaymentAmbiguous(question, candidates=tuple(sorted(candidates)))
        # From now on it is this task through which a person is asked.
        waiting = self.record.needs_decision(
            question, candidates, unresolved_keys=unresolved_keys, task=self.task.identity, refuse=why
        )
        yield from self.keep(waiting, lease=0)
        raise unclear

    def refuse_undecided(self) -> None:
        """Refuse to go on where a person was asked and has not decided, whatever the portal shows now.

        :raises PaymentAmbiguous: the person has not decided.
        """
        record = self.record
        if record.question is not None:
            raise PaymentAmbiguous(messages.undecided(record), candidates=record.candidates)

    def _ask_about_claim(self, record: Record, saved: Saved) -> Course[None]:
        """Leave to a person whose payment it is."""
        show, decide = (self.journal.command(verb, saved.claimed_by) for verb in ("show", "resolve"))
        was_known = saved.payment_id == self.record.payment_id
        if was_known:
            # It was known before, in the task state alone, and is not done until that is settled.
            self.record = self.record.reopened()
        question = messages.claimed(
            record, saved, show=show, decide=decide, how_to_decide=self.how_to_decide(), abandon_first=was_known
        )
        payment_ids = () if saved.payment_id is None else (saved.payment_id,)
        yield from self.ask(question, payment_ids, why=messages.claimed_by_another(record, saved))
        raise AssertionError("unreachable")

    def how_to_decide(self) -> str:
        """The command by which a person decides about this key, for messages."""
        return messages.how_to_decide(self.record, self.journal.command("resolve", self.key), self.task.hint)

    def how_to_decide_if_kept(self) -> str | None:
        """The same; None if there is no journal that would keep a decision."""
        return self.how_to_decide() if self.journal.durable else None

    @property
    def set_aside(self) -> str:
        """What people have said is not this key's, as a sentence after a blank; empty if there is nothing."""
        return messages.set_aside(self.record)
