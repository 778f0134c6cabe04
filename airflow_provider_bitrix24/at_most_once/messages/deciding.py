"""Messages about what people decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.messages.common import NOT_AGAIN, NOT_BY_THIS_ATTEMPT, known, payments
from airflow_provider_bitrix24.at_most_once.messages.outcome import what_to_do

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_bitrix24.at_most_once.record import Decision, Record
    from airflow_provider_bitrix24.journal.protocol import Saved

NOTHING_TO_USE: Final = "this operation adds no payment, so there is none to use"


def how_to_decide(record: Record, command: str | None, hint: str) -> str:
    """The command by which a person decides about a key."""
    use = "--use-payment ID, " if record.operation == "add_crm_payment" else ""
    return f"`{command}` with {use}--send-again or --abandon{hint}"


def asked_elsewhere(record: Record) -> str:
    """A person is asked in another task."""
    return (
        f"{record.question} A person is asked about it in another task ({record.task}). Nothing was sent by this "
        "attempt."
    )


def undecided(record: Record) -> str:
    """A person was asked, and has not decided."""
    return (
        f"The key {record.key!r} still needs a person's decision. What the portal shows now does not replace it, and "
        f"nothing was sent by this attempt. {record.question}"
    )


def claimed_by_another(record: Record, saved: Saved) -> str:
    """What happened then; also why a decision to use it is not carried out."""
    evidence = f" ({record.evidence})" if record.evidence else ""
    return (
        f"Payment {saved.payment_id}{evidence} may be that of the key {record.key!r}, but the key "
        f"{saved.claimed_by!r} has claimed it"
    )


def claimed(
    record: Record, saved: Saved, *, show: str | None, decide: str | None, how_to_decide: str, abandon_first: bool
) -> str:
    """Another key has claimed the payment."""
    first = ""
    if abandon_first:
        first = " (first --abandon, which releases a payment that the portal has not proved to be its own)"
    return (
        f"{claimed_by_another(record, saved)}. It belongs to one of the two keys at most. {NOT_AGAIN} "
        f"`{show}` shows why. If the claim of {saved.claimed_by!r} is wrong, `{decide} --abandon` ends it; if it is "
        f"right, decide again about {record.key!r} by {how_to_decide}{first}. Then clear this task."
    )


def set_aside(record: Record) -> str:
    """What people have said is not this key's, after a blank; empty if there is nothing."""
    said = [
        f"{one.by} has set {payments(one.set_aside)} aside ({one.through}, {one.at})"
        for one in record.decisions_carried_out
        if one.set_aside
    ]
    return f" {'; '.join(said)}." if said else ""


def notes_are_lost(record: Record, lost: str, look: str, how_to_decide: str | None) -> str:
    """The journal has lost what earlier attempts noted.

    :param look: where to look, as an imperative.
    :param how_to_decide: None if there is no journal that would keep a decision.
    """
    then = "if nothing is left to do, mark this task as successful; else start a new run of the DAG"
    why = f" {lost}" if lost else ""
    return f"{known(record)}{why} {NOT_BY_THIS_ATTEMPT} {NOT_AGAIN} {what_to_do(look, then, how_to_decide)}"


def still_there(record: Record) -> str:
    """Why nothing is sent again, and no other payment is used."""
    return f"payment {record.payment_id}, which is this key's, is still on {record.subject}"


def appeared_meanwhile(payment_ids: Collection[int], subject: str, by: str) -> str:
    """Why a decision that was made without seeing everything is not carried out."""
    return f"meanwhile {payments(payment_ids)} appeared on {subject}, which {by} was not shown"


def no_such_payment(of: str) -> str:
    """Why a payment cannot be used."""
    return f"{of} has no such payment now"


def decision_refused(decision: Decision, why: str, record: Record, how_to_decide: str) -> str:
    """A decision cannot be carried out, or does not apply any more."""
    happened = (
        f"{decision.by} {_decided(decision)}, but {why}. The decision ({decision.through}) is not carried out, and "
        f"nothing was sent by this attempt. {known(record)}"
    )
    return (
        f"{happened.rstrip()} Look at {record.subject} in Bitrix24, and decide again by {how_to_decide}; then clear "
        "this task."
    )


def goes_on_without_decision(payment_id: int | None) -> str:
    """What happens without another decision."""
    return f"Without another decision, it goes on with payment {payment_id}, if that is there."


def abandoned(record: Record, decision: Decision, set_aside: str, how_to_decide: str) -> str:
    """A person has abandoned the key."""
    happened = (
        f"{decision.by} has abandoned {record.subject} for the key {record.key!r} at {decision.at} "
        f"({decision.through}). Nothing was sent by this attempt. {known(record)}"
    )
    return (
        f"{happened.rstrip()}{set_aside} To go on with this key, decide again by {how_to_decide}; then clear this task."
    )


def _decided(decision: Decision) -> str:
    return f"decided to use payment {decision.payment_id}" if decision.payment_id else "decided to send again"
