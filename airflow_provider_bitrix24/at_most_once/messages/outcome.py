"""Messages about the outcome of what a key has sent: the same for all operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.at_most_once.messages.common import (
    NOT_AGAIN,
    NOT_BY_THIS_ATTEMPT,
    how_often,
    reply_words,
)
from airflow_provider_bitrix24.at_most_once.messages.wording import wording_of

if TYPE_CHECKING:
    from airflow_provider_bitrix24.at_most_once.messages.wording import Wording
    from airflow_provider_bitrix24.at_most_once.record import Record
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown


def reply_to_request(doubt: Bitrix24OutcomeUnknown | None, request: str, by: str) -> str:
    """What the portal replied to a request, as the beginning of a sentence.

    :param request: what was asked for: "mark invoice 2 as paid".
    :param by: the earlier attempt that sent it; empty if it was this one.
    """
    words = "The portal accepted" if doubt is None else f"{reply_words(doubt)} to"
    return f"{words} the request to {request}{f', sent by {by}' if by else ''}"


def not_applied(happened: str, words: Wording, set_aside: str, why_ignored: str, advice: str, *, sent_now: bool) -> str:
    """The portal replied and does not show it.

    :param why_ignored: why the portal may return ``true`` and do nothing.
    """
    not_sent = "" if sent_now else f" {NOT_BY_THIS_ATTEMPT}"
    return (
        f"{happened}, but does not show {words.missing}. Either the portal ignored the call, or someone reverted it in "
        f"the meantime.{set_aside}{f' {why_ignored}' if why_ignored else ''}{not_sent} {NOT_AGAIN} {advice}"
    )


def unreadable(happened: str, trouble: str, words: Wording) -> str:
    """The portal could not be read after the send."""
    return f"{happened}, and could not be read afterwards ({trouble}): {words.perhaps}."


def known_and_unreadable(what: str, was: str, trouble: str) -> str:
    """It was done, and the portal cannot be read now.

    :param was: what the journal says of it: "was paid before".
    """
    return f"{what} {was}, but the portal cannot be read now ({trouble})."


def in_journal(happened: str, journal: str) -> str:
    """The next attempt finds the outcome out."""
    return (
        f"{happened} It is in the journal ({journal}): the next attempt reads the outcome first, goes on from there, "
        "and does not send twice. If there is none, clear this task when the portal is back."
    )


def not_shown_any_more(what: str, was: str, not_sent: str, what_to_do: str) -> str:
    """It was done, and the portal does not show that."""
    return (
        f"{what} {was}, but the portal does not show that now: somebody has reverted it, or the portal did not keep "
        f"it. {not_sent} {NOT_AGAIN} If that was intended, mark this task as successful. {what_to_do}"
    )


def sent_too_often(record: Record, request: str, words: Wording) -> str:
    """It was sent as often as it may be without a person."""
    sends = record.possible_sends
    said = (sends[-1].portal_message if sends else None) or "true"
    return (
        f"The request to {request} was sent {how_often(len(sends))} for this key, but the portal does not show "
        f"{words.missing}. Last reply: {said}."
    )


def is_absent(what: str, set_aside: str) -> str:
    """The reply was lost, and the write certainly was not executed.

    :param what: the object, or the step that completes a payment.
    """
    return (
        f"The portal does not show the result of the write ({what}), read twice after everything that was sent must "
        f"have ended.{set_aside}"
    )


def advice(where: str, then: str) -> str:
    """What a person does, without a decision in the journal.

    :param where: where to look, as an imperative.
    :param then: what to do after that.
    """
    return f"What to do: {where}; {then}."


def if_missing(words: Wording) -> str:
    """What to do after a look at the portal."""
    return f"if {words.otherwise}, remove the cause and clear this task: it reads first"


def what_to_do(where: str, then: str, how_to_decide: str | None) -> str:
    """What a person does who has to decide.

    :param then: what to do instead where no decision is kept.
    :param how_to_decide: None if there is no journal that would keep a decision.
    """
    if how_to_decide is None:
        return f"There is no journal that would keep a decision. {advice(where, then)}"
    return f"What to do: {where}, and decide by {how_to_decide}; then clear this task."


def done_by_reply(record: Record, before: Record) -> str:
    """What the portal has done, by a reply that is not saved yet, and what follows; empty if there is none.

    :param record: what is to be saved.
    :param before: what is saved.
    """
    last = record.last_send()
    if last is None or last.result != "acknowledged" or before.pending_send() is None:
        return ""
    words = wording_of(record.operation)
    what = f"payment {record.payment_id} of {record.subject}" if record.payment_id else record.subject
    return f"The portal replied that {what} was {words.done}. {words.after_reply}"


def unsaved_reply(done: str) -> str:
    """The portal's reply could not be saved."""
    return f"{done} The journal could not save that. The next attempt reads the portal first."
