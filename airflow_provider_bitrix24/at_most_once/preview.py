"""Read what a list of operations is about before the first write, and what they would send in all."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.api.preflight import read_before_invoices, read_before_payments
from airflow_provider_bitrix24.api.products import choose_products, plan_products, read_available_of_many, value_of
from airflow_provider_bitrix24.exceptions import Bitrix24Error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
    from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
    from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
    from airflow_provider_bitrix24.at_most_once.operations.state_change import StateChange


@dataclass(slots=True)
class Preview:
    """What a list would send, by what the portal shows now."""

    amounts: dict[str, Decimal] = field(default_factory=dict)
    """By currency."""
    to_send: int = 0
    paid: int = 0
    """How many are paid already, so that nothing is sent for them."""
    refused: int = 0
    """How many must not be sent: each is refused when its turn comes, unless the portal shows something else then."""

    def send(self, money: Money) -> None:
        """Count one that would be sent."""
        self.to_send += 1
        self.amounts[money.currency] = self.amounts.get(money.currency, Decimal(0)) + money.amount

    def above(self, limit: Decimal) -> list[Money]:
        """The sums that are above a limit, in the currency of each."""
        sums = [Money(amount, currency) for currency, amount in self.amounts.items()]
        return [money for money in sums if money.exceeds(limit)]


def preview_invoices(client: ApiClient, operations: Sequence[PayInvoice]) -> Flow[Preview]:
    """Read all legacy invoices of a list: two requests for up to 2,500.

    :raises Bitrix24Error: they cannot be read.
    """
    views = yield from read_before_invoices(client, invoice_ids=[one.invoice_id for one in operations])
    return _preview(operations, {f"invoice {number}": view for number, view in views.items()})


def preview_payments(client: ApiClient, operations: Sequence[PayCrmPayment]) -> Flow[Preview]:
    """Read all payments of a list, 50 in a request.

    :raises Bitrix24Error: they cannot be read.
    """
    views = yield from read_before_payments(client, payment_ids=[one.payment_id for one in operations])
    return _preview(operations, {f"payment {number}": view for number, view in views.items()})


def _preview(operations: Sequence[StateChange], views: Mapping[str, Any]) -> Preview:
    preview = Preview()
    for operation in operations:
        view = views.get(operation.subject)
        if view is None:
            preview.refused += 1
        elif operation.target(view).paid:
            preview.paid += 1
        else:
            try:
                operation.refuse(view)
            except Bitrix24Error:
                preview.refused += 1
            else:
                preview.send(operation.target(view).money)
    return preview


def preview_products(client: ApiClient, operations: Sequence[AddCrmPayment]) -> Flow[Preview]:
    """Read the product rows that a list of added payments would hold, 50 objects in a request.

    :raises Bitrix24Error: they cannot be read.
    """
    owners = [(one.entity_type_id, one.entity_id) for one in operations]
    rows = yield from read_available_of_many(client, list(dict.fromkeys(owners)))
    preview = Preview()
    for operation, owner in zip(operations, owners, strict=True):
        free = rows[owner]
        try:
            if isinstance(free, Bitrix24Error):
                raise free
            if operation.products:
                plan = choose_products(free, operation.products, of=operation.subject)
            else:
                plan = plan_products(free, of=operation.subject)
        except Bitrix24Error:
            preview.refused += 1
        else:
            # Product rows do not say their currency: a limit holds for the sum of all.
            preview.send(Money(value_of(free, plan), ""))
    return preview
