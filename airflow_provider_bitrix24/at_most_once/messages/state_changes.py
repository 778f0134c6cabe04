"""Messages about what is marked: as paid, set back to unpaid, or deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.messages.common import sentence
from airflow_provider_bitrix24.exceptions import NOT_SENT

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.models import Money
    from airflow_provider_bitrix24.at_most_once.messages.common import Parts
    from airflow_provider_bitrix24.at_most_once.messages.wording import Wording

LOOK_AT_INVOICE: Final = "open it in Bitrix24 and look whether it is paid, when and by whom"
LOOK_AT_PAYMENT: Final = (
    "open it in Bitrix24 (its deal or smart invoice lists it) and look whether it is paid, when and by whom"
)
LOOK_FOR_PAYMENT: Final = "open its deal or smart invoice in Bitrix24 and look whether the payment is still listed"
HANDLER_NOT_KNOWN: Final = (
    "Bitrix24 returns true and does nothing when the pay system's handler only records payments (cash, bill, cash on "
    "delivery and the like), and also when saving failed on its side. Use a pay system for legacy invoices (kind "
    "CRM_INVOICE) with a REST handler; sale.paysystem.list shows kind and handler to administrators."
)
ORDER_HANDLER_NOT_KNOWN: Final = (
    "Bitrix24 returns true and does nothing when the pay system's handler only records payments (cash, bill, cash on "
    "delivery and the like), and also when saving failed on its side. Mark such a payment by PayCrmPaymentOperator "
    "(crm.item.payment.pay); sale.paysystem.list shows the handler to administrators."
)
INVOICE_NOT_SAVED: Final = "Bitrix24 returns true also when saving the invoice failed on its side."
PAYMENT_NOT_SAVED: Final = (
    "Bitrix24 returns true also when saving the payment failed on its side, for example because the pay system or an "
    "automation rule refused it."
)


def marked(words: Wording, *, ours: bool) -> str:
    """The portal shows it.

    :param ours: whether this key has done it; otherwise nothing says who has.
    """
    return f"It was {words.done} by this key." if ours else f"It was probably {words.done} by somebody else."


def marked_already(words: Wording) -> str:
    """The portal showed it before anything was sent."""
    return f"It is {words.state} already."


def nothing_to_pay(what: str, money: Money) -> str:
    """An invoice for nothing."""
    return f"{what} is for {money}: there is nothing to pay."


def empty_payment(what: str, money: Money) -> str:
    """A payment of nothing."""
    return (
        f"{what} is for {money}: it is empty, and marking it would make an order of 0 count as fully paid. Put "
        "products into it first (AddCrmPaymentOperator(fill_products=True) does), or say allow_zero=True."
    )


def changed_before_marked(what: str, money: Money, before: Money, happened: str, where: str, words: Wording) -> str:
    """The amount is another one than right before the mark."""
    return (
        f"{what} is for {money} now; just before it was {words.done}, it was for {before}. {happened} Somebody "
        f"changed it in between: {where}. Do not run this task again."
    )


def undone_since(subject: str, words: Wording) -> Parts:
    """Another operation of ours has undone what this task did, and the task runs again."""
    return (
        f"{sentence(subject)} was {words.done} by this task earlier; another operation has undone that since.",
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
