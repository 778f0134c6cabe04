"""Mark one thing as paid, as far as it is not: read, find out about earlier sends, send once, read back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from airflow_provider_bitrix24.api.models import Invoice, Money, Payment
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
    PaymentUnresolved,
)
from airflow_provider_bitrix24.once.attempt import PortalUnreadable, Sent
from airflow_provider_bitrix24.once.complete import answer_words
from airflow_provider_bitrix24.once.decisions import heed, turn_down
from airflow_provider_bitrix24.once.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    import pendulum

    from airflow_provider_bitrix24.api.io import Flow, SendDeadline
    from airflow_provider_bitrix24.journal.entry import Operation, Send
    from airflow_provider_bitrix24.once.receipt import Expected
    from airflow_provider_bitrix24.once.story import Story

Thing: TypeAlias = Invoice | Payment

EITHER: Final = "either the portal ignored the call, or someone reverted it in the meantime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What must be true of the thing, besides what the portal itself demands."""

    expected: Expected
    max_amount: Decimal | None = None

    def check(self, thing: Thing, what: str, happened: str) -> None:
        """Compare the money with what is expected.

        :raises PaymentMismatch: it is other money.
        """
        self.expected.check(thing.money, what=what, happened=happened)

    def check_limit(self, money: Money, what: str) -> None:
        """Refuse more than the limit of this task.

        :raises PaymentRefused: it is for more.
        """
        if self.max_amount is not None and money.exceeds(self.max_amount):
            raise PaymentRefused(
                f"{what} is for {money}, which is more than the max_amount {self.max_amount:f} of this task. Nothing "
                "was sent. Raise max_amount if that is right, or pay it by hand."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What was decided about the sending itself, when it was allowed."""

    pay_system_id: int | None
    trap: str
    """Why the portal may answer ``true`` and do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the portal showed just now."""

    thing: Thing
    at: pendulum.DateTime | None
    user_id: int
    chosen: Callable[[], Chosen]
    """Refuses what must not be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One thing to mark: how it is read and written, and what a person calls it."""

    operation: Operation
    method: str
    """REST method that marks it."""
    what: str
    """"Invoice 2"."""
    where: str
    """Where a person looks."""
    subject: dict[str, int]
    key: str
    look: Callable[[], Flow[View]]
    """Reads everything that is needed before sending."""
    read: Callable[[], Flow[Any]]
    """Reads only the thing."""
    write: Callable[[SendDeadline, str], Flow[None]]

    @property
    def advice(self) -> str:
        """What to do when it is not known to be paid."""
        return (
            f"This task does not send again automatically. What to do: {self.where}; if it is unpaid, clear this task: "
            "it reads first."
        )


class Marking:
    """Mark one thing, unless it is marked already, and return the receipt for what the portal shows afterwards."""

    def __init__(self, story: Story, mark: Mark, guards: Guards) -> None:
        self.story = story
        self.attempt = story.attempt
        self.mark = mark
        self.guards = guards
        self.view: View
        self.chosen: Chosen | None = None

    def run(self) -> Receipt:
        """Do it."""
        self._look()
        self._await_forgotten()
        decision = heed(self.story, ())
        if decision is not None and decision.what == "adopt":
            turn_down(self.story, decision, "a mark is there or not, so there is nothing to adopt", ())
        if self.story.entry.receipt is not None:
            return self._done_before(self.story.entry.receipt)
        if self.story.entry.forgotten:
            return self._paid_or_ask()
        seen = self._find_earlier() if self.story.found else None
        while seen is None:
            if not self.attempt.is_fresh:
                self._look()
            if self.view.thing.paid and self.story.entry.free:
                self.guards.check(self.view.thing, self.mark.what, "It is paid already. Nothing was sent.")
                return self.story.finish(self._receipt(self.view.thing, ours=False))
            seen = self.view.thing if self.view.thing.paid else self._send()
        return self._shown(seen)

    def _await_forgotten(self) -> None:
        """Wait for what an attempt whose notes are lost may have sent just now, unless the object is paid earlier."""
        sent = self.story.forgotten()
        if sent is None or self.view.thing.paid:
            return
        with suppress(PortalUnreadable):  # the next look says so
            self.attempt.find(self.mark.read, lambda thing: thing.paid, sent)
        self._look()

    def _paid_or_ask(self) -> Receipt:
        """Return a receipt if the object is paid, else ask a person: the journal has lost what was sent."""
        thing = self.view.thing
        if not thing.paid:
            self.story.leave_forgotten(self.mark.where)
        self.guards.check(thing, self.mark.what, "It is paid already. Nothing was sent.")
        return self.story.finish(self._receipt(thing, ours=False, recovered=False))

    def _look(self) -> None:
        self.view = self.story.ask(self.mark.look())

    def _find_earlier(self) -> Thing | None:
        """Find out what became of what an earlier attempt has sent; None if it is known not to be there."""
        if self.view.thing.paid:
            return self.view.thing
        last = self.story.entry.last
        if last is None or last.result == "absent":
            return None
        if last.result == "not_shown":
            self._refuse_if_nobody_has_looked(last)
            return None
        if last.result == "open":
            return self._find(self.story.lost(last, self.mark.method))
        unclear = Bitrix24OutcomeUnknown(self.mark.method, answered=True, text=last.said or "an unclear answer")
        return self._find(self.story.ended(unclear if last.result == "unclear" else None))

    def _send(self) -> Thing | None:
        """Send the mark once, if that is permitted; None if it was not executed and may be sent again."""
        thing, what = self.view.thing, self.mark.what
        self.guards.check(thing, what, "Nothing was sent.")
        self.chosen = self.view.chosen()
        self.guards.check_limit(thing.money, what)
        self._refuse_a_third_time()
        self.attempt.log.info("Marking %s for %s as paid on %s.", what.lower(), thing.money, self.attempt.portal)
        intent = self.story.intent(
            decided_at=self.view.at.timestamp() if self.view.at else None,
            amount=thing.money.amount_text,
            currency=thing.money.currency,
        )
        sent = self.attempt.send(self.mark.write, key=self.mark.key, intent=intent)
        if sent is None:
            return None
        if sent.doubt is None:
            self.story.settle("answered")
        elif sent.doubt.answered:
            self.story.settle("unclear", sent.doubt.words)
        return self._find(sent)

    def _find(self, sent: Sent) -> Thing | None:
        try:
            seen: Thing | None = self.attempt.find(self.mark.read, lambda thing: thing.paid, sent)
        except PortalUnreadable as error:
            trouble, gone = str(error), error.gone
        else:
            if seen is None:
                self._not_shown(sent)
            return seen
        if gone:
            self._gone(sent)
        self._not_readable(sent, trouble)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _shown(self, seen: Thing) -> Receipt:
        """It is paid, and something of ours was sent before."""
        entry, ours = self.story.entry, self._fits_us(seen)
        made = "It HAS been marked as paid." if ours else "It is paid, apparently by somebody else."
        before = Money(seen.money.amount, seen.money.currency)
        if entry.amount is not None and entry.currency is not None:
            before = Money(Decimal(entry.amount), entry.currency)
        if not seen.money.same_as(before):
            raise PaymentMismatch(
                f"{self.mark.what} is for {seen.money} now; just before it was marked as paid, it was for {before}. "
                f"{made} Somebody changed it in between: {self.mark.where}. Do not run this again."
            )
        receipt = self.story.finish(self._receipt(seen, ours=ours))
        if self.story.sent_now:
            return receipt
        self.guards.check(seen, self.mark.what, made if ours else "It is paid already.")
        self.story.refuse_other_parameters(f"{self.mark.what} is paid, for {seen.money}.")
        return receipt

    def _done_before(self, stored: dict[str, Any]) -> Receipt:
        """The journal knows how it ended; the portal is asked whether that is still so."""
        thing = self.view.thing
        self.story.refuse_other_parameters(f"{self.mark.what} was marked as paid then ({stored.get('paid_at')}).")
        if not thing.paid:
            seen = self._find_again()
            if seen is None:
                raise PaymentNotApplied(
                    f"{self.mark.what} was paid before ({stored.get('paid_at')}, by {self.story.entry.task}), and is "
                    "not paid any more: somebody has set it back to unpaid. Nothing was sent by this attempt, and "
                    f"nothing is sent again automatically. {self.mark.where.capitalize()}. If that is right, mark this "
                    f"task as successful. Else decide by {self.story.how_to_decide()}; then clear this task."
                )
            thing = seen
        self.guards.check(thing, self.mark.what, "It is paid already; nothing was sent by this attempt.")
        mine = stored.get("outcome") == "paid" and self.story.entry.task == self.story.task.identity
        return self._receipt(thing, ours=mine, recovered=mine)

    def _find_again(self) -> Thing | None:
        """Read until what reads are behind by has passed."""
        try:
            seen: Thing | None = self.attempt.find(self.mark.read, lambda thing: thing.paid, self.story.ended())
        except PortalUnreadable as error:
            trouble = str(error)
        else:
            return seen
        raise PaymentUnresolved(
            f"{self.mark.what} was paid before, and the portal cannot be read now ({trouble}). Nothing was sent by "
            "this attempt. The next one reads again."
        )

    def _receipt(self, seen: Thing, *, ours: bool, recovered: bool | None = None) -> Receipt:
        last = self.story.entry.last
        asked_for = self.story.entry.parameters.get("pay_system_id", seen.pay_system_id)
        pay_system_id = self.chosen.pay_system_id if self.chosen else asked_for
        return Receipt(
            operation=self.mark.operation,
            outcome="paid" if ours else "already_paid",
            portal=self.attempt.portal,
            subject=self.mark.subject,
            pay_system_id=pay_system_id if ours else seen.pay_system_id,
            money=seen.money,
            paid_at=seen.paid_at,
            idempotency_key=self.mark.key,
            evidence="answer" if ours and last and last.result == "answered" else "state",
            sent=self.story.sent_now,
            recovered=self.story.found and not self.story.sent_now if recovered is None else recovered,
            by_our_user=seen.paid_by_id == self.view.user_id,
            forgotten=self.story.entry.forgotten,
        )

    def _fits_us(self, seen: Thing) -> bool:
        """Whether who and when say that the mark is ours; the portal's times are whole seconds."""
        decided_at = self.story.entry.decided_at
        if decided_at is None or seen.paid_at is None or seen.paid_by_id != self.view.user_id:
            return False
        return bool(seen.paid_at.timestamp() >= int(decided_at))

    # -- nothing to see ----------------------------------------------------------------------------------------------

    def _not_shown(self, sent: Sent) -> None:
        """Write down that it is not there; returns if it may be sent again."""
        doubt, what = sent.doubt, self.mark.what.lower()
        trap = self.chosen.trap if self.chosen else ""
        if doubt is None:
            self.story.settle("not_shown")
            self._refuse_a_third_time()
            raise PaymentNotApplied(
                f"The portal accepted the mark of {what}, but does not show it as paid: {EITHER}. {trap} "
                f"{self.mark.advice}"
            )
        if doubt.answered:
            self.story.settle("not_shown", doubt.words)
            self._refuse_a_third_time()
            raise PaymentNotApplied(
                f"{answer_words(doubt)} when {what} was marked as paid, and does not show it as paid: {EITHER}. "
                f"Whether another attempt makes sense depends on the portal's words. {self.mark.advice}"
            )
        self.story.settle("absent", doubt.words)
        self._refuse_a_third_time()
        self.attempt.log.warning(
            "%s is not shown as paid, read twice after everything that was sent must have ended: it is marked once "
            "more.",
            self.mark.what,
        )

    def _refuse_if_nobody_has_looked(self, last: Send) -> None:
        """Another attempt has found out that it is not there; this task sends it once it was told, and cleared."""
        if self.story.task.was_cleared_since(last):
            return
        self.story.settle("not_shown", last.said)
        self._refuse_a_third_time()
        raise PaymentNotApplied(
            f"{last.by} marked {self.mark.what.lower()} as paid, and the portal answered ({last.said or 'true'}), but "
            f"does not show it as paid: {EITHER}. Nothing was sent by this attempt. {self.mark.advice}"
        )

    def _refuse_a_third_time(self) -> None:
        """Leave to a person what was sent as often as it may be without one."""
        if self.story.sends_left:
            return
        sends = [send for send in self.story.entry.sends if send.may_have_run]
        decide = "there is no journal that would keep a decision: if it is unpaid, clear this task, which reads first"
        if self.story.journal.durable:
            decide = f"then decide by {self.story.how_to_decide()}, and clear this task"
        self.story.park(
            f"{self.mark.what} was marked as paid {len(sends)} times for this key, and the portal does not show it: "
            f"{EITHER}. The last time: {sends[-1].said or 'it answered true'}. Nothing is sent again automatically. "
            f"What to do: {self.mark.where}; {decide}."
        )

    def _gone(self, sent: Sent) -> NoReturn:
        """It was deleted while it was looked for: nothing will ever show whether it was marked."""
        what = self.mark.what
        made = "the portal accepted the mark" if sent.doubt is None else answer_words(sent.doubt)
        raise PaymentNotApplied(
            f"{what} is not there any more: it was deleted after this key had sent its mark ({made}), so nothing shows "
            "whether it was marked as paid before. Nothing is sent again automatically. What to do: look in Bitrix24 "
            "at the deal or smart invoice, and at what has taken its place; that is a payment with a key of its own."
        )

    def _not_readable(self, sent: Sent, trouble: str) -> NoReturn:
        doubt, what = sent.doubt, self.mark.what
        if doubt is None:
            happened = (
                f"The portal accepted the mark of {what.lower()}, so it is probably paid, but it could not be read "
                f"afterwards ({trouble})."
            )
        else:
            happened = (
                f"{what} may have been marked as paid: there was no usable response ({doubt.text}), and the portal "
                f"could not be read afterwards ({trouble})."
            )
        if self.story.journal.durable:
            raise PaymentUnresolved(
                f"{happened} It is in the journal ({self.story.journal.name}): the next attempt reads the outcome "
                "before anything else. If there is none, clear this task when the portal is back: it will not pay "
                "twice."
            )
        method = self.mark.method
        if doubt is None:
            raise Bitrix24OutcomeUnknown(method, True, message=f"{happened} {self.mark.advice}")
        message = f"{happened} {self.mark.advice}"
        raise Bitrix24OutcomeUnknown(method, doubt.answered, doubt.portal_code, doubt.text, message)
