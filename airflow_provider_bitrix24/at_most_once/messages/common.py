"""Messages about any key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from airflow_provider_bitrix24.at_most_once.messages.wording import UNPAYING
from airflow_provider_bitrix24.exceptions import NOT_SENT, Denial

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_bitrix24.api.models import Money
    from airflow_provider_bitrix24.at_most_once.record import Parameter, Record
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown

Parts: TypeAlias = tuple[str | Denial, ...]
"""The message of an error, in parts."""
NOT_BY_THIS_ATTEMPT: Final = "Nothing was sent by this attempt."
MORE_WAS_NOT_SENT: Final = "Nothing more was sent."
NOT_AGAIN: Final = "Nothing is sent again automatically."


def payments(payment_ids: Collection[int]) -> str:
    """Return "payment 1034", or "payments 1034, 1035"."""
    return f"payment{'s' if len(payment_ids) > 1 else ''} {', '.join(map(str, payment_ids))}"


def sentence(text: str) -> str:
    """Return a text as the beginning of a sentence; only its first letter changes."""
    return f"{text[:1].upper()}{text[1:]}"


def how_often(times: int) -> str:
    """Return "once", "twice", or "3 times"."""
    return {1: "once", 2: "twice"}.get(times, f"{times} times")


def known(record: Record, lost: str = "") -> str:
    """What is known of a key without the portal; empty if certainly nothing was executed.

    :param lost: why the journal has lost the notes of earlier attempts, and how to keep them the next time.
    """
    if record.nothing_executed:
        before = record.possible_step_sends
        request = UNPAYING.do.format(record.subject)
        return f"{before[-1].by} sent the request to {request}, so that it can be deleted." if before else ""
    if record.receipt is not None:
        what = f", with payment {record.payment_id}" if record.payment_id else ""
        return f"{record.task} succeeded for {record.subject}{what}."
    if record.payment_id is not None:
        return f"Payment {record.payment_id} of {record.subject} belongs to this key and may be incomplete."
    last = record.last_send()
    if last is None:
        return (
            f"The journal has lost the notes of earlier attempts of {record.task}. They may have changed "
            f"{record.subject}, and money may have been recorded. {lost}".rstrip()
        )
    if last.result in ("absent", "not_applied"):
        return f"{last.by} sent a write for {record.subject}, and the portal did not show it then."
    return f"{last.by} sent a write for {record.subject}. Its outcome is unknown: money may have been recorded."


def earlier_attempts_unknown(try_number: int, subject: str) -> str:
    """There is no journal, and this is not the first attempt."""
    return (
        f"This is attempt {try_number}, and there is no journal. An earlier attempt may have sent a write for "
        f"{subject}, and money may have been recorded."
    )


def busy(owner: str, wanted: Record) -> str:
    """Another attempt is at work on the key, and goes on."""
    return (
        f"Another attempt ({owner}) is working on key {wanted.key!r} ({wanted.subject}). {NOT_BY_THIS_ATTEMPT} The "
        "next attempt reads the outcome first."
    )


def other_parameters(
    record: Record, differing: Mapping[str, tuple[Parameter, Parameter]], happened: str, not_sent: str
) -> str:
    """The key was used for something else."""
    listed = "; ".join(f"{name} was {has!r}, now {wanted!r}" for name, (has, wanted) in differing.items())
    return (
        f"The key {record.key!r} was used before, by {record.task}, with other parameters: {listed}. {happened} "
        f"{not_sent} One key stands for one payment: give the other one a key of its own, or ask for the same as "
        "before."
    )


def object_is_gone(known: str, trouble: str, not_sent: str) -> str:
    """The object is not there any more, and something of the key may have been."""
    return (
        f"{known} {trouble}. {not_sent} {NOT_AGAIN} What to do: look in Bitrix24 at what has taken its place; if "
        "nothing is left to do, mark this task as successful."
    )


def portal_cannot_be_read(known: str, trouble: str, not_sent: str) -> str:
    """The portal cannot be read, and something of the key may be there."""
    return (
        f"{known} The portal cannot be read now ({trouble}). {not_sent} When the portal is back, clear this task: "
        "it reads first and does not send twice."
    )


def other_money(what: str, money: Money, wanted: Money) -> str:
    """The amount or currency is another one than expected."""
    return f"{what} is for {money}; {wanted} was expected."


def above_the_limit(what: str, money: Money | str, limit: object) -> Parts:
    """It is for more than the limit of the task."""
    return (
        f"{what} is for {money}; the max_amount of this task is {limit:f}.",
        NOT_SENT,
        "If the amount is right, raise max_amount and clear this task.",
    )


def reply_words(doubt: Bitrix24OutcomeUnknown) -> str:
    """What came instead of a clear reply, as the beginning of a sentence."""
    return f"The portal {_verb(doubt)} ({doubt.words})"


def in_brackets(doubt: Bitrix24OutcomeUnknown | None) -> str:
    """What came instead of a clear reply, in brackets after a blank; empty if the reply was clear."""
    return "" if doubt is None else f" (the portal {_verb(doubt)}: {doubt.words})"


def _verb(doubt: Bitrix24OutcomeUnknown) -> str:
    return "responded unclearly" if doubt.answered else "gave no usable response"


def no_time_to_send(waited: float) -> str:
    """Why a send could not leave inside a deadline."""
    if waited:
        return f"its slot of the portal's rate limit came after {waited:.0f} s, too late for rate_limit_wait"
    return "reading what permits it takes longer than its deadline"
