"""Whose payment is it: the one that came of a send without a reply is found by reading, and believed with evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.course import find_claims, find_keys
from airflow_provider_bitrix24.at_most_once.record import PROOF, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.record import Evidence

OnUnknown: TypeAlias = Literal["fail", "adopt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """The payment that came of the send."""

    payment: Payment
    evidence: Evidence = "only_new_payment"
    because: str = ""
    """Why it is believed, for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """Payments that may have come of the send; nothing proves it."""

    why: str
    """What is there, as a sentence."""
    payment_ids: tuple[int, ...]
    unresolved_keys: tuple[str, ...] = ()


def find_candidates(record: Record, shown: Shown) -> Course[list[int]]:
    """The payments that have appeared since before the first send, and are not known to be another's.

    When that was is not known of what the journal has forgotten: then all of them may be ours. That another key has
    claimed one counts only if the portal has proved it, or if it does not fit us anyway: otherwise the other key may
    have taken ours.
    """
    if not record.possible_sends and not record.forgotten:
        return []
    known = {*record.payment_ids_before, *record.dismissed}
    new = [payment.id for payment in shown.payments if payment.id not in known]  # rule: unfiltered count
    claims = yield from find_claims(new)
    fitting = set(new) if shown.fitting is None else shown.fitting
    # rule: only what is proved is another key's
    return [one for one in new if one not in claims or (claims[one] not in PROOF and one in fitting)]


def attribute(attempt: Attempt, shown: Shown, on_unknown: OnUnknown, happened: str) -> Course[Ours | Ambiguous | None]:
    """Judge what the portal shows when everything that was sent must have ended.

    :param on_unknown: "adopt" if the author says that nobody else adds payments to this object.
    :param happened: the outcome of the send, as the beginning of a sentence.
    :return: None if no payment may be this key's, or only payments that a person was asked about.
    """
    record = attempt.record
    candidates = yield from find_candidates(record, shown)
    gone = _gone(record, shown)
    refused = bool(record.decisions and record.decisions[-1].refused)
    # rule: what is left of several proves nothing
    if (gone or refused) and record.question is not None and set(candidates) <= set(record.candidates):
        return None
    new = [payment for payment in shown.payments if payment.id in candidates]
    if not new:
        return None
    new = yield from _without_those_of_others(new)
    unresolved_keys = yield from _unresolved(attempt, new)
    one, strange = new[0], _why_not_ours(new[0], shown)
    if len(new) > 1:
        why = messages.several_candidates(happened, new)
    elif strange:
        why = messages.one_candidate(happened, one, messages.not_ours(strange))
    # rule: other keys with an unknown outcome
    elif attempt.journal.is_shared and not unresolved_keys and shown.fitting is not None:
        return Ours(payment=one, because=messages.one_candidate(happened, one, messages.NO_OTHER_KEY))
    elif on_unknown == "adopt":
        return Ours(payment=one, because=messages.one_candidate(happened, one, messages.ADOPTED))
    else:
        why = messages.one_candidate(happened, one, messages.PERHAPS_OURS)
    payment_ids = {*(payment.id for payment in new), *gone}
    return Ambiguous(why=why, payment_ids=tuple(sorted(payment_ids)), unresolved_keys=tuple(unresolved_keys))


def _gone(record: Record, shown: Shown) -> set[int]:
    """The candidates that a person was shown and that are no longer on the portal."""
    asked = record.candidates if record.question is not None else ()
    return set(asked) - {payment.id for payment in shown.payments}


def _without_those_of_others(new: list[Payment]) -> Course[list[Payment]]:
    """Leave out payments that people have given to other keys, if one candidate is left."""
    claims: Mapping[int, Evidence | None] = {}
    if len(new) > 1:
        claims = yield from find_claims([payment.id for payment in new])
    left = [payment for payment in new if claims.get(payment.id) != "person"]
    return left if len(left) == 1 else new


def _unresolved(attempt: Attempt, new: list[Payment]) -> Course[list[str]]:
    """The other keys that may have added one of these payments."""
    if not attempt.journal.is_shared:
        return []
    found = yield from find_keys("unresolved", attempt.record.subject)
    return [
        key
        for key, record in found.items()
        if not isinstance(record, Record) or any(record.may_have_added(payment.id) for payment in new)
    ]


def _why_not_ours(payment: Payment, shown: Shown) -> str:
    """What a payment that we have just added cannot be; empty if it may be ours, whatever its pay system."""
    unfit = shown.fitting is not None and payment.id not in shown.fitting  # rule: filters make a success a failure
    not_ours = [
        *(["paid"] if payment.paid else []),
        *([f"for {payment.money}"] if not payment.money.is_zero else []),
        *(["by somebody else, or at another time"] if unfit else []),
    ]
    return f"it is {' and '.join(not_ours)}" if not_ours else ""
