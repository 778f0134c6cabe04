"""The operator that adds payments to deals and smart invoices: at most once for one key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

from airflow_provider_bitrix24.api.values import entity_type_id as read_entity_type_id
from airflow_provider_bitrix24.api.values import positive_id, shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.links.bitrix24 import (
    OBJECT_LINKS,
    Bitrix24Link,
    CrmPaymentLink,
    DealLink,
    SmartInvoiceLink,
)
from airflow_provider_bitrix24.operators.arguments import (
    business_key,
    chosen_products,
    given,
    one_of,
    optional_id,
    switch,
)
from airflow_provider_bitrix24.operators.base import ASK_TIMEOUT, PaymentOperator, Plan
from airflow_provider_bitrix24.operators.journals import identity, named_journal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from decimal import Decimal

    from airflow.sdk import BaseOperatorLink, Context

    from airflow_provider_bitrix24.at_most_once.receipt import Receipt

IfUnpaidExists = Literal["add", "return", "fail"]
OnUnknownAdd = Literal["fail", "ask", "adopt"]
IF_UNPAID_EXISTS: Final[tuple[IfUnpaidExists, ...]] = get_args(IfUnpaidExists)


class AddCrmPaymentOperator(PaymentOperator):
    """Add a payment to a deal or smart invoice. Bitrix24 makes an *empty* payment: sum 0, no products.

    ``fill_products=True`` then puts all product rows that are still available for payment into it, ``products`` those
    that are chosen, and both check that the sum is above 0. REST method ``crm.item.payment.add``
    (https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-add.html).

    Every call makes another payment, and no key prevents it on the portal. So the journal and the object are read
    first, the call is sent once for its key, and the payment is read back: three requests. A lost response is resolved
    by reading until nothing of the call can still arrive (the settle window of the connection, 155 s by default, and
    the read lag); a repeated attempt (retry, clear) reads the journal and goes on where the one before ended.

    If the object has an order already, Bitrix24 rewrites it: its responsible user becomes the webhook's user, and its
    client may be cleared. That is logged.

    :param entity_id: (templated) id of the deal or smart invoice.
    :param entity_type_id: (templated) 2 or "deal", 31 or "smart_invoice".
    :param pay_system_id: (templated) pay system of the payment, kind ORDER; by default the portal chooses (cash, if it
        has it). If the portal chose another one, it is corrected by ``crm.item.payment.update``.
    :param fill_products: put all product rows in that are still available. Fractional quantities are refused: Bitrix24
        would cut them off.
    :param products: (templated) instead of ``fill_products``: the product rows to put in, and how many of each, such as
        ``[{"row_id": 7, "quantity": 2}]``. Rows that are not available, and more than is left, are refused before
        anything is sent. Rows and their ids: ``crm.item.productrow.getAvailableForPayment``.
    :param if_unpaid_exists: (templated) what to do if the object has an unpaid payment: "add" another one, "return" it
        (outcome ``existing``; filled only if it is empty), or "fail".
    :param idempotency_key: (templated) name of the business case, such as "order-4711-deposit": one payment for it, in
        whatever run, backfill or manual trigger. 1 to 255 printable characters; blanks around it do not count. Needs
        ``journal_conn_id``, or ``tag``, which holds for runs one after another. By default the task's identity: DAG,
        run, task, map index and, in a task loop (Airflow 3.4), the iteration.
    :param tag: write a digest of the key into the payment (field ``xmlId``), and look for it before adding. Needs the
        scope ``sale`` and an administrator's webhook; off by default, because exchanges with other systems use xmlId.
    :param max_amount: (templated) refuse to add more than this; text such as "5000.00". By default the option
        ``[bitrix24] max_amount`` of Airflow's configuration.
    :param on_unknown: (templated) what to do if the outcome of a send stays unknown: "fail" (no retry, the message
        says what to look at), "ask" a person in the Airflow UI (3.3), or "adopt" the one new payment that is
        there; use it only if nobody else adds payments to this object meanwhile. See the documentation of the
        operators.
    :param ask_timeout: with "ask": how long to wait for the answer; by default one day.
    :param allow_backfill: work in backfill runs too; by default the option ``[bitrix24] allow_backfill``, else they are
        refused.
    :param journal_conn_id: (templated) Airflow connection of a database (postgres, mysql, sqlite) that keeps the
        journal, so that other runs know it. By default the option ``[bitrix24] journal_conn_id`` of Airflow's
        configuration, else Airflow's task state store (3.3), which knows one task instance; "task_state" for the
        latter whatever the option says.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scope ``crm``.
    :param multiple_outputs: push every field of the receipt as its own XCom as well, for ``add.output["payment_id"]``.
    :return: the receipt: ``operation``, ``outcome`` ("created" or "existing"), ``portal``, ``entity_type_id``,
        ``entity_id``, ``payment_id``, ``pay_system_id``, ``amount``, ``currency``, ``idempotency_key``, ``evidence``,
        ``recovered`` (whether an earlier attempt had sent it).
    """

    template_fields = (
        "entity_id",
        "entity_type_id",
        "pay_system_id",
        "products",
        "if_unpaid_exists",
        "idempotency_key",
        "max_amount",
        "on_unknown",
        "journal_conn_id",
        "bitrix24_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = (DealLink(), SmartInvoiceLink(), CrmPaymentLink())
    unknown_answers: ClassVar[tuple[str, ...]] = get_args(OnUnknownAdd)
    send_again: ClassVar[str] = "Add again (may pay twice)"

    def __init__(
        self,
        *,
        entity_id: int | str,
        entity_type_id: int | str = 2,
        pay_system_id: int | str | None = None,
        fill_products: bool = False,
        products: Sequence[Mapping[str, Any]] | None = None,
        if_unpaid_exists: IfUnpaidExists = "add",
        idempotency_key: str | None = None,
        tag: bool = False,
        max_amount: Decimal | str | int | None = None,
        on_unknown: OnUnknownAdd = "fail",
        ask_timeout: timedelta = ASK_TIMEOUT,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_amount=max_amount,
            on_unknown=on_unknown,
            ask_timeout=ask_timeout,
            allow_backfill=allow_backfill,
            journal_conn_id=journal_conn_id,
            bitrix24_conn_id=bitrix24_conn_id,
            multiple_outputs=multiple_outputs,
            **kwargs,
        )
        self.entity_id = entity_id
        self.entity_type_id = entity_type_id
        self.pay_system_id = pay_system_id
        self.fill_products = fill_products
        self.products = products
        self.if_unpaid_exists = if_unpaid_exists
        self.idempotency_key = idempotency_key
        self.tag = tag
        self.were_given = given(self)

    def plan(self, context: Context) -> Plan:
        """Check the arguments and store the link of the object."""
        entity_id = positive_id(self.entity_id, "entity_id")
        entity_type_id = read_entity_type_id(self.entity_type_id)
        pay_system_id = optional_id(self.pay_system_id, "pay_system_id")
        fill_products = switch(self.fill_products, "fill_products")
        products = None if self.products is None else chosen_products(self.products, "products")
        if fill_products and products:
            raise Bitrix24ConfigError("Give products or fill_products=True, not both.", NOT_SENT)
        if_unpaid_exists = one_of(self.if_unpaid_exists, "if_unpaid_exists", IF_UNPAID_EXISTS)
        tag = switch(self.tag, "tag")
        max_amount = self.limit()
        key = f"{self.hook.portal}:{self._key_in_portal(context, tag=tag)}"
        link = OBJECT_LINKS[entity_type_id]
        link.persist(context, origin=self.hook.settings.origin, object_id=entity_id)
        from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment

        operation = AddCrmPayment(
            portal=self.hook.portal,
            key=key,
            entity_id=entity_id,
            entity_type_id=entity_type_id,
            pay_system_id=pay_system_id,
            fill_products=fill_products,
            products=products,
            if_unpaid_exists=if_unpaid_exists,
            on_unknown="adopt" if self.on_unknown == "adopt" else "fail",
            tag=tag,
            max_amount=max_amount,
        )
        return Plan(path=link.path.format(entity_id), operation=operation)

    def stores_link(self, link: Bitrix24Link) -> bool:
        """Tell whether it is the link of the object; that of the payment is stored at the very end."""
        try:
            return type(OBJECT_LINKS[read_entity_type_id(self.entity_type_id)]) is type(link)
        except Bitrix24ConfigError:
            return False

    def _key_in_portal(self, context: Context, *, tag: bool) -> str:
        """Return the key: the author's, if there is something that keeps it across runs, else the task's identity."""
        key = business_key(self.idempotency_key)
        if key is None:
            return identity(context)
        durable = named_journal(self.journal_conn_id) is not None
        if not durable and not tag:
            raise Bitrix24ConfigError(
                f"idempotency_key {shown(key)} needs a journal that all runs share; Airflow's own task state is that "
                "of one run.",
                NOT_SENT,
                "Set journal_conn_id or [bitrix24] journal_conn_id: the Airflow "
                "connection of a database (postgres, mysql, sqlite). Or set tag=True (scope sale, an administrator's "
                "webhook), or leave idempotency_key out for one payment in each run.",
            )
        if not durable:
            self.log.info(
                "idempotency_key %r is kept by the payment's tag alone: that holds for runs one after another, not for "
                "two at the same moment. journal_conn_id holds for those too.",
                key,
            )
        return f"key:{key}"

    def conclude(self, context: Context, receipt: Receipt, *, remembers: bool) -> bool:
        """Store the link of the payment."""
        payment_id = receipt.subject["payment_id"]
        try:
            CrmPaymentLink().persist(context, origin=self.hook.settings.origin, object_id=payment_id)
        except Exception:
            # The payment was added: a missing button must not fail the task, which would hide the payment's id.
            self.log.warning("The link to payment %s could not be stored.", payment_id, exc_info=True)
        return False
