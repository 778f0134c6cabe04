"""More payments have appeared than were sent: noticed when the payment is read back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_bitrix24.api.tags import Shown
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.attribution import find_candidates
from airflow_provider_bitrix24.at_most_once.course import find_keys, read
from airflow_provider_bitrix24.exceptions import Bitrix24Error, PaymentMismatch, PaymentNotApplied, PaymentUnresolved

if TYPE_CHECKING:
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.add_write import AddWrite


def refuse_surplus(write: AddWrite, payment_id: int) -> Course[None]:
    """Refuse if more payments have appeared than were sent; there is one more request only if other payments are new.

    :raises PaymentMismatch: nobody else can have added them, as far as is known here.
    :raises PaymentNotApplied: the portal refuses to show whose they are.
    :raises PaymentUnresolved: it cannot show that now, and the next attempt goes on.
    """
    attempt = write.attempt
    record, on_unknown = attempt.record, write.wanted.on_unknown
    chosen = (one.payment_id for one in record.decisions_carried_out if one.what == "use_payment")
    if payment_id in chosen:
        return  # a person has seen them all
    others = yield from _others(write, payment_id, Shown.of(write.listed))
    if not others:
        return
    evidence = yield from _evidence(write, payment_id)
    others = yield from _others(write, payment_id, evidence)
    ours = [one for one in others if evidence.fitting is not None and one in evidence.fitting]
    unexplained: list[int] = []
    if on_unknown == "adopt":
        # A later attempt also sees what others have added since.
        unexplained = others if attempt.sent_now else ours
    elif attempt.journal.is_shared and not (yield from find_keys("unresolved", record.subject)):
        unexplained = ours
    if unexplained:  # rule: one too many without a tag is noticed
        decide = attempt.how_to_decide_if_kept()
        raise PaymentMismatch(messages.one_too_many(payment_id, unexplained, write.subject, decide))
    if ours:
        attempt.log.warning("%s", messages.perhaps_one_too_many(payment_id, ours, write.subject))


def _evidence(write: AddWrite, payment_id: int) -> Course[Shown]:
    journal = write.attempt.journal
    while True:
        try:
            return (yield from read(write.evidence()))
        except Bitrix24Error as error:
            trouble = error
        if not (yield from write.attempt.wait_for_time_limit(trouble)):
            break
    happened = messages.surplus_not_read(payment_id, write.subject, trouble.reason)
    if not trouble.final and journal.durable:
        raise PaymentUnresolved(messages.in_journal(happened, journal.name))
    raise PaymentNotApplied(messages.look_for_surplus(happened, write.subject))


def _others(write: AddWrite, payment_id: int, shown: Shown) -> Course[list[int]]:
    without = replace(shown, payments=tuple(one for one in shown.payments if one.id != payment_id))
    return (yield from find_candidates(write.attempt.record, without))
