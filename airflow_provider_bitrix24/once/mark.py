"""Mark a legacy invoice or a payment as paid, at most once: the invoice or payment is its own key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeAlias

from airflow_provider_bitrix24.api import payments
from airflow_provider_bitrix24.api.models import Invoice, Payment
from airflow_provider_bitrix24.api.preflight import read_before_invoice, read_before_mark
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.once.attempt import Attempt, Sent, Unreadable
from airflow_provider_bitrix24.once.complete import answer_words
from airflow_provider_bitrix24.once.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    import pendulum

    from airflow_provider_bitrix24.api.effects import Flow, Lease
    from airflow_provider_bitrix24.once.receipt import Expected

Thing: TypeAlias = Invoice | Payment

EITHER: Final = "either it did nothing with the call, or somebody took it back meanwhile"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One thing to mark: how it is read and written, and what a person calls it."""

    operation: Literal["pay_invoice", "pay_crm_payment"]
    method: str
    """REST method that marks it."""
    what: str
    """"Invoice 2"."""
    where: str
    """Where a person looks."""
    subject: dict[str, int]
    key: str
    read: Callable[[], Flow[Any]]
    write: Callable[[Lease, str], Flow[None]]
    pay_system_id: int | None
    trap: str
    """Why the portal may answer ``true`` and do nothing."""

    @property
    def advice(self) -> str:
        """What to do when it is not known to be paid."""
        return (
            f"This task sends nothing again by itself. What to do: {self.where}; if it is unpaid, clear this task: it "
            "reads first."
        )

    def receipt(self, attempt: Attempt, seen: Thing, *, ours: bool, by_our_user: bool, sent: Sent | None) -> Receipt:
        """Return the receipt for what the portal shows."""
        return Receipt(
            operation=self.operation,
            outcome="paid" if ours else "already_paid",
            portal=attempt.portal,
            subject=self.subject,
            pay_system_id=self.pay_system_id if ours else seen.pay_system_id,
            money=seen.money,
            paid_at=seen.paid_at,
            idempotency_key=self.key,
            evidence="answer" if ours and sent and sent.doubt is None else "state",
            sent=sent is not None,
            by_our_user=by_our_user,
        )


def pay_invoice(
    attempt: Attempt,
    *,
    invoice_id: int,
    pay_system_id: int | None,
    bx_rest_handler: str | None,
    expected: Expected,
) -> Receipt:
    """Mark a legacy invoice as paid: three requests if nothing is odd.

    :param attempt: the tools.
    :param invoice_id: the legacy invoice.
    :param pay_system_id: the pay system that took the money; exactly one of this and the next.
    :param bx_rest_handler: code of its REST handler.
    :param expected: amount and currency, compared before and after.
    :return: outcome ``paid`` if the mark is provably ours, else ``already_paid``.
    :raises PaymentRefused: nothing was sent: no such invoice, cancelled, declined, sum 0, or a pay system that cannot
        do it.
    :raises PaymentMismatch: other money; says whether the mark was made.
    :raises PaymentNotApplied: the portal answered, but the invoice is not paid.
    :raises Bitrix24OutcomeUnknown: no answer, and the portal does not show the mark; or it cannot be read afterwards.
    :raises Bitrix24Error: whatever else reading and sending raise.
    """
    view = attempt.run(read_before_invoice(attempt.caller, invoice_id=invoice_id))
    invoice, what = view.invoice, f"Invoice {invoice_id}"
    expected.check(invoice.money, what=what, happened=_nothing_sent(invoice))
    chosen, trap = pay_system_id, HANDLER_TRAP
    if not invoice.paid:
        _refuse_if(invoice.cancelled, f"{what} is cancelled")
        _refuse_if(invoice.declined, f"{what} is declined (status D)")
        _refuse_if(invoice.money.amount <= 0, f"{what} is over {invoice.money}: there is nothing to pay")
        chosen = view.pay_systems.check_for_invoice(pay_system_id=pay_system_id, bx_rest_handler=bx_rest_handler)
        trap = INVOICE_TRAP if view.pay_systems.prove_rest_handler(bx_rest_handler=bx_rest_handler) else trap
    mark = Mark(
        operation="pay_invoice",
        method="sale.paysystem.pay.invoice",
        what=what,
        where="open it in Bitrix24 and look whether it is paid, when and by whom",
        subject={"invoice_id": invoice_id},
        key=f"{attempt.portal}:invoice:{invoice_id}",
        read=lambda: payments.get_invoice(attempt.caller, invoice_id=invoice_id),
        write=lambda lease, digest: payments.pay_invoice(
            attempt.caller,
            invoice_id=invoice_id,
            pay_system_id=pay_system_id,
            bx_rest_handler=bx_rest_handler,
            lease=lease,
            idempotency=digest,
        ),
        pay_system_id=chosen,
        trap=trap,
    )
    return _mark(attempt, mark, invoice, decided=view.at, user_id=view.profile.user_id)


def pay_crm_payment(attempt: Attempt, *, payment_id: int, expected: Expected, allow_zero: bool) -> Receipt:
    """Mark a payment of a deal or smart invoice as paid: three requests if nothing is odd.

    :param attempt: the tools.
    :param payment_id: the payment.
    :param expected: amount and currency, compared before and after.
    :param allow_zero: whether a payment over 0 may be marked; Bitrix24 would then call an order over 0 fully paid.
    :return: outcome ``paid`` if the mark is provably ours, else ``already_paid``.
    :raises PaymentRefused: nothing was sent: no such payment, or sum 0.
    :raises PaymentMismatch: other money; says whether the mark was made.
    :raises PaymentNotApplied: the portal answered, but the payment is not paid.
    :raises Bitrix24OutcomeUnknown: no answer, and the portal does not show the mark; or it cannot be read afterwards.
    :raises Bitrix24Error: whatever else reading and sending raise.
    """
    view = attempt.run(read_before_mark(attempt.caller, payment_id=payment_id))
    payment, what = view.payment, f"Payment {payment_id}"
    expected.check(payment.money, what=what, happened=_nothing_sent(payment))
    _refuse_if(
        not payment.paid and payment.money.amount <= 0 and not allow_zero,
        f"{what} is over {payment.money}: it is empty, and marking it would make an order over 0 count as fully paid. "
        "Put products into it first (AddCrmPaymentOperator(fill_products=True) does), or say allow_zero=True",
    )
    mark = Mark(
        operation="pay_crm_payment",
        method="crm.item.payment.pay",
        what=what,
        where="open it in Bitrix24 (its deal or smart invoice lists it) and look whether it is paid, when and by whom",
        subject={"payment_id": payment_id},
        key=f"{attempt.portal}:payment:{payment_id}",
        read=lambda: payments.get_crm_payment(attempt.caller, payment_id=payment_id),
        write=lambda lease, digest: payments.pay_crm_payment(
            attempt.caller, payment_id=payment_id, lease=lease, idempotency=digest
        ),
        pay_system_id=payment.pay_system_id,
        trap=PAYMENT_TRAP,
    )
    return _mark(attempt, mark, payment, decided=view.at, user_id=view.profile.user_id)


def _mark(attempt: Attempt, mark: Mark, before: Thing, *, decided: pendulum.DateTime | None, user_id: int) -> Receipt:
    """Send the mark, unless it is made already, and return the receipt for what the portal shows afterwards."""
    if before.paid:
        return mark.receipt(attempt, before, ours=False, by_our_user=before.paid_by_id == user_id, sent=None)
    attempt.log.info("Marking %s over %s as paid on %s.", mark.what.lower(), before.money, attempt.portal)
    sent = attempt.send(mark.write, key=mark.key)
    try:
        seen = attempt.find(mark.read, lambda thing: thing.paid, sent)
    except Unreadable as error:
        trouble = str(error)
    else:
        if seen is None:
            _not_shown(mark, sent)
        if not seen.money.same_as(before.money):
            raise PaymentMismatch(
                f"{mark.what} is over {seen.money} now; just before it was marked as paid, it was over {before.money}. "
                f"The mark HAS been made. Somebody changed it in between: {mark.where}. Do not run this again."
            )
        ours = _fits_us(seen, decided, user_id)
        return mark.receipt(attempt, seen, ours=ours, by_our_user=seen.paid_by_id == user_id, sent=sent)
    _not_readable(mark, sent, trouble)


def _fits_us(seen: Thing, decided: pendulum.DateTime | None, user_id: int) -> bool:
    """Whether who and when say that the mark is ours; the portal's times are whole seconds."""
    if decided is None or seen.paid_at is None or seen.paid_by_id != user_id:
        return False
    return seen.paid_at >= decided.replace(microsecond=0)


def _not_shown(mark: Mark, sent: Sent) -> NoReturn:
    doubt = sent.doubt
    if doubt is None:
        raise PaymentNotApplied(
            f"The portal accepted the mark of {mark.what.lower()}, but does not show it as paid: {EITHER}. {mark.trap} "
            f"{mark.advice}"
        )
    if doubt.answered:
        raise PaymentNotApplied(
            f"{answer_words(doubt)} when {mark.what.lower()} was marked as paid, and does not show it as paid: "
            f"{EITHER}. Whether another attempt makes sense depends on the portal's words. {mark.advice}"
        )
    raise Bitrix24OutcomeUnknown(
        doubt.method,
        False,
        doubt.code,
        doubt.text,
        f"The portal gave no usable answer when {mark.what.lower()} was marked as paid ({doubt.text}), and does not "
        "show it as paid, read twice after everything that was sent must have ended: either the mark was not recorded, "
        f"or somebody took it back meanwhile. {mark.advice}",
    )


def _not_readable(mark: Mark, sent: Sent, trouble: str) -> NoReturn:
    doubt = sent.doubt
    if doubt is None:
        raise Bitrix24OutcomeUnknown(
            mark.method,
            True,
            message=f"The portal accepted the mark of {mark.what.lower()}, so it is probably paid, but it could not be "
            f"read afterwards ({trouble}). {mark.advice}",
        )
    raise Bitrix24OutcomeUnknown(
        doubt.method,
        doubt.answered,
        doubt.code,
        doubt.text,
        f"{mark.what} may have been marked as paid: there was no usable answer ({doubt.text}), and the portal could "
        f"not be read afterwards ({trouble}). {mark.advice}",
    )


def _nothing_sent(thing: Thing) -> str:
    return "Nothing was sent; it is paid already." if thing.paid else "Nothing was sent."


def _refuse_if(refused: bool, why: str) -> None:
    if refused:
        raise PaymentRefused(f"{why}. Nothing was sent.")
