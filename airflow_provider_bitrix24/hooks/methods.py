"""Reads of invoices and payments that take more than one REST method or request, and their twins prefixed ``a``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_bitrix24 import api

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.models import Invoice, Payment
    from airflow_provider_bitrix24.api.offline_events import Hint
    from airflow_provider_bitrix24.api.paid_since import Kind, PaidRows
    from airflow_provider_bitrix24.api.states import InvoiceStates, Owner, PaymentReader, States
    from airflow_provider_bitrix24.exceptions import Bitrix24ApiError

T = TypeVar("T")


class RestMethods(ABC):
    """What :class:`~airflow_provider_bitrix24.hooks.bitrix24.Bitrix24Hook` offers beside calling any method.

    :meta private:
    """

    @property
    @abstractmethod
    def client(self) -> ApiClient:
        """The portal, for the flows of `api`."""

    @abstractmethod
    async def aclient(self) -> ApiClient:
        """The portal, for the flows of `api`."""

    @abstractmethod
    def run(self, flow: Flow[T]) -> T:
        """Run a flow of `api` to its end."""

    @abstractmethod
    async def arun(self, flow: Flow[T]) -> T:
        """Run a flow of `api` to its end without blocking the event loop."""

    # -- legacy invoices -----------------------------------------------------------------------------------------

    def get_invoice(self, invoice_id: int) -> Invoice:
        """One legacy invoice: ``crm.invoice.get``.

        https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-get.html
        """
        return self.run(api.payments.get_invoice(self.client, invoice_id=invoice_id))

    async def aget_invoice(self, invoice_id: int) -> Invoice:
        """Async twin of `get_invoice`."""
        return await self.arun(api.payments.get_invoice(await self.aclient(), invoice_id=invoice_id))

    def get_invoices(self, *, invoice_ids: Iterable[int]) -> dict[int, Invoice]:
        """Many legacy invoices, up to 2,500 in a request; those that do not exist are absent.

        https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html
        """
        return self.run(api.payments.get_invoices(self.client, invoice_ids=invoice_ids))

    async def aget_invoices(self, *, invoice_ids: Iterable[int]) -> dict[int, Invoice]:
        """Async twin of `get_invoices`."""
        return await self.arun(api.payments.get_invoices(await self.aclient(), invoice_ids=invoice_ids))

    def find_invoices(self, *, account_numbers: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Find legacy invoices by the numbers that customers write on transfers, up to 1,250 in a request.

        https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html

        :return: number -> ids of the invoices that have it: none, one, or several.
        """
        return self.run(api.account_numbers.find_invoices(self.client, account_numbers=account_numbers))

    async def afind_invoices(self, *, account_numbers: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Async twin of `find_invoices`."""
        return await self.arun(api.account_numbers.find_invoices(await self.aclient(), account_numbers=account_numbers))

    # -- payments of deals and smart invoices --------------------------------------------------------------------

    def get_crm_payment(self, payment_id: int) -> Payment:
        """One payment: ``crm.item.payment.get``.

        https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-get.html
        """
        return self.run(api.payments.get_crm_payment(self.client, payment_id=payment_id))

    async def aget_crm_payment(self, payment_id: int) -> Payment:
        """Async twin of `get_crm_payment`."""
        return await self.arun(api.payments.get_crm_payment(await self.aclient(), payment_id=payment_id))

    def get_crm_payments(self, *, payment_ids: Iterable[int]) -> dict[int, Payment | Bitrix24ApiError]:
        """Many payments, 50 in a request: id -> the payment, or the final error that the portal gave for it."""
        return self.run(api.payments.get_crm_payments(self.client, payment_ids=payment_ids))

    async def aget_crm_payments(self, *, payment_ids: Iterable[int]) -> dict[int, Payment | Bitrix24ApiError]:
        """Async twin of `get_crm_payments`."""
        return await self.arun(api.payments.get_crm_payments(await self.aclient(), payment_ids=payment_ids))

    def find_crm_payments(
        self, *, account_numbers: Iterable[str], entity_id: int | None = None, entity_type_id: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Find payments by the numbers that customers write on transfers, such as "161/1".

        https://apidocs.bitrix24.com/api-reference/sale/payment/sale-payment-list.html

        :param account_numbers: without an object all payments of the portal are searched, which needs the scope
            ``sale`` and an administrator.
        :param entity_id: id of the deal or smart invoice that the payments belong to.
        :param entity_type_id: its type, 2 or 31.
        :return: number -> ids of the payments that have it: none, one, or several.
        """
        return self.run(
            api.account_numbers.find_crm_payments(
                self.client, account_numbers=account_numbers, entity_id=entity_id, entity_type_id=entity_type_id
            )
        )

    async def afind_crm_payments(
        self, *, account_numbers: Iterable[str], entity_id: int | None = None, entity_type_id: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Async twin of `find_crm_payments`."""
        client = await self.aclient()
        return await self.arun(
            api.account_numbers.find_crm_payments(
                client, account_numbers=account_numbers, entity_id=entity_id, entity_type_id=entity_type_id
            )
        )

    def read_invoice_states(self, invoice_ids: Iterable[int]) -> InvoiceStates:
        """The state of many legacy invoices, 2,500 in a request.

        https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html

        :return: id -> the invoice, or the error of the request or of the invoice; an id that is absent does not exist.
        """
        return self.run(api.states.read_invoices(self.client, list(invoice_ids)))

    async def aread_invoice_states(self, invoice_ids: Iterable[int]) -> InvoiceStates:
        """Async twin of `read_invoice_states`."""
        return await self.arun(api.states.read_invoices(await self.aclient(), list(invoice_ids)))

    def read_payment_states(self, wanted: Mapping[int, Owner | None]) -> States:
        """The state of many payments, 2,500 in a request where the connection may use ``sale.payment.list``, else 50.

        https://apidocs.bitrix24.com/api-reference/sale/payment/sale-payment-list.html

        :param wanted: payment id -> entity type and id of the object it belongs to, or None.
        :return: payment id -> the payment, or the error of the request or of the payment; an id that is absent does
            not exist, or does not belong to the object.
        """
        return self.run(self._payment_reader.read(self.client, wanted))

    async def aread_payment_states(self, wanted: Mapping[int, Owner | None]) -> States:
        """Async twin of `read_payment_states`."""
        return await self.arun(self._payment_reader.read(await self.aclient(), wanted))

    def read_paid_since(self, kind: Kind, since: datetime) -> PaidRows:
        """All payments (``sale.payment.list``) or legacy invoices (``crm.invoice.list``) marked as paid since a moment.

        https://apidocs.bitrix24.com/api-reference/sale/payment/sale-payment-list.html

        :param kind: ``"payment"`` or ``"invoice"``.
        :param since: with a time zone.
        """
        return self.run(api.paid_since.read_paid_since(self.client, kind, since))

    async def aread_paid_since(self, kind: Kind, since: datetime) -> PaidRows:
        """Async twin of `read_paid_since`."""
        return await self.arun(api.paid_since.read_paid_since(await self.aclient(), kind, since))

    def read_paid_hint(self, kind: Kind, since: datetime) -> Hint:
        """Whether something may have been paid since a moment, by the application's offline events: one request.

        https://apidocs.bitrix24.com/api-reference/events/event-offline-list.html

        :param kind: ``"payment"`` or ``"invoice"``.
        :param since: with a time zone.
        """
        return self.run(api.offline_events.read_hint(self.client, kind, since))

    async def aread_paid_hint(self, kind: Kind, since: datetime) -> Hint:
        """Async twin of `read_paid_hint`."""
        return await self.arun(api.offline_events.read_hint(await self.aclient(), kind, since))

    def bind_paid_events(self, kind: Kind) -> tuple[str, ...]:
        """Bind the offline events that `read_paid_hint` needs, as far as the application does not have them.

        https://apidocs.bitrix24.com/api-reference/events/event-bind.html

        :param kind: ``"payment"`` or ``"invoice"``.
        :return: the events that were bound.
        """
        return self.run(api.offline_events.bind(self.client, kind))

    async def abind_paid_events(self, kind: Kind) -> tuple[str, ...]:
        """Async twin of `bind_paid_events`."""
        return await self.arun(api.offline_events.bind(await self.aclient(), kind))

    @property
    def payments_in_a_request(self) -> int:
        """How many payments `read_payment_states` reads in a request, as far as is known by now."""
        return self._payment_reader.capacity

    @cached_property
    def _payment_reader(self) -> PaymentReader:
        return api.states.PaymentReader()

    def list_crm_payments(
        self,
        *,
        entity_id: int,
        entity_type_id: int = 2,
        filter: Mapping[str, Any] | None = None,
        order: Mapping[str, str] | None = None,
    ) -> list[Payment]:
        """All payments of a deal or smart invoice: ``crm.item.payment.list``.

        https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-list.html

        :param entity_id: id of the deal or smart invoice.
        :param entity_type_id: 2 for a deal, 31 for a smart invoice.
        :param filter: camelCase fields with operators, such as ``{">id": 1033}``.
        :param order: camelCase field -> ``"asc"`` or ``"desc"``; by id if not given.
        """
        return self.run(
            api.payments.list_crm_payments(
                self.client, entity_id=entity_id, entity_type_id=entity_type_id, filter=filter, order=order
            )
        )

    async def alist_crm_payments(
        self,
        *,
        entity_id: int,
        entity_type_id: int = 2,
        filter: Mapping[str, Any] | None = None,
        order: Mapping[str, str] | None = None,
    ) -> list[Payment]:
        """Async twin of `list_crm_payments`."""
        client = await self.aclient()
        return await self.arun(
            api.payments.list_crm_payments(
                client, entity_id=entity_id, entity_type_id=entity_type_id, filter=filter, order=order
            )
        )

    def update_crm_payment(self, *, payment_id: int, pay_system_id: int) -> None:
        """Give a payment another pay system: ``crm.item.payment.update``.

        https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-update.html
        """
        self.run(api.payments.update_crm_payment(self.client, payment_id=payment_id, pay_system_id=pay_system_id))

    async def aupdate_crm_payment(self, *, payment_id: int, pay_system_id: int) -> None:
        """Async twin of `update_crm_payment`."""
        client = await self.aclient()
        await self.arun(api.payments.update_crm_payment(client, payment_id=payment_id, pay_system_id=pay_system_id))
