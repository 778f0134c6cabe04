"""Messages about what is marked: as paid, set back to unpaid, or deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.messages.common import NOT_AGAIN, how_often, reply_words, sentence
from airflow_provider_bitrix24.exceptions import NOT_SENT

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.models import Money
    from airflow_provider_bitrix24.at_most_once.messages.common import Parts
    from airflow_provider_bitrix24.at_most_once.messages.wording import Wording
    from airflow_provider_bitrix24.at_most_once.record import Record, Send
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown

LOOK_AT_INVOICE: Final = "open it in Bitrix24 and look whether it is paid, when and by whom"
LOOK_AT_PAYMENT: Final = (
    "open it in Bitrix24 (its deal or smart invoice lists it) and look whether it is paid, when and by whom"
)
LOOK_FOR_PAYMENT: Final = "open its deal or smart invoice in Bitrix24 and look whether the payment is still listed"
HANDLER_TRAP: Final = (
    "Bitrix24 returns true and does nothing when the pay system's handler only records payments (cash, bill, cash on "
    "delivery and the like), and also when saving failed on its side. Use a pay system for legacy invoices (kind "
    "CRM_INVOICE) with a REST handler; sale.paysystem.list shows kind and handler to administrators."
)
ORDER_HANDLER_TRAP: Final = (
    "Bitrix24 returns true and does nothing when the pay system's handler only records payments (cash, bill, cash on "
    "delivery and the like), and also when saving failed on its side. Mark such a payment by PayCrmPaymentOperator "
    "(crm.item.payment.pay); sale.paysystem.list shows the handler to administrators."
)
INVOICE_TRAP: Final = "Bitrix24 returns true also when saving the invoice failed on its side."
PAYMENT_TRAP: Final = (
    "Bitrix24 returns true also when saving the payment failed on its side, for example because the pay system or an "
    "automation rule refused it."
)
_EITHER: Final = "Either the portal ignored the call, or someone reverted it in the meantime"


def marked(words: Wording) -> str:
    """The portal shows it, and this key has done it."""
    return f"This key {words.did.format('it')}."


def marked_by_another(words: Wording) -> str:
    """The portal shows it, and it is not known that this key has done it."""
    return f"Somebody else probably {words.did.format('it')}."


def marked_already(words: Wording) -> str:
    """The portal showed it before anything was sent."""
    return f"It is {words.state} already."


def marked_already_not_sent(words: Wording) -> str:
    """The portal shows it, and this attempt has sent nothing."""
    return f"It is {words.state} already; nothing was sent by this attempt."


def nothing_to_pay(what: str, money: Money) -> str:
    """An invoice for nothing."""
    return f"{what} is for {money}: there is nothing to pay."


def empty_payment(what: str, money: Money) -> str:
    """A payment of nothing."""
    return (
        f"{what} is for {money}: it is empty, and marking it would make an order of 0 count as fully paid. Put "
        "products into it first (AddCrmPaymentOperator(fill_products=True) does), or say allow_zero=True."
    )


def mark_advice(where: str, words: Wording) -> str:
    """What to do when the outcome is not shown."""
    return (
        f"This task does not send again automatically. What to do: {where}; if it is {words.otherwise}, clear this "
        "task: it reads first."
    )


def changed_before_marked(what: str, money: Money, before: Money, happened: str, where: str, words: Wording) -> str:
    """The amount is another one than right before the mark."""
    return (
        f"{what} is for {money} now; just before it was {words.done}, it was for {before}. {happened} Somebody "
        f"changed it in between: {where}. Do not run this again."
    )


def not_marked_any_more(what: str, when: object, task: str, where: str, how_to_decide: str, words: Wording) -> str:
    """It was paid, and somebody has set it back to unpaid; or the other way round."""
    then = f"{when}, by {task}" if when else f"by {task}"
    return (
        f"{what} was {words.state} before ({then}) and is no longer {words.state}: somebody has {words.undone}. "
        f"Nothing was sent by this attempt, and nothing is sent again automatically. {sentence(where)}. If that is "
        f"right, mark this task as successful. Else decide by {how_to_decide}; then clear this task."
    )


def marked_before_and_unreadable(what: str, trouble: str, words: Wording) -> str:
    """It was paid, and the portal cannot be read."""
    return (
        f"{what} was {words.state} before, and the portal cannot be read now ({trouble}). Nothing was sent by this "
        "attempt. The next one reads again."
    )


def mark_is_absent(what: str, words: Wording) -> str:
    """The reply was lost, and it certainly is not marked."""
    return f"{what} is not shown as {words.state}, read twice after everything that was sent must have ended."


def mark_not_applied(subject: str, doubt: Bitrix24OutcomeUnknown | None, trap: str, where: str, words: Wording) -> str:
    """The portal replied and does not show it."""
    if doubt is None:
        return (
            f"The portal accepted the request to {words.do.format(subject)}, but does not show it as {words.state}. "
            f"{_EITHER}. {trap} {mark_advice(where, words)}"
        )
    return (
        f"{reply_words(doubt)} when {subject} was {words.done}. It does not show it as {words.state}. {_EITHER}. "
        f"Whether another attempt makes sense depends on the portal's words. {mark_advice(where, words)}"
    )


def earlier_mark_not_applied(subject: str, last: Send | None, where: str, words: Wording) -> str:
    """An earlier attempt has found out that it is not shown."""
    by, said = (last.by, last.portal_message) if last else ("", None)
    return (
        f"{by} sent the request to {words.do.format(subject)}. The portal replied ({said or 'true'}), but does not "
        f"show it as {words.state}. {_EITHER}. Nothing was sent by this attempt. {mark_advice(where, words)}"
    )


def marked_too_often(what: str, record: Record, where: str, how_to_decide: str | None, words: Wording) -> str:
    """It was sent as often as it may be without a person.

    :param how_to_decide: None if there is no journal that would keep a decision.
    """
    sends = record.possible_sends
    decide = (
        "there is no journal that would keep a decision: "
        f"if it is {words.otherwise}, clear this task, which reads first"
    )
    if how_to_decide is not None:
        decide = f"then decide by {how_to_decide}, and clear this task"
    return (
        f"The request to {words.do.format(what.lower())} was sent {how_often(len(sends))} for this key, but the "
        f"portal does not show it. {_EITHER}. Last reply: {sends[-1].portal_message or 'true'}. {NOT_AGAIN} What to "
        f"do: {where}; {decide}."
    )


def marked_object_is_gone(what: str, doubt: Bitrix24OutcomeUnknown | None, words: Wording) -> str:
    """It was deleted after it was marked."""
    accepted = "the portal accepted it" if doubt is None else reply_words(doubt)
    return (
        f"{what} was deleted after this key had sent the request to {words.do.format('it')} ({accepted}). Nothing "
        f"shows whether it was {words.done} before. {NOT_AGAIN} What to do: look in Bitrix24 at the deal or "
        "smart invoice, and at what has taken its place; that is a payment with a key of its own."
    )


def mark_unreadable(what: str, doubt: Bitrix24OutcomeUnknown | None, trouble: str, words: Wording) -> str:
    """It could not be read after the send."""
    if doubt is None:
        return (
            f"The portal accepted the request to {words.do.format(what.lower())}, but could not be read afterwards "
            f"({trouble}). It is probably {words.state}."
        )
    return (
        f"{what} may have been {words.done}. There was no usable response ({doubt.text}), and the portal could not "
        f"be read afterwards ({trouble})."
    )


def mark_in_journal(happened: str, journal: str) -> str:
    """The next attempt finds the outcome out."""
    return (
        f"{happened} It is in the journal ({journal}): the next attempt reads the outcome before anything else. If "
        "there is none, clear this task when the portal is back: it does not send twice."
    )


def undone_since(subject: str, words: Wording) -> Parts:
    """Another operation of ours has undone what this task did, and the task runs again."""
    return (
        f"This task {words.did.format(subject)} earlier; another operation has undone that since.",
        NOT_SENT,
        "A task that runs again does not repeat what was undone. What to do: if it is to be done once more, do it in a "
        "task or run of its own.",
    )


def other_may_arrive(subject: str, by: str, key: str) -> Parts:
    """A send of another operation on the object may still arrive."""
    return (
        f"{by} sent another write for {subject} (key {key!r}), and it may still arrive.",
        NOT_SENT,
        "The next attempt reads the outcome.",
    )


def other_is_corrupt(subject: str, key: str, why: str) -> Parts:
    """The journal's entry of another operation on the object cannot be read."""
    return f"The journal entry {key!r}, which is about {subject} too, cannot be read.", NOT_SENT, why


def other_pay_system(what: str, has: int | None, wanted: int) -> str:
    """The payment has another pay system."""
    return (
        f"{what} has pay system {has or 'none'}, not {wanted} (pay_system_id): Bitrix24 records a payment as paid only "
        "through the payment's own pay system."
    )


def is_paid(what: str, money: Money) -> str:
    """A paid payment is not deleted."""
    return (
        f"{what} for {money} is paid, and a paid payment is not deleted: the record of the money would be gone. If "
        "that is right, say allow_paid=True, which sets it back to unpaid first."
    )


def still_paid(what: str) -> str:
    """It could not be set back to unpaid before it was to be deleted."""
    return f"{what} is paid, and could not be set back to unpaid, so it was not deleted."
