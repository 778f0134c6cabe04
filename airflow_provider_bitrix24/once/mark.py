"""Mark a legacy invoice or a payment as paid, at most once: the invoice or payment is its own key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.api import payments
from airflow_provider_bitrix24.api.preflight import read_before_invoice, read_before_mark
from airflow_provider_bitrix24.exceptions import PaymentRefused
from airflow_provider_bitrix24.once.marking import Chosen, Guards, Mark, Marking, View

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.preflight import InvoiceView, PaymentView
    from airflow_provider_bitrix24.once.receipt import Receipt
    from airflow_provider_bitrix24.once.story import Story

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


def pay_invoice(
    story: Story, *, invoice_id: int, pay_system_id: int | None, bx_rest_handler: str | None, guards: Guards
) -> Receipt:
    """Mark a legacy invoice as paid: three requests if nothing is odd.

    :param story: what is known about the invoice.
    :param invoice_id: the legacy invoice.
    :param pay_system_id: the pay system that took the money; exactly one of this and the next.
    :param bx_rest_handler: code of its REST handler.
    :param guards: amount and currency, compared before and after, and the largest amount that may be paid.
    :return: outcome ``paid`` if the mark is provably ours, else ``already_paid``.
    :raises PaymentRefused: nothing was sent: no such invoice, cancelled, declined, sum 0, more than the limit, or a pay
        system that cannot do it.
    :raises PaymentMismatch: other money, or another pay system than before; says whether the mark was made.
    :raises PaymentNotApplied: the portal answered, but the invoice is not paid; or it is not paid any more.
    :raises PaymentAmbiguous: it was sent as often as it may be without a person.
    :raises PaymentUnresolved: a mark may have been made, and the portal cannot be read now.
    :raises Bitrix24OutcomeUnknown: the same without a journal.
    :raises Bitrix24Error: whatever else reading, sending and the journal raise.
    """
    attempt, what = story.attempt, f"Invoice {invoice_id}"

    def chosen(view: InvoiceView) -> Chosen:
        invoice = view.invoice
        _refuse_if(invoice.cancelled, f"{what} is cancelled")
        _refuse_if(invoice.declined, f"{what} is declined (status D)")
        _refuse_if(not invoice.money.is_positive, f"{what} is for {invoice.money}: there is nothing to pay")
        system = view.pay_systems.check_for_invoice(pay_system_id=pay_system_id, bx_rest_handler=bx_rest_handler)
        proved = view.pay_systems.prove_rest_handler(bx_rest_handler=bx_rest_handler)
        return Chosen(pay_system_id=system, trap=INVOICE_TRAP if proved else HANDLER_TRAP)

    def look() -> Flow[View]:
        view = yield from read_before_invoice(attempt.client, invoice_id=invoice_id)
        return View(thing=view.invoice, at=view.at, user_id=view.profile.user_id, chosen=lambda: chosen(view))

    mark = Mark(
        operation="pay_invoice",
        method="sale.paysystem.pay.invoice",
        what=what,
        where="open it in Bitrix24 and look whether it is paid, when and by whom",
        subject={"invoice_id": invoice_id},
        key=story.entry.key,
        look=look,
        read=lambda: payments.get_invoice(attempt.client, invoice_id=invoice_id),
        write=lambda deadline, digest: payments.pay_invoice(
            attempt.client,
            invoice_id=invoice_id,
            pay_system_id=pay_system_id,
            bx_rest_handler=bx_rest_handler,
            deadline=deadline,
            idempotency=digest,
        ),
    )
    return Marking(story, mark, guards).run()


def pay_crm_payment(story: Story, *, payment_id: int, guards: Guards, allow_zero: bool) -> Receipt:
    """Mark a payment of a deal or smart invoice as paid: three requests if nothing is odd.

    :param story: what is known about the payment.
    :param payment_id: the payment.
    :param guards: amount and currency, compared before and after, and the largest amount that may be paid.
    :param allow_zero: whether a payment of 0 may be marked; Bitrix24 would then call an order of 0 fully paid.
    :return: outcome ``paid`` if the mark is provably ours, else ``already_paid``.
    :raises PaymentRefused: nothing was sent: no such payment, sum 0, or more than the limit.
    :raises PaymentMismatch: other money; says whether the mark was made.
    :raises PaymentNotApplied: the portal answered, but the payment is not paid; or it is not paid any more.
    :raises PaymentAmbiguous: it was sent as often as it may be without a person.
    :raises PaymentUnresolved: a mark may have been made, and the portal cannot be read now.
    :raises Bitrix24OutcomeUnknown: the same without a journal.
    :raises Bitrix24Error: whatever else reading, sending and the journal raise.
    """
    attempt, what = story.attempt, f"Payment {payment_id}"

    def chosen(view: PaymentView) -> Chosen:
        _refuse_if(
            not view.payment.money.is_positive and not allow_zero,
            f"{what} is for {view.payment.money}: it is empty, and marking it would make an order of 0 count as "
            "fully paid. Put products into it first (AddCrmPaymentOperator(fill_products=True) does), or say "
            "allow_zero=True",
        )
        return Chosen(pay_system_id=view.payment.pay_system_id, trap=PAYMENT_TRAP)

    def look() -> Flow[View]:
        view = yield from read_before_mark(attempt.client, payment_id=payment_id)
        return View(thing=view.payment, at=view.at, user_id=view.profile.user_id, chosen=lambda: chosen(view))

    mark = Mark(
        operation="pay_crm_payment",
        method="crm.item.payment.pay",
        what=what,
        where="open it in Bitrix24 (its deal or smart invoice lists it) and look whether it is paid, when and by whom",
        subject={"payment_id": payment_id},
        key=story.entry.key,
        look=look,
        read=lambda: payments.get_crm_payment(attempt.client, payment_id=payment_id),
        write=lambda deadline, digest: payments.pay_crm_payment(
            attempt.client, payment_id=payment_id, deadline=deadline, idempotency=digest
        ),
    )
    return Marking(story, mark, guards).run()


def _refuse_if(refused: bool, why: str) -> None:
    if refused:
        raise PaymentRefused(f"{why}. Nothing was sent.")
