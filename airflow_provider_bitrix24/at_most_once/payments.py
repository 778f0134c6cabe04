"""The operations as methods: one call, one receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.delete_crm_payment import DeleteCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.operations.pay_payment import PayPayment
from airflow_provider_bitrix24.at_most_once.operations.unpay_crm_payment import UnpayCrmPayment
from airflow_provider_bitrix24.at_most_once.receipt import Expected

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from airflow_provider_bitrix24.at_most_once.attribution import OnUnknown
    from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
    from airflow_provider_bitrix24.at_most_once.operation import Result
    from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import IfUnpaidExists
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Decision


class Payments:
    """Payments of one attempt of a task, each at most once for its key.

    :param engine: what carries them out.
    """

    def __init__(self, engine: PaymentEngine) -> None:
        self._engine = engine

    def pay_invoice(
        self,
        *,
        invoice_id: int,
        pay_system_id: int | None = None,
        bx_rest_handler: str | None = None,
        expected: Expected | None = None,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Mark a legacy invoice as paid; see `PayInvoice`.

        :param decision: what a person has decided about it just now.
        :raises Bitrix24Error: it did not succeed; the error says whether something was sent.
        """
        operation = PayInvoice(
            portal=self._engine.portal,
            invoice_id=invoice_id,
            pay_system_id=pay_system_id,
            bx_rest_handler=bx_rest_handler,
            expected=expected or Expected(),
            max_amount=max_amount,
        )
        return self._receipt(self._engine.run_one(operation, decision))

    def pay_crm_payment(
        self,
        *,
        payment_id: int,
        expected: Expected | None = None,
        allow_zero: bool = False,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Mark a payment as paid; see `PayCrmPayment`."""
        operation = PayCrmPayment(
            portal=self._engine.portal,
            payment_id=payment_id,
            expected=expected or Expected(),
            allow_zero=allow_zero,
            max_amount=max_amount,
        )
        return self._receipt(self._engine.run_one(operation, decision))

    def add_crm_payment(
        self,
        *,
        entity_id: int,
        entity_type_id: int,
        key: str,
        pay_system_id: int | None = None,
        fill_products: bool = False,
        products: Mapping[int, int] | None = None,
        if_unpaid_exists: IfUnpaidExists = "add",
        on_unknown: OnUnknown = "fail",
        tag: bool = False,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Add a payment to a deal or smart invoice; see `AddCrmPayment`."""
        operation = AddCrmPayment(
            portal=self._engine.portal,
            key=key,
            entity_id=entity_id,
            entity_type_id=entity_type_id,
            pay_system_id=pay_system_id,
            fill_products=fill_products,
            products=products,
            if_unpaid_exists=if_unpaid_exists,
            on_unknown=on_unknown,
            tag=tag,
            max_amount=max_amount,
        )
        return self._receipt(self._engine.run_one(operation, decision))

    def pay_payment(
        self,
        *,
        payment_id: int,
        pay_system_id: int,
        expected: Expected | None = None,
        allow_zero: bool = False,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Record a payment as paid through its pay system; see `PayPayment`."""
        operation = PayPayment(
            portal=self._engine.portal,
            payment_id=payment_id,
            pay_system_id=pay_system_id,
            expected=expected or Expected(),
            allow_zero=allow_zero,
            max_amount=max_amount,
        )
        return self._receipt(self._engine.run_one(operation, decision))

    def unpay_crm_payment(
        self,
        *,
        payment_id: int,
        expected: Expected | None = None,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Set a payment back to unpaid; see `UnpayCrmPayment`."""
        operation = UnpayCrmPayment(
            portal=self._engine.portal,
            payment_id=payment_id,
            expected=expected or Expected(),
            max_amount=max_amount,
        )
        return self._receipt(self._engine.run_one(operation, decision))

    def delete_crm_payment(
        self,
        *,
        payment_id: int,
        expected: Expected | None = None,
        allow_paid: bool = False,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Delete a payment; see `DeleteCrmPayment`."""
        operation = DeleteCrmPayment(
            portal=self._engine.portal,
            payment_id=payment_id,
            expected=expected or Expected(),
            allow_paid=allow_paid,
            max_amount=max_amount,
        )
        return self._receipt(self._engine.run_one(operation, decision))

    @staticmethod
    def _receipt(result: Result) -> Receipt:
        if isinstance(result, Failure):
            raise result.error
        return result
