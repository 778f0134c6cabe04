"""Messages about payments that are added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.at_most_once.messages.common import how_often, payments, reply_words, sentence
from airflow_provider_bitrix24.exceptions import NOT_SENT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from decimal import Decimal

    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.at_most_once.messages.common import Parts
    from airflow_provider_bitrix24.at_most_once.record import Record
    from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown


def _listed(found: Sequence[Payment]) -> str:
    return ", ".join(f"{payment.id} of {payment.money}" for payment in found)


def what_to_do(of: str, how_to_decide: str | None) -> str:
    """Advice about payments whose origin is not known.

    :param how_to_decide: None if there is no journal that would keep a decision.
    """
    if how_to_decide is None:
        return (
            f"There is no journal that would keep a decision. What to do: look at the payments of {of} in Bitrix24. If "
            "the payment is there, go on with it by hand; if not, start a new run of the DAG."
        )
    return (
        f"What to do: look at the payments of {of} in Bitrix24, and decide: use one of them, send again, or abandon, "
        f"by {how_to_decide}; then clear this task."
    )


def look_for(payment_id: int, of: str) -> str:
    """Advice about one payment."""
    return (
        f"Look at the payments of {of} in Bitrix24: if payment {payment_id} is there, go on with it; add another one "
        "only if it is not."
    )


# -- before the call


def earlier_add_unknown(task: TaskAttempt, of: str) -> str:
    """Without a journal, a later attempt cannot tell."""
    return (
        f"This is attempt {task.try_number} of {task.identity}, and without a journal it cannot tell whether an "
        f"earlier one has added a payment to {of} already. Nothing was sent by this attempt. Look at the payments of "
        f"{of} in Bitrix24: if the payment is there, go on with it; if not, start a new run of the DAG. With Airflow "
        "3.3 or newer, or with journal_conn_id, later attempts find out without a person."
    )


def unpaid_exists(of: str, unpaid: Sequence[Payment]) -> str:
    """The object has an unpaid payment, and that is to be an error."""
    return f"{sentence(of)} has an unpaid payment already ({_listed(unpaid)}), and if_unpaid_exists is 'fail'."


def several_unpaid(of: str, unpaid: Sequence[Payment]) -> Parts:
    """The object has several unpaid payments, and one is to be returned."""
    return (
        f"{sentence(of)} has {len(unpaid)} unpaid payments ({_listed(unpaid)}), and if_unpaid_exists='return' can "
        "return only one.",
        NOT_SENT,
        "Delete in Bitrix24 those that are not needed.",
    )


def existing_with_other_pay_system(of: str, payment: Payment, wanted: int | None) -> Parts:
    """The unpaid payment has another pay system."""
    return (
        f"{sentence(of)} has the unpaid payment {payment.id} of {payment.money}, but with pay system "
        f"{payment.pay_system_id} {payment.pay_system_name!r} instead of {wanted}.",
        NOT_SENT,
        "Change it in Bitrix24, or ask for its pay system.",
    )


def rows_above_the_limit(of: str, total: Decimal, limit: Decimal) -> Parts:
    """The product rows are for more than the limit."""
    return (
        f"The product rows of {of} for the payment add up to {total:f}; the max_amount of this task is {limit:f}.",
        NOT_SENT,
        "Raise max_amount if that is right.",
    )


def tag_of_another_object(key: str, payment_ids: Sequence[int], of: str) -> str:
    """The tag is on a payment of another object."""
    return (
        f"The key {key!r} was used before for payment {', '.join(map(str, payment_ids))}, which belongs to another "
        f"object than {of}. Nothing was sent by this attempt. Give every payment a key of its own."
    )


def several_tagged(payment_ids: Collection[int], of: str) -> str:
    """Several payments carry the tag."""
    listed = ", ".join(map(str, sorted(payment_ids)))
    return f"The payments {listed} of {of} all carry the tag of one key"


# -- the outcome of the call


def id_was_there_before(payment_id: int) -> str:
    """The reply names a payment that was there before."""
    return f"the id {payment_id}, which is that of a payment that was there before"


def reply_to_add(doubt: Bitrix24OutcomeUnknown | None, of: str, by: str) -> str:
    """The outcome of the call, as the beginning of a sentence.

    :param by: the earlier attempt that sent it; empty if it was this one.
    """
    words = "The portal gave no usable response (no details)" if doubt is None else reply_words(doubt)
    return f"{words} when a payment was added to {of}{f' by {by}' if by else ''}"


def several_candidates(happened: str, new: Sequence[Payment]) -> str:
    """Several new payments are there."""
    return (
        f"{happened}. {len(new)} new payments exist: {_listed(new)}. At most one of them belongs to this key, "
        "and nothing proves which."
    )


def strange_candidate(happened: str, one: Payment, strange: str) -> str:
    """One new payment is there, and it does not fit."""
    return (
        f"{happened}. There is one new payment, {_listed([one])}, but it does not look like this key's: {strange}. A "
        "payment of this key is added by the connection's user, unpaid and of 0. It is not used, whatever on_unknown "
        "says."
    )


def one_candidate(happened: str, one: Payment) -> str:
    """One new payment is there, and nothing proves it."""
    return (
        f"{happened}. There is one new payment, {_listed([one])}: it probably belongs to this key, but somebody else "
        "may have added it. If nobody else adds payments to such objects, on_unknown='adopt' uses it."
    )


def no_other_key(happened: str, one: Payment, of: str) -> str:
    """One new payment is there, and no other key explains it."""
    return (
        f"{happened}. There is exactly one new payment, {_listed([one])}. The connection's user added it in that time, "
        f"and no other key wrote to {of} then: it belongs to this key."
    )


def adopted(happened: str, one: Payment) -> str:
    """One new payment is there, and on_unknown="adopt" says that nobody else adds any."""
    return (
        f"{happened}. There is exactly one new payment, {_listed([one])}. It is used, because on_unknown='adopt' says "
        "that nobody else adds payments to this object."
    )


def unresolved_keys(commands: Mapping[str, str | None]) -> str:
    """Other keys whose outcome is unknown, each after a blank.

    :param commands: for each key, the command that decides about it.
    """
    return "".join(
        f" The key {key!r} may have added it as well, and its outcome is unknown too. Decide about it first by "
        f"`{command}`."
        for key, command in commands.items()
    )


def added_too_often(of: str, record: Record) -> str:
    """It was sent as often as it may be without a person."""
    sends = record.possible_sends
    said = (sends[-1].portal_message if sends else None) or "no response"
    return (
        f"A payment for {of} was sent {how_often(len(sends))} for this key, but the portal shows none that may be its "
        f"own (last reply: {said})"
    )


def add_is_absent(happened: str, set_aside: str) -> str:
    """The reply was lost, and certainly none was added."""
    return (
        f"{happened}. Two reads, after everything that was sent must have ended, show no new payment that may be "
        f"this key's.{set_aside}"
    )


def add_not_applied(happened: str, set_aside: str, *, sent_now: bool) -> str:
    """The portal replied, and shows no payment."""
    by_this_attempt = "" if sent_now else " Nothing was sent by this attempt."
    return (
        f"{happened}. It does not show a new payment that may be this key's. Either the portal ignored the call, or "
        f"someone deleted the payment in the meantime.{set_aside}{by_this_attempt} What to do depends on the portal's "
        "words; nothing is sent again automatically. When the cause is removed, clear this task: it reads first."
    )


def add_unreadable(happened: str, trouble: str) -> str:
    """The portal could not be read after the call."""
    return f"{happened}. The portal could not be read afterwards ({trouble}): a payment may have been added."


def add_in_journal(happened: str, journal: str) -> str:
    """The next attempt finds the outcome out."""
    return (
        f"{happened} It is in the journal ({journal}): the next attempt reads the outcome before anything else. If "
        "there is none, clear this task when the portal is back: it will not add a second payment."
    )


# -- the payment is known


def added_and_not_shown(payment_id: int, of: str) -> str:
    """The portal replied with an id, and does not show the payment."""
    return (
        f"The portal replied that payment {payment_id} was added to {of}, but does not show it among the object's "
        f"payments. {look_for(payment_id, of)}"
    )


def added_and_unreadable(payment_id: int, of: str, trouble: str) -> str:
    """The portal replied with an id, and cannot be read."""
    return (
        f"The portal replied that payment {payment_id} was added to {of}, but it could not be read afterwards "
        f"({trouble})."
    )


def payment_unreadable(payment_id: int, of: str, trouble: str) -> str:
    """A payment that the journal knows cannot be read."""
    return f"Payment {payment_id} of {of} could not be read ({trouble})."


def payment_in_journal(happened: str, journal: str) -> str:
    """The next attempt reads the payment."""
    return (
        f"{happened} It is in the journal ({journal}): the next attempt reads first and adds no second one. If there "
        "is none, clear this task when the portal is back."
    )


def payment_is_gone(payment_id: int, of: str, how_to_decide: str, *, succeeded: bool) -> str:
    """A payment that the journal knows is not there any more."""
    said = "existed when the task of this key succeeded" if succeeded else "was added according to the portal's reply"
    return (
        f"Payment {payment_id} of {of} {said}, but the portal does not show it now. Somebody deleted it, or the portal "
        "did not keep it. Nothing was sent by this attempt, and nothing is sent again automatically. Look at the "
        f"payments of {of} in Bitrix24: if another one has taken its place, use that; if one must be added again, send "
        f"again. Decide by {how_to_decide}; then clear this task."
    )


def one_too_many(payment_id: int, others: Collection[int], of: str, how_to_decide: str | None) -> str:
    """More payments have appeared than were sent."""
    decide = (
        ""
        if how_to_decide is None
        else (f" If all of them are right, use payment {payment_id} by {how_to_decide} before.")
    )
    return (
        f"Payment {payment_id} was added to {of}, but {payments(others)} appeared as well. Only one was sent: a proxy "
        "that repeats requests, or somebody who works as the connection's user, has added one too many. Look at the "
        f"payments of {of} in Bitrix24, and delete the one that is too many. Then clear this task: it goes on with "
        f"payment {payment_id} and adds none.{decide}"
    )


def perhaps_one_too_many(payment_id: int, others: Collection[int], of: str) -> str:
    """More payments have appeared, and another task may have added them."""
    return (
        f"With payment {payment_id}, {payments(others)} of the connection's user appeared on {of}. If no other task "
        "added that, a proxy has repeated the request: look at the payments in Bitrix24."
    )
