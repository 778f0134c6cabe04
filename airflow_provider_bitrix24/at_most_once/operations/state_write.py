"""The call that brings an object to a state, and how one attempt makes it."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.decisions import carry_out_decision, refuse_decision
from airflow_provider_bitrix24.at_most_once.engine import carry_out
from airflow_provider_bitrix24.at_most_once.forgotten import ask_about_lost_notes, watch_lost_notes
from airflow_provider_bitrix24.at_most_once.next_step import Step
from airflow_provider_bitrix24.at_most_once.operations.other_operations import OtherOperations
from airflow_provider_bitrix24.at_most_once.receipt import Receipt
from airflow_provider_bitrix24.at_most_once.record import Snapshot
from airflow_provider_bitrix24.at_most_once.write import PAYMENT, PortalUnreadable, Write, after_reply, find
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentUnresolved,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.state_change import Chosen, StateChange, Target
    from airflow_provider_bitrix24.at_most_once.record import Record


class StateWrite(Write):
    """The call that changes the state of an object."""

    policy = PAYMENT

    def __init__(self, attempt: Attempt, change: StateChange) -> None:
        super().__init__(attempt, change.key)
        self.change = change
        self.others = OtherOperations(attempt, change.subject, change.words, change.undone_by, alone=change.alone)
        self.method = change.method
        self.view: Any = None
        self.target: Target
        self.user_id = 0
        self.chosen: Chosen | None = None

    def call(self) -> Call[Any]:
        """The call."""
        return self.change.call()

    def look(self) -> Course[None]:
        """Read the object, who we are, and the pay systems."""
        self.view = yield from self.attempt.read_before_send(self.change.before())
        self.target = self.change.target(self.view)
        self.user_id = self.view.profile.user_id
        self.shown = self.change.reached(self.target)

    def query(self) -> Query[Any]:
        """Read the object alone."""
        return self.change.after()

    def shows(self, found: Target) -> bool:
        """Whether it is as it is to be."""
        return self.change.reached(found)

    def take(self, found: Target) -> Course[None]:
        """It is as it is to be."""
        self.target, self.shown = found, True
        yield from ()

    def refuse(self) -> Course[None]:
        """Refuse what must not be marked, by what was read last, and what other operations on the object forbid."""
        attempt, change = self.attempt, self.change
        self.chosen = change.refuse(self.view)
        yield from self.others.before_send()
        attempt.log.info("%s of %s, %s, on %s.", change.method, change.subject, self.target.money, attempt.portal)

    def absence(self) -> str:
        """What the log says when it certainly is not marked."""
        return messages.mark_is_absent(self.change.what, self.change.words)

    def prepared(self, record: Record) -> Record:
        """The record with what the portal showed before."""
        at, money = self.view.at, self.target.money
        snapshot = Snapshot(at=at.timestamp() if at else None, amount=money.amount_text, currency=money.currency)
        return self.others.place(record.prepared(self.attempt.wanted, snapshot))


def change_state(write: StateWrite) -> Course[Receipt]:
    """Bring the object to its state, in one attempt.

    :return: the first of the outcomes if this key has done it, else the second.
    :raises PaymentRefused: nothing was sent: no such object, cancelled, sum 0, above the limit, or a pay system
        that cannot do it.
    :raises PaymentMismatch: other money, or other parameters than before; says whether it was marked.
    :raises PaymentNotApplied: the portal replied, but the object is not paid; or it is not paid any more.
    :raises PaymentAmbiguous: it was sent as often as it may be without a person.
    :raises PaymentUnresolved: it may have been marked, and the portal cannot be read now.
    :raises Bitrix24OutcomeUnknown: the same without a journal.
    """
    attempt = write.attempt
    yield from write.look()
    yield from write.others.begin(shown=write.shown)
    yield from _await_lost_notes(write)  # rule: lost notes are waited for before a mark
    decision = yield from carry_out_decision(attempt, ())
    if decision is not None and decision.what == "use_payment":
        yield from refuse_decision(attempt, decision, messages.NOTHING_TO_USE, ())
    if attempt.record.receipt is not None:  # rule: what was undone is not sent again: a mark
        return (yield from _done_before(write, attempt.record.receipt))
    if attempt.record.forgotten:
        return (yield from _paid_or_ask(write))
    _ = attempt.found
    step = yield from carry_out(attempt, write)
    if step is Step.DONE:
        return (yield from _shown(write))
    if step is Step.ASK:
        yield from _ask(write)
    if step is Step.FAIL:
        yield from _not_applied(write)
    raise _unreadable(write)


def _await_lost_notes(write: StateWrite) -> Course[None]:
    """Wait for what an attempt whose notes are lost may have sent just now, unless the object is paid earlier."""
    watch = yield from watch_lost_notes(write.attempt)
    if watch is None or write.shown:
        return
    with suppress(PortalUnreadable):  # the next look says so
        yield from find(write.attempt, watch, write.query(), write.shows)
    yield from write.look()


def _paid_or_ask(write: StateWrite) -> Course[Receipt]:
    """Return a receipt if the object is paid, else ask a person: the journal has lost what was sent."""
    target = write.target
    if not write.change.reached(target):
        yield from ask_about_lost_notes(write.attempt, write.change.where)
    already = messages.marked_already(write.change.words)
    write.change.expected.check(target.money, what=write.change.what, already=already)
    return (yield from write.attempt.finish(_receipt(write, ours=False, recovered=False)))


def _shown(write: StateWrite) -> Course[Receipt]:
    """It is as it is to be."""
    attempt, change, target = write.attempt, write.change, write.target
    record, already = attempt.record, messages.marked_already(change.words)
    if record.nothing_executed:
        change.expected.check(target.money, what=change.what, already=already)
        yield from write.others.refuse_unsettled()
        return (yield from attempt.finish(_receipt(write, ours=False)))
    ours = change.is_ours(target, write.user_id, record.snapshot_at)
    happened = messages.marked(change.words) if ours else messages.marked_by_another(change.words)
    before = target.money
    if record.amount is not None and record.currency is not None:
        before = Money(Decimal(record.amount), record.currency)
    if not target.money.same_as(before):
        raise PaymentMismatch(
            messages.changed_before_marked(change.what, target.money, before, happened, change.where, change.words)
        )
    receipt = yield from attempt.finish(_receipt(write, ours=ours))
    if attempt.sent_now:
        return receipt
    change.expected.check(target.money, what=change.what, happened=happened if ours else already)
    attempt.refuse_other_parameters(f"{change.what} is {change.words.state}, for {target.money}.")
    return receipt


def _done_before(write: StateWrite, stored: Mapping[str, Any]) -> Course[Receipt]:
    """The journal knows how it ended; the portal is asked whether that is still so."""
    attempt, change = write.attempt, write.change
    then = f" ({stored['paid_at']})" if stored.get("paid_at") else ""
    attempt.refuse_other_parameters(f"{change.what} was {change.words.done} then{then}.")
    if not write.shown:
        try:
            # A read may be behind by the read lag, and not show it yet.
            seen = yield from find(attempt, after_reply(attempt), write.query(), write.shows)
        except PortalUnreadable as error:
            trouble = str(error)
        else:
            if seen is None:
                raise PaymentNotApplied(
                    messages.not_marked_any_more(
                        change.what,
                        stored.get("paid_at"),
                        attempt.record.task,
                        change.where,
                        attempt.how_to_decide(),
                        change.words,
                    )
                )
            yield from write.take(seen)
    if not write.shown:
        raise PaymentUnresolved(messages.marked_before_and_unreadable(change.what, trouble, change.words))
    already = messages.marked_already_not_sent(change.words)
    change.expected.check(write.target.money, what=change.what, happened=already)
    mine = stored.get("outcome") == change.outcomes[0] and attempt.record.task == attempt.task.identity
    return _receipt(write, ours=mine, recovered=mine)


def _receipt(write: StateWrite, *, ours: bool, recovered: bool | None = None) -> Receipt:
    attempt, target, last = write.attempt, write.target, write.last
    asked_for = attempt.record.parameters.get("pay_system_id", target.pay_system_id)
    pay_system_id = write.chosen.pay_system_id if write.chosen else asked_for
    if not ours or not (pay_system_id is None or isinstance(pay_system_id, int)):
        pay_system_id = target.pay_system_id
    return Receipt(
        operation=write.change.name,
        outcome=write.change.outcomes[0 if ours else 1],
        portal=attempt.portal,
        subject=write.change.ids,
        pay_system_id=pay_system_id,
        money=target.money,
        paid_at=target.paid_at,
        idempotency_key=write.change.key,
        evidence="response" if ours and last and last.result == "acknowledged" else "portal_state",
        sent=attempt.sent_now,
        recovered=attempt.found and not attempt.sent_now if recovered is None else recovered,
        by_our_user=target.paid_by_id == write.user_id,
        forgotten=attempt.record.forgotten,
    )


# -- it is not shown


def _ask(write: StateWrite) -> Course[None]:
    """It was sent as often as it may be without a person, or a person was asked before."""
    attempt = write.attempt
    yield from write.report()
    attempt.refuse_undecided()
    question = messages.marked_too_often(
        write.change.what,
        attempt.record,
        write.change.where,
        attempt.how_to_decide_if_kept(),
        write.change.words,
    )
    yield from attempt.ask(question)


def _not_applied(write: StateWrite) -> Course[None]:
    """The portal replied and does not show it.

    :raises PaymentNotApplied: always.
    """
    change, last = write.change, write.last
    if write.watch is None:
        # An earlier attempt has found that out: this task reports it, and sends once somebody has cleared it.
        yield from write.report()
        raise PaymentNotApplied(messages.earlier_mark_not_applied(change.subject, last, change.where, change.words))
    trap = write.chosen.trap if write.chosen else ""
    raise PaymentNotApplied(messages.mark_not_applied(change.subject, write.doubt, trap, change.where, change.words))


def _unreadable(write: StateWrite) -> Exception:
    """The error for a portal that could not be read after a send."""
    attempt, change, doubt = write.attempt, write.change, write.doubt
    if write.watch is None or write.watch.trouble is None:
        raise RuntimeError("the portal was read")
    unreadable = PortalUnreadable(write.watch.trouble)
    if unreadable.gone:  # rule: what was deleted while it was looked for is gone
        return PaymentNotApplied(messages.marked_object_is_gone(change.what, doubt, change.words))
    happened = messages.mark_unreadable(change.what, doubt, str(unreadable), change.words)
    if attempt.journal.durable:
        return PaymentUnresolved(messages.mark_in_journal(happened, attempt.journal.name))
    message = f"{happened} {messages.mark_advice(change.where, change.words)}"
    if doubt is None:
        return Bitrix24OutcomeUnknown(change.method, True, message=message)
    return Bitrix24OutcomeUnknown(change.method, doubt.answered, doubt.portal_code, doubt.text, message)
