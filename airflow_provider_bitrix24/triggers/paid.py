"""Event triggers: start a DAG when a customer has paid. Triggers only read.

Each mark is reported at least once. Up to where everything has been reported is kept in Airflow's asset state store
(3.3). It is written one poll after the events were reported: Airflow has stored them by then. If the
triggerer stops in between, the last events are reported again.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import abstractmethod
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_bitrix24.api.paid_since import Cursor, Paid
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24RateLimited,
)
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.hooks.threads import arun_uninterrupted
from airflow_provider_bitrix24.triggers import shared_poll
from airflow_provider_bitrix24.triggers.paid_polls import PaidInvoicesPoll, PaidPaymentsPoll, PaidPoll, Wanted
from airflow_provider_bitrix24.triggers.shared_poll import seat_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

MOST_IN_AN_EVENT: Final = 200
LONGEST_WAIT: Final = 600.0
"""Seconds until another try after reads that have failed again and again."""
STORE_EVERY: Final = 600.0
"""Seconds after which the cursor is stored even though nothing was paid."""


class PaidEventTrigger(BaseEventTrigger):
    """What both event triggers share.

    :meta private:
    """

    poll: ClassVar[type[PaidPoll]]

    def __init__(
        self,
        *,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        poll_interval: float = 60.0,
        pay_system_id: int | None = None,
        since: str | None = None,
        bind_events: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's class
        if since is not None:
            _moment(since)
        if not poll_interval >= 1:
            raise Bitrix24ConfigError(f"poll_interval must be 1 second or more, not {poll_interval!r}.")
        self.bitrix24_conn_id = bitrix24_conn_id
        self.poll_interval = poll_interval
        self.pay_system_id = pay_system_id
        self.since = since
        self.bind_events = bind_events

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and everything the constructor takes."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "bitrix24_conn_id": self.bitrix24_conn_id,
            "poll_interval": self.poll_interval,
            "pay_system_id": self.pay_system_id,
            "since": self.since,
            "bind_events": self.bind_events,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Report what was paid, as long as the triggerer runs; what cannot be read now is read later."""
        state = _State(self)
        failures = 0
        while True:
            hook = Bitrix24Hook(self.bitrix24_conn_id)  # a new one: the connection may have been corrected
            try:
                async with aclosing(self._events(hook, state)) as events:
                    async for event in events:
                        failures = 0
                        if event is not None:
                            yield event
            except Bitrix24Error as error:
                failures += 1
                wait = min(self.poll_interval * 2.0 ** min(failures - 1, 20), max(LONGEST_WAIT, self.poll_interval))
                if isinstance(error, Bitrix24RateLimited):
                    wait = max(wait, error.retry_after or 0.0)
                say = self.log.error if error.final else self.log.warning
                say("Not read: %s: %s. The next try is in %.0f s.", type(error).__name__, error.reason, wait)
                await shared_poll.clock.wait(wait, asyncio.Event())

    async def _events(self, hook: Bitrix24Hook, state: _State) -> AsyncGenerator[TriggerEvent | None]:
        """Yield an event for what was paid, or None after a read without news.

        :raises Bitrix24Error: the portal, or the state of the asset, could not be read.
        """
        portal = (await hook.aclient()).settings.portal
        if self.bind_events:
            await self._bind(hook)
        cursor = await state.load(portal) or await self._first_cursor(hook, state)
        wait = 0.0
        async with seat_in(self.poll, hook, Wanted(cursor.read_from), interval=self.poll_interval) as seat:
            while True:
                look = await seat.look(wait)
                if isinstance(look.answer, Bitrix24Error):
                    raise look.answer.with_traceback(None)
                await state.store_pending()
                paid: list[Paid] = []
                if look.answer.paid is not None:
                    paid, cursor = cursor.advance(look.answer.paid)
                seat.want = Wanted(cursor.read_from, look.answer.at)
                mine = [row for row in paid if self.pay_system_id in (None, row.pay_system_id)]
                for start in range(0, len(mine), MOST_IN_AN_EVENT):
                    yield self._event(portal, mine[start : start + MOST_IN_AN_EVENT])
                yield None
                state.reported(cursor, has_news=bool(paid))
                wait = self.poll_interval

    async def _bind(self, hook: Bitrix24Hook) -> None:
        """Bind the offline events that are missing; without them, payments are read.

        :raises Bitrix24Error: the portal could not be asked.
        """
        try:
            bound = await hook.abind_paid_events(self.poll.kind)
        except Bitrix24Error as error:
            if not error.final:
                raise
            self.log.warning("Offline events are not bound, so payments are read: %s", error.reason)
        else:
            if bound:
                self.log.info("Offline events bound: %s", ", ".join(bound))

    async def _first_cursor(self, hook: Bitrix24Hook, state: _State) -> Cursor:
        """Return the cursor of a trigger that runs for the first time; it is stored at once."""
        if self.since is not None:
            cursor = Cursor(_moment(self.since))
        else:
            reply = await hook.acall_raw("server.time")
            cursor = Cursor(reply.at or datetime.now(UTC))
        await state.store(cursor)
        return cursor

    @abstractmethod
    def _event(self, portal: str, paid: Sequence[Paid]) -> TriggerEvent:
        """Return what is reported."""


class PaymentPaidTrigger(PaidEventTrigger):
    """Report payments of deals and smart invoices that were marked as paid; an event trigger for ``AssetWatcher``.

    REST method ``sale.payment.list``: scope ``sale``, and an administrator
    (https://apidocs.bitrix24.com/api-reference/sale/payment/sale-payment-list.html).

    The payload of an event is ``{"portal": "acme.bitrix24.com", "payments": [{"payment_id": 1033, "order_id": 7,
    "amount": "1020.00", "currency": "EUR", "paid_at": "…", "paid_by_id": 1, "pay_system_id": 8}]}``.

    Each mark is reported at least once, from the moment on in which the trigger first ran. A payment that is set back
    to unpaid and paid again is reported again.

    :param bitrix24_conn_id: Airflow connection.
    :param poll_interval: seconds between two reads; all triggers of a connection in a triggerer share them.
    :param pay_system_id: only payments with this pay system.
    :param since: report also what was paid since then, when the trigger runs for the first time: ISO 8601 with a time
        zone.
    :param bind_events: bind the offline events that the connection's application does not have. Then its queue is
        asked, and payments are read only after an event. Events that are bound already are used in any case.
    """

    poll = PaidPaymentsPoll

    def _event(self, portal: str, paid: Sequence[Paid]) -> TriggerEvent:
        payload = {"portal": portal, "payments": [dict(row.item) for row in paid]}
        return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's class


class InvoicePaidTrigger(PaidEventTrigger):
    """Report legacy invoices that were marked as paid; an event trigger for ``AssetWatcher``.

    REST method ``crm.invoice.list``: scope ``crm``
    (https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html).

    The payload of an event is ``{"portal": "acme.bitrix24.com", "invoices": [{"invoice_id": 2, "account_number": "2",
    "amount": "1500.00", "currency": "EUR", "paid_at": "…", "paid_by_id": 7, "pay_system_id": 31}]}``.

    Everything else is as with :class:`PaymentPaidTrigger`.

    :param bitrix24_conn_id: Airflow connection.
    :param poll_interval: seconds between two reads; all triggers of a connection in a triggerer share them.
    :param pay_system_id: only invoices with this pay system.
    :param since: report also what was paid since then, when the trigger runs for the first time: ISO 8601 with a time
        zone.
    :param bind_events: bind the offline events that the connection's application does not have. Then its queue is
        asked, and invoices are read only after an event. Events that are bound already are used in any case.
    """

    poll = PaidInvoicesPoll

    def _event(self, portal: str, paid: Sequence[Paid]) -> TriggerEvent:
        payload = {"portal": portal, "invoices": [dict(row.item) for row in paid]}
        return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's class


class _State:
    """The cursor: in Airflow's asset state store, or in memory where there is none.

    :param trigger: whose cursor it is.
    """

    def __init__(self, trigger: PaidEventTrigger) -> None:
        self._trigger = trigger
        self._store: Any = getattr(trigger, "asset_state_store", None)
        self._key = ""
        self._cursor: Cursor | None = None
        self._pending: Cursor | None = None
        self._stored_at = float("-inf")
        if self._store is None:
            trigger.log.warning(
                "This Airflow gives the trigger no asset state store (it has one from 3.3 on). What is paid while no "
                "triggerer runs is not reported."
            )

    async def load(self, portal: str) -> Cursor | None:
        """Return where to go on, if it is known."""
        path, arguments = self._trigger.serialize()
        what = f"{path} {portal} {arguments['bitrix24_conn_id']} {arguments['pay_system_id']}"
        key = f"bitrix24_paid_{hashlib.sha256(what.encode()).hexdigest()[:32]}"
        if key != self._key:
            self._key, self._cursor, self._pending = key, None, None
        if self._cursor is None:
            stored = await self._ask("get")
            self._cursor = None if stored is None else self._read(stored)
        return self._cursor

    async def store(self, cursor: Cursor) -> None:
        """Store a cursor now."""
        await self._ask("set", cursor.dump())
        self._cursor, self._stored_at = cursor, shared_poll.clock.now()

    def reported(self, cursor: Cursor, *, has_news: bool) -> None:
        """Note a cursor whose events have been reported; it is stored after the next read."""
        self._cursor = cursor
        if has_news or shared_poll.clock.now() - self._stored_at >= STORE_EVERY:
            self._pending = cursor

    async def store_pending(self) -> None:
        """Store the cursor of the read before, whose events Airflow has by now."""
        if self._pending is not None:
            await self.store(self._pending)
            self._pending = None

    def _read(self, stored: Any) -> Cursor:
        try:
            return Cursor.load(stored)
        except ValueError as error:
            raise Bitrix24ConfigError(f"{error}.", f"Delete the key {self._key} of the asset's state store.") from None

    async def _ask(self, what: str, *value: Any) -> Any:
        """Read or write the key.

        :raises Bitrix24NoAnswer: Airflow cannot do that now.
        """
        if self._store is None:
            return None
        try:
            if hasattr(self._store, f"a{what}"):
                return await getattr(self._store, f"a{what}")(self._key, *value)
            return await arun_uninterrupted(getattr(self._store, what), self._key, *value)  # Airflow 3.3.0 and 3.3.1
        except ValueError:
            self._trigger.log.exception(
                "The trigger watches several assets, so Airflow does not know whose state it is. What is paid while no "
                "triggerer runs is not reported. Give the trigger of each asset another poll_interval."
            )
            self._store = None
            return None
        except Exception as error:  # whatever Airflow raises if its API cannot be reached
            raise Bitrix24NoAnswer("Airflow's asset state store", f"{type(error).__name__}: {error}") from error


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Bitrix24ConfigError(
            f"since must be a time in ISO 8601 with its time zone, such as 2026-11-27T09:00:00+02:00, not {text!r}."
        )
    return moment
