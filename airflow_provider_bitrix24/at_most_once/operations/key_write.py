"""The write that a key stands for, and what one attempt does with it: the same for every operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.decisions import carry_out_decision
from airflow_provider_bitrix24.at_most_once.engine import carry_out
from airflow_provider_bitrix24.at_most_once.forgotten import await_lost_notes
from airflow_provider_bitrix24.at_most_once.next_step import Step
from airflow_provider_bitrix24.at_most_once.write import PortalUnreadable, Write
from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown, PaymentNotApplied, PaymentUnresolved

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.messages import Wording
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Decision


class KeyWrite(Write):
    """The write that a key stands for: a subclass says what differs from operation to operation."""

    words: Wording
    """What messages call it."""
    why_ignored: str = ""
    """Why the portal may return ``true`` and do nothing."""
    view: Any
    """What was read before the send."""

    @property
    def where(self) -> str:
        """Where a person looks, as an imperative."""
        raise NotImplementedError

    @property
    def user_id(self) -> int:
        """The connection's user."""
        return int(self.view.profile.user_id)

    # -- the beginning

    def read(self) -> Course[None]:
        """Read the object for the first time."""
        yield from self.look()

    def begin(self) -> Course[None]:
        """Take over what other attempts and operations have left in the journal."""
        raise NotImplementedError

    @property
    def has_proof(self) -> bool:
        """Whether what was read shows already that a write of which the notes are lost was executed."""
        return self.shown

    def proof(self) -> tuple[Query[Any], Callable[[Any], bool]]:
        """What is read to find out whether a write of which the notes are lost was executed, and what tells it."""
        return self.query(), self.shows

    def candidates(self) -> Course[list[int]]:
        """The payments that may be this key's."""
        yield from ()
        return []

    @property
    def shown_payments(self) -> Collection[int]:
        """All payments of the object, if it is one that payments are added to."""
        return ()

    def use(self, decision: Decision, candidates: list[int]) -> Course[None]:
        """Use the payment that a person has chosen."""
        raise NotImplementedError

    def judge_without_notes(self) -> Course[Receipt]:
        """Judge by the portal alone, because the journal has lost what was sent.

        :raises PaymentAmbiguous: a person has to.
        """
        raise NotImplementedError

    def ask_about_lost_notes(self, candidates: Collection[int] = ()) -> Course[None]:
        """Leave the key to a person, because the journal has lost its notes.

        :raises PaymentAmbiguous: always.
        """
        attempt, decide = self.attempt, self.attempt.how_to_decide_if_kept()
        question = messages.notes_are_lost(attempt.record, attempt.why_notes_lost, self.where, decide)
        yield from attempt.ask(question, candidates)

    # -- the end

    def done(self) -> Course[Receipt]:
        """Return the receipt for what the portal shows."""
        raise NotImplementedError

    def ask(self) -> Course[None]:
        """Leave it to a person: it was sent as often as it may be, or a person was asked before.

        :raises PaymentAmbiguous: always.
        """
        yield from self.report()
        self.attempt.refuse_undecided()
        yield from self.leave_to_a_person(messages.sent_too_often(self.attempt.record, self._request, self.words))

    def leave_to_a_person(
        self, happened: str, candidates: Collection[int] = (), unresolved_keys: Collection[str] = ()
    ) -> Course[None]:
        """Leave it to a person, with the same advice whatever happened.

        :raises PaymentAmbiguous: always.
        """
        question = f"{happened}{self.attempt.set_aside} {messages.NOT_AGAIN} {self.what_to_do}"
        yield from self.attempt.ask(question, candidates, unresolved_keys=unresolved_keys)

    def not_applied(self) -> PaymentNotApplied:
        """The error for a portal that has replied, and does not show it (any more)."""
        attempt = self.attempt
        if self.is_known:
            not_sent = attempt.not_by_this_attempt
            return PaymentNotApplied(messages.not_shown_any_more(*self.noted, not_sent, self.what_to_do))
        why_ignored = self.why_ignored if self.doubt is None else ""
        advice = messages.advice(self.where, messages.if_missing(self.words))
        return PaymentNotApplied(
            messages.not_applied(
                self.happened, self.words, attempt.set_aside, why_ignored, advice, sent_now=attempt.sent_now
            )
        )

    def unreadable(self, trouble: PortalUnreadable) -> Exception:
        """The error for a portal that could not be read after a send."""
        journal, doubt = self.attempt.journal, self.doubt or Bitrix24OutcomeUnknown(self.method, answered=True)
        if self.is_known:
            happened = messages.known_and_unreadable(*self.noted, str(trouble))
        else:
            happened = messages.unreadable(self.happened, str(trouble), self.words)
        if journal.durable:
            return PaymentUnresolved(messages.in_journal(happened, journal.name))
        message = f"{happened} {messages.NOT_AGAIN} {messages.advice(self.where, self.then)}"
        if self.is_known:
            return PaymentNotApplied(message)
        return Bitrix24OutcomeUnknown(self.method, doubt.answered, doubt.portal_code, doubt.text, message)

    # -- words

    @property
    def noted(self) -> tuple[str, str]:
        """What is known to be done: of what, and what the journal says of it."""
        raise NotImplementedError

    @property
    def _request(self) -> str:
        return self.words.do.format(self.attempt.record.subject)

    @property
    def happened(self) -> str:
        """What the portal replied, as the beginning of a sentence."""
        last, watch = self.last, self.watch or self.watch_earlier()
        by = "" if self.attempt.sent_now or last is None else last.by
        return messages.reply_to_request(watch.doubt, self._request, by)

    @property
    def then(self) -> str:
        """What a person does after a look at the portal, where no decision is kept."""
        return messages.if_missing(self.words)

    @property
    def what_to_do(self) -> str:
        """Advice for a person who has to decide."""
        return messages.what_to_do(self.where, self.then, self.attempt.how_to_decide_if_kept())


def run_attempt(write: KeyWrite) -> Course[Receipt]:
    """Do what one attempt does with a key: read, carry out a decision, send at most once, read back.

    :raises PaymentRefused: what the portal shows forbids it, or the key is abandoned; nothing was sent.
    :raises PaymentMismatch: other money, other parameters than before, or a payment that is not as wanted.
    :raises PaymentAmbiguous: a person has to decide.
    :raises PaymentNotApplied: the portal has replied, and does not show it (any more).
    :raises PaymentUnresolved: something may have been sent, and the portal cannot be read now.
    :raises Bitrix24OutcomeUnknown: the same without a journal.
    """
    attempt = write.attempt
    yield from write.read()
    yield from write.begin()  # rule: what others were told is learned first
    yield from await_lost_notes(write)  # rule: lost notes are waited for before a send
    candidates = yield from write.candidates()
    decision = yield from carry_out_decision(attempt, candidates, write.shown_payments)
    if decision is not None and decision.what == "use_payment":
        yield from write.use(decision, candidates)
    record = attempt.record
    attempt.resumes = not record.nothing_executed
    if record.receipt is not None:
        attempt.refuse_other_parameters(messages.known(record))
    elif record.forgotten and record.payment_id is None:
        return (yield from write.judge_without_notes())
    step = yield from carry_out(attempt, write)
    if step is Step.DONE:
        return (yield from write.done())
    if step is Step.ASK:
        yield from write.ask()
    if step is Step.FAIL:
        yield from write.report()
        raise write.not_applied()
    if write.watch is None or write.watch.trouble is None:
        raise AssertionError("the portal was read")
    raise write.unreadable(PortalUnreadable(write.watch.trouble))
