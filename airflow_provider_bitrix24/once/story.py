"""One key's story: what the journal says about it, and what this attempt adds, each step before the next request.

Every time in it is by the portal's clock, as far as the portal shows one: workers' clocks may be off.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeVar

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
from airflow_provider_bitrix24.journal import Claimed, Decision, Entry, Send
from airflow_provider_bitrix24.once.attempt import Sent
from airflow_provider_bitrix24.once.intent import Intent
from airflow_provider_bitrix24.once.portal_clock import PortalClock, Shows

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.journal import Journal
    from airflow_provider_bitrix24.journal.entry import Evidence, SendResult
    from airflow_provider_bitrix24.once.attempt import Attempt
    from airflow_provider_bitrix24.once.receipt import Receipt
    from airflow_provider_bitrix24.once.task import Task

SENDS_ALLOWED: Final = 2
"""How often one key may be sent without a person: the first time, and once more after a proven absence."""
_WRITES: Final = 4
"""How often the journal is asked to keep what the portal has answered."""
_CLOCK_STEP: Final = 1.0
"""The portal's times may be cut to whole seconds."""
_LOOK_AGAIN: Final = 5.0


V = TypeVar("V", bound=Shows)


class Story:
    """What is known about one key, and what becomes of it.

    :param attempt: the tools.
    :param journal: where it is kept.
    :param task: who asks.
    :param entry: what it is about: how an entry looks before anything was sent.
    :param decision: what a person has decided just now.
    """

    def __init__(
        self, attempt: Attempt, journal: Journal, task: Task, entry: Entry, decision: Decision | None = None
    ) -> None:
        self.attempt = attempt
        self.journal = journal
        self.task = task
        self.wanted = entry
        self.page = journal.page(entry.portal, entry.key)
        self.sent_now = False
        """Whether this attempt sent the write."""
        self.turned_down: tuple[Decision, str] | None = None
        """The answer of this attempt that does not apply any more, and why."""
        self.clock = PortalClock(attempt.clock)
        self.entry = self._opened()
        if self.page.behind:
            # Other runs know only what the journal itself holds.
            self.keep(self.entry)
        if decision is not None:
            self._take(decision)

    @cached_property
    def found(self) -> bool:
        """Whether an earlier attempt has left something; asked first when decisions have been carried out."""
        return not self.entry.free

    def _take(self, decision: Decision) -> None:
        """Take over a person's decision, once, if the question still applies; *give up* needs no question."""
        entry, shown = self.entry, tuple(sorted(decision.candidates))
        if entry.knows(decision):
            return
        asked_here = entry.state == "parked" and entry.task == self.task.identity
        given_up = decision.what == "give_up" and entry.receipt is None
        if given_up or (asked_here and entry.candidates == shown):
            # Airflow hands it over only once.
            self.keep(entry.decide(decision))
            return
        why = f"the question does not stand any more: {entry.key} is {entry.state}"
        self.attempt.log.warning(
            "%s has decided (%s): %s, but %s. The decision is not carried out.",
            decision.by,
            decision.through,
            decision.what,
            why,
        )
        self.turned_down = decision, why
        self.keep(entry.note(decision.but(refused=why)))

    # -- what the journal says ---------------------------------------------------------------------------------------

    def _opened(self) -> Entry:
        """Read the entry; if there is none, note that work on the key has begun, before the portal is read."""
        while True:
            entry = self._read()
            self._noted = entry is not None
            mine = self.wanted if entry is None else self._as_wanted(entry)
            # A free entry of another task does not say what this one has sent.
            knows_us = entry is not None and (not entry.free or entry.task == self.task.identity)
            if (self.task.lost or self.page.forgot) and not knows_us:
                mine = mine.but(task=self.task.identity, forgotten=True, forgotten_since=None)
            if entry is None and not self.page.open(mine):
                continue  # somebody else has begun at this very moment
            if entry is not None and mine.forgotten and not entry.forgotten:
                self.keep(mine)
            return mine

    def _as_wanted(self, entry: Entry) -> Entry:
        """Return an entry for which nothing was executed with the present arguments; any other entry unchanged."""
        if not entry.free:
            return entry
        asked = {"question": entry.question, "candidates": entry.candidates, "rivals": entry.rivals}
        said = {"decision": entry.decision, "decisions": entry.decisions, "dismissed": entry.dismissed}
        return self.wanted.but(sends=entry.sends, **asked, **said)

    def _read(self) -> Entry | None:
        """Read the entry, waiting for whoever is at work on it, but not longer than it says."""
        entry, waited_for = self.page.read(), None
        while self.page.busy:
            busy = self.page.busy
            if waited_for not in (None, busy.epoch) or self._parked_elsewhere(entry):
                break
            if waited_for is None:
                self.attempt.log.info(
                    "%s is at work on %s. Waiting for up to %.0f s.", busy.owner, self.wanted.key, busy.seconds
                )
            waited_for = busy.epoch
            self.attempt.wait(min(busy.seconds + 0.1, _LOOK_AGAIN), "waiting for another task on the same key")
            entry = self.page.read()
        if self._parked_elsewhere(entry):
            assert entry is not None  # noqa: S101 - only an entry is parked
            raise PaymentAmbiguous(
                f"{entry.question} A person is asked about it in another task ({entry.task}). Nothing was sent by this "
                "attempt.",
                entry.candidates,
            )
        if self.page.busy and (entry is None or entry.receipt is None):
            raise PaymentInProgress(
                f"{self.page.busy.owner} is at work on {self.wanted.key!r} ({self.wanted.subject}) and has gone on "
                "since this task began to wait. Nothing was sent by this attempt; the next one reads the outcome."
            )
        return entry

    def _parked_elsewhere(self, entry: Entry | None) -> bool:
        return entry is not None and entry.state == "parked" and entry.task != self.task.identity

    @property
    def outdated(self) -> bool:
        """Whether this attempt has written nothing, and somebody else has since it began."""
        entry = self.page.read() if self.entry.free else None
        return entry is not None and not entry.free

    @property
    def differing(self) -> dict[str, tuple[Any, Any]]:
        """Parameters that the entry has otherwise: name -> what it has, what is wanted.

        One that an older entry lacks counts as its default, which is nothing.
        """
        wanted, has = self.wanted.parameters, self.entry.parameters
        return {
            name: (has.get(name), wanted.get(name))
            for name in sorted(wanted.keys() | has.keys())
            if (has.get(name) or None) != (wanted.get(name) or None)
        }

    def refuse_other_parameters(self, happened: str) -> None:
        """Refuse to go on with a key that was used for something else.

        :raises PaymentMismatch: the parameters differ.
        """
        if not self.differing:
            return
        listed = "; ".join(f"{name} {has!r} instead of {wanted!r}" for name, (has, wanted) in self.differing.items())
        raise PaymentMismatch(
            f"The key {self.entry.key!r} was used before, by {self.entry.task}, with other parameters: {listed}. "
            f"{happened} {self._sent_in_words} One key stands for one payment: give the other one a key of its own, or "
            "ask for the same as before."
        )

    # -- clocks ------------------------------------------------------------------------------------------------------

    def ask(self, look: Flow[V]) -> V:
        """Read the portal, and remember what its clock showed.

        :raises PaymentNotApplied: the object is not there any more, and something of this key may have been.
        :raises PaymentUnresolved: it cannot be read, and something of this key may be there.
        :raises Bitrix24OutcomeUnknown: the same, if a retry cannot fix it, or nothing would be remembered.
        :raises Bitrix24Error: it cannot be read, and nothing of this key is there.
        """
        left = self.clock.reading()
        try:
            view = self.attempt.observe(look)
        except Bitrix24Error as error:
            if self.entry.free and not self._forgot:
                raise
            trouble, final, gone = error.reason, error.final, isinstance(error, PaymentRefused)
        else:
            self.clock.set(view.at, left)
            return view
        if gone:
            raise PaymentNotApplied(
                f"{self._known} {trouble}. {self._sent_in_words} Nothing is sent again automatically. What to do: look "
                "in Bitrix24 at what has taken its place."
            )
        message = (
            f"{self._known} The portal cannot be asked about it now ({trouble}). {self._sent_in_words} When the portal "
            "answers again, clear this task: it reads first and does not pay twice."
        )
        # Without a journal, a later attempt would not know what this one has sent.
        if final or (self.sent_now and not self.journal.durable):
            raise Bitrix24OutcomeUnknown("batch", message=message)
        raise PaymentUnresolved(message)

    @property
    def _forgot(self) -> bool:
        """Whether an earlier attempt may have sent something that nobody has written down."""
        return not self.journal.durable and self.task.try_number > 1

    @property
    def _known(self) -> str:
        """What is known of this key without the portal, as sentences."""
        if self.entry.free and self._forgot:
            return (
                f"This is attempt {self.task.try_number}, and there is no journal: an earlier one may have sent a "
                f"write for {self.entry.subject}, which then MAY be on the books of the portal."
            )
        return self.entry.known

    def place(self, error: Bitrix24Error) -> Bitrix24Error:
        """Return an error as the end of this story: it does not deny what was sent before."""
        known = self._known
        if isinstance(error, Bitrix24StoreError) and known and not error.known:
            error = error.telling(known)
        told = error.after(known, sent=self.has_sent) if known else error
        told.sent = self._changed
        return told

    @property
    def _changed(self) -> Literal["no", "unknown", "yes"]:
        """Whether this key has changed something on the portal."""
        entry = self.entry
        if entry.may_have_run and (entry.receipt is not None or entry.payment_id is not None):
            return "yes"
        # Where nothing is noted, an earlier attempt may have been forgotten.
        certain = self.task.try_number == 1 or (self.journal.durable and self._noted)
        return "no" if certain and entry.free and not entry.forgotten and not self.has_sent else "unknown"

    @property
    def has_sent(self) -> bool:
        """Whether this attempt has sent anything, if only what completes the payment."""
        steps = [send for sends in self.entry.steps.values() for send in sends]
        return self.sent_now or any(send.may_have_run and send.by == str(self.task) for send in steps)

    def forgotten(self) -> Sent | None:
        """What is known of a send that the journal has forgotten: it may be on its way; None if it cannot be any more.

        Nothing of it is waited for if nothing is sent nor asked: what is known, a person adopts or gives up, stands.
        """
        entry = self.entry
        what = entry.decision.what if entry.decision is not None else None
        unknown = what is None and entry.receipt is None and entry.payment_id is None and entry.given_up is None
        if not entry.forgotten or not (unknown or what == "pay_again"):
            return None
        left = window = self.attempt.client.settings.settle_window + _CLOCK_STEP
        if self.clock.is_told:
            if entry.forgotten_since is None:
                self.keep(entry.but(forgotten_since=round(self.clock.at_the_latest, 3)))
            left = (self.entry.forgotten_since or 0.0) + window - self.clock.at_the_earliest
        if left <= 0:
            return None
        self.attempt.log.warning(
            "The journal has lost what earlier attempts noted, and one of them may have sent a write just now. Reading "
            "for up to %.0f s whether it appears.",
            left,
        )
        doubt = Bitrix24OutcomeUnknown("a write", text="the journal has lost its notes")
        return Sent(answer=None, doubt=doubt, absent_after=self.attempt.clock.monotonic() + left, proofs=2)

    def leave_forgotten(self, look: str, candidates: Collection[int] = ()) -> NoReturn:
        """Leave the key to a person, because the journal has lost its notes.

        :param look: where to look, as an imperative.
        :raises PaymentAmbiguous: always.
        """
        lost = self.task.lost or self.page.forgot
        why = f" {lost}" if lost else ""
        self.park(
            f"{self.entry.known}{why} Nothing was sent by this attempt, and this task does not send again "
            f"automatically. What to do: {look}, and decide by {self.how_to_decide()}; then clear this task.",
            candidates,
        )

    @property
    def _sent_in_words(self) -> str:
        """What this attempt has sent besides what was said already, as a sentence."""
        return "Nothing more was sent." if self.has_sent else "Nothing was sent by this attempt."

    # -- sending -----------------------------------------------------------------------------------------------------

    @property
    def sends_left(self) -> bool:
        """Whether the write may be sent without asking a person again."""
        granted = sum(decision.what == "pay_again" for decision in self.entry.carried_out)
        return self.entry.may_have_run < SENDS_ALLOWED + granted

    def intent(self, **facts: Any) -> Intent:
        """The intent to send the write itself.

        :param facts: what the portal showed before the first send; kept as long as anything may have run.
        :raises PaymentAmbiguous: a person is asked about this key and has not decided.
        """
        self.refuse_undecided()
        if not self.entry.may_have_run:
            # Nothing of an earlier try counts, so that what is wanted now counts alone.
            self.entry = self.afresh(**facts)
        else:
            renewed = {name: facts[name] for name in ("amount", "currency") if name in facts}
            self.entry = self.entry.but(parameters=self.wanted.parameters, **renewed)
        self.entry = self.entry.unasked()
        return Intent(self, None)

    def afresh(self, **facts: Any) -> Entry:
        """The entry with what is wanted now, and with what people have said."""
        entry = self.entry
        return self.wanted.but(sends=entry.sends, decisions=entry.decisions, dismissed=entry.dismissed, **facts)

    def step(self, name: str) -> Intent:
        """The intent to send something that completes the payment, so that it is taken for this key's."""
        self.entry = self.entry.unasked()
        return Intent(self, name)

    def new_send(self) -> Send:
        """A send that has not left yet."""
        now = round(self.clock.at_the_latest, 3)
        window = self.attempt.client.settings.settle_window + _CLOCK_STEP
        return Send(at=now, settle_until=now + window, by=str(self.task), by_our_clock=not self.clock.is_told)

    def lost(self, send: Send, method: str) -> Sent:
        """What is known of a send of an attempt that ended without a word."""
        window = self.attempt.client.settings.settle_window + _CLOCK_STEP
        # A portal that does not tell its time, now or then, cannot say how much of the window is over.
        told = self.clock.is_told and not send.by_our_clock
        left = max(0.0, send.settle_until - self.clock.at_the_earliest) if told else window
        doubt = Bitrix24OutcomeUnknown(method, text=f"{send.by} ended before one was recorded")
        return Sent(answer=None, doubt=doubt, absent_after=self.attempt.clock.monotonic() + left, proofs=2)

    def ended(self, doubt: Bitrix24OutcomeUnknown | None = None) -> Sent:
        """What is known of a request that has ended: only what reads are behind by can hide its result."""
        lag = self.attempt.client.settings.read_lag
        return Sent(answer=True, doubt=doubt, absent_after=self.attempt.clock.monotonic() + lag, proofs=1)

    # -- writing down ------------------------------------------------------------------------------------------------

    def write(self, entry: Entry, *, hold: float | None = None) -> None:
        """Write once: what is not kept is not acted upon.

        :raises PaymentAmbiguous: another key has claimed its payment.
        """
        claim = None
        try:
            self.page.write(entry, hold=hold)
        except Claimed as claimed:
            claim = claimed
        if claim is not None:
            self._park_as_claimed(entry, claim)
        self.entry = entry

    def keep(self, entry: Entry, *, hold: float | None = None) -> None:
        """Write what is known now, patiently: a journal may be away for some seconds."""
        left = _WRITES
        ended: Bitrix24Error
        while True:
            left -= 1
            try:
                return self.write(entry, hold=hold)
            except PaymentInProgress as error:
                ended = self._overtaken_with(entry, error)
                break
            except Bitrix24StoreError as error:
                if not left:
                    ended = error.telling(self._lost_with(entry))
                    break
                self.attempt.log.warning("%s Trying again.", error)
            self.attempt.wait(2.0 ** (_WRITES - left - 1), "waiting for the journal")
        raise ended

    def _overtaken_with(self, entry: Entry, error: PaymentInProgress) -> PaymentInProgress:
        """Return the error of an attempt that was overtaken: it says what the portal has just answered."""
        done = self._done_with(entry)
        if done is None:
            return error
        what, again = done
        told = PaymentInProgress(
            f"{error} The portal answered that {what}: by its answer the money is recorded, so do not {again} it a "
            "second time."
        )
        told.sent = "yes"
        return told

    def _lost_with(self, entry: Entry) -> str:
        """Say what only this attempt knows, because the journal could not be written."""
        done = self._done_with(entry)
        if done is None:
            return entry.known
        what, again = done
        return (
            f"The portal answered that {what}, and that could not be written down. By its answer the money is "
            f"recorded: do not {again} it a second time. The next attempt reads the portal first."
        )

    def _done_with(self, entry: Entry) -> tuple[str, str] | None:
        """What the portal has done by its answer to this attempt, which is not kept yet; and the verb for it."""
        last, before = entry.last, self.entry.last
        if last is None or last.result != "answered" or before is None or before.result != "open":
            return None
        if entry.operation == "add_crm_payment":
            return f"payment {entry.payment_id} was added to {entry.subject}", "add"
        return f"{entry.subject} was marked as paid", "mark"

    def settle(self, result: SendResult, said: str | None = None) -> None:
        """Write down what became of the last send of the write itself."""
        Intent(self, None).settle(result, said)

    def identify(self, payment_id: int, evidence: Evidence, **changes: Any) -> None:
        """Write down which payment is this key's.

        :raises PaymentAmbiguous: another key has claimed it.
        """
        self.keep(self.entry.unasked().but(payment_id=payment_id, evidence=evidence, **changes))

    def _park_as_claimed(self, entry: Entry, claim: Claimed) -> NoReturn:
        """Leave to a person whose payment it is."""
        show, give_up = (self.journal.command(verb, claim.key) for verb in ("show", "resolve"))
        first = ""
        if claim.payment_id == self.entry.payment_id:
            # It was known before, in the task state alone, and is not done until that is settled.
            self.entry = self.entry.but(receipt=None)
            first = " (first --abandon, which releases a payment that the portal has not proved to be its own)"
        self.park(
            f"Payment {claim.payment_id} ({entry.evidence}) looks like that of the key {entry.key!r}, but the key "
            f"{claim.key!r} has claimed it: one of them claims the other's. Nothing is sent again automatically. "
            f"`{show}` shows why. If the claim is wrong, `{give_up} --abandon` ends it; if it is right, decide again "
            f"about this key by {self.how_to_decide()}{first}. Then clear this task.",
            (claim.payment_id,),
        )

    def finish(self, receipt: Receipt) -> Receipt:
        """Write down the receipt, let go of the key, and return the receipt."""
        if receipt.evidence == "state" and not self.entry.may_have_run and self.entry.payment_id is None:
            return receipt  # nothing was sent and nothing found: the portal itself is the record
        self.keep(self.entry.unasked().but(receipt=receipt.as_dict()), hold=0)
        return receipt

    # -- people ------------------------------------------------------------------------------------------------------

    def refuse_undecided(self) -> None:
        """Refuse to send for a key about which a person is asked, whatever the portal shows now.

        :raises PaymentAmbiguous: the person has not decided.
        """
        entry = self.entry
        if entry.question is not None:
            raise PaymentAmbiguous(
                f"The key {entry.key!r} still needs a person's decision. What the portal shows now does not replace "
                f"it, and nothing was sent by this attempt. {entry.question}",
                entry.candidates,
            )

    def park(
        self,
        question: str,
        candidates: Collection[int] = (),
        *,
        why: str | None = None,
        rivals: Collection[str] = (),
    ) -> NoReturn:
        """Leave it to a person.

        :param why: why a decision that waits is not carried out; by default, the question says it.
        :param rivals: the keys whose unknown outcome makes this one ambiguous.
        :raises PaymentAmbiguous: always.
        """
        shown = tuple(sorted(candidates))
        unclear = PaymentAmbiguous(question, shown)
        # From now on it is this task through which a person is asked.
        waiting = self.entry.refuse(why or unclear.reason)
        parked = waiting.but(question=question, candidates=shown, rivals=tuple(rivals), task=self.task.identity)
        self.keep(parked, hold=0)
        raise unclear

    def how_to_decide(self) -> str:
        """The command by which a person decides about this key, for messages."""
        command = self.journal.command("resolve", self.entry.key)
        adopt = "--use-payment ID, " if self.entry.operation == "add_crm_payment" else ""
        return f"`{command}` with {adopt}--send-again or --abandon{self.task.hint}"

    @property
    def set_aside(self) -> str:
        """What people have said is not this key's, as a sentence after a blank; empty if there is nothing."""
        said = [
            f"{decision.by} has set {listed(decision.set_aside)} aside ({decision.through}, {decision.at})"
            for decision in self.entry.carried_out
            if decision.set_aside
        ]
        return f" {'; '.join(said)}." if said else ""


def listed(payment_ids: Collection[int]) -> str:
    """Payments by their ids, in words."""
    return f"payment{'s' if len(payment_ids) > 1 else ''} {', '.join(map(str, payment_ids))}"
