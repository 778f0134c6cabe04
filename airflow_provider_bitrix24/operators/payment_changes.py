"""Operators that undo or delete payments, and that pay them through their pay system: at most once for one key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_bitrix24.api.values import positive_id
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.links.bitrix24 import CrmPaymentLink
from airflow_provider_bitrix24.operators.arguments import expected_money, given, one_of, switch
from airflow_provider_bitrix24.operators.base import (
    ASK_TIMEOUT,
    IF_PAID,
    IfPaid,
    OnUnknown,
    PaymentOperator,
    Plan,
    StateChangeOperator,
)
from airflow_provider_bitrix24.operators.numbers import read_id, refuse_unless_one

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from decimal import Decimal

    from airflow.sdk import BaseOperatorLink, Context

    from airflow_provider_bitrix24.at_most_once.operation import Operation

IfUnpaid = Literal["succeed", "skip", "fail"]


class PayPaymentOperator(StateChangeOperator):
    """Record a payment as paid through its pay system by ``sale.paysystem.pay.payment``. It moves no money.

    https://apidocs.bitrix24.com/api-reference/pay-system/sale-pay-system-pay-payment.html

    It works only for pay systems with a REST handler: for others, such as cash, Bitrix24 answers ``true`` and does
    nothing. Such a payment is refused where the handler can be seen (an administrator's webhook); mark it by
    :class:`~airflow_provider_bitrix24.operators.payments.PayCrmPaymentOperator`.

    :param payment_id: (templated) id of the payment.
    :param account_number: (templated) instead of the id: the payment's number that customers see, such as "161/1", as
        text. It is looked up by one read before anything is sent (``sale.payment.list``: the scope ``sale`` and an
        administrator); none or several payments with it are an error.
    :param pay_system_id: (templated) the payment's pay system: Bitrix24 refuses any other one.
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
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scopes ``crm`` and ``pay_system``.
    :param multiple_outputs: push every field of the receipt as its own XCom as well.
    :return: the receipt: ``operation``, ``outcome`` ("paid" if marked by this task, else "already_paid"), ``portal``,
        ``payment_id``, ``pay_system_id``, ``amount``, ``currency``, ``paid_at``, ``idempotency_key``, ``evidence``,
        ``recovered`` (whether an earlier attempt had sent it).
    """

    template_fields = (
        "payment_id",
        "account_number",
        "pay_system_id",
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
        pay_system_id: int | str,
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
        self.pay_system_id = pay_system_id
        self.expected_amount = expected_amount
        self.expected_currency = expected_currency
        self.allow_zero = allow_zero
        self.if_paid = if_paid
        self.were_given = given(self)
        refuse_unless_one(self, "payment_id")

    def plan(self, context: Context) -> Plan:
        """Check the arguments, look up the account number, and store the link."""
        from airflow_provider_bitrix24.at_most_once.operations.pay_payment import PayPayment

        pay_system_id = positive_id(self.pay_system_id, "pay_system_id")
        allow_zero = switch(self.allow_zero, "allow_zero")
        expected = expected_money(self.expected_amount, self.expected_currency)
        max_amount = self.limit()
        one_of(self.if_paid, "if_paid", IF_PAID)
        payment_id = _found_payment(self)
        operation = PayPayment(
            portal=self.hook.portal,
            payment_id=payment_id,
            pay_system_id=pay_system_id,
            expected=expected,
            allow_zero=allow_zero,
            max_amount=max_amount,
        )
        return _planned(self, context, payment_id, operation)


class UnpayCrmPaymentOperator(StateChangeOperator):
    """Set a payment of a deal or smart invoice back to unpaid by ``crm.item.payment.unpay``. It moves no money.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-unpay.html

    Bitrix24 may print a return receipt, and automation rules run again when the payment is paid later. So it is for
    corrections, not for trying things out.

    The journal and the payment are read first, the call is sent once, and the payment is read back: three requests. A
    task of its own may mark the payment as paid again afterwards: see the documentation of the operator.

    :param payment_id: (templated) id of the payment.
    :param account_number: (templated) instead of the id: the payment's number that customers see, such as "161/1", as
        text. It is looked up by one read before anything is sent (``sale.payment.list``: the scope ``sale`` and an
        administrator); none or several payments with it are an error.
    :param expected_amount: (templated) the payment must be of this amount; text such as "1500.00".
    :param expected_currency: (templated) and in this currency.
    :param if_unpaid: (templated) what to do if the payment was unpaid before this task: "succeed" (outcome
        ``already_unpaid``), "skip" or "fail". What an earlier attempt of this task has set back has the outcome
        ``unpaid``.
    :param max_amount: (templated) refuse to set back more than this; text such as "5000.00". By default the option
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
    :return: the receipt: ``operation``, ``outcome`` ("unpaid" if set back by this task, else "already_unpaid"),
        ``portal``, ``payment_id``, ``pay_system_id``, ``amount``, ``currency``, ``idempotency_key``, ``evidence``,
        ``recovered`` (whether an earlier attempt had sent it).
    """

    template_fields = (
        "payment_id",
        "account_number",
        "expected_amount",
        "expected_currency",
        "if_unpaid",
        "max_amount",
        "on_unknown",
        "journal_conn_id",
        "bitrix24_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (CrmPaymentLink(),)
    send_again: ClassVar[str] = "Set back to unpaid again"
    if_done: ClassVar[str] = "if_unpaid"

    def __init__(
        self,
        *,
        payment_id: int | str | None = None,
        account_number: str | None = None,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        if_unpaid: IfUnpaid = "succeed",
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
        self.if_unpaid = if_unpaid
        self.were_given = given(self)
        refuse_unless_one(self, "payment_id")

    def plan(self, context: Context) -> Plan:
        """Check the arguments, look up the account number, and store the link."""
        from airflow_provider_bitrix24.at_most_once.operations.unpay_crm_payment import UnpayCrmPayment

        expected = expected_money(self.expected_amount, self.expected_currency)
        max_amount = self.limit()
        one_of(self.if_unpaid, "if_unpaid", IF_PAID)
        payment_id = _found_payment(self)
        operation = UnpayCrmPayment(
            portal=self.hook.portal, payment_id=payment_id, expected=expected, max_amount=max_amount
        )
        return _planned(self, context, payment_id, operation)


class DeleteCrmPaymentOperator(PaymentOperator):
    """Delete a payment of a deal or smart invoice by ``crm.item.payment.delete``.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-delete.html

    A payment that is paid is refused, unless ``allow_paid=True``: it is then set back to unpaid first, because Bitrix24
    deletes no paid payment. A payment that is not there, and that this operator has not deleted, is an error: the id
    may be wrong.

    :param payment_id: (templated) id of the payment.
    :param account_number: (templated) instead of the id: the payment's number that customers see, such as "161/1", as
        text. It is looked up by one read before anything is sent (``sale.payment.list``: the scope ``sale`` and an
        administrator); none or several payments with it are an error. A task that runs again after it has deleted the
        payment does not find the number any more: give the id where that matters.
    :param expected_amount: (templated) the payment must be of this amount; text such as "1500.00".
    :param expected_currency: (templated) and in this currency.
    :param allow_paid: delete also a payment that is paid, after setting it back to unpaid.
    :param max_amount: (templated) refuse to delete more than this; text such as "5000.00". By default the option
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
    :return: the receipt: ``operation``, ``outcome`` ("deleted" if deleted by this key in this task, else
        "already_deleted"), ``portal``, ``payment_id``, ``pay_system_id``, ``amount``, ``currency``,
        ``idempotency_key``, ``evidence``, ``recovered`` (whether an earlier attempt had sent it).
    """

    template_fields = (
        "payment_id",
        "account_number",
        "expected_amount",
        "expected_currency",
        "max_amount",
        "on_unknown",
        "journal_conn_id",
        "bitrix24_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (CrmPaymentLink(),)
    send_again: ClassVar[str] = "Delete again"

    def __init__(
        self,
        *,
        payment_id: int | str | None = None,
        account_number: str | None = None,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        allow_paid: bool = False,
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
        self.allow_paid = allow_paid
        self.were_given = given(self)
        refuse_unless_one(self, "payment_id")

    def plan(self, context: Context) -> Plan:
        """Check the arguments, look up the account number, and store the link."""
        from airflow_provider_bitrix24.at_most_once.operations.delete_crm_payment import DeleteCrmPayment

        allow_paid = switch(self.allow_paid, "allow_paid")
        expected = expected_money(self.expected_amount, self.expected_currency)
        max_amount = self.limit()
        payment_id = _found_payment(self)
        operation = DeleteCrmPayment(
            portal=self.hook.portal,
            payment_id=payment_id,
            expected=expected,
            allow_paid=allow_paid,
            max_amount=max_amount,
        )
        return _planned(self, context, payment_id, operation)


def _found_payment(task: PaymentOperator) -> int:
    return read_id(task, "payment_id", lambda numbers: task.hook.find_crm_payments(account_numbers=numbers))


def _planned(task: PaymentOperator, context: Context, payment_id: int, operation: Operation) -> Plan:
    CrmPaymentLink().persist(context, origin=task.hook.settings.origin, object_id=payment_id)
    return Plan(path=CrmPaymentLink.path.format(payment_id), operation=operation)
