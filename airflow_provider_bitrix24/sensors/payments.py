"""Wait until invoices or payments are paid: in the worker, between reschedules, or deferred to the triggerer."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_bitrix24.api.values import entity_type_id as read_entity_type_id
from airflow_provider_bitrix24.api.values import positive_id
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24NoAnswer
from airflow_provider_bitrix24.failures import fail_if_final
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.links.bitrix24 import (
    OBJECT_LINKS,
    Bitrix24Link,
    CrmPaymentLink,
    DealLink,
    InvoiceLink,
    SmartInvoiceLink,
)
from airflow_provider_bitrix24.operators.arguments import RemembersArguments, given, refuse_lost
from airflow_provider_bitrix24.operators.numbers import by_number, look_up, refuse_unless_one
from airflow_provider_bitrix24.operators.rendering import LiteralText
from airflow_provider_bitrix24.sensors.ids import OneOrMany, read_ids, read_numbers
from airflow_provider_bitrix24.triggers.poll_result import PollResult, Reason, evaluate_invoices, evaluate_payments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import BaseOperatorLink, Context

    from airflow_provider_bitrix24.triggers.payments import WaitTrigger


DEFERRAL_GRACE = timedelta(minutes=5)
"""How long after the trigger's own end Airflow waits for it, in case no triggerer runs."""


class PaidSensor(RemembersArguments, LiteralText, BaseSensorOperator):
    """The waiting that both sensors share.

    :meta private:
    """

    id_field: ClassVar[str]
    link: ClassVar[type[Bitrix24Link]]
    """Where a person sees what is waited for, and can mark it as paid."""
    were_given: frozenset[str]
    """The templated arguments that the constructor was given."""
    account_number: str | Sequence[str] | None = None

    def __init__(
        self,
        *,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bitrix24_conn_id = bitrix24_conn_id
        self.deferrable = deferrable
        self._said_how_it_ends = False

    @cached_property
    def hook(self) -> Bitrix24Hook:
        """The connection to the portal."""
        return Bitrix24Hook(self.bitrix24_conn_id)

    @abstractmethod
    def read_arguments(self) -> tuple[list[int], bool]:
        """Check the rendered arguments; return the ids and whether there are many."""

    @abstractmethod
    def look(self, ids: Sequence[int]) -> PollResult:
        """Read the portal once."""

    @abstractmethod
    def trigger(self, ids: Sequence[int], **waiting: Any) -> WaitTrigger:
        """Return what goes on looking in the triggerer."""

    @abstractmethod
    def persist_links(self, context: Context, ids: Sequence[int]) -> None:
        """Store the links of what is waited for."""

    def execute(self, context: Context) -> Any:
        """Look once, then wait in the chosen way.

        :return: for one id a dictionary ``{"invoice_id" or "payment_id": 2, "paid": true, "amount": "1500.00",
            "currency": "EUR", "paid_at": "2026-11-22T10:00:00+02:00", "paid_by_id": 7}``, for a sequence a list of
            them in the order given.
        """
        fail_if_final(lambda: self._begin(context), changes_nothing=True)
        return super().execute(context)

    def _begin(self, context: Context) -> None:
        refuse_lost(self, self.were_given)
        ids, _ = self.read_arguments()
        self.persist_links(context, ids)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; deferrable sensors go on in the triggerer unless that was enough.

        :raises AirflowFailException: the wait cannot end well, or the arguments or the connection are wrong.
        :raises Bitrix24Error: the portal could not be read this time.
        """
        ids, many = fail_if_final(self.read_arguments, changes_nothing=True)
        result = fail_if_final(lambda: self.look(ids), changes_nothing=True)
        self.log.info("%s", result.message)
        if result.reason is not Reason.WAITING:
            return PokeReturnValue(is_done=True, xcom_value=self._conclude(result, many))
        self._say_how_it_ends(ids)
        if self.deferrable:
            self._defer(ids, many)
        return PokeReturnValue(is_done=False)

    def execute_complete(self, context: Context, event: Any = None, waited_for: Any = None) -> Any:
        """Turn the trigger's event into a result or an error.

        :param event: what the trigger reported: a :class:`~airflow_provider_bitrix24.triggers.poll_result.PollResult`.
        :param waited_for: the ids that account numbers were looked up as, and whether there were many.
        :return: as :meth:`execute`.
        :raises AirflowFailException: the wait cannot end well.
        :raises AirflowSensorTimeout: the time is over; no retry, as with every sensor.
        :raises Bitrix24NoAnswer: the portal could not be read many times in a row.
        :raises ValueError: the event is not one of this sensor's.
        """
        ids, many = waited_for or fail_if_final(self.read_arguments, changes_nothing=True)
        result = PollResult.from_event(event, id_field=self.id_field, ids=ids)
        self.log.info("%s", result.message)
        return self._conclude(result, many)

    def _ids(self, find: Callable[[Sequence[str]], Mapping[str, Sequence[int]]]) -> tuple[list[int], bool]:
        """Return the ids, and whether there are many; numbers are looked up."""
        if not by_number(self, self.id_field):
            return read_ids(getattr(self, self.id_field), self.id_field)
        numbers, many = read_numbers(self.account_number, "account_number")
        return list(dict.fromkeys(look_up(self, self.id_field, numbers, find))), many

    def _is_one(self) -> bool:
        """Tell whether the arguments name one object, without reading the portal."""
        try:
            if by_number(self, self.id_field):
                return len(read_numbers(self.account_number, "account_number")[0]) == 1
            return len(read_ids(getattr(self, self.id_field), self.id_field)[0]) == 1
        except Bitrix24ConfigError:
            return False

    def _say_how_it_ends(self, ids: Sequence[int]) -> None:
        """Log once what the task waits for, so that a reader does not think that it hangs."""
        if self._said_how_it_ends:
            return
        self._said_how_it_ends = True
        where = ", ".join(self.hook.settings.origin + self.link.path.format(number) for number in ids[:3])
        self.log.info(
            "Waiting up to %s until the customer has paid. To end the wait by hand, mark it as paid in Bitrix24: %s%s",
            timedelta(seconds=self.timeout),
            where,
            ", ..." if len(ids) > 3 else "",
        )

    def _conclude(self, result: PollResult, many: bool) -> Any:
        if result.reason.hopeless:
            raise AirflowFailException(result.message)
        if result.reason is Reason.TIMEOUT:
            raise AirflowSensorTimeout(f"Not paid within {self.timeout:g} s: {result.message}")
        if result.reason is Reason.UNREADABLE and self.never_fail:
            # Airflow turns only its own exceptions into this after a deferral, and every exception in a worker.
            raise AirflowSkipException(f"Skipping due to never_fail: {result.message}")
        if result.reason is Reason.UNREADABLE:
            unreadable = Bitrix24NoAnswer("the sensor's reads", result.message)
            unreadable.sent = "no"
            raise unreadable
        return result.items if many else result.items[0]

    def _defer(self, ids: Sequence[int], many: bool) -> NoReturn:
        from airflow_provider_bitrix24.triggers.payments import READ_FAILURES_ALLOWED

        trigger = self.trigger(
            ids,
            bitrix24_conn_id=self.bitrix24_conn_id,
            poke_interval=self.poke_interval,
            end_time=time.time() + self.timeout,
            read_failures_allowed=None if self.silent_fail else READ_FAILURES_ALLOWED,
            exponential_backoff=self.exponential_backoff,
            max_wait=_seconds(self.max_wait),
        )
        patience = timedelta(seconds=self.timeout) + DEFERRAL_GRACE
        # An account number may have become another object's when the wait ends.
        kwargs = None if self.account_number is None else {"waited_for": [list(ids), many]}
        self.defer(trigger=trigger, method_name="execute_complete", kwargs=kwargs, timeout=patience)


def _seconds(wait: timedelta | float | None) -> float | None:
    return wait.total_seconds() if isinstance(wait, timedelta) else wait


class InvoicePaidSensor(PaidSensor):
    """Wait until one legacy invoice, or all of several, are paid.

    REST method ``crm.invoice.list``: fifty invoices a page, fifty pages a request
    (https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html). Smart invoices have
    payments: wait for those with :class:`CrmPaymentPaidSensor`.

    An invoice that was deleted, cancelled or declined fails the task at once and for good; ``soft_fail=True`` turns
    that, like a timeout, into *skipped*, as Airflow does for every failure of a sensor that no retry can fix. A portal
    that cannot be read is an ordinary error: Airflow retries the task (``silent_fail=True`` goes on waiting instead; a
    deferred sensor bears ten such looks in a row).

    :param invoice_id: (templated) one id or a sequence of ids.
    :param account_number: (templated) instead of ids: one number or a sequence of numbers that customers see, as text.
        They are looked up when the wait begins (``crm.invoice.list``); with ``mode="reschedule"`` at each look.
    :param bitrix24_conn_id: (templated) Airflow connection.
    :param deferrable: wait in the triggerer; default is Airflow's ``[operators] default_deferrable``. The first look is
        always on the worker, so that what is paid already never visits the triggerer.
    :return: for one id a dictionary, for a sequence a list of them: ``invoice_id``, ``paid``, ``amount``
        (text, "1500.00"), ``currency``, ``paid_at`` (ISO 8601 or None), ``paid_by_id`` (user id or None).
    """

    template_fields = ("invoice_id", "account_number", "bitrix24_conn_id")
    operator_extra_links: Sequence[BaseOperatorLink] = (InvoiceLink(),)
    id_field = "invoice_id"
    link = InvoiceLink

    def __init__(
        self,
        *,
        invoice_id: OneOrMany | None = None,
        account_number: str | Sequence[str] | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(bitrix24_conn_id=bitrix24_conn_id, deferrable=deferrable, **kwargs)
        self.invoice_id = invoice_id
        self.account_number = account_number
        self.were_given = given(self)
        refuse_unless_one(self, "invoice_id")

    def read_arguments(self) -> tuple[list[int], bool]:
        """Return the invoices."""
        return self._ids(lambda numbers: self.hook.find_invoices(account_numbers=numbers))

    def look(self, ids: Sequence[int]) -> PollResult:
        """Read all invoices and judge them."""
        return evaluate_invoices(ids, self.hook.get_invoices(invoice_ids=ids))

    def trigger(self, ids: Sequence[int], **waiting: Any) -> WaitTrigger:
        """Return the trigger for these invoices."""
        from airflow_provider_bitrix24.triggers.payments import WaitForInvoicesTrigger

        return WaitForInvoicesTrigger(invoice_ids=ids, **waiting)

    def persist_links(self, context: Context, ids: Sequence[int]) -> None:
        """Store the invoice's link, if there is one invoice."""
        if len(ids) == 1:
            InvoiceLink().persist(context, origin=self.hook.settings.origin, object_id=ids[0])

    def stores_link(self, link: Bitrix24Link) -> bool:
        """Tell whether there is one invoice."""
        return self._is_one()


class CrmPaymentPaidSensor(PaidSensor):
    """Wait until one payment of a deal or smart invoice, or all of several, are paid.

    REST methods ``crm.item.payment.get``, fifty in a request, or, with the object given, one ``crm.item.payment.list``
    (https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-list.html). More than fifty
    payments are read by ``sale.payment.list``, 2,500 in a request, if the connection may use it.

    A payment that was deleted fails the task at once and for good; ``soft_fail=True`` turns that, like a timeout,
    into *skipped*, as Airflow does for every failure of a sensor that no retry can fix. A portal that cannot be read
    is an ordinary error: Airflow retries the task (``silent_fail=True`` goes on waiting instead; a deferred sensor
    bears ten such looks in a row).

    :param payment_id: (templated) one id or a sequence of ids.
    :param account_number: (templated) instead of ids: one number or a sequence of numbers that customers see, such as
        "161/1", as text. They are looked up when the wait begins, with ``mode="reschedule"`` at each look; by
        ``sale.payment.list`` (the scope ``sale`` and an administrator), or in the list of the object if it is given.
    :param entity_type_id: (templated) 2 or "deal", 31 or "smart_invoice"; only together with ``entity_id``.
    :param entity_id: (templated) the object that all these payments belong to: they are then read by one list.
    :param bitrix24_conn_id: (templated) Airflow connection.
    :param deferrable: wait in the triggerer; default is Airflow's ``[operators] default_deferrable``. The first look is
        always on the worker, so that what is paid already never visits the triggerer.
    :return: for one id a dictionary, for a sequence a list of them: ``payment_id``, ``paid``, ``amount``
        (text, "1500.00"), ``currency``, ``paid_at`` (ISO 8601 or None), ``paid_by_id`` (user id or None).
    """

    template_fields = ("payment_id", "account_number", "entity_type_id", "entity_id", "bitrix24_conn_id")
    operator_extra_links: Sequence[BaseOperatorLink] = (CrmPaymentLink(), DealLink(), SmartInvoiceLink())
    id_field = "payment_id"
    link = CrmPaymentLink

    def __init__(
        self,
        *,
        payment_id: OneOrMany | None = None,
        account_number: str | Sequence[str] | None = None,
        entity_type_id: int | str | None = None,
        entity_id: int | str | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(bitrix24_conn_id=bitrix24_conn_id, deferrable=deferrable, **kwargs)
        self.payment_id = payment_id
        self.account_number = account_number
        self.entity_type_id = entity_type_id
        self.entity_id = entity_id
        self.were_given = given(self)
        refuse_unless_one(self, "payment_id")

    def read_arguments(self) -> tuple[list[int], bool]:
        """Return the payments, after a check of everything."""
        type_id, object_id = self._read_object() or (None, None)
        return self._ids(
            lambda numbers: self.hook.find_crm_payments(
                account_numbers=numbers, entity_id=object_id, entity_type_id=type_id
            )
        )

    def look(self, ids: Sequence[int]) -> PollResult:
        """Read all payments and judge them."""
        owner = self._read_object()
        if owner is None:
            return evaluate_payments(ids, self.hook.read_payment_states(dict.fromkeys(ids)))
        type_id, object_id = owner
        listed = self.hook.list_crm_payments(entity_id=object_id, entity_type_id=type_id)
        where = f" of object {object_id} (entityTypeId {type_id})"
        return evaluate_payments(ids, {payment.id: payment for payment in listed}, where)

    def trigger(self, ids: Sequence[int], **waiting: Any) -> WaitTrigger:
        """Return the trigger for these payments."""
        from airflow_provider_bitrix24.triggers.payments import WaitForPaymentsTrigger

        type_id, object_id = self._read_object() or (None, None)
        return WaitForPaymentsTrigger(payment_ids=ids, entity_type_id=type_id, entity_id=object_id, **waiting)

    def persist_links(self, context: Context, ids: Sequence[int]) -> None:
        """Store the links of the object, and of the payment if there is one payment."""
        origin = self.hook.settings.origin
        if len(ids) == 1:
            CrmPaymentLink().persist(context, origin=origin, object_id=ids[0])
        if owner := self._read_object():
            OBJECT_LINKS[owner[0]].persist(context, origin=origin, object_id=owner[1])

    def stores_link(self, link: Bitrix24Link) -> bool:
        """Tell whether there is one payment, or an object of that type."""
        if isinstance(link, CrmPaymentLink):
            return self._is_one()
        try:
            owner = self._read_object()
        except Bitrix24ConfigError:
            return False
        return owner is not None and type(OBJECT_LINKS[owner[0]]) is type(link)

    def _read_object(self) -> tuple[int, int] | None:
        """Return entity type and id of the object, or None if it was not given."""
        if self.entity_type_id is None and self.entity_id is None:
            return None
        if self.entity_type_id is None or self.entity_id is None:
            missing = "entity_type_id" if self.entity_type_id is None else "entity_id"
            raise Bitrix24ConfigError(f"{missing} is missing: entity_type_id and entity_id name one object together.")
        return read_entity_type_id(self.entity_type_id), positive_id(self.entity_id, "entity_id")
