"""Messages about what completes a payment: tag, pay system and product rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.at_most_once.messages.common import how_often, in_brackets, payments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from airflow_provider_bitrix24.api.models import Money, Payment
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown


def incomplete(payment_id: int, of: str, trouble: str, *, is_ours: bool) -> str:
    """A payment is there and not complete."""
    state = "was added to" if is_ours else "is a payment of"
    return f"Payment {payment_id} {state} {of}, but it is incomplete: {trouble}."


def complete_by_hand(happened: str) -> str:
    """A person completes it."""
    return f"{happened} Complete or delete it in Bitrix24; do not add another one before."


def tag_on_others(payment_ids: Sequence[int]) -> str:
    """Other payments carry the tag as well."""
    return (
        f"{payments(payment_ids)} {'carries' if len(payment_ids) == 1 else 'carry'} the tag of its key as well. One "
        "key stands for one payment, so something between Airflow and the portal (a proxy that repeats requests) or "
        "another run has added one too many. Look at them in Bitrix24, delete what is too many, and clear this task"
    )


def not_tagged(doubt: Bitrix24OutcomeUnknown | None) -> str:
    """The payment does not get the tag."""
    return f"it does not carry the tag of its key: another run with this key would not find it{in_brackets(doubt)}"


def paid_with_pay_system(pay_system_id: int | None, wanted: int) -> str:
    """The payment was paid before its pay system was corrected."""
    return f"it is already paid, with pay system {pay_system_id} instead of {wanted}, which stays so"


def keeps_pay_system(payment: Payment, wanted: int, doubt: Bitrix24OutcomeUnknown | None) -> str:
    """The payment does not get the pay system."""
    return (
        f"the portal keeps pay system {payment.pay_system_id} {payment.pay_system_name!r} instead of "
        f"{wanted}{in_brackets(doubt)}"
    )


def not_all_rows(rows: Mapping[int, int]) -> str:
    """Not everything that was put in is there."""
    wanted = ", ".join(f"row {row_id} x {quantity}" for row_id, quantity in rows.items())
    return (
        "the portal does not show all product rows with their quantities in it, or its sum is not above 0 (wanted: "
        f"{wanted})"
    )


def filled_above_the_limit(money: Money, limit: Decimal) -> str:
    """The payment is for more than the limit."""
    return f"it is for {money} now; the max_amount of this task is {limit:f}. Prices have changed in the meantime"


def would_be_above_the_limit(total: Decimal, limit: Decimal) -> str:
    """The payment would be for more than the limit."""
    return (
        f"with its product rows it would be for {total:f} now; the max_amount of this task is {limit:f}. They were not "
        "put in"
    )


def paid_before_filled(money: Money, missing: Sequence[int]) -> str:
    """The payment was paid before all rows were in it."""
    return (
        f"it is already paid, for {money}, so no more product rows can go in; missing: "
        f"{', '.join(map(str, missing)) or 'none'}"
    )


def somebody_fills_it(payment: Payment, rows: Sequence[int]) -> str:
    """Somebody else is at work on the payment."""
    partly = f" and holds a part of product row {', '.join(map(str, rows))}" if rows else ""
    return (
        f"it is {'paid' if payment.paid else 'unpaid'} and for {payment.money} now{partly}. Somebody else is working "
        "on it, and this task put no product rows in"
    )


def row_is_not_in(what: str, doubt: Bitrix24OutcomeUnknown | None, by: str, times: int, *, may_be_sent: bool) -> str:
    """A product row is not in the payment.

    :param doubt: why its outcome was not known; None if the portal accepted it.
    :param by: which attempt sent it the last time.
    :param times: how often it was sent.
    :param may_be_sent: whether it may be sent once more.
    """
    replied = ", although the portal accepted it" if doubt is None else in_brackets(doubt)
    then = "; clearing this task sends it once more" if may_be_sent else ""
    last = "" if times == 1 else "the last time "
    return f"{what} is not in it{replied}: it was sent {how_often(times)}, {last}by {by}{then}"
