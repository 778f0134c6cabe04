"""Operators that mark invoices and payments as paid, and the one that adds payments: at most once for one key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.values import shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.links.bitrix24 import CrmPaymentLink, InvoiceLink
from airflow_provider_bitrix24.operators.arguments import expected_money, given, one_of, optional_id, switch
from airflow_provider_bitrix24.operators.base import ASK_TIMEOUT, IF_PAID, IfPaid, OnUnknown, Plan, StateChangeOperator
from airflow_provider_bitrix24.operators.new_payments import AddCrmPaymentOperator
from airflow_provider_bitrix24.operators.numbers import read_id, refuse_unless_one

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from decimal import Decimal

    from airflow.sdk import BaseOperatorLink, Context

__all__ = ["AddCrmPaymentOperator", "PayCrmPaymentOperator", "PayInvoiceOperator"]


class PayInvoiceOperator(StateChangeOperator):
    """Mark a legacy invoice as paid by ``sale.paysystem.pay.invoice``. It moves no money: it records that money came.

    https://apidocs.bitrix24.com/api-reference/pay-system/outdated/sale-pay-system-pay-invoice.html

    The journal and the invoice are read first (also who we are, and, for administrators, whether the pay system can do
    it at all), the mark is sent once, and the invoice is read back: three requests. A lost response is resolved by
    reading, for up to the settle window of the connection (155 s by default) and the read lag; the next attempt goes
    on where this one ended. Smart invoices cannot be paid this way: they have payments, see
    :class:`AddCrmPaymentOperator`.

    :param invoice_id: (templated) id of the legacy invoice, which is its own key.
    :param account_number: (templated) instead of the id: the number that customers see, as text. It is looked up by
        one read (``crm.invoice.list``) before anything is sent; none or several invoices with it are an error.
    :param pay_system_id: (templated) pay system that took the money: kind CRM_INVOICE, with a REST handler.
    :param bx_rest_handler: (templated) code of that REST handler; exactly one of the two.
    :param expected_amount: (templated) the invoice must be for this amount; text such as "1500.00".
    :param expected_currency: (templated) and in this currency.
    :param if_paid: (templated) what to do if the invoice was paid before this task: "succeed" (outcome
        ``already_paid``), "skip" or "fail". What an earlier attempt of this task has marked has the outcome ``paid``.
    :param max_amount: (templated) refuse to mark more than this; text such as "5000.00". By default the option
        ``[bitrix24] max_amount`` of Airflow's configuration.
    :param on_unknown: (templated) what to do if the outcome of a send stays unknown: "fail" (no retry, the message
        says what to look at), or "ask" a person in the Airflow UI (3.3). See the documentation of the operators.
    :param ask_timeout: with "ask": how long to wait for the answer; by default one day.
    :param allow_backfill: work in backfill runs too; by default the option ``[bitrix24] allow_backfill``, else they are
        refused.
    :param journal_conn_id: (templated) Airflow connection of a database (postgres, mysql, sqlite) that keeps the
        journal, so that other runs know it. By default the option ``[bitrix24] journal_conn_id`` of Airflow's
        configuration, else Airflow's task state store (3.3), which knows one task instance; "task_state" for the
        latter whatever the option says.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scopes ``crm`` and ``pay_system``.
    :param multiple_outputs: push every field of the receipt as its own XCom as well.
    :return: the receipt: ``operation``, ``outcome`` ("paid" if marked by this task, else "already_paid"), ``portal``,
        ``invoice_id``, ``pay_system_id``, ``amount``, ``currency``, ``paid_at``, ``idempotency_key``, ``evidence``,
        ``recovered`` (whether an earlier attempt had sent it).
    """

    template_fields = (
        "invoice_id",
        "account_number",
        "pay_system_id",
        "bx_rest_handler",
        "expected_amount",
        "expected_currency",
        "if_paid",
        "max_amount",
        "on_unknown",
        "journal_conn_id",
        "bitrix24_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (InvoiceLink(),)

    def __init__(
        self,
        *,
        invoice_id: int | str | None = None,
        account_number: str | None = None,
        pay_system_id: int | str | None = None,
        bx_rest_handler: str | None = None,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        if_paid: IfPaid = "succeed",
        max_amount: Decimal | str | int | None = None,
        on_unknown: OnUnknown = "fail",
        ask_timeout: timedelta = ASK_TIMEOUT,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_amount=max_amount,
            on_unknown=on_unknown,
            ask_timeout=ask_timeout,
            allow_backfill=allow_backfill,
            journal_conn_id=journal_conn_id,
            bitrix24_conn_id=bitrix24_conn_id,
            multiple_outputs=multiple_outputs,
            **kwargs,
        )
        self.invoice_id = invoice_id
        self.account_number = account_number
        self.pay_system_id = pay_system_id
        self.bx_rest_handler = bx_rest_handler
        self.expected_amount = expected_amount
        self.expected_currency = expected_currency
        self.if_paid = if_paid
        self.were_given = given(self)
        refuse_unless_one(self, "invoice_id")

    def plan(self, context: Context) -> Plan:
        """Check the arguments, look up the account number, and store the link."""
        if (self.pay_system_id is None) == (self.bx_rest_handler is None):
            raise Bitrix24ConfigError("Give exactly one of pay_system_id and bx_rest_handler.", NOT_SENT)
        handler = self.bx_rest_handler
        if handler is not None and (not isinstance(handler, str) or handler.strip() in ("", "None")):
            raise Bitrix24ConfigError(
                f"bx_rest_handler must be the code of a REST handler, not {shown(handler)}.", NOT_SENT
            )
        pay_system_id = optional_id(self.pay_system_id, "pay_system_id")
        expected = expected_money(self.expected_amount, self.expected_currency)
        max_amount = self.limit()
        one_of(self.if_paid, "if_paid", IF_PAID)
        invoice_id = read_id(self, "invoice_id", lambda numbers: self.hook.find_invoices(account_numbers=numbers))
        InvoiceLink().persist(context, origin=self.hook.settings.origin, object_id=invoice_id)
        from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice

        operation = PayInvoice(
            portal=self.hook.portal,
            invoice_id=invoice_id,
            pay_system_id=pay_system_id,
            bx_rest_handler=handler,
            expected=expected,
            max_amount=max_amount,
        )
        return Plan(path=InvoiceLink.path.format(invoice_id), operation=operation)


class PayCrmPaymentOperator(StateChangeOperator):
    """Mark a payment of a deal or smart invoice as paid by ``crm.item.payment.pay``. It moves no money.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-pay.html

    The journal and the payment are read first, the mark is sent once, and the payment is read back: three requests. A
    lost response is resolved by reading, for up to the settle window of the connection (155 s by default) and the read
    lag; the next attempt goes on where this one ended.

    :param payment_id: (templated) id of the payment, which is its own key.
    :param account_number: (templated) instead of the id: the payment's number that customers see, such as "161/1", as
        text. It is looked up by one read before anything is sent (``sale.payment.list``: the scope ``sale`` and an
        administrator); none or several payments with it are an error.
    :param expected_amount: (templated) the payment must be of this amount; text such as "1500.00".
    :param expected_currency: (templated) and in this currency.
    :param allow_zero: mark also a payment of 0; by default it is refused, because an order of 0 would count as
        paid.
    :param if_paid: (templated) what to do if the payment was paid before this task: "succeed" (outcome
        ``already_paid``), "skip" or "fail". What an earlier attempt of this task has marked has the outcome ``paid``.
    :param max_amount: (templated) refuse to mark more than this; text such as "5000.00". By default the option
        ``[bitrix24] max_amount`` of Airflow's configuration.
    :param on_unknown: (templated) what to do if the outcome of a send stays unknown: "fail" (no retry, the message
        says what to look at), or "ask" a person in the Airflow UI (3.3). See the documentation of the operators.
    :param ask_timeout: with "ask": how long to wait for the answer; by default one day.
    :param allow_backfill: work in backfill runs too; by default the option ``[bitrix24] allow_backfill``, else they are
        refused.
    :param journal_conn_id: (templated) Airflow connection of a database (postgres, mysql, sqlite) that keeps the
        journal, so that other runs know it. By default the option ``[bitrix24] journal_conn_id`` of Airflow's
        configuration, else Airflow's task state store (3.3), which knows one task instance; "task_state" for the
        latter whatever the option says.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scope ``crm``.
    :param multiple_outputs: push every field of the receipt as its own XCom as well.
    :return: the receipt: ``operation``, ``outcome`` ("paid" if marked by this task, else "already_paid"), ``portal``,
        ``payment_id``, ``pay_system_id``, ``amount``, ``currency``, ``paid_at``, ``idempotency_key``, ``evidence``,
        ``recovered`` (whether an earlier attempt had sent it).
    """

    template_fields = (
        "payment_id",
        "account_number",
        "expected_amount",
        "expected_currency",
        "if_paid",
        "max_amount",
        "on_unknown",
        "journal_conn_id",
        "bitrix24_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (CrmPaymentLink(),)

    def __init__(
        self,
        *,
        payment_id: int | str | None = None,
        account_number: str | None = None,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        allow_zero: bool = False,
        if_paid: IfPaid = "succeed",
        max_amount: Decimal | str | int | None = None,
        on_unknown: OnUnknown = "fail",
        ask_timeout: timedelta = ASK_TIMEOUT,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_amount=max_amount,
            on_unknown=on_unknown,
            ask_timeout=ask_timeout,
            allow_backfill=allow_backfill,
            journal_conn_id=journal_conn_id,
            bitrix24_conn_id=bitrix24_conn_id,
            multiple_outputs=multiple_outputs,
            **kwargs,
        )
        self.payment_id = payment_id
        self.account_number = account_number
        self.expected_amount = expected_amount
        self.expected_currency = expected_currency
        self.allow_zero = allow_zero
        self.if_paid = if_paid
        self.were_given = given(self)
        refuse_unless_one(self, "payment_id")

    def plan(self, context: Context) -> Plan:
        """Check the arguments, look up the account number, and store the link."""
        allow_zero = switch(self.allow_zero, "allow_zero")
        expected = expected_money(self.expected_amount, self.expected_currency)
        max_amount = self.limit()
        one_of(self.if_paid, "if_paid", IF_PAID)
        payment_id = read_id(self, "payment_id", lambda numbers: self.hook.find_crm_payments(account_numbers=numbers))
        CrmPaymentLink().persist(context, origin=self.hook.settings.origin, object_id=payment_id)
        from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment

        operation = PayCrmPayment(
            portal=self.hook.portal,
            payment_id=payment_id,
            expected=expected,
            allow_zero=allow_zero,
            max_amount=max_amount,
        )
        return Plan(path=CrmPaymentLink.path.format(payment_id), operation=operation)
