"""Mark a legacy invoice as paid, at most once: the invoice is its own key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.calls.pay_systems import sale_paysystem_pay_invoice
from airflow_provider_bitrix24.api.queries import InvoiceBeforePaying, OneInvoice
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.state_change import Chosen, StateChange
from airflow_provider_bitrix24.exceptions import NOT_SENT, PaymentRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.models import Invoice
    from airflow_provider_bitrix24.api.preflight import InvoiceView
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.record import Parameter


@dataclass(frozen=True, kw_only=True)
class PayInvoice(StateChange):
    """Mark a legacy invoice as paid.

    :param invoice_id: the legacy invoice.
    :param pay_system_id: the pay system that took the money; exactly one of this and the next.
    :param bx_rest_handler: code of its REST handler.
    """

    invoice_id: int
    pay_system_id: int | None = None
    bx_rest_handler: str | None = None

    name: str = field(init=False, default="pay_invoice")
    method: str = field(init=False, default="sale.paysystem.pay.invoice")
    where: str = field(init=False, default=messages.LOOK_AT_INVOICE)
    alone: bool = field(init=False, default=True)

    @property
    def subject(self) -> str:
        """The object."""
        return f"invoice {self.invoice_id}"

    @property
    def ids(self) -> Mapping[str, int]:
        """The ids in the receipt."""
        return {"invoice_id": self.invoice_id}

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        return {
            "invoice_id": self.invoice_id,
            "pay_system_id": self.pay_system_id,
            "bx_rest_handler": self.bx_rest_handler,
        }

    def before(self) -> Query[Any]:
        """Read the invoice, the connection's user, and the pay systems."""
        return InvoiceBeforePaying(invoice_id=self.invoice_id)

    def after(self) -> Query[Any]:
        """Read the invoice."""
        return OneInvoice(invoice_id=self.invoice_id)

    def target(self, view: InvoiceView) -> Invoice:
        """The invoice."""
        return view.invoice

    def call(self) -> Call[Any]:
        """The call."""
        return sale_paysystem_pay_invoice(
            invoice_id=self.invoice_id, pay_system_id=self.pay_system_id, bx_rest_handler=self.bx_rest_handler
        )

    def choose(self, view: InvoiceView) -> Chosen:
        """Refuse a cancelled or declined invoice, one for nothing, and a pay system that cannot do it."""
        invoice = view.invoice
        if invoice.cancelled:
            raise PaymentRefused(f"{self.what} is cancelled.", NOT_SENT)
        if invoice.declined:
            raise PaymentRefused(f"{self.what} is declined (status D).", NOT_SENT)
        if not invoice.money.is_positive:
            raise PaymentRefused(messages.nothing_to_pay(self.what, invoice.money), NOT_SENT)
        system = view.pay_systems.check_for_invoice(
            pay_system_id=self.pay_system_id, bx_rest_handler=self.bx_rest_handler
        )
        proved = view.pay_systems.prove_rest_handler(bx_rest_handler=self.bx_rest_handler)
        return Chosen(
            pay_system_id=system, why_ignored=messages.INVOICE_NOT_SAVED if proved else messages.HANDLER_NOT_KNOWN
        )
