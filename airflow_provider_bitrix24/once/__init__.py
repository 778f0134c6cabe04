"""At most once: one attempt to make or mark a payment. Read first, send once, read back, return a receipt.

Plain sync code over a caller (the portal as flows), a runner of flows and a clock; it knows no Airflow and no sockets,
so that a test can script all three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from airflow_provider_bitrix24.once.add import add_crm_payment
from airflow_provider_bitrix24.once.attempt import Attempt, Clock, Log, Run
from airflow_provider_bitrix24.once.mark import pay_crm_payment, pay_invoice
from airflow_provider_bitrix24.once.receipt import Expected, Receipt

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.flow import Caller

__all__ = ["Clock", "Expected", "Log", "Once", "Receipt", "Run"]


class Once:
    """One attempt at one portal.

    :param caller: the portal.
    :param run: runs a flow to its end; :meth:`Bitrix24Hook.run`.
    :param clock: ``time()`` and ``monotonic()``; the module :mod:`time` is one.
    :param log: where the steps are logged.
    """

    def __init__(self, caller: Caller, run: Run, clock: Clock, log: Log) -> None:
        self._attempt = Attempt(caller=caller, run=run, clock=clock, log=log)

    def pay_invoice(
        self,
        *,
        invoice_id: int,
        pay_system_id: int | None = None,
        bx_rest_handler: str | None = None,
        expected: Expected | None = None,
    ) -> Receipt:
        """Mark a legacy invoice as paid; see :func:`~airflow_provider_bitrix24.once.mark.pay_invoice`."""
        return pay_invoice(
            self._attempt,
            invoice_id=invoice_id,
            pay_system_id=pay_system_id,
            bx_rest_handler=bx_rest_handler,
            expected=expected or Expected(),
        )

    def pay_crm_payment(
        self, *, payment_id: int, expected: Expected | None = None, allow_zero: bool = False
    ) -> Receipt:
        """Mark a payment as paid; see :func:`~airflow_provider_bitrix24.once.mark.pay_crm_payment`."""
        return pay_crm_payment(
            self._attempt, payment_id=payment_id, expected=expected or Expected(), allow_zero=allow_zero
        )

    def add_crm_payment(
        self,
        *,
        entity_id: int,
        entity_type_id: int,
        key: str,
        pay_system_id: int | None = None,
        fill_products: bool = False,
        if_unpaid_exists: Literal["add", "return", "fail"] = "add",
        on_unknown: Literal["fail", "adopt"] = "fail",
    ) -> Receipt:
        """Add a payment to an object; see :func:`~airflow_provider_bitrix24.once.add.add_crm_payment`."""
        return add_crm_payment(
            self._attempt,
            entity_id=entity_id,
            entity_type_id=entity_type_id,
            key=key,
            pay_system_id=pay_system_id,
            fill_products=fill_products,
            if_unpaid_exists=if_unpaid_exists,
            on_unknown=on_unknown,
        )
