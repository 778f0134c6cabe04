"""Messages about invoices and payments that are marked as paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.messages.common import NOT_AGAIN, reply_words

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.models import Money
    from airflow_provider_bitrix24.at_most_once.record import Record, Send
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown

LOOK_AT_INVOICE: Final = "open it in Bitrix24 and look whether it is paid, when and by whom"
LOOK_AT_PAYMENT: Final = (
    "open it in Bitrix24 (its deal or smart invoice lists it) and look whether it is paid, when and by whom"
)
HANDLER_TRAP: Final = (
    "Bitrix24 answers true and does nothing when the pay system's handler only records payments (cash, bill, cash on "
    "delivery and the like), and also when saving failed on its side. Use a pay system for legacy invoices (kind "
    "CRM_INVOICE) with a REST handler; sale.paysystem.list shows kind and handler to administrators."
)
INVOICE_TRAP: Final = "Bitrix24 answers true also when saving the invoice failed on its side."
PAYMENT_TRAP: Final = (
    "Bitrix24 answers true also when saving the payment failed on its side, for example because the pay system or an "
    "automation rule refused it."
)
MARKED: Final = "It HAS been marked as paid."
MARKED_BY_ANOTHER: Final = "It is paid, apparently by somebody else."
PAID_ALREADY_NOT_SENT: Final = "It is paid already; nothing was sent by this attempt."
_EITHER: Final = "either the portal ignored the call, or someone reverted it in the meantime"


def nothing_to_pay(what: str, money: Money) -> str:
    """An invoice for nothing."""
    return f"{what} is for {money}: there is nothing to pay"


def empty_payment(what: str, money: Money) -> str:
    """A payment of nothing."""
    return (
        f"{what} is for {money}: it is empty, and marking it would make an order of 0 count as fully paid. Put "
        f"products "
        "into it first (AddCrmPaymentOperator(fill_products=True) does), or say allow_zero=True"
    )


def mark_advice(where: str) -> str:
    """What to do when it is not known to be paid."""
    return (
        f"This task does not send again automatically. What to do: {where}; if it is unpaid, clear this task: it reads "
        "first."
    )


def changed_before_marked(what: str, money: Money, before: Money, happened: str, where: str) -> str:
    """The amount is another one than right before the mark."""
    return (
        f"{what} is for {money} now; just before it was marked as paid, it was for {before}. {happened} Somebody "
        f"changed it in between: {where}. Do not run this again."
    )


def not_paid_any_more(what: str, when: object, task: str, where: str, how_to_decide: str) -> str:
    """It was paid, and somebody has set it back to unpaid."""
    return (
        f"{what} was paid before ({when}, by {task}), and is not paid any more: somebody has set it back to unpaid. "
        f"Nothing was sent by this attempt, and nothing is sent again automatically. {where.capitalize()}. If that is "
        f"right, mark this task as successful. Else decide by {how_to_decide}; then clear this task."
    )


def paid_before_and_unreadable(what: str, trouble: str) -> str:
    """It was paid, and the portal cannot be read."""
    return (
        f"{what} was paid before, and the portal cannot be read now ({trouble}). Nothing was sent by this attempt. The "
        "next one reads again."
    )


def mark_is_absent(what: str) -> str:
    """The reply was lost, and it certainly is not marked."""
    return f"{what} is not shown as paid, read twice after everything that was sent must have ended."


def mark_not_applied(subject: str, doubt: Bitrix24OutcomeUnknown | None, trap: str, where: str) -> str:
    """The portal replied and does not show it as paid."""
    if doubt is None:
        return (
            f"The portal accepted the mark of {subject}, but does not show it as paid: {_EITHER}. {trap} "
            f"{mark_advice(where)}"
        )
    return (
        f"{reply_words(doubt)} when {subject} was marked as paid, and does not show it as paid: {_EITHER}. Whether "
        f"another attempt makes sense depends on the portal's words. {mark_advice(where)}"
    )


def earlier_mark_not_applied(subject: str, last: Send | None, where: str) -> str:
    """An earlier attempt has found out that it is not shown as paid."""
    by, said = (last.by, last.portal_message) if last else ("", None)
    return (
        f"{by} marked {subject} as paid, and the portal answered ({said or 'true'}), but does not show it as paid: "
        f"{_EITHER}. Nothing was sent by this attempt. {mark_advice(where)}"
    )


def marked_too_often(what: str, record: Record, where: str, how_to_decide: str | None) -> str:
    """It was sent as often as it may be without a person.

    :param how_to_decide: None if there is no journal that would keep a decision.
    """
    sends = record.possible_sends
    decide = "there is no journal that would keep a decision: if it is unpaid, clear this task, which reads first"
    if how_to_decide is not None:
        decide = f"then decide by {how_to_decide}, and clear this task"
    return (
        f"{what} was marked as paid {len(sends)} times for this key, and the portal does not show it: {_EITHER}. The "
        f"last time: {sends[-1].portal_message or 'it answered true'}. {NOT_AGAIN} What to do: {where}; {decide}."
    )


def marked_object_is_gone(what: str, doubt: Bitrix24OutcomeUnknown | None) -> str:
    """It was deleted after it was marked."""
    marked = "the portal accepted the mark" if doubt is None else reply_words(doubt)
    return (
        f"{what} is not there any more: it was deleted after this key had sent its mark ({marked}), so nothing shows "
        f"whether it was marked as paid before. {NOT_AGAIN} What to do: look in Bitrix24 at the deal or smart invoice, "
        "and at what has taken its place; that is a payment with a key of its own."
    )


def mark_unreadable(what: str, doubt: Bitrix24OutcomeUnknown | None, trouble: str) -> str:
    """It could not be read after the mark."""
    if doubt is None:
        return (
            f"The portal accepted the mark of {what.lower()}, so it is probably paid, but it could not be read "
            f"afterwards ({trouble})."
        )
    return (
        f"{what} may have been marked as paid: there was no usable response ({doubt.text}), and the portal could not "
        f"be read afterwards ({trouble})."
    )


def mark_in_journal(happened: str, journal: str) -> str:
    """The next attempt finds the outcome out."""
    return (
        f"{happened} It is in the journal ({journal}): the next attempt reads the outcome before anything else. If "
        f"there "
        "is none, clear this task when the portal is back: it will not pay twice."
    )
