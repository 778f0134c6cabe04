"""Use a payment that is there: the one that came of the send, carries the tag, was chosen, or is unpaid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.attribution import find_candidates
from airflow_provider_bitrix24.at_most_once.decisions import refuse_decision
from airflow_provider_bitrix24.at_most_once.operations.completing import complete
from airflow_provider_bitrix24.at_most_once.operations.surplus import refuse_surplus
from airflow_provider_bitrix24.at_most_once.record import Snapshot
from airflow_provider_bitrix24.exceptions import PaymentMismatch

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.add_write import AddWrite
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Decision


def use_tagged(write: AddWrite) -> Course[Receipt]:
    """Use the payment with the tag, or ask a person: the journal has lost what was sent."""
    attempt, record = write.attempt, write.attempt.record
    tagged = yield from write.tagged(write.view.shown)
    if tagged is None:
        candidates = yield from find_candidates(record, write.view.shown)
        yield from write.ask_about_lost_notes(candidates)
        raise AssertionError  # asking ends the attempt
    plan = write.plan_for(tagged)
    yield from attempt.keep(record.recalled().identified(tagged.id, "tag", plan=plan))
    return (yield from complete(write, tagged))


def use_ours(write: AddWrite) -> Course[Receipt]:
    """Use the payment that is known to be this key's, or an existing one instead."""
    attempt = write.attempt
    if write.payment is None:
        return (yield from use_existing(write))
    if attempt.record.receipt is not None:
        return write.receipt(write.payment, outcome="existing", recovered=True)
    if attempt.record.evidence == "response":  # rule: also by the attempt after one that died
        yield from refuse_surplus(write, write.payment.id)
    return (yield from complete(write, write.payment))


def find_existing(write: AddWrite) -> tuple[Payment, Literal["tag", "portal_state"]] | None:
    """The payment that is used instead of adding one: it carries the tag, or is unpaid and is to be returned."""
    record, shown = write.attempt.record, write.view.shown
    if record.payment_id is not None:
        return None
    if record.question is not None and record.possible_sends:
        return None  # rule: what was sent is a person's to decide about
    if record.nothing_executed:
        tagged = [one for one in shown.payments if one.id in shown.tagged - set(record.dismissed)]
        elsewhere = shown.tagged_elsewhere - set(record.dismissed)
        if len(tagged) == 1 and not elsewhere:
            return tagged[0], "tag"
        if tagged or elsewhere or write.attempt.may_be_forgotten:
            return None
    # rule: an unpaid payment counts before every send
    unpaid = write.unpaid() if write.wanted.if_unpaid_exists == "return" else []
    return (unpaid[0], "portal_state") if len(unpaid) == 1 else None


def use_existing(write: AddWrite) -> Course[Receipt]:
    """Return a payment that is there; only an empty one is filled, because nobody else's sum is changed."""
    attempt, record = write.attempt, write.attempt.record
    existing = find_existing(write)
    if existing is None:
        raise AssertionError("nothing is used instead")
    if attempt.resumes:  # rule: other parameters use no existing payment
        attempt.refuse_other_parameters("No payment of it is on the portal.")
    payment, evidence = existing
    wanted = write.asked.pay_system_id
    if evidence == "portal_state" and wanted not in (None, payment.pay_system_id):
        raise PaymentMismatch(*messages.existing_with_other_pay_system(write.subject, payment, wanted))
    if record.nothing_executed:
        record = record.restarted(attempt.wanted, Snapshot(at=attempt.portal_clock.told))
    yield from attempt.keep(record.identified(payment.id, evidence, plan=write.plan_for(payment)))
    return (yield from complete(write, payment))


def use_chosen(write: AddWrite, decision: Decision, candidates: list[int]) -> Course[None]:
    """Use the payment that a person has chosen."""
    attempt, record = write.attempt, write.attempt.record
    by_id = {payment.id: payment for payment in write.view.shown.payments}
    wanted, known = decision.payment_id or 0, record.payment_id
    if wanted not in by_id:
        yield from refuse_decision(attempt, decision, messages.no_such_payment(write.subject), candidates)
    if known is not None and known != wanted and known in by_id:
        yield from refuse_decision(attempt, decision, messages.still_there(record), candidates)
    plan = dict(record.plan)
    if not record.possible_sends:
        # Nothing was sent: the plan was made for the payment that was to be returned, not for the chosen one.
        plan = write.plan_for(by_id[wanted])
    yield from attempt.keep(record.adopted(wanted, plan))
