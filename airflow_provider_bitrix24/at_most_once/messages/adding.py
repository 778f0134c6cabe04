"""Messages about payments that are added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.messages.common import NOT_BY_THIS_ATTEMPT, payments, sentence
from airflow_provider_bitrix24.exceptions import NOT_SENT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.at_most_once.messages.common import Parts

PERHAPS_OURS: Final = (
    "it probably belongs to this key, but somebody else may have added it. If nobody else adds payments to such "
    "objects, on_unknown='adopt' uses it"
)
NO_OTHER_KEY: Final = (
    "the connection's user added it in that time, and no other key wrote to this object then, so it belongs to this key"
)
ADOPTED: Final = "it is used, because on_unknown='adopt' says that nobody else adds payments to this object"


def _listed(found: Sequence[Payment]) -> str:
    return ", ".join(f"{payment.id} of {payment.money}" for payment in found)


def earlier_add_unknown(attempts: str, what_to_do: str) -> str:
    """Without a journal, a later attempt cannot tell."""
    return (
        f"{attempts} {NOT_BY_THIS_ATTEMPT} {what_to_do} With Airflow 3.3 or newer, or with journal_conn_id, later "
        "attempts find out without a person."
    )


# -- before the call


def unpaid_exists(of: str, unpaid: Sequence[Payment]) -> Parts:
    """The object has an unpaid payment, and that is to be an error."""
    return (
        f"{sentence(of)} has an unpaid payment already ({_listed(unpaid)}), and if_unpaid_exists is 'fail'.",
        NOT_SENT,
        "Use that payment, or delete it in Bitrix24 and clear this task. if_unpaid_exists='add' adds another one.",
    )


def several_unpaid(of: str, unpaid: Sequence[Payment]) -> Parts:
    """The object has several unpaid payments, and one is to be returned."""
    return (
        f"{sentence(of)} has {len(unpaid)} unpaid payments ({_listed(unpaid)}), and if_unpaid_exists='return' can "
        "return only one.",
        NOT_SENT,
        "Delete in Bitrix24 those that are not needed, and clear this task.",
    )


def existing_with_other_pay_system(of: str, payment: Payment, wanted: int | None) -> Parts:
    """The unpaid payment has another pay system."""
    return (
        f"{sentence(of)} has the unpaid payment {payment.id} of {payment.money}, but with pay system "
        f"{payment.pay_system_id} {payment.pay_system_name!r} instead of {wanted}.",
        NOT_SENT,
        "Change it in Bitrix24, or ask for its pay system.",
    )


def tag_of_another_object(key: str, payment_ids: Sequence[int], of: str) -> str:
    """The tag is on a payment of another object."""
    return (
        f"The tag of key {key!r} is on {payments(payment_ids)} of another object than {of}: it was used before. "
        f"{NOT_BY_THIS_ATTEMPT} Give every payment a key of its own."
    )


def several_tagged(payment_ids: Collection[int], of: str) -> str:
    """Several payments carry the tag."""
    return f"The {payments(sorted(payment_ids))} of {of} all carry the tag of one key."


# -- the outcome of the call


def id_was_there_before(payment_id: int) -> str:
    """The reply names a payment that was there before."""
    return f"the id {payment_id}, which is that of a payment that was there before"


def several_candidates(happened: str, new: Sequence[Payment]) -> str:
    """Several new payments are there."""
    return (
        f"{happened}. {len(new)} new payments exist: {_listed(new)}. At most one of them belongs to this key, "
        "and nothing proves which."
    )


def one_candidate(happened: str, one: Payment, origin: str) -> str:
    """One new payment is there.

    :param origin: whose it may be, and what follows.
    """
    return f"{happened}. There is one new payment, {_listed([one])}: {origin}."


def not_ours(strange: str) -> str:
    """Whose a payment is that does not fit.

    :param strange: what does not fit.
    """
    return (
        f"it does not look like this key's, because {strange}. A payment of this key is added by the connection's "
        "user, unpaid and of 0. It is not used, whatever on_unknown says"
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


# -- the payment is known


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


def surplus_not_read(payment_id: int, of: str, trouble: str) -> str:
    """Other payments have appeared, and the portal does not show whose they are."""
    happened = f"Payment {payment_id} was added to {of}."
    return f"{happened} Whether another one was added with it could not be read: {trouble}."


def look_for_surplus(happened: str, of: str) -> str:
    """A person looks."""
    return (
        f"{happened} Look at the payments of {of} in Bitrix24; do not add another one. When the portal can be read "
        "again, clear this task: it goes on with this payment."
    )


def perhaps_one_too_many(payment_id: int, others: Collection[int], of: str) -> str:
    """More payments have appeared, and another task may have added them."""
    return (
        f"With payment {payment_id}, {payments(others)} of the connection's user appeared on {of}. If no other task "
        "added that, a proxy has repeated the request: look at the payments in Bitrix24."
    )
