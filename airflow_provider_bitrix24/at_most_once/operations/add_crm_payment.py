"""Add a payment to a deal or smart invoice, at most once for one key."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_provider_bitrix24.api.values import ENTITY_NAMES
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.attribution import OnUnknown, find_candidates
from airflow_provider_bitrix24.at_most_once.course import find_late_reply
from airflow_provider_bitrix24.at_most_once.decisions import carry_out_decision, refuse_decision
from airflow_provider_bitrix24.at_most_once.engine import carry_out
from airflow_provider_bitrix24.at_most_once.forgotten import ask_about_lost_notes, watch_lost_notes
from airflow_provider_bitrix24.at_most_once.next_step import Step
from airflow_provider_bitrix24.at_most_once.operations.add_write import AddWrite
from airflow_provider_bitrix24.at_most_once.operations.completing import complete
from airflow_provider_bitrix24.at_most_once.operations.surplus import refuse_surplus
from airflow_provider_bitrix24.at_most_once.record import Snapshot
from airflow_provider_bitrix24.at_most_once.write import PortalUnreadable, find
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentUnresolved,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.preflight import ObjectView
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Decision, Parameter

IfUnpaidExists: TypeAlias = Literal["add", "return", "fail"]


@dataclass(frozen=True, kw_only=True)
class AddCrmPayment:
    """Add one payment: three requests in the normal case, if it stays empty.

    :param portal: the portal's name in keys.
    :param key: the idempotency key.
    :param pay_system_id: None leaves the choice to the portal.
    :param fill_products: put the product rows in that are still available.
    :param products: quantity by product row, instead of ``fill_products``.
    :param if_unpaid_exists: what to do if the object has an unpaid payment already.
    :param on_unknown: what to do if the reply is lost and exactly one new payment appeared.
    :param tag: write the key into the payment.
    :param max_amount: what the product rows that are filled in may add up to.
    :param with_orders: read the orders of the object too; they only serve a warning.
    """

    portal: str
    key: str
    entity_id: int
    entity_type_id: int
    pay_system_id: int | None = None
    fill_products: bool = False
    products: Mapping[int, int] | None = None
    if_unpaid_exists: IfUnpaidExists = "add"
    on_unknown: OnUnknown = "fail"
    tag: bool = False
    max_amount: Decimal | None = None
    with_orders: bool = True
    name: str = field(init=False, default="add_crm_payment")

    @property
    def subject(self) -> str:
        """The object."""
        return f"{ENTITY_NAMES[self.entity_type_id]} {self.entity_id}"

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        chosen = {str(row_id): quantity for row_id, quantity in (self.products or {}).items()}
        return {
            "entity_type_id": self.entity_type_id,
            "entity_id": self.entity_id,
            "pay_system_id": self.pay_system_id,
            "fill_products": self.fill_products,
            **({"products": chosen} if chosen else {}),
        }

    @property
    def serial_group(self) -> str:
        """Whose payment is it is decided for each object."""
        return self.subject

    @property
    def needs_shared_journal(self) -> bool:
        """Without a tag, only the journal tells apart what several keys have added."""
        return not self.tag

    @property
    def writes(self) -> tuple[str, ...]:
        """The add, the tag, and the product rows: one at least, if the portal says which they are."""
        tag = ("sale.payment.update",) if self.tag else ()
        rows = len(self.products) if self.products else int(self.fill_products)
        return (AddWrite.method, *tag, *("crm.item.payment.product.add",) * rows)

    @property
    def reads(self) -> tuple[str, ...]:
        """The object before, and its payments before and after."""
        orders = ("crm.orderentity.list",) if self.with_orders else ()
        return ("crm.item.get", *("crm.item.payment.list",) * 2, *orders)

    def course(self, attempt: Attempt) -> Course[Receipt]:
        """What one attempt does."""
        return add_payment(AddWrite(attempt, self))


def add_payment(write: AddWrite) -> Course[Receipt]:
    """Add the payment, in one attempt.

    :return: outcome ``created`` or ``existing``.
    :raises PaymentRefused: nothing was sent: no such object, an unpaid payment exists, no products, above the
        limit, an unfit pay system; or the key is abandoned.
    :raises PaymentAmbiguous: new payments are there, and nothing proves which one is ours; several are unpaid; or
        it was sent as often as it may be without a person.
    :raises PaymentMismatch: the key was used with other parameters; or the payment is not as wanted: says which.
    :raises PaymentNotApplied: the portal replied, but does not show the payment (any more), or it was added and is
        not complete.
    :raises PaymentUnresolved: a payment may have been added, and the portal cannot be read now.
    :raises Bitrix24OutcomeUnknown: the same without a journal.
    """
    attempt = write.attempt
    yield from write.look_at_object()
    yield from _await_lost_notes(write)  # rule: lost notes are waited for before an add
    yield from _learn_from_the_overtaken(write)  # rule: what others were told is learned first
    candidates = yield from find_candidates(attempt.record, write.view.shown)
    shown = {payment.id for payment in write.view.shown.payments}
    decision = yield from carry_out_decision(attempt, candidates, shown)
    if decision is not None and decision.what == "use_payment":
        yield from _use(write, decision, candidates)
    record = attempt.record
    if record.receipt is not None:
        attempt.refuse_other_parameters(f"Payment {record.payment_id} was added for it then.")
    elif record.payment_id is None and record.forgotten:
        return (yield from _complete_and_return(write, (yield from _tagged_or_ask(write))))
    _ = attempt.found
    write.recognise()
    return (yield from _end(write, (yield from carry_out(attempt, write))))


def _end(write: AddWrite, step: Step) -> Course[Receipt]:
    """Return the receipt, ask a person, or fail."""
    if step is Step.DONE:
        return (yield from _done(write))
    if step is Step.ASK:
        yield from write.ask()
    if step is Step.FAIL:
        yield from write.report()
        raise _not_applied(write)
    raise _unreadable(write)


def _await_lost_notes(write: AddWrite) -> Course[None]:
    """Wait for what an attempt whose notes are lost may have sent just now, unless its tag shows earlier."""
    attempt, record = write.attempt, write.attempt.record
    watch = yield from watch_lost_notes(attempt)
    judged = {*record.dismissed, *(record.decision.candidates if record.decision else ())}

    def is_tagged(view: ObjectView) -> bool:
        return bool((view.shown.tagged | view.shown.tagged_elsewhere) - judged)

    if watch is None or is_tagged(write.view):
        return
    with suppress(PortalUnreadable):  # the next look says so
        yield from find(attempt, watch, write.before(), is_tagged)
    yield from write.look_at_object()


def _learn_from_the_overtaken(write: AddWrite) -> Course[None]:
    """An attempt that was overtaken may have been told the payment's id: it was added, whether it shows or not."""
    attempt, record = write.attempt, write.attempt.record
    if record.payment_id is not None or not record.possible_sends:
        return
    payment_id = yield from find_late_reply()
    if payment_id is not None and payment_id not in record.dismissed:
        yield from attempt.keep(record.identified(payment_id, "response").acknowledged())


def _tagged_or_ask(write: AddWrite) -> Course[Payment]:
    """Find the payment by its tag, or ask a person: the journal has lost what was sent."""
    attempt, record = write.attempt, write.attempt.record
    tagged = yield from write.tagged(write.view.shown)
    if tagged is None:
        candidates = yield from find_candidates(record, write.view.shown)
        yield from ask_about_lost_notes(attempt, f"look at the payments of {write.of} in Bitrix24", candidates)
        raise AssertionError  # asking ends the attempt
    plan = write.plan_for(tagged)
    yield from attempt.keep(record.recalled().identified(tagged.id, "tag", plan=plan))
    return tagged


# -- the payment is there


def _done(write: AddWrite) -> Course[Receipt]:
    """The payment is known, or an existing one is used instead."""
    attempt = write.attempt
    if write.payment is None:
        return (yield from _return_existing(write))
    if attempt.record.receipt is not None:
        return write.receipt(write.payment, outcome="existing", recovered=True)
    if attempt.record.evidence == "response":  # rule: also by the attempt after one that died
        yield from refuse_surplus(write, write.payment.id)
    return (yield from _complete_and_return(write, write.payment))


def _complete_and_return(write: AddWrite, payment: Payment) -> Course[Receipt]:
    """Complete the payment, which is known to be this key's, and return its receipt."""
    receipt = yield from complete(write, payment)
    write.attempt.refuse_other_parameters(f"Payment {payment.id} was added for it and is there.")
    return receipt


def _return_existing(write: AddWrite) -> Course[Receipt]:
    """Return a payment that is there; only an empty one is filled, because nobody else's sum is changed."""
    attempt, record = write.attempt, write.attempt.record
    existing = write.existing()
    if existing is None:
        raise AssertionError("nothing is used instead")
    if attempt.found:  # rule: other parameters use no existing payment
        attempt.refuse_other_parameters("No payment of it is on the portal.")
    payment, evidence = existing
    if evidence == "portal_state" and write.pay_system_id not in (None, payment.pay_system_id):
        raise PaymentMismatch(*messages.existing_with_other_pay_system(write.of, payment, write.pay_system_id))
    if record.nothing_executed:
        record = record.restarted(attempt.wanted, Snapshot(at=write.portal_time))
    yield from attempt.keep(record.identified(payment.id, evidence, plan=write.plan_for(payment)))
    return (yield from _complete_and_return(write, payment))


def _use(write: AddWrite, decision: Decision, candidates: list[int]) -> Course[None]:
    """Use the payment that a person has chosen."""
    attempt, record = write.attempt, write.attempt.record
    by_id = {payment.id: payment for payment in write.view.shown.payments}
    wanted, known = decision.payment_id or 0, record.payment_id
    if wanted not in by_id:
        yield from refuse_decision(attempt, decision, messages.no_such_payment(write.of), candidates)
    if known is not None and known != wanted and known in by_id:
        yield from refuse_decision(attempt, decision, messages.still_there(record), candidates)
    plan = dict(record.plan)
    if not record.possible_sends:
        # Of what was there before, and is only returned, nothing was planned but for that one.
        plan = write.plan_for(by_id[wanted])
    yield from attempt.keep(record.adopted(wanted, plan))


# -- it is not shown


def _not_applied(write: AddWrite) -> PaymentNotApplied:
    attempt, record = write.attempt, write.attempt.record
    if record.payment_id is None:
        return PaymentNotApplied(messages.add_not_applied(write.happened, attempt.set_aside, sent_now=attempt.sent_now))
    if attempt.sent_now:
        return PaymentNotApplied(messages.added_and_not_shown(record.payment_id, write.of))
    return PaymentNotApplied(
        messages.payment_is_gone(
            record.payment_id, write.of, attempt.how_to_decide(), succeeded=record.receipt is not None
        )
    )


def _unreadable(write: AddWrite) -> Exception:
    """The error for a portal that could not be read after a send."""
    attempt, record = write.attempt, write.attempt.record
    if write.watch is None or write.watch.trouble is None:
        raise AssertionError("the portal was read")
    trouble, durable = str(PortalUnreadable(write.watch.trouble)), attempt.journal.durable
    if record.payment_id is not None:
        if attempt.sent_now:
            happened = messages.added_and_unreadable(record.payment_id, write.of, trouble)
            if not durable:
                return PaymentNotApplied(f"{happened} {messages.look_for(record.payment_id, write.of)}")
        else:
            happened = messages.payment_unreadable(record.payment_id, write.of, trouble)
        return PaymentUnresolved(messages.payment_in_journal(happened, attempt.journal.name))
    happened = messages.add_unreadable(write.happened, trouble)
    if durable:
        return PaymentUnresolved(messages.add_in_journal(happened, attempt.journal.name))
    doubt = write.doubt
    return Bitrix24OutcomeUnknown(
        write.method,
        doubt is not None and doubt.answered,
        doubt.portal_code if doubt else None,
        doubt.text if doubt else None,
        f"{happened} {messages.NOT_AGAIN} {write.what_to_do}",
    )
