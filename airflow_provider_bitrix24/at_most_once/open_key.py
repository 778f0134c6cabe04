"""Open a key: load its record, wait for another attempt that works on it, and take over what a person has decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.course import WaitForOther, do, load, save
from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentInProgress

if TYPE_CHECKING:
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.record import Decision, Record

LOAD_AGAIN: Final = 5.0
"""Seconds until the journal is read again while another attempt is at work on the key."""


def open_key(attempt: Attempt, decision: Decision | None) -> Course[None]:
    """Load the record; if there is none, note that work on the key has begun, before the portal is read.

    :param decision: what a person has decided just now.
    :raises PaymentAmbiguous: a person is asked about the key in another task.
    :raises PaymentInProgress: another attempt is at work on the key, and goes on.
    """
    while True:
        record = yield from _load(attempt)
        mine = attempt.wanted if record is None else record.renewed(attempt.wanted)
        # A record of another task in which nothing was executed does not say what this task has sent.
        # rule: another task's record does not speak for this one
        knows_us = record is not None and (not record.nothing_executed or record.task == attempt.task.identity)
        # rule: an empty journal that must know has forgotten
        if attempt.why_notes_lost and not knows_us:
            mine = mine.notes_lost(attempt.task.identity)
        if record is not None:
            break
        saved = yield from save(mine, opens=True)
        if saved.outcome == "saved":
            break
        if saved.outcome == "overtaken":
            raise PaymentInProgress(saved.message)
    attempt.record = mine
    if attempt.loaded.behind or (record is not None and mine.forgotten and not record.forgotten):
        # Other runs know only what the journal itself holds.
        yield from attempt.keep(mine)
    if decision is not None:
        yield from _take(attempt, decision)


def _load(attempt: Attempt) -> Course[Record | None]:
    """Load the record, waiting for another task that works on the key, but not longer than the journal says."""
    attempt.loaded, waited_for = (yield from load()), None
    while attempt.loaded.busy:
        busy = attempt.loaded.busy
        if waited_for not in (None, busy.epoch) or _is_asked_elsewhere(attempt, attempt.loaded.record):
            break
        if not attempt.patient:  # rule: a key that another task holds is revisited at the end
            raise PaymentInProgress(messages.busy(busy.owner, attempt.wanted))
        seconds, to_log = min(busy.seconds + 0.1, LOAD_AGAIN), busy if waited_for is None else None
        yield from do(WaitForOther(seconds, "", attempt.wanted.subject, to_log))
        waited_for = busy.epoch
        attempt.loaded = yield from load()
    if attempt.loaded.error is not None:
        raise attempt.loaded.error
    record = attempt.loaded.record
    if record is not None and _is_asked_elsewhere(attempt, record):
        raise PaymentAmbiguous(messages.asked_elsewhere(record), candidates=record.candidates)
    if attempt.loaded.busy and (record is None or record.receipt is None):
        raise PaymentInProgress(messages.busy(attempt.loaded.busy.owner, attempt.wanted))
    return record


def _is_asked_elsewhere(attempt: Attempt, record: Record | None) -> bool:
    return record is not None and record.state == "needs_decision" and record.task != attempt.task.identity


def _take(attempt: Attempt, decision: Decision) -> Course[None]:
    """Take over a person's decision, once, if the question still applies; to abandon needs no question."""
    record, shown = attempt.record, tuple(sorted(decision.candidates))
    if record.knows(decision):
        return
    asked_here = record.state == "needs_decision" and record.task == attempt.task.identity
    abandons = decision.what == "abandon" and record.receipt is None  # rule: who abandons is always heard
    if abandons or (asked_here and record.candidates == shown):
        # Airflow hands it over only once.
        yield from attempt.keep(record.decided(decision))
        return
    why = f"the question no longer applies: {record.key} is in the state {record.state}"
    attempt.log.warning(
        "%s has decided (%s): %s, but %s. The decision is not carried out.",
        decision.by,
        decision.through,
        decision.what,
        why,
    )
    attempt.refused_decision = decision, why
    yield from attempt.keep(record.noted(decision.refused_because(why)))
