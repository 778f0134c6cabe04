"""A journal that has lost its notes: an earlier attempt may have sent something just now, of which nothing is saved."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_provider_bitrix24.at_most_once.attempt import CLOCK_STEP
from airflow_provider_bitrix24.at_most_once.write import PortalUnreadable, Watch, find
from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown

if TYPE_CHECKING:
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.key_write import KeyWrite


def await_lost_notes(write: KeyWrite) -> Course[None]:
    """Wait until no send that the journal has lost can be on its way any more, unless the portal shows it earlier.

    Nothing is waited for if nothing is sent nor asked: what is known, adopted or abandoned stands.
    """
    attempt, record = write.attempt, write.attempt.record
    what = record.decision.what if record.decision is not None else None
    unknown = what is None and record.receipt is None and record.payment_id is None and record.abandonment is None
    # rule: lost notes are waited for before sending again
    if not record.forgotten or not (unknown or what == "send_again"):
        return
    left = window = attempt.settings.settle_window + CLOCK_STEP
    clock = attempt.portal_clock
    if clock.is_told:
        if record.forgotten_since is None:
            yield from attempt.keep(record.loss_noticed(round(clock.at_the_latest, 3)))
        left = (attempt.record.forgotten_since or 0.0) + window - clock.at_the_earliest
    if left <= 0 or write.has_proof:
        return
    attempt.log.warning(
        "The journal has lost what earlier attempts noted, and one of them may have sent a write just now. Reading "
        "for up to %.0f s whether it appears.",
        left,
    )
    doubt = Bitrix24OutcomeUnknown("a write", text="the journal has lost its notes")
    with suppress(PortalUnreadable):  # the next look says so
        yield from find(attempt, Watch(absent_after=attempt.now()[0] + left, doubt=doubt), *write.proof())
    yield from write.read()
