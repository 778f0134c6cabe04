"""Payments from ``@task`` functions, with the journal and the safeguards of the running task: ``hook.payments``.

Each call is what the operator of the same name does, each at most once for its key. A task may make several: the task
state keeps a record for each key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_bitrix24.api.values import entity_type_id as read_entity_type_id
from airflow_provider_bitrix24.api.values import positive_id, shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.failures import fail_if_final
from airflow_provider_bitrix24.operators.arguments import (
    business_key,
    chosen_products,
    expected_money,
    one_of,
    optional_id,
    switch,
)
from airflow_provider_bitrix24.operators.engines import amount_limit, engine_of, may_backfill
from airflow_provider_bitrix24.operators.journals import (
    begin,
    identity,
    journal_of,
    named_journal,
    opened,
    with_what_is_known,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal

    from airflow.sdk import Context

    from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
    from airflow_provider_bitrix24.at_most_once.operation import Operation
    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

_USED: Final = "bitrix24_used_keys"
"""Where an attempt notes in its context which keys have succeeded."""


class TaskPayments:
    """Payments of the running task, each at most once for its key.

    Arguments that all methods have:

    - ``max_amount``: refuse to change a payment of more than this; by default ``[bitrix24] max_amount``.
    - ``allow_backfill``: work in backfill runs too; by default ``[bitrix24] allow_backfill``, else they are refused.
    - ``journal_conn_id``: as for the operators.

    All return the receipt of the operator as a dictionary, and raise :class:`Bitrix24Error`: a final one is not
    retried by Airflow. The amounts are text, Decimal or whole numbers.

    :param hook: the connection.
    """

    def __init__(self, hook: Bitrix24Hook) -> None:
        self._hook = hook

    def pay_invoice(
        self,
        *,
        invoice_id: int | str,
        pay_system_id: int | str | None = None,
        bx_rest_handler: str | None = None,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        max_amount: Decimal | str | int | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
    ) -> dict[str, Any]:
        """Mark a legacy invoice as paid, as ``PayInvoiceOperator`` does."""

        def operation(_: Context) -> Operation:
            from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice

            if (pay_system_id is None) == (bx_rest_handler is None):
                raise Bitrix24ConfigError("Give exactly one of pay_system_id and bx_rest_handler.", NOT_SENT)
            return PayInvoice(
                portal=self._hook.portal,
                invoice_id=positive_id(invoice_id, "invoice_id"),
                pay_system_id=optional_id(pay_system_id, "pay_system_id"),
                bx_rest_handler=bx_rest_handler,
                expected=expected_money(expected_amount, expected_currency),
                max_amount=amount_limit(max_amount),
            )

        return self._carry_out(operation, allow_backfill, journal_conn_id)

    def pay_crm_payment(
        self,
        *,
        payment_id: int | str,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        allow_zero: bool = False,
        max_amount: Decimal | str | int | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
    ) -> dict[str, Any]:
        """Mark a payment of a deal or smart invoice as paid, as ``PayCrmPaymentOperator`` does."""

        def operation(_: Context) -> Operation:
            from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment

            return PayCrmPayment(
                portal=self._hook.portal,
                payment_id=positive_id(payment_id, "payment_id"),
                expected=expected_money(expected_amount, expected_currency),
                allow_zero=switch(allow_zero, "allow_zero"),
                max_amount=amount_limit(max_amount),
            )

        return self._carry_out(operation, allow_backfill, journal_conn_id)

    def pay_payment(
        self,
        *,
        payment_id: int | str,
        pay_system_id: int | str,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        allow_zero: bool = False,
        max_amount: Decimal | str | int | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
    ) -> dict[str, Any]:
        """Record a payment as paid through its pay system, as ``PayPaymentOperator`` does."""

        def operation(_: Context) -> Operation:
            from airflow_provider_bitrix24.at_most_once.operations.pay_payment import PayPayment

            return PayPayment(
                portal=self._hook.portal,
                payment_id=positive_id(payment_id, "payment_id"),
                pay_system_id=positive_id(pay_system_id, "pay_system_id"),
                expected=expected_money(expected_amount, expected_currency),
                allow_zero=switch(allow_zero, "allow_zero"),
                max_amount=amount_limit(max_amount),
            )

        return self._carry_out(operation, allow_backfill, journal_conn_id)

    def unpay_crm_payment(
        self,
        *,
        payment_id: int | str,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        max_amount: Decimal | str | int | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
    ) -> dict[str, Any]:
        """Set a payment of a deal or smart invoice back to unpaid, as ``UnpayCrmPaymentOperator`` does."""

        def operation(_: Context) -> Operation:
            from airflow_provider_bitrix24.at_most_once.operations.unpay_crm_payment import UnpayCrmPayment

            return UnpayCrmPayment(
                portal=self._hook.portal,
                payment_id=positive_id(payment_id, "payment_id"),
                expected=expected_money(expected_amount, expected_currency),
                max_amount=amount_limit(max_amount),
            )

        return self._carry_out(operation, allow_backfill, journal_conn_id)

    def delete_crm_payment(
        self,
        *,
        payment_id: int | str,
        expected_amount: Decimal | str | int | None = None,
        expected_currency: str | None = None,
        allow_paid: bool = False,
        max_amount: Decimal | str | int | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
    ) -> dict[str, Any]:
        """Delete a payment of a deal or smart invoice, as ``DeleteCrmPaymentOperator`` does."""

        def operation(_: Context) -> Operation:
            from airflow_provider_bitrix24.at_most_once.operations.delete_crm_payment import DeleteCrmPayment

            return DeleteCrmPayment(
                portal=self._hook.portal,
                payment_id=positive_id(payment_id, "payment_id"),
                expected=expected_money(expected_amount, expected_currency),
                allow_paid=switch(allow_paid, "allow_paid"),
                max_amount=amount_limit(max_amount),
            )

        return self._carry_out(operation, allow_backfill, journal_conn_id)

    def add_crm_payment(
        self,
        *,
        entity_id: int | str,
        entity_type_id: int | str = 2,
        pay_system_id: int | str | None = None,
        fill_products: bool = False,
        products: Sequence[Mapping[str, Any]] | None = None,
        if_unpaid_exists: Literal["add", "return", "fail"] = "add",
        idempotency_key: str | None = None,
        part: str | None = None,
        tag: bool = False,
        on_unknown: Literal["fail", "adopt"] = "fail",
        max_amount: Decimal | str | int | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
    ) -> dict[str, Any]:
        """Add a payment to a deal or smart invoice, as ``AddCrmPaymentOperator`` does.

        :param part: which of several payments of this task it is, such as "deposit". The key is the task's identity
            and this, so each payment that one task adds needs another one; not together with ``idempotency_key``.
        """

        def operation(context: Context) -> Operation:
            from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment

            chosen = None if products is None else chosen_products(products, "products")
            if switch(fill_products, "fill_products") and chosen:
                raise Bitrix24ConfigError("Give products or fill_products=True, not both.", NOT_SENT)
            key = _key_in_portal(context, idempotency_key, part, tag=switch(tag, "tag"), journal=journal_conn_id)
            return AddCrmPayment(
                portal=self._hook.portal,
                key=f"{self._hook.portal}:{key}",
                entity_id=positive_id(entity_id, "entity_id"),
                entity_type_id=read_entity_type_id(entity_type_id),
                pay_system_id=optional_id(pay_system_id, "pay_system_id"),
                fill_products=fill_products,
                products=chosen,
                if_unpaid_exists=one_of(if_unpaid_exists, "if_unpaid_exists", ("add", "return", "fail")),
                on_unknown=one_of(on_unknown, "on_unknown", ("fail", "adopt")),
                tag=tag,
                max_amount=amount_limit(max_amount),
            )

        return self._carry_out(operation, allow_backfill, journal_conn_id)

    # -- one attempt

    def _carry_out(
        self, make: Callable[[Context], Operation], allow_backfill: bool | None, journal_conn_id: str | None
    ) -> dict[str, Any]:
        return fail_if_final(lambda: self._attempt(make, allow_backfill, journal_conn_id))

    def _attempt(
        self, make: Callable[[Context], Operation], allow_backfill: bool | None, journal_conn_id: str | None
    ) -> dict[str, Any]:
        from airflow_provider_bitrix24.at_most_once.operation import Failure
        from airflow_provider_bitrix24.operators.metrics import count

        context = _running_task()
        operation, engine = with_what_is_known(
            context, lambda: self._prepared(context, make, allow_backfill, journal_conn_id), many=True
        )
        log = self._hook.log
        log.info("%s, by the connection %r.", operation.subject, self._hook.bitrix24_conn_id)
        result = engine.run_one(operation)
        count(operation, result)
        if isinstance(result, Failure):
            raise result.error
        receipt = result.as_dict()
        _used_keys(context).add(operation.key)
        log.info("Receipt: %s", receipt)
        return receipt

    def _prepared(
        self,
        context: Context,
        make: Callable[[Context], Operation],
        allow_backfill: bool | None,
        journal_conn_id: str | None,
    ) -> tuple[Operation, PaymentEngine]:
        hook = self._hook
        database = named_journal(journal_conn_id) is not None
        retries: Any = context["task"].retries or 0
        begun = begin(context, retries=retries, resumed=False, database=database, many=True)
        backfill = may_backfill(allow_backfill)
        operation = make(context)
        if operation.key in _used_keys(context):
            raise Bitrix24ConfigError(
                f"This task has worked on {operation.key!r} already, and one key stands for one operation.",
                "Nothing "
                "more was sent. Give each payment that a task adds a part or an idempotency_key of its own; to pay a "
                "payment again after it was set back to unpaid, use a task of its own.",
            )
        journal = journal_of(context, journal_conn_id, hook.log, begun.state, host=hook.settings.address)
        engine = engine_of(context, hook, journal, hook.log, lost=begun.lost, database=database, backfill=backfill)
        opened(context, journal, hook.portal, operation.key)
        return operation, engine


def _running_task() -> Context:
    """Return the context of the running task.

    :raises Bitrix24ConfigError: none is running in this process.
    """
    from airflow.sdk import get_current_context

    try:
        return get_current_context()
    except RuntimeError:
        pass
    raise Bitrix24ConfigError(
        "hook.payments works only in a running task, such as a @task function: its journal and safeguards are the "
        "task's.",
        NOT_SENT,
        "Use an operator, or hook.rest, which sends a call as it is.",
    )


def _used_keys(context: Context) -> set[str]:
    noted: Any = context
    found: set[str] = noted.setdefault(_USED, set())
    return found


def _key_in_portal(context: Context, idempotency_key: Any, part: Any, *, tag: bool, journal: Any) -> str:
    """Return the author's key, if there is something that keeps it across runs, else the task's identity and part."""
    key, name = business_key(idempotency_key), business_key(part, "part")
    if key is None:
        return identity(context) + (f":part:{name}" if name else "")
    if name is not None:
        raise Bitrix24ConfigError("Give idempotency_key or part, not both.", NOT_SENT)
    if named_journal(journal) is None and not tag:
        raise Bitrix24ConfigError(
            f"idempotency_key {shown(key)} needs a journal that all runs share; Airflow's own task state is that of "
            "one run.",
            NOT_SENT,
            "Set journal_conn_id or tag=True; or give part instead, for one payment in each run.",
        )
    return f"key:{key}"
