"""Carry out what a person has decided about a key, or refuse it and leave the key to a person again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentRefused

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.record import Decision


def carry_out_decision(
    attempt: Attempt, candidates: Collection[int], shown: Collection[int] = ()
) -> Course[Decision | None]:
    """Carry out what a person has decided, as far as it concerns sending.

    :param candidates: the payments that may be ours, read just now.
    :param shown: all payments of the object.
    :return: a decision that was carried out, or to use a payment, which the caller has to carry out.
    :raises PaymentRefused: the key is abandoned.
    :raises PaymentAmbiguous: the person was not shown everything.
    :raises PaymentMismatch: what is to be sent again is not what is wanted now.
    """
    record = attempt.record
    decision = record.decision
    if decision is None:
        _refuse_if_abandoned(attempt)
        _refuse_if_refused(attempt)  # rule: a decision that does not apply begins nothing
        return None
    if decision.what == "abandon":
        yield from attempt.keep(record.abandoned(), lease=0)
        _refuse_if_abandoned(attempt)
    if decision.what == "send_again":
        unseen = sorted(set(candidates) - set(decision.candidates))
        # rule: nothing is sent beside the key's own payment
        if record.payment_id in shown and record.evidence != "portal_state":
            why = messages.still_there(record)
            yield from refuse_decision(attempt, decision, why, candidates)
        if unseen:  # rule: decisions know their candidates
            why = messages.appeared_meanwhile(unseen, record.subject, decision.by)
            yield from refuse_decision(attempt, decision, why, candidates)
        # rule: sending again is about the same object
        attempt.refuse_other_parameters(f"{decision.by} decided to send again for the former ones.")
        attempt.record = record.permitted_again(candidates)
    attempt.log.info("%s decided (%s): %s.%s", decision.by, decision.through, decision.what, attempt.set_aside)
    return decision


def refuse_decision(attempt: Attempt, decision: Decision, why: str, candidates: Collection[int]) -> Course[None]:
    """Refuse a person's decision, and leave the key to a person again.

    :raises PaymentAmbiguous: always.
    """
    record = attempt.record
    question = messages.decision_refused(decision, why, record, attempt.how_to_decide())
    if record.payment_id is None:
        yield from attempt.ask(question, candidates, why=why)
    # The next decision is one of a person who has been shown them.
    yield from attempt.keep(record.decision_refused(why, candidates), lease=0)
    if attempt.record.abandonment is None:
        question += f" {messages.goes_on_without_decision(record.payment_id)}"
    raise PaymentAmbiguous(question, candidates=tuple(sorted(candidates)))


def _refuse_if_refused(attempt: Attempt) -> None:
    """Refuse to go on if this attempt's decision was refused, and nothing else has settled the key."""
    record = attempt.record
    if attempt.refused_decision is None or record.receipt is not None or record.payment_id is not None:
        return
    decision, why = attempt.refused_decision
    question = messages.decision_refused(decision, why, record, attempt.how_to_decide())
    raise PaymentAmbiguous(question, candidates=record.candidates)


def _refuse_if_abandoned(attempt: Attempt) -> None:
    decision = attempt.record.abandonment
    if decision is not None:
        raise PaymentRefused(messages.abandoned(attempt.record, decision, attempt.set_aside, attempt.how_to_decide()))
