"""From an Airflow connection to calls: plain methods, and their twins prefixed ``a`` for triggers and async tasks.

Every method is one flow of `api`, run by one of the two drivers. A write here is sent as it is called; what
keeps from paying twice are the operators.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_provider_bitrix24 import api
from airflow_provider_bitrix24.exceptions import Bitrix24ApiError, Bitrix24ConfigError, Bitrix24Error
from airflow_provider_bitrix24.hooks import masking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    import httpx
    import requests
    from airflow.sdk import Connection

    from airflow_provider_bitrix24.api.batch import BatchReply, Commands
    from airflow_provider_bitrix24.api.effects import Effect, Flow
    from airflow_provider_bitrix24.api.flow import Caller
    from airflow_provider_bitrix24.api.models import Invoice, Payment
    from airflow_provider_bitrix24.api.settings import Settings

T = TypeVar("T")
_TEST_TIMES = {"connect_timeout": 1.5, "read_timeout": 4.0, "rate_limit_wait": 0.0}
"""Less than 10 s in all, with three steps of connecting: somebody is looking at the form."""


def _open_client(settings: Settings) -> httpx.AsyncClient:
    """For a thread: loading libraries and certificates takes longer than an event loop may stand still."""
    from airflow_provider_bitrix24 import drivers

    return drivers.make_client(settings)


class Bitrix24Hook(BaseHook):
    """Call the REST methods of a Bitrix24 portal through an incoming webhook.

    Where each value comes from, the first that is given counts:

    1. portal: the connection's ``host`` (a bare host, an address, or the whole webhook address);
    2. user and secret: the webhook address, if there is one (also as the whole connection, as in
       ``AIRFLOW_CONN_…=https://acme.bitrix24.com/rest/1/SECRET/``), else ``login`` and ``password``; they must agree;
    3. everything else: the connection's ``extra``, else the defaults of `api.settings.Settings`.

    The connection is read when it is first needed. Secrets are masked in the logs as soon as they are known.

    :param bitrix24_conn_id: Airflow connection of type ``bitrix24``.
    """

    conn_name_attr = "bitrix24_conn_id"
    default_conn_name = "bitrix24_default"
    conn_type = "bitrix24"
    hook_name = "Bitrix24"

    def __init__(self, bitrix24_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bitrix24_conn_id = bitrix24_conn_id
        self._caller: Caller | None = None
        self._session: requests.Session | None = None
        self._session_pid = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to this process; a copy reads the connection again."""
        return {**self.__dict__, "_caller": None, "_session": None, "_session_pid": 0}

    # -- the connection ------------------------------------------------------------------------------------------

    @property
    def caller(self) -> Caller:
        """The portal, for the flows of `api`; reads the connection when first used. In a coroutine: `acaller`."""
        if self._caller is None:
            connection = self.get_connection(self.bitrix24_conn_id)
            settings = self._settings(connection, connection.extra_dejson)
            masking.mask(settings.secrets)
            self._caller = api.flow.Caller(settings)
        return self._caller

    async def acaller(self) -> Caller:
        """The portal, for the flows of `api`; reads the connection when first used."""
        if self._caller is None:
            from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

            connection = await get_async_connection(self.bitrix24_conn_id)
            settings = self._settings(connection, await get_async_extra_dejson(connection))
            await masking.amask(settings.secrets)
            self._caller = api.flow.Caller(settings)
        return self._caller

    @property
    def settings(self) -> Settings:
        """The portal's settings."""
        return self.caller.settings

    @property
    def portal(self) -> str:
        """The portal's name in keys and receipts: ``portal_id`` of the connection, else its host."""
        return self.settings.portal

    def run(self, flow: Flow[T]) -> T:
        """Run a flow of `api` to its end."""
        from airflow_provider_bitrix24 import drivers

        if self._session is None or self._session_pid != os.getpid():  # a forked process must not share sockets
            self._session, self._session_pid = drivers.make_session(self.settings), os.getpid()
        return drivers.run(flow, self._session)

    async def arun(self, flow: Flow[T]) -> T:
        """Run a flow of `api` to its end without blocking the event loop."""
        caller = await self.acaller()
        client = await asyncio.to_thread(_open_client, caller.settings)
        from airflow_provider_bitrix24 import drivers

        async with client:
            return await drivers.arun(flow, client)

    def _settings(self, connection: Connection, extra: Mapping[str, Any]) -> Settings:
        try:
            return api.settings.Settings.from_connection_values(
                host=connection.host,
                login=connection.login,
                password=connection.password,
                port=connection.port,
                schema=connection.schema,
                extra=extra,
                conn_type=connection.conn_type,
            )
        except Bitrix24ConfigError as error:
            reason = str(error)
        raise Bitrix24ConfigError(f"The Airflow connection {self.bitrix24_conn_id!r} cannot be used: {reason}")

    # -- any method ----------------------------------------------------------------------------------------------

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, effect: Effect | None = None) -> Any:
        """Call any REST method and return its result; fractions are `Decimal`.

        :param method: name, such as ``crm.deal.get``.
        :param params: parameters; dates become ISO 8601, `Decimal` becomes text.
        :param effect: what executing it does. By default methods that are known to read are `Effect.READ`, and what is
            not known is `Effect.CREATE`, which is never sent twice.
        :raises Bitrix24Error: see `airflow_provider_bitrix24.exceptions`.
        """
        return self.run(self.caller.call(method, params, effect=effect or api.methods.effect_of(method))).result

    async def acall(self, method: str, params: Mapping[str, Any] | None = None, *, effect: Effect | None = None) -> Any:
        """Async twin of `call`."""
        caller = await self.acaller()
        return (await self.arun(caller.call(method, params, effect=effect or api.methods.effect_of(method)))).result

    def batch(self, commands: Commands, *, halt: bool = False, effect: Effect | None = None) -> BatchReply:
        """Call up to 50 methods in one request.

        :param commands: key -> (method, parameters). A batch carries texts: True and False become ``"Y"`` and ``"N"``.
        :param halt: stop at the first error. Nothing that ran before is undone.
        :param effect: the strongest effect among the commands; by default what `call` would take for each.
        :return: results and errors by key; ``reply.value(key)`` returns the one or raises the other.
        """
        return self.run(self.caller.batch(commands, halt=halt, effect=effect or api.methods.strongest(commands)))

    async def abatch(self, commands: Commands, *, halt: bool = False, effect: Effect | None = None) -> BatchReply:
        """Async twin of `batch`."""
        caller = await self.acaller()
        return await self.arun(caller.batch(commands, halt=halt, effect=effect or api.methods.strongest(commands)))

    def iterate(
        self, method: str, params: Mapping[str, Any] | None = None, *, after: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """All rows of a list method, in the order of their ids, 50 in a request; never more than one page in memory.

        :param method: one of the list methods in `api.paging.SHAPES`.
        :param params: parameters without order and start.
        :param after: id to go on after.
        """
        while True:
            page = self.run(self.caller.page(method, params, after=after))
            yield from page.rows
            if page.after is None:
                return
            after = page.after

    async def aiterate(
        self, method: str, params: Mapping[str, Any] | None = None, *, after: int | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Async twin of `iterate`."""
        caller = await self.acaller()
        while True:
            page = await self.arun(caller.page(method, params, after=after))
            for row in page.rows:
                yield row
            if page.after is None:
                return
            after = page.after

    # -- legacy invoices -----------------------------------------------------------------------------------------

    def pay_invoice(
        self, *, invoice_id: int, pay_system_id: int | None = None, bx_rest_handler: str | None = None
    ) -> None:
        """Record a legacy invoice as paid: ``sale.paysystem.pay.invoice``. Its success is no proof: read back.

        https://apidocs.bitrix24.com/api-reference/pay-system/outdated/sale-pay-system-pay-invoice.html

        :param invoice_id: id of the legacy invoice.
        :param pay_system_id: pay system it is recorded with; exactly one of this and the next.
        :param bx_rest_handler: code of a REST handler; the portal takes the first pay system that has it.
        """
        self.run(
            api.payments.pay_invoice(
                self.caller, invoice_id=invoice_id, pay_system_id=pay_system_id, bx_rest_handler=bx_rest_handler
            )
        )

    async def apay_invoice(
        self, *, invoice_id: int, pay_system_id: int | None = None, bx_rest_handler: str | None = None
    ) -> None:
        """Async twin of `pay_invoice`."""
        caller = await self.acaller()
        await self.arun(
            api.payments.pay_invoice(
                caller, invoice_id=invoice_id, pay_system_id=pay_system_id, bx_rest_handler=bx_rest_handler
            )
        )

    def get_invoice(self, *, invoice_id: int) -> Invoice:
        """One legacy invoice: ``crm.invoice.get``.

        https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-get.html
        """
        return self.run(api.payments.get_invoice(self.caller, invoice_id=invoice_id))

    async def aget_invoice(self, *, invoice_id: int) -> Invoice:
        """Async twin of `get_invoice`."""
        return await self.arun(api.payments.get_invoice(await self.acaller(), invoice_id=invoice_id))

    def get_invoices(self, *, invoice_ids: Iterable[int]) -> dict[int, Invoice]:
        """Many legacy invoices, up to 2,500 in a request; those that do not exist are absent.

        https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html
        """
        return self.run(api.payments.get_invoices(self.caller, invoice_ids=invoice_ids))

    async def aget_invoices(self, *, invoice_ids: Iterable[int]) -> dict[int, Invoice]:
        """Async twin of `get_invoices`."""
        return await self.arun(api.payments.get_invoices(await self.acaller(), invoice_ids=invoice_ids))

    # -- payments of deals and smart invoices --------------------------------------------------------------------

    def add_crm_payment(self, *, entity_id: int, entity_type_id: int = 2, pay_system_id: int | None = None) -> int:
        """Add a new, empty payment to a deal or smart invoice: ``crm.item.payment.add``. Calling it twice adds two.

        https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-add.html

        :param entity_id: id of the deal or smart invoice.
        :param entity_type_id: 2 for a deal, 31 for a smart invoice.
        :param pay_system_id: pay system of the payment; the portal may choose another one.
        :return: id of the payment.
        """
        return self.run(
            api.payments.add_crm_payment(
                self.caller, entity_id=entity_id, entity_type_id=entity_type_id, pay_system_id=pay_system_id
            )
        )

    async def aadd_crm_payment(
        self, *, entity_id: int, entity_type_id: int = 2, pay_system_id: int | None = None
    ) -> int:
        """Async twin of `add_crm_payment`."""
        caller = await self.acaller()
        return await self.arun(
            api.payments.add_crm_payment(
                caller, entity_id=entity_id, entity_type_id=entity_type_id, pay_system_id=pay_system_id
            )
        )

    def get_crm_payment(self, *, payment_id: int) -> Payment:
        """One payment: ``crm.item.payment.get``.

        https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-get.html
        """
        return self.run(api.payments.get_crm_payment(self.caller, payment_id=payment_id))

    async def aget_crm_payment(self, *, payment_id: int) -> Payment:
        """Async twin of `get_crm_payment`."""
        return await self.arun(api.payments.get_crm_payment(await self.acaller(), payment_id=payment_id))

    def get_crm_payments(self, *, payment_ids: Iterable[int]) -> dict[int, Payment | Bitrix24ApiError]:
        """Many payments, 50 in a request: id -> the payment, or the final error that the portal gave for it."""
        return self.run(api.payments.get_crm_payments(self.caller, payment_ids=payment_ids))

    async def aget_crm_payments(self, *, payment_ids: Iterable[int]) -> dict[int, Payment | Bitrix24ApiError]:
        """Async twin of `get_crm_payments`."""
        return await self.arun(api.payments.get_crm_payments(await self.acaller(), payment_ids=payment_ids))

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
                self.caller, entity_id=entity_id, entity_type_id=entity_type_id, filter=filter, order=order
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
        caller = await self.acaller()
        return await self.arun(
            api.payments.list_crm_payments(
                caller, entity_id=entity_id, entity_type_id=entity_type_id, filter=filter, order=order
            )
        )

    def pay_crm_payment(self, *, payment_id: int) -> None:
        """Mark a payment as paid: ``crm.item.payment.pay``. Its success is no proof: read back.

        https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-pay.html
        """
        self.run(api.payments.pay_crm_payment(self.caller, payment_id=payment_id))

    async def apay_crm_payment(self, *, payment_id: int) -> None:
        """Async twin of `pay_crm_payment`."""
        await self.arun(api.payments.pay_crm_payment(await self.acaller(), payment_id=payment_id))

    def update_crm_payment(self, *, payment_id: int, pay_system_id: int) -> None:
        """Give a payment another pay system: ``crm.item.payment.update``.

        https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-update.html
        """
        self.run(api.payments.update_crm_payment(self.caller, payment_id=payment_id, pay_system_id=pay_system_id))

    async def aupdate_crm_payment(self, *, payment_id: int, pay_system_id: int) -> None:
        """Async twin of `update_crm_payment`."""
        caller = await self.acaller()
        await self.arun(api.payments.update_crm_payment(caller, payment_id=payment_id, pay_system_id=pay_system_id))

    # -- Airflow's connection form -------------------------------------------------------------------------------

    def test_connection(self) -> tuple[bool, str]:
        """Say what the webhook may do and what is missing; only reads, in one request, and never raises."""
        from airflow_provider_bitrix24 import drivers

        try:
            connection = self.get_connection(self.bitrix24_conn_id)
            settings = self._settings(connection, connection.extra_dejson).model_copy(update=_TEST_TIMES)
            masking.mask(settings.secrets)
            with drivers.make_session(settings) as session:
                found = drivers.run(api.checkup.check(api.flow.Caller(settings, tries=1)), session)
        except Bitrix24Error as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001 - the form shows what is returned, and nothing else
            return False, f"The Airflow connection cannot be read ({type(error).__name__})."
        address = f"{connection.host}/{connection.schema}"
        if any(secret in address for secret in settings.secrets):
            advice = (
                "The host holds the webhook's secret, where everybody can read it: put the secret into the password."
            )
            return found.works, f"{found.text} {advice}"
        return found.works, found.text

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The standard fields of the form, for Airflow 3.1; newer ones read the provider's metadata."""
        from airflow_provider_bitrix24.hooks import form

        return form.field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The other fields of the form, for Airflow 3.1; newer ones read the provider's metadata."""
        from airflow_provider_bitrix24.hooks import form

        return form.widgets()
