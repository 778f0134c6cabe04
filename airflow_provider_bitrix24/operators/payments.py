"""Operators that mark invoices and payments as paid and add payments: read first, send once, read back, receipt."""

from __future__ import annotations

import time
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_bitrix24.api.values import ENTITY_NAMES, positive_id, shown
from airflow_provider_bitrix24.api.values import entity_type_id as read_entity_type_id
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, PaymentRefused
from airflow_provider_bitrix24.failures import fail_if_final
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.links.bitrix24 import (
    OBJECT_LINKS,
    CrmPaymentLink,
    DealLink,
    InvoiceLink,
    SmartInvoiceLink,
)
from airflow_provider_bitrix24.operators.arguments import (
    expected_money,
    given,
    one_of,
    optional_id,
    refuse_lost,
    switch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from airflow.sdk import BaseOperatorLink, Context

    from airflow_provider_bitrix24.once import Once, Receipt

IfPaid = Literal["succeed", "skip", "fail"]
IfUnpaidExists = Literal["add", "return", "fail"]
OnUnknown = Literal["fail", "adopt"]

IF_PAID: Final[tuple[IfPaid, ...]] = get_args(IfPaid)
IF_UNPAID_EXISTS: Final[tuple[IfUnpaidExists, ...]] = get_args(IfUnpaidExists)
ON_UNKNOWN: Final[tuple[OnUnknown, ...]] = get_args(OnUnknown)


class PaymentOperator(BaseOperator):
    """What the three operators share.

    :meta private:
    """

    were_given: frozenset[str]
    """The templated arguments that the constructor was given."""

    def __init__(
        self,
        *,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.bitrix24_conn_id = bitrix24_conn_id

    @cached_property
    def hook(self) -> Bitrix24Hook:
        """The connection to the portal."""
        return Bitrix24Hook(self.bitrix24_conn_id)

    def once(self) -> Once:
        """Return the protocol of one attempt at this portal."""
        from airflow_provider_bitrix24.once import Once

        return Once(self.hook.caller, self.hook.run, time, self.log)


class MarkOperator(PaymentOperator):
    """What marking an invoice and marking a payment share.

    :meta private:
    """

    if_paid: IfPaid

    @abstractmethod
    def mark(self, context: Context) -> Receipt:
        """Mark it, unless it is marked already."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Mark it and return the receipt.

        :raises AirflowFailException: an error that no retry can mend.
        :raises AirflowSkipException: it was paid before this task, and ``if_paid="skip"``.
        :raises Bitrix24Error: a passing error; nothing of it needs a person.
        """
        receipt, skip = fail_if_final(lambda: self._mark(context))
        self.log.info("Receipt: %s", receipt.as_dict())
        if skip:
            raise AirflowSkipException(_paid_already(receipt))
        return receipt.as_dict()

    def _mark(self, context: Context) -> tuple[Receipt, bool]:
        """Return the receipt, and whether the task is to be skipped."""
        refuse_lost(self, self.were_given)
        if_paid = one_of(self.if_paid, "if_paid", IF_PAID)
        receipt = self.mark(context)
        # Judged only if nothing of ours was on its way: after a send, "already paid" is a finding.
        if receipt.outcome != "already_paid" or receipt.sent or if_paid == "succeed":
            return receipt, False
        attempt = context["ti"].try_number
        if attempt > 1 and receipt.by_our_user:
            self.log.warning(
                "%s, by the user that this connection acts as. This is attempt %s: the mark may be that of an earlier "
                "one, so if_paid=%r is not applied and the task succeeds.",
                _paid_already(receipt),
                attempt,
                if_paid,
            )
            return receipt, False
        if if_paid == "fail":
            raise PaymentRefused(f"{_paid_already(receipt)}, and if_paid is 'fail'. Nothing was sent.")
        return receipt, True


def _paid_already(receipt: Receipt) -> str:
    subject = ", ".join(f"{name} {value}" for name, value in receipt.subject.items())
    when = f", since {receipt.paid_at.isoformat()}" if receipt.paid_at else ""
    return f"{subject} over {receipt.money} is paid already{when}"


class PayInvoiceOperator(MarkOperator):
    """Mark a legacy invoice as paid by ``sale.paysystem.pay.invoice``. It moves no money: it records that money came.

    https://apidocs.bitrix24.com/api-reference/pay-system/outdated/sale-pay-system-pay-invoice.html

    The invoice is read first (also who we are, and, for administrators, whether the pay system can do it at all), the
    mark is sent once, and the invoice is read back: three requests. A lost answer is resolved by reading, for up to the
    settle window of the connection (155 s by default) and the read lag; if the portal shows no mark then, the task
    fails for good. Smart invoices cannot be paid this way: they have payments, see :class:`AddCrmPaymentOperator`.

    :param invoice_id: (templated) id of the legacy invoice.
    :param pay_system_id: (templated) pay system that took the money: kind CRM_INVOICE, with a REST handler.
    :param bx_rest_handler: (templated) code of that REST handler; exactly one of the two.
    :param expected_amount: (templated) the invoice must be over this; text such as "1500.00".
    :param expected_currency: (templated) and in this currency.
    :param if_paid: (templated) what to do if the invoice is paid already: "succeed" (outcome ``already_paid``), "skip"
        or "fail". A repeated attempt succeeds if the webhook's own user has marked it: that may have been the attempt
        before.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scopes ``crm`` and ``pay_system``.
    :param multiple_outputs: push every field of the receipt as its own XCom as well.
    :return: the receipt: ``operation``, ``outcome`` ("paid" if the mark is ours, "already_paid" if not), ``portal``,
        ``invoice_id``, ``pay_system_id``, ``amount``, ``currency``, ``paid_at``, ``idempotency_key``, ``evidence``,
        ``recovered``.
    """

    template_fields = (
        "invoice_id",
        "pay_system_id",
        "bx_rest_handler",
        "expected_amount",
        "expected_currency",
        "if_paid",
        "bitrix24_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (InvoiceLink(),)

    def __init__(
        self,
        *,
        invoice_id: int | str,
        pay_system_id: int | str | None = None,
        bx_rest_handler: str | None = None,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        if_paid: IfPaid = "succeed",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.invoice_id = invoice_id
        self.pay_system_id = pay_system_id
        self.bx_rest_handler = bx_rest_handler
        self.expected_amount = expected_amount
        self.expected_currency = expected_currency
        self.if_paid = if_paid
        self.were_given = given(self)

    def mark(self, context: Context) -> Receipt:
        """Check the arguments, store the link, mark the invoice."""
        invoice_id = positive_id(self.invoice_id, "invoice_id")
        if (self.pay_system_id is None) == (self.bx_rest_handler is None):
            raise Bitrix24ConfigError("Give exactly one of pay_system_id and bx_rest_handler. Nothing was sent.")
        handler = self.bx_rest_handler
        if handler is not None and (not isinstance(handler, str) or handler.strip() in ("", "None")):
            raise Bitrix24ConfigError(
                f"bx_rest_handler must be the code of a REST handler, not {shown(handler)}. Nothing was sent."
            )
        pay_system_id = optional_id(self.pay_system_id, "pay_system_id")
        expected = expected_money(self.expected_amount, self.expected_currency)
        InvoiceLink().persist(context, origin=self.hook.settings.origin, object_id=invoice_id)
        return self.once().pay_invoice(
            invoice_id=invoice_id, pay_system_id=pay_system_id, bx_rest_handler=handler, expected=expected
        )


class PayCrmPaymentOperator(MarkOperator):
    """Mark a payment of a deal or smart invoice as paid by ``crm.item.payment.pay``. It moves no money.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-pay.html

    The payment is read first, the mark is sent once, and the payment is read back: three requests. A lost answer is
    resolved by reading, for up to the settle window of the connection (155 s by default) and the read lag; if the
    portal shows no mark then, the task fails for good.

    :param payment_id: (templated) id of the payment.
    :param expected_amount: (templated) the payment must be over this; text such as "1500.00".
    :param expected_currency: (templated) and in this currency.
    :param allow_zero: mark also a payment over 0; by default it is refused, because an order over 0 would count as
        paid.
    :param if_paid: (templated) what to do if the payment is paid already: "succeed" (outcome ``already_paid``), "skip"
        or "fail". A repeated attempt succeeds if the webhook's own user has marked it: that may have been the attempt
        before.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scope ``crm``.
    :param multiple_outputs: push every field of the receipt as its own XCom as well.
    :return: the receipt: ``operation``, ``outcome`` ("paid" if the mark is ours, "already_paid" if not), ``portal``,
        ``payment_id``, ``pay_system_id``, ``amount``, ``currency``, ``paid_at``, ``idempotency_key``, ``evidence``,
        ``recovered``.
    """

    template_fields = ("payment_id", "expected_amount", "expected_currency", "if_paid", "bitrix24_conn_id")
    operator_extra_links: Sequence[BaseOperatorLink] = (CrmPaymentLink(),)

    def __init__(
        self,
        *,
        payment_id: int | str,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        allow_zero: bool = False,
        if_paid: IfPaid = "succeed",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.payment_id = payment_id
        self.expected_amount = expected_amount
        self.expected_currency = expected_currency
        self.allow_zero = allow_zero
        self.if_paid = if_paid
        self.were_given = given(self)

    def mark(self, context: Context) -> Receipt:
        """Check the arguments, store the link, mark the payment."""
        payment_id = positive_id(self.payment_id, "payment_id")
        allow_zero = switch(self.allow_zero, "allow_zero")
        expected = expected_money(self.expected_amount, self.expected_currency)
        CrmPaymentLink().persist(context, origin=self.hook.settings.origin, object_id=payment_id)
        return self.once().pay_crm_payment(payment_id=payment_id, expected=expected, allow_zero=allow_zero)


class AddCrmPaymentOperator(PaymentOperator):
    """Add a payment to a deal or smart invoice. Bitrix24 makes an *empty* payment: sum 0, no products.

    ``fill_products=True`` then puts all product rows that are still available for payment into it, and checks that the
    sum is above 0. REST method ``crm.item.payment.add``
    (https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-add.html).

    Every call makes another payment, and no key prevents it. So the object is read first, the call is sent once, and
    the payment is read back: three requests. A lost answer is resolved by reading until nothing of the call can still
    arrive (the settle window of the connection, 155 s by default, and the read lag). The task is never retried by
    itself, and an attempt after the first (retry, clear) is refused: it could not tell whether the one before added
    something.

    If the object has an order already, Bitrix24 rewrites it: its responsible user becomes the webhook's user, and its
    client may be cleared. That is logged.

    :param entity_id: (templated) id of the deal or smart invoice.
    :param entity_type_id: (templated) 2 or "deal", 31 or "smart_invoice".
    :param pay_system_id: (templated) pay system of the payment, kind ORDER; by default the portal chooses (cash, if it
        has it). If the portal chose another one, it is corrected by ``crm.item.payment.update``.
    :param fill_products: put the products in. Fractional quantities are refused: Bitrix24 would cut them off.
    :param if_unpaid_exists: (templated) what to do if the object has an unpaid payment: "add" another one, "return" it
        (outcome ``existing``; filled only if it is empty), or "fail".
    :param on_unknown: (templated) what to do if the answer is lost and exactly one new payment is there: "fail", or
        "adopt" it, by which you vouch that nobody else adds payments to this object meanwhile. Only an unpaid payment
        over 0 is adopted.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scope ``crm``.
    :param multiple_outputs: push every field of the receipt as its own XCom as well, for ``add.output["payment_id"]``.
    :return: the receipt: ``operation``, ``outcome`` ("created" or "existing"), ``portal``, ``entity_type_id``,
        ``entity_id``, ``payment_id``, ``pay_system_id``, ``amount``, ``currency``, ``idempotency_key``, ``evidence``,
        ``recovered``.
    """

    template_fields = (
        "entity_id",
        "entity_type_id",
        "pay_system_id",
        "if_unpaid_exists",
        "on_unknown",
        "bitrix24_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (DealLink(), SmartInvoiceLink(), CrmPaymentLink())

    def __init__(
        self,
        *,
        entity_id: int | str,
        entity_type_id: int | str = 2,
        pay_system_id: int | str | None = None,
        fill_products: bool = False,
        if_unpaid_exists: IfUnpaidExists = "add",
        on_unknown: OnUnknown = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.entity_id = entity_id
        self.entity_type_id = entity_type_id
        self.pay_system_id = pay_system_id
        self.fill_products = fill_products
        self.if_unpaid_exists = if_unpaid_exists
        self.on_unknown = on_unknown
        self.were_given = given(self)

    def execute(self, context: Context) -> dict[str, Any]:
        """Add the payment and return the receipt.

        :raises AirflowFailException: any error of this provider: a second attempt would be refused anyway.
        """
        receipt = fail_if_final(lambda: self._add(context), may_retry=False)
        self.log.info("Receipt: %s", receipt.as_dict())
        payment_id = receipt.subject["payment_id"]
        try:
            CrmPaymentLink().persist(context, origin=self.hook.settings.origin, object_id=payment_id)
        except Exception:
            # The payment is made: a missing button is no reason to hide its id behind a red task.
            self.log.warning("The link to payment %s could not be stored.", payment_id, exc_info=True)
        return receipt.as_dict()

    def _add(self, context: Context) -> Receipt:
        refuse_lost(self, self.were_given)
        entity_id = positive_id(self.entity_id, "entity_id")
        entity_type_id = read_entity_type_id(self.entity_type_id)
        pay_system_id = optional_id(self.pay_system_id, "pay_system_id")
        fill_products = switch(self.fill_products, "fill_products")
        if_unpaid_exists = one_of(self.if_unpaid_exists, "if_unpaid_exists", IF_UNPAID_EXISTS)
        on_unknown = one_of(self.on_unknown, "on_unknown", ON_UNKNOWN)
        OBJECT_LINKS[entity_type_id].persist(context, origin=self.hook.settings.origin, object_id=entity_id)
        ti = context["ti"]
        if ti.try_number > 1:
            of = f"{ENTITY_NAMES[entity_type_id]} {entity_id}"
            raise PaymentRefused(
                f"This is attempt {ti.try_number} of {ti.task_id}, and it cannot tell whether an earlier one has added "
                f"a payment to {of} already. Nothing was sent by this attempt. Look at the payments of {of} in "
                "Bitrix24: if the payment is there, go on with it; if not, start a new run of the DAG."
            )
        task = f"dag:{ti.dag_id}:run:{ti.run_id}:task:{ti.task_id}:map_index:{ti.map_index}"
        return self.once().add_crm_payment(
            entity_id=entity_id,
            entity_type_id=entity_type_id,
            key=f"{self.hook.portal}:{task}",
            pay_system_id=pay_system_id,
            fill_products=fill_products,
            if_unpaid_exists=if_unpaid_exists,
            on_unknown=on_unknown,
        )
