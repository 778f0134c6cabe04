"""Wait in the triggerer until invoices or payments are paid, and report a reason. Triggers only read.

A trigger may be started again from the beginning on another triggerer at any time: it keeps nothing but its arguments,
among them the absolute end of the wait. All triggers of a process that use one connection are read together.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_bitrix24.exceptions import Bitrix24ConnectionNotFound, Bitrix24Error, Bitrix24RateLimited
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.triggers.poll_result import (
    PollResult,
    Reason,
    evaluate_failure,
    evaluate_invoices,
    evaluate_payments,
)
from airflow_provider_bitrix24.triggers.shared_poll import SharedPoll, seat_in
from airflow_provider_bitrix24.triggers.state_polls import InvoicePoll, PaymentPoll

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from airflow_provider_bitrix24.api.models import Invoice
    from airflow_provider_bitrix24.api.states import Owner, States
    from airflow_provider_bitrix24.triggers.shared_poll import Seat

W = TypeVar("W")
A = TypeVar("A")

READ_FAILURES_ALLOWED = 10
"""How many looks in a row may fail (each after the hook's own repeats) before the wait is given up."""


class WaitTrigger(BaseTrigger):
    """Look, sleep, look again; what to look at is the subclass's.

    :meta private:

    :param bitrix24_conn_id: Airflow connection; the secret stays there.
    :param poke_interval: seconds between two looks.
    :param end_time: when the wait ends, in seconds since the epoch. Absolute, so that a restart does not extend it.
    :param read_failures_allowed: how many looks in a row may fail; None for any number.
    :param exponential_backoff: wait longer and longer, as Airflow's sensors do in a worker.
    :param max_wait: seconds that one wait may take with it; None for any number.
    """

    def __init__(
        self,
        *,
        bitrix24_conn_id: str,
        poke_interval: float,
        end_time: float,
        read_failures_allowed: int | None = READ_FAILURES_ALLOWED,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's class
        self.bitrix24_conn_id = bitrix24_conn_id
        self.poke_interval = poke_interval
        self.end_time = end_time
        self.read_failures_allowed = read_failures_allowed
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and everything the constructor takes."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        waiting = {
            "bitrix24_conn_id": self.bitrix24_conn_id,
            "poke_interval": self.poke_interval,
            "end_time": self.end_time,
            "read_failures_allowed": self.read_failures_allowed,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait,
        }
        return path, {**self.subject(), **waiting}

    @abstractmethod
    def subject(self) -> dict[str, Any]:
        """Return the arguments that say what is waited for."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to report; the portal is asked once more at the very end of the time.

        The first look comes after ``poke_interval``: the sensor has just looked, and an event that follows within
        seconds can overtake Airflow's own end of the deferral, whereupon the scheduler marks the task as failed.
        """
        hook = Bitrix24Hook(self.bitrix24_conn_id)
        failures, looks, wait = 0, 1, self._wait_after(1)  # the sensor's was the first look
        async with AsyncExitStack() as until_the_end:
            next_look = self.looker(hook, until_the_end)
            while True:
                early, pause = False, 0.0
                try:
                    result, early = await next_look(max(0.0, min(wait, self.end_time - time.time())))
                    failures = 0
                except Bitrix24ConnectionNotFound:
                    result = PollResult(reason=Reason.REFUSED, message=self._no_connection)
                except Bitrix24Error as error:
                    failures += 1
                    result = evaluate_failure(error, failures=failures, allowed=self.read_failures_allowed)
                    pause = (isinstance(error, Bitrix24RateLimited) and error.retry_after) or 0.0
                looks += not early
                wait = max(self._wait_after(looks), pause)
                if result.reason is not Reason.WAITING:
                    yield _event(result)
                    return
                self.log.info("%s", result.message)
                if time.time() >= self.end_time:
                    yield _event(PollResult(reason=Reason.TIMEOUT, message=result.message))
                    return

    @abstractmethod
    def looker(
        self, hook: Bitrix24Hook, until_the_end: AsyncExitStack
    ) -> Callable[[float], Awaitable[tuple[PollResult, bool]]]:
        """Return a function that waits so many seconds and looks; it also tells whether it has looked earlier.

        :param hook: the connection.
        :param until_the_end: what is to be left when the trigger ends.
        """

    def _wait_after(self, looks: int) -> float:
        """Return the seconds until the next read, by Airflow's own rule, so that worker and triggerer wait alike."""
        if not self.exponential_backoff:
            return self.poke_interval
        least = max(int(self.poke_interval * 2.0 ** min(looks - 2, 40)), 1)
        jitter = int(hashlib.sha256(f"{self.subject()}#{looks}".encode()).hexdigest(), 16) % least
        return least + jitter if self.max_wait is None else min(least + jitter, self.max_wait)

    @property
    def _no_connection(self) -> str:
        return (
            f"The triggerer cannot find the Airflow connection {self.bitrix24_conn_id!r}. Make it where "
            "the triggerer sees it too (it does not see a worker's environment variables), and clear the task."
        )


class SharingTrigger(WaitTrigger, Generic[W, A]):
    """A trigger that is read together with all others of its kind that use the same connection.

    :meta private:
    """

    poll: ClassVar[type[SharedPoll[Any, Any]]]

    @abstractmethod
    def want(self) -> W:
        """Return what the poll reads for this trigger."""

    @abstractmethod
    def evaluate(self, answer: A) -> PollResult:
        """Judge what was read."""

    def looker(
        self, hook: Bitrix24Hook, until_the_end: AsyncExitStack
    ) -> Callable[[float], Awaitable[tuple[PollResult, bool]]]:
        """Take a seat in the poll, and look when the poll does."""
        seat: Seat[W, A] | None = None

        async def sit_down() -> Seat[W, A]:
            taking = seat_in(self.poll, hook, self.want(), interval=self.poke_interval)
            return await until_the_end.enter_async_context(taking)

        async def wait_for_poll(seconds: float) -> tuple[PollResult, bool]:
            nonlocal seat
            if seat is None:
                with suppress(Bitrix24Error):
                    seat = await sit_down()
            if seat is None:
                await asyncio.sleep(seconds)
                seconds, seat = 0.0, await sit_down()
            look = await seat.look(seconds)
            if isinstance(look.answer, Bitrix24Error):
                raise look.answer.with_traceback(None)  # the same error is raised in many triggers
            return self.evaluate(look.answer), look.early

        return wait_for_poll


class WaitForInvoicesTrigger(SharingTrigger[Sequence[int], Mapping[int, "Invoice | Bitrix24Error"]]):
    """Wait until legacy invoices are paid; REST method ``crm.invoice.list``, 2,500 invoices in a request.

    https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html

    :param invoice_ids: at least one.
    """

    poll = InvoicePoll

    def __init__(self, *, invoice_ids: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.invoice_ids = list(invoice_ids)

    def subject(self) -> dict[str, Any]:
        """Return the invoices."""
        return {"invoice_ids": self.invoice_ids}

    def want(self) -> Sequence[int]:
        """Return the invoices."""
        return self.invoice_ids

    def evaluate(self, answer: Mapping[int, Invoice | Bitrix24Error]) -> PollResult:
        """Judge all invoices."""
        return evaluate_invoices(self.invoice_ids, answer)


class WaitForPaymentsTrigger(SharingTrigger[Mapping[int, "Owner | None"], "States"]):
    """Wait until payments of CRM objects are paid.

    REST method ``sale.payment.list``, 2,500 payments in a request, where the connection may use it. Else
    ``crm.item.payment.list`` of 50 objects in a request, or ``crm.item.payment.get`` of 50 payments.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-list.html

    :param payment_ids: at least one.
    :param entity_type_id: 2 for a deal, 31 for a smart invoice; None if the object is not known.
    :param entity_id: of that object; None if it is not known.
    """

    poll = PaymentPoll

    def __init__(
        self,
        *,
        payment_ids: Sequence[int],
        entity_type_id: int | None = None,
        entity_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.payment_ids = list(payment_ids)
        self.entity_type_id = entity_type_id
        self.entity_id = entity_id

    def subject(self) -> dict[str, Any]:
        """Return the payments and their object."""
        return {"payment_ids": self.payment_ids, "entity_type_id": self.entity_type_id, "entity_id": self.entity_id}

    def want(self) -> Mapping[int, Owner | None]:
        """Return the payments with their object."""
        return dict.fromkeys(self.payment_ids, self._owner)

    @property
    def _owner(self) -> Owner | None:
        if self.entity_id is None or self.entity_type_id is None:
            return None
        return self.entity_type_id, self.entity_id

    def evaluate(self, answer: States) -> PollResult:
        """Judge all payments."""
        where = f" of object {self.entity_id} (entityTypeId {self.entity_type_id})" if self._owner else ""
        return evaluate_payments(self.payment_ids, answer, where)


def _event(result: PollResult) -> TriggerEvent:
    return TriggerEvent(result.as_event())  # type: ignore[no-untyped-call]  # Airflow's class
