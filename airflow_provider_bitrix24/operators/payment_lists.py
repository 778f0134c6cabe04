"""Operators for lists: mark hundreds of invoices or payments as paid, or add hundreds of payments, in one task."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import conf

from airflow_provider_bitrix24.api.values import shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.arguments import expected_money, given, optional_id, switch
from airflow_provider_bitrix24.operators.list_base import BATCH_SIZE, PaymentListOperator
from airflow_provider_bitrix24.operators.new_payment_lists import AddCrmPaymentsOperator
from airflow_provider_bitrix24.operators.rows import Row, WrongRows, read_rows, with_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from airflow.sdk import Context

    from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
    from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
    from airflow_provider_bitrix24.at_most_once.preview import Preview
    from airflow_provider_bitrix24.operators.list_base import IfPaidInList
    from airflow_provider_bitrix24.operators.list_report import FailOn, Item

__all__ = ["AddCrmPaymentsOperator", "PayCrmPaymentsOperator", "PayInvoicesOperator"]

EXPECTED: Final = ("expected_amount", "expected_currency")


class PayInvoicesOperator(PaymentListOperator):
    """Mark many legacy invoices as paid, each at most once, by batches of ``sale.paysystem.pay.invoice``.

    https://apidocs.bitrix24.com/api-reference/pay-system/outdated/sale-pay-system-pay-invoice.html

    All rows are checked, and all invoices are read, before the first one is marked. An invoice that fails does not stop
    the others. A later attempt, a cleared task or another run goes on with what is not done.

    :param invoices: (templated) ids, or mappings with ``invoice_id`` or ``account_number`` and, if wanted,
        ``pay_system_id``, ``bx_rest_handler``, ``expected_amount`` and ``expected_currency``: a list, the output of
        another task, or the path of a CSV or JSONL file with such columns (any path of Airflow's object storage).
    :param pay_system_id: (templated) pay system that took the money, for all rows that name none.
    :param bx_rest_handler: (templated) code of its REST handler, for all rows that name none; one of the two.
    :param if_paid: (templated) what to do about invoices that were paid before this task: "succeed" (status
        ``already_paid``), or "fail" (status ``refused``).
    :param max_amount: (templated) refuse each invoice for more than this; text such as "5000.00". By default the option
        ``[bitrix24] max_amount`` of Airflow's configuration.
    :param max_total: (templated) send nothing if the unpaid invoices of the list add up to more than this.
    :param batch_size: how many invoices share a request: 1 to 50, where 49 and 50 mean 48; it is halved after trouble,
        and grows again.
    :param fail_on: when the task fails: "any" item failed, the outcome of one is "unknown" (or one is not started),
        "never" (not even if the list had to stop), or above a share of failed items such as 0.05.
    :param receipts_path: (templated) JSONL file for the results of all items, such as ``s3://bucket/{{ ds }}.jsonl``;
        needed for more than 500 items.
    :param allow_backfill: work in backfill runs too; by default the option ``[bitrix24] allow_backfill``, else they are
        refused.
    :param journal_conn_id: (templated) Airflow connection of a database (postgres, mysql, sqlite) that keeps the
        journal, so that other runs know it. By default the option ``[bitrix24] journal_conn_id``, else Airflow's task
        state store (3.3); "task_state" for the latter whatever the option says.
    :param deferrable: wait in the triggerer when the portal's working-time limit is reached; else Airflow starts the
        same attempt again later. Neither holds a worker slot, and neither uses a retry. What this task has done is
        not read again then; it waits on the worker if reading again what others have done, or what has failed, would
        use up too much of the limit. Default is ``[operators] default_deferrable``.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scopes ``crm`` and ``pay_system``.
    :return: ``total``, ``succeeded``, ``already_paid``, ``failed``, ``statuses`` (how many items have each),
        ``amounts`` (what was marked for the list, by currency), ``receipts`` or ``receipts_path``, ``failures``.
    """

    noun = "invoice"
    job = "pay_invoices"
    template_fields = (
        "invoices",
        "pay_system_id",
        "bx_rest_handler",
        "if_paid",
        "max_amount",
        "max_total",
        "receipts_path",
        "journal_conn_id",
        "bitrix24_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"invoices": "json"}

    def __init__(
        self,
        *,
        invoices: Iterable[int | str | Mapping[str, Any]] | str,
        pay_system_id: int | str | None = None,
        bx_rest_handler: str | None = None,
        if_paid: IfPaidInList = "succeed",
        max_amount: Decimal | str | int | None = None,
        max_total: Decimal | str | int | None = None,
        batch_size: int = BATCH_SIZE,
        fail_on: FailOn = "any",
        receipts_path: str | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_amount=max_amount,
            max_total=max_total,
            batch_size=batch_size,
            fail_on=fail_on,
            receipts_path=receipts_path,
            allow_backfill=allow_backfill,
            journal_conn_id=journal_conn_id,
            deferrable=deferrable,
            bitrix24_conn_id=bitrix24_conn_id,
            **kwargs,
        )
        self.invoices = invoices
        self.pay_system_id = pay_system_id
        self.bx_rest_handler = bx_rest_handler
        self.if_paid = if_paid
        self.were_given = given(self)

    def checked_items(self, context: Context) -> list[Item]:
        """Check all rows."""
        from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
        from airflow_provider_bitrix24.operators.list_report import Item

        fields = ("invoice_id", "account_number", "pay_system_id", "bx_rest_handler", *EXPECTED)
        wrong = WrongRows()
        rows = read_rows(self.invoices, "invoices", wrong, id_field="invoice_id", fields=fields)
        max_amount = self.limit()

        def check(row: Row) -> Callable[..., PayInvoice]:
            pay_system_id, handler = self._pay_system(row)
            return partial(
                PayInvoice,
                portal=self.hook.portal,
                pay_system_id=pay_system_id,
                bx_rest_handler=handler,
                expected=expected_money(row.get("expected_amount"), row.get("expected_currency"), where=row.named("")),
                max_amount=max_amount,
            )

        pairs = with_ids(
            rows, check, self.noun, wrong, lambda numbers: self.hook.find_invoices(account_numbers=numbers)
        )
        return [Item(row.where, one, row.get("account_number")) for row, one in pairs]

    def _pay_system(self, row: Row) -> tuple[int | None, str | None]:
        """The pay system or the handler: the row's, else the operator's."""
        own = any(row.get(name) is not None for name in ("pay_system_id", "bx_rest_handler"))
        system = row.get("pay_system_id") if own else self.pay_system_id
        handler = row.get("bx_rest_handler") if own else self.bx_rest_handler
        if (system is None) == (handler is None):
            raise Bitrix24ConfigError(
                f"{row.where}: give exactly one of pay_system_id and bx_rest_handler, in the row or for all.", NOT_SENT
            )
        if handler is not None and (not isinstance(handler, str) or not handler.strip()):
            raise Bitrix24ConfigError(
                f"{row.named('bx_rest_handler')} must be the code of a REST handler, not {shown(handler)}.", NOT_SENT
            )
        return optional_id(system, row.named("pay_system_id")), handler

    def preview(self, items: Sequence[Item]) -> Preview:
        """Read all invoices."""
        from airflow_provider_bitrix24.at_most_once.preview import preview_invoices

        operations: Any = [item.operation for item in items]
        return self.read_within_limit(preview_invoices(self.hook.client, operations))


class PayCrmPaymentsOperator(PaymentListOperator):
    """Mark many payments of deals and smart invoices as paid, each at most once, by ``crm.item.payment.pay``.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-pay.html

    All rows are checked, and all payments are read, before the first one is marked. A payment that fails does not stop
    the others. A later attempt, a cleared task or another run goes on with what is not done.

    :param payments: (templated) ids, or mappings with ``payment_id`` or ``account_number`` and, if wanted,
        ``expected_amount`` and ``expected_currency``: a list, the output of another task, or the path of a CSV or JSONL
        file with such columns (any path of Airflow's object storage).
    :param allow_zero: mark also payments of 0; by default they are refused, because an order of 0 would count as paid.
    :param if_paid: (templated) what to do about payments that were paid before this task: "succeed" (status
        ``already_paid``), or "fail" (status ``refused``).
    :param max_amount: (templated) refuse each payment of more than this; text such as "5000.00". By default the option
        ``[bitrix24] max_amount`` of Airflow's configuration.
    :param max_total: (templated) send nothing if the unpaid payments of the list add up to more than this.
    :param batch_size: how many payments share a request: 1 to 50, where 49 and 50 mean 48; it is halved after trouble,
        and grows again.
    :param fail_on: when the task fails: "any" item failed, the outcome of one is "unknown" (or one is not started),
        "never" (not even if the list had to stop), or above a share of failed items such as 0.05.
    :param receipts_path: (templated) JSONL file for the results of all items, such as ``s3://bucket/{{ ds }}.jsonl``;
        needed for more than 500 items.
    :param allow_backfill: work in backfill runs too; by default the option ``[bitrix24] allow_backfill``, else they are
        refused.
    :param journal_conn_id: (templated) Airflow connection of a database (postgres, mysql, sqlite) that keeps the
        journal, so that other runs know it. By default the option ``[bitrix24] journal_conn_id``, else Airflow's task
        state store (3.3); "task_state" for the latter whatever the option says.
    :param deferrable: wait in the triggerer when the portal's working-time limit is reached; else Airflow starts the
        same attempt again later. Neither holds a worker slot, and neither uses a retry. What this task has done is
        not read again then; it waits on the worker if reading again what others have done, or what has failed, would
        use up too much of the limit. Default is ``[operators] default_deferrable``.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scope ``crm``; for numbers also
        ``sale``, and an administrator.
    :return: as that of :class:`PayInvoicesOperator`.
    """

    noun = "payment"
    job = "pay_crm_payments"
    template_fields = (
        "payments",
        "if_paid",
        "max_amount",
        "max_total",
        "receipts_path",
        "journal_conn_id",
        "bitrix24_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"payments": "json"}

    def __init__(
        self,
        *,
        payments: Iterable[int | str | Mapping[str, Any]] | str,
        allow_zero: bool = False,
        if_paid: IfPaidInList = "succeed",
        max_amount: Decimal | str | int | None = None,
        max_total: Decimal | str | int | None = None,
        batch_size: int = BATCH_SIZE,
        fail_on: FailOn = "any",
        receipts_path: str | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_amount=max_amount,
            max_total=max_total,
            batch_size=batch_size,
            fail_on=fail_on,
            receipts_path=receipts_path,
            allow_backfill=allow_backfill,
            journal_conn_id=journal_conn_id,
            deferrable=deferrable,
            bitrix24_conn_id=bitrix24_conn_id,
            **kwargs,
        )
        self.payments = payments
        self.allow_zero = allow_zero
        self.if_paid = if_paid
        self.were_given = given(self)

    def checked_items(self, context: Context) -> list[Item]:
        """Check all rows."""
        from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
        from airflow_provider_bitrix24.operators.list_report import Item

        fields = ("payment_id", "account_number", *EXPECTED)
        wrong = WrongRows()
        rows = read_rows(self.payments, "payments", wrong, id_field="payment_id", fields=fields)
        allow_zero, max_amount = switch(self.allow_zero, "allow_zero"), self.limit()

        def check(row: Row) -> Callable[..., PayCrmPayment]:
            return partial(
                PayCrmPayment,
                portal=self.hook.portal,
                expected=expected_money(row.get("expected_amount"), row.get("expected_currency"), where=row.named("")),
                allow_zero=allow_zero,
                max_amount=max_amount,
            )

        pairs = with_ids(
            rows, check, self.noun, wrong, lambda numbers: self.hook.find_crm_payments(account_numbers=numbers)
        )
        return [Item(row.where, one, row.get("account_number")) for row, one in pairs]

    def preview(self, items: Sequence[Item]) -> Preview:
        """Read all payments."""
        from airflow_provider_bitrix24.at_most_once.preview import preview_payments

        operations: Any = [item.operation for item in items]
        return self.read_within_limit(preview_payments(self.hook.client, operations))
