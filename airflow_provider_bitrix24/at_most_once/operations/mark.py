"""What paying, setting back to unpaid and deleting share: one mark, with the object as its own key."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from airflow_provider_bitrix24.api.models import Invoice, Money, Payment
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.decisions import carry_out_decision, refuse_decision
from airflow_provider_bitrix24.at_most_once.engine import carry_out
from airflow_provider_bitrix24.at_most_once.forgotten import ask_about_lost_notes, watch_lost_notes
from airflow_provider_bitrix24.at_most_once.next_step import Step
from airflow_provider_bitrix24.at_most_once.operations.others import Others
from airflow_provider_bitrix24.at_most_once.receipt import Expected, Receipt
from airflow_provider_bitrix24.at_most_once.record import Snapshot
from airflow_provider_bitrix24.at_most_once.write import PAYMENT, PortalUnreadable, Write, after_reply, find
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
    PaymentUnresolved,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pendulum

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.models import Profile
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.commands import Course
    from airflow_provider_bitrix24.at_most_once.messages import Wording
    from airflow_provider_bitrix24.at_most_once.receipt import Outcome
    from airflow_provider_bitrix24.at_most_once.record import Parameter, Record

Thing: TypeAlias = Invoice | Payment


class View(Protocol):
    """What the portal showed before a mark."""

    @property
    def at(self) -> pendulum.DateTime | None:
        """The portal's clock."""

    @property
    def profile(self) -> Profile:
        """The connection's user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is known of the send when it was permitted."""

    pay_system_id: int | None
    trap: str
    """Why the portal may answer ``true`` and do nothing."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Mark one object as paid, or undo that: three requests if nothing is odd.

    :param portal: the portal's name in keys.
    :param expected: amount and currency, compared before and after.
    :param max_amount: the largest amount to mark.
    """

    portal: str
    expected: Expected = field(default_factory=Expected)
    max_amount: Decimal | None = None

    name: str = field(init=False)
    method: str = field(init=False)
    """REST method."""
    where: str = field(init=False)
    """Where a person looks."""
    words: Wording = field(init=False, default=messages.PAYING)
    """How messages speak of it."""
    outcomes: tuple[Outcome, Outcome] = field(init=False, default=("paid", "already_paid"))
    """Outcome if this key has done it, and if it was so already."""
    undone_by: tuple[str, ...] = field(init=False, default=())
    """Names of the operations that undo it."""
    alone: bool = field(init=False, default=False)
    """Whether no other operation is about the same object."""
    needs_rivals: bool = field(init=False, default=False)

    @property
    def key(self) -> str:
        """The idempotency key: the object is its own key."""
        return f"{self.portal}:{self.subject.replace(' ', ':')}{self.verb}"

    @property
    def verb(self) -> str:
        """The end of the key, which tells the operations on one object apart."""
        return ""

    @property
    def subject(self) -> str:
        """The object: "invoice 2"."""
        raise NotImplementedError

    @property
    def apart(self) -> str:
        """Pay, set back to unpaid and delete are keys of their own: one after another for one object."""
        return self.subject  # rule: the keys of one object share no batch

    @property
    def writes(self) -> tuple[str, ...]:
        """The one call."""
        return (self.method,)

    @property
    def ids(self) -> Mapping[str, int]:
        """The ids in the receipt."""
        raise NotImplementedError

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        raise NotImplementedError

    @property
    def what(self) -> str:
        """The object at the beginning of a sentence: "Invoice 2"."""
        return self.subject.capitalize()

    def before(self) -> Query[Any]:
        """Read everything that permits the mark."""
        raise NotImplementedError

    def after(self) -> Query[Any]:
        """Read the object."""
        raise NotImplementedError

    def thing(self, view: Any) -> Thing:
        """The object in what was read before."""
        raise NotImplementedError

    def reached(self, thing: Thing) -> bool:
        """Whether the object is as it is to be."""
        return thing.paid

    def is_ours(self, thing: Thing, user_id: int, since: float | None) -> bool:
        """Whether who and when say that the mark is ours; the portal's times are whole seconds.

        :param user_id: the connection's user.
        :param since: the portal's clock before the first send; None if it did not tell.
        """
        if since is None or thing.paid_at is None or thing.paid_by_id != user_id:  # rule: who paid
            return False
        return bool(thing.paid_at.timestamp() >= int(since))

    def call(self) -> Call[Any]:
        """The call that marks it."""
        raise NotImplementedError

    def choose(self, view: Any, denial: str) -> Chosen:
        """Refuse what must not be marked.

        :param denial: what was not sent, for the message.
        :raises PaymentRefused: nothing was sent by this attempt.
        """
        raise NotImplementedError

    def refuse(self, view: Any, denial: str) -> Chosen:
        """Refuse other money, what must not be marked, and more than the limit.

        :raises PaymentMismatch: it is other money.
        :raises PaymentRefused: it must not be marked.
        """
        money = self.thing(view).money
        self.expected.check(money, what=self.what, happened=denial)
        chosen = self.choose(view, denial)
        if self.max_amount is not None and money.exceeds(self.max_amount):
            raise PaymentRefused(messages.above_the_limit(self.what, money, self.max_amount, denial))
        return chosen

    def course(self, attempt: Attempt) -> Course[Receipt]:
        """What one attempt does."""
        return Marking(attempt, MarkWrite(attempt, self)).course()


class MarkWrite(Write):
    """The mark itself."""

    policy = PAYMENT

    def __init__(self, attempt: Attempt, mark: Mark) -> None:
        super().__init__(attempt, mark.key)
        self.mark = mark
        self.others = Others(attempt, mark.subject, mark.words, mark.undone_by, alone=mark.alone)
        self.method = mark.method
        self.view: Any = None
        self.thing: Thing
        self.user_id = 0
        self.chosen: Chosen | None = None

    def call(self) -> Call[Any]:
        """The call."""
        return self.mark.call()

    def look(self) -> Course[None]:
        """Read the object, who we are, and the pay systems."""
        self.view = yield from self.attempt.observe(self.mark.before())
        self.thing = self.mark.thing(self.view)
        self.user_id = self.view.profile.user_id
        self.shown = self.mark.reached(self.thing)

    def query(self) -> Query[Any]:
        """Read the object alone."""
        return self.mark.after()

    def shows(self, found: Thing) -> bool:
        """Whether it is as it is to be."""
        return self.mark.reached(found)

    def take(self, found: Thing) -> Course[None]:
        """It is as it is to be."""
        self.thing, self.shown = found, True
        yield from ()

    def refuse(self) -> Course[None]:
        """Refuse what must not be marked, by what was read last, and what other operations on the object forbid."""
        attempt, mark = self.attempt, self.mark
        self.chosen = mark.refuse(self.view, attempt.denial)
        yield from self.others.before_send()
        attempt.log.info("%s of %s, %s, on %s.", mark.method, mark.subject, self.thing.money, attempt.portal)

    def absence(self) -> str:
        """What the log says when it certainly is not marked."""
        return messages.mark_is_absent(self.mark.what, self.mark.words)

    def prepared(self, record: Record) -> Record:
        """The record with what the portal showed before."""
        at, money = self.view.at, self.thing.money
        snapshot = Snapshot(at=at.timestamp() if at else None, amount=money.amount_text, currency=money.currency)
        return self.others.place(record.prepared(self.attempt.wanted, snapshot))


class Marking:
    """One attempt to mark an object."""

    def __init__(self, attempt: Attempt, write: MarkWrite) -> None:
        self.attempt = attempt
        self.mark = write.mark
        self.write = write

    def course(self) -> Course[Receipt]:
        """Do it.

        :return: the first of the outcomes if the mark is ours, else the second.
        :raises PaymentRefused: nothing was sent: no such object, cancelled, sum 0, above the limit, or a pay system
            that cannot do it.
        :raises PaymentMismatch: other money, or other parameters than before; says whether it was marked.
        :raises PaymentNotApplied: the portal replied, but the object is not paid; or it is not paid any more.
        :raises PaymentAmbiguous: it was sent as often as it may be without a person.
        :raises PaymentUnresolved: it may have been marked, and the portal cannot be read now.
        :raises Bitrix24OutcomeUnknown: the same without a journal.
        """
        attempt, write = self.attempt, self.write
        yield from write.look()
        yield from write.others.begin(shown=write.shown)
        yield from self._await_lost_notes()  # rule: lost notes are waited for before a mark
        decision = yield from carry_out_decision(attempt, ())
        if decision is not None and decision.what == "use_payment":
            yield from refuse_decision(attempt, decision, messages.NOTHING_TO_USE, ())
        if attempt.record.receipt is not None:  # rule: what was undone is not sent again: a mark
            return (yield from self._done_before(attempt.record.receipt))
        if attempt.record.forgotten:
            return (yield from self._paid_or_ask())
        _ = attempt.found
        step = yield from carry_out(attempt, write)
        if step is Step.DONE:
            return (yield from self._shown())
        if step is Step.ASK:
            yield from self._ask()
        if step is Step.FAIL:
            yield from self._not_applied()
        raise self._unreadable()

    def _await_lost_notes(self) -> Course[None]:
        """Wait for what an attempt whose notes are lost may have sent just now, unless the object is paid earlier."""
        watch = yield from watch_lost_notes(self.attempt)
        if watch is None or self.write.shown:
            return
        with suppress(PortalUnreadable):  # the next look says so
            yield from find(self.attempt, watch, self.write.query(), self.write.shows)
        yield from self.write.look()

    def _paid_or_ask(self) -> Course[Receipt]:
        """Return a receipt if the object is paid, else ask a person: the journal has lost what was sent."""
        thing = self.write.thing
        if not self.mark.reached(thing):
            yield from ask_about_lost_notes(self.attempt, self.mark.where)
        already = messages.marked_already(self.mark.words)
        self.mark.expected.check(thing.money, what=self.mark.what, happened=f"{already} {self.attempt.denial}")
        return (yield from self.attempt.finish(self._receipt(ours=False, recovered=False)))

    def _shown(self) -> Course[Receipt]:
        """It is as it is to be."""
        attempt, mark, thing = self.attempt, self.mark, self.write.thing
        record, already = attempt.record, messages.marked_already(mark.words)
        if record.nothing_executed:
            mark.expected.check(thing.money, what=mark.what, happened=f"{already} {attempt.denial}")
            yield from self.write.others.refuse_unsettled()
            return (yield from attempt.finish(self._receipt(ours=False)))
        ours = mark.is_ours(thing, self.write.user_id, record.snapshot_at)
        happened = messages.marked(mark.words) if ours else messages.marked_by_another(mark.words)
        before = thing.money
        if record.amount is not None and record.currency is not None:
            before = Money(Decimal(record.amount), record.currency)
        if not thing.money.same_as(before):
            raise PaymentMismatch(
                messages.changed_before_marked(mark.what, thing.money, before, happened, mark.where, mark.words)
            )
        receipt = yield from attempt.finish(self._receipt(ours=ours))
        if attempt.sent_now:
            return receipt
        mark.expected.check(thing.money, what=mark.what, happened=happened if ours else already)
        attempt.refuse_other_parameters(f"{mark.what} is {mark.words.state}, for {thing.money}.")
        return receipt

    def _done_before(self, stored: Mapping[str, Any]) -> Course[Receipt]:
        """The journal knows how it ended; the portal is asked whether that is still so."""
        attempt, mark, write = self.attempt, self.mark, self.write
        then = f" ({stored['paid_at']})" if stored.get("paid_at") else ""
        attempt.refuse_other_parameters(f"{mark.what} was {mark.words.done} then{then}.")
        if not write.shown:
            try:
                # What reads are behind by may hide it.
                seen = yield from find(attempt, after_reply(attempt), write.query(), write.shows)
            except PortalUnreadable as error:
                trouble = str(error)
            else:
                if seen is None:
                    raise PaymentNotApplied(
                        messages.not_marked_any_more(
                            mark.what,
                            stored.get("paid_at"),
                            attempt.record.task,
                            mark.where,
                            attempt.how_to_decide(),
                            mark.words,
                        )
                    )
                yield from write.take(seen)
        if not write.shown:
            raise PaymentUnresolved(messages.marked_before_and_unreadable(mark.what, trouble, mark.words))
        already = messages.marked_already_not_sent(mark.words)
        mark.expected.check(write.thing.money, what=mark.what, happened=already)
        mine = stored.get("outcome") == mark.outcomes[0] and attempt.record.task == attempt.task.identity
        return self._receipt(ours=mine, recovered=mine)

    def _receipt(self, *, ours: bool, recovered: bool | None = None) -> Receipt:
        attempt, thing, last = self.attempt, self.write.thing, self.write.last
        asked_for = attempt.record.parameters.get("pay_system_id", thing.pay_system_id)
        pay_system_id = self.write.chosen.pay_system_id if self.write.chosen else asked_for
        if not ours or not (pay_system_id is None or isinstance(pay_system_id, int)):
            pay_system_id = thing.pay_system_id
        return Receipt(
            operation=self.mark.name,
            outcome=self.mark.outcomes[0 if ours else 1],
            portal=attempt.portal,
            subject=self.mark.ids,
            pay_system_id=pay_system_id,
            money=thing.money,
            paid_at=thing.paid_at,
            idempotency_key=self.mark.key,
            evidence="response" if ours and last and last.result == "acknowledged" else "portal_state",
            sent=attempt.sent_now,
            recovered=attempt.found and not attempt.sent_now if recovered is None else recovered,
            by_our_user=thing.paid_by_id == self.write.user_id,
            forgotten=attempt.record.forgotten,
        )

    # -- it is not shown

    def _ask(self) -> Course[None]:
        """It was sent as often as it may be without a person, or a person was asked before."""
        attempt = self.attempt
        yield from self.write.report()
        attempt.refuse_undecided()
        question = messages.marked_too_often(
            self.mark.what,
            attempt.record,
            self.mark.where,
            attempt.how_to_decide() if attempt.journal.durable else None,
            self.mark.words,
        )
        yield from attempt.ask(question)

    def _not_applied(self) -> Course[None]:
        """The portal replied and does not show it.

        :raises PaymentNotApplied: always.
        """
        mark, last = self.mark, self.write.last
        if self.write.watch is None:
            # An earlier attempt has found that out: this task reports it, and sends once somebody has cleared it.
            yield from self.write.report()
            raise PaymentNotApplied(messages.earlier_mark_not_applied(mark.subject, last, mark.where, mark.words))
        trap = self.write.chosen.trap if self.write.chosen else ""
        raise PaymentNotApplied(messages.mark_not_applied(mark.subject, self.write.doubt, trap, mark.where, mark.words))

    def _unreadable(self) -> Exception:
        """The error for a portal that could not be read after a send."""
        attempt, mark, write, doubt = self.attempt, self.mark, self.write, self.write.doubt
        if write.watch is None or write.watch.trouble is None:
            raise RuntimeError("the portal was read")
        unreadable = PortalUnreadable(write.watch.trouble)
        if unreadable.gone:  # rule: what was deleted while it was looked for is gone
            return PaymentNotApplied(messages.marked_object_is_gone(mark.what, doubt, mark.words))
        happened = messages.mark_unreadable(mark.what, doubt, str(unreadable), mark.words)
        if attempt.journal.durable:
            return PaymentUnresolved(messages.mark_in_journal(happened, attempt.journal.name))
        message = f"{happened} {messages.mark_advice(mark.where, mark.words)}"
        if doubt is None:
            return Bitrix24OutcomeUnknown(mark.method, True, message=message)
        return Bitrix24OutcomeUnknown(mark.method, doubt.answered, doubt.portal_code, doubt.text, message)
