"""The call that brings an object to a state, and what the outcome means."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.decisions import refuse_decision
from airflow_provider_bitrix24.at_most_once.operations.key_write import KeyWrite
from airflow_provider_bitrix24.at_most_once.operations.other_operations import OtherOperations
from airflow_provider_bitrix24.at_most_once.receipt import Receipt
from airflow_provider_bitrix24.at_most_once.record import Snapshot
from airflow_provider_bitrix24.at_most_once.write import PAYMENT
from airflow_provider_bitrix24.exceptions import PaymentMismatch, PaymentNotApplied

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.state_change import Chosen, StateChange, Target
    from airflow_provider_bitrix24.at_most_once.record import Decision, Record
    from airflow_provider_bitrix24.at_most_once.write import PortalUnreadable


class StateWrite(KeyWrite):
    """The call that changes the state of an object."""

    policy = PAYMENT

    def __init__(self, attempt: Attempt, change: StateChange) -> None:
        super().__init__(attempt, change.key)
        self.change = change
        self.words = change.words
        self.others = OtherOperations(attempt, change)
        self.method = change.method
        self.target: Target
        self.chosen: Chosen | None = None

    @property
    def where(self) -> str:
        """Where a person looks."""
        return self.change.where

    @property
    def is_known(self) -> bool:
        """Whether a task has succeeded for it."""
        return self.attempt.record.receipt is not None  # rule: what was undone is not sent again: a mark

    def begin(self) -> Course[None]:
        """Begin once more if an operation of ours has undone what another task did."""
        yield from self.others.begin(shown=self.shown)

    def call(self) -> Call[Any]:
        """The call."""
        return self.change.call()

    def look(self) -> Course[None]:
        """Read the object, the connection's user, and the pay systems."""
        self.view = yield from self.attempt.read_before_send(self.change.before())
        self.target = self.change.target(self.view)
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
        self.why_ignored = self.chosen.why_ignored
        yield from self.others.before_send()
        attempt.log.info("%s of %s, %s, on %s.", change.method, change.subject, self.target.money, attempt.portal)

    def prepared(self, record: Record) -> Record:
        """The record with what the portal showed before."""
        at, money = self.attempt.portal_clock.told, self.target.money
        snapshot = Snapshot(at=at, amount=money.amount_text, currency=money.currency)
        return self.others.place(record.prepared(self.attempt.wanted, snapshot))

    # -- the end

    def use(self, decision: Decision, candidates: list[int]) -> Course[None]:
        """Refuse: there is no payment to choose."""
        yield from refuse_decision(self.attempt, decision, messages.NOTHING_TO_USE, candidates)

    def judge_without_notes(self) -> Course[Receipt]:
        """Return a receipt if the portal shows it, else ask a person."""
        if not self.shown:
            yield from self.ask_about_lost_notes()
        already = messages.marked_already(self.words)
        self.change.expected.check(self.target.money, what=self.change.what, already=already)
        return (yield from self.attempt.finish(self._receipt(ours=False, recovered=False)))

    def done(self) -> Course[Receipt]:
        """Return the receipt: with the first of the outcomes if this key has done it, else with the second."""
        attempt, change, target = self.attempt, self.change, self.target
        record, already = attempt.record, messages.marked_already(self.words)
        if record.receipt is not None:
            not_sent = messages.NOT_BY_THIS_ATTEMPT
            change.expected.check(target.money, what=change.what, already=already, happened=not_sent)
            mine = record.receipt.get("outcome") == change.outcomes[0] and record.task == attempt.task.identity
            return self._receipt(ours=mine, recovered=mine)
        if record.nothing_executed:
            change.expected.check(target.money, what=change.what, already=already)
            yield from self.others.refuse_unsettled()
            return (yield from attempt.finish(self._receipt(ours=False)))
        ours = change.is_ours(target, self.user_id, record.snapshot_at)
        happened = messages.marked(self.words, ours=ours)
        before = target.money
        if record.amount is not None and record.currency is not None:
            before = Money(Decimal(record.amount), record.currency)
        if not target.money.same_as(before):
            raise PaymentMismatch(
                messages.changed_before_marked(change.what, target.money, before, happened, self.where, self.words)
            )
        receipt = yield from attempt.finish(self._receipt(ours=ours))
        if not attempt.sent_now:
            change.expected.check(target.money, what=change.what, happened=happened if ours else already)
            attempt.refuse_other_parameters(f"{change.what} is {self.words.state}, for {target.money}.")
        return receipt

    def _receipt(self, *, ours: bool, recovered: bool | None = None) -> Receipt:
        attempt, target, last = self.attempt, self.target, self.last
        asked_for = attempt.record.parameters.get("pay_system_id", target.pay_system_id)
        pay_system_id = self.chosen.pay_system_id if self.chosen else asked_for
        if not ours or not (pay_system_id is None or isinstance(pay_system_id, int)):
            pay_system_id = target.pay_system_id
        return Receipt(
            operation=self.change.name,
            outcome=self.change.outcomes[0 if ours else 1],
            portal=attempt.portal,
            subject=self.change.ids,
            pay_system_id=pay_system_id,
            money=target.money,
            paid_at=target.paid_at,
            idempotency_key=self.change.key,
            evidence="response" if ours and last and last.result == "acknowledged" else "portal_state",
            sent=attempt.sent_now,
            recovered=attempt.resumes and not attempt.sent_now if recovered is None else recovered,
            by_our_user=target.paid_by_id == self.user_id,
            forgotten=attempt.record.forgotten,
        )

    @property
    def noted(self) -> tuple[str, str]:
        """The object, and what the journal says of it."""
        record = self.attempt.record
        when = record.receipt.get("paid_at") if record.receipt else None
        return self.change.what, f"was {self.words.state} before ({f'{when}, ' if when else ''}by {record.task})"

    def unreadable(self, trouble: PortalUnreadable) -> Exception:
        """The error for a portal that could not be read."""
        if trouble.gone and not self.is_known:  # rule: what was deleted while it was looked for is gone
            not_sent = self.attempt.not_by_this_attempt
            return PaymentNotApplied(messages.object_is_gone(f"{self.happened}.", str(trouble), not_sent))
        return super().unreadable(trouble)
