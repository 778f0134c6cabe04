"""The operator that adds hundreds of payments in one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_bitrix24.api.values import ENTITY_NAMES, positive_id, shown
from airflow_provider_bitrix24.api.values import entity_type_id as read_entity_type_id
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.arguments import (
    business_key,
    chosen_products,
    given,
    one_of,
    optional_id,
    switch,
)
from airflow_provider_bitrix24.operators.journals import identity, named_journal
from airflow_provider_bitrix24.operators.list_base import BATCH_SIZE, PaymentListOperator
from airflow_provider_bitrix24.operators.new_payments import IF_UNPAID_EXISTS
from airflow_provider_bitrix24.operators.rows import Row, WrongRows, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

    from airflow.sdk import Context

    from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
    from airflow_provider_bitrix24.at_most_once.preview import Preview
    from airflow_provider_bitrix24.operators.list_report import FailOn, Item
    from airflow_provider_bitrix24.operators.new_payments import IfUnpaidExists


class AddCrmPaymentsOperator(PaymentListOperator):
    """Add many payments to deals and smart invoices, each at most once for its key, by ``crm.item.payment.add``.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-add.html

    All rows are checked before the first payment is added. A payment that fails does not stop the others. A later
    attempt or a cleared task goes on with what is not done; another run does so for rows with an ``idempotency_key``.
    Payments share their requests only with a SQL journal, or with ``tag``: without both, nothing could tell apart
    what several keys have added, and each payment takes three requests of its own. Two payments of one object are
    added one after another.

    :param items: (templated) ids of objects, or mappings with ``entity_id`` and, if wanted, ``entity_type_id``,
        ``pay_system_id``, ``products`` and ``idempotency_key``: a list, the output of another task, or the path of a
        CSV or JSONL file with such columns (any path of Airflow's object storage). Without ``idempotency_key``, the key
        is made of the task's identity and the object.
    :param entity_type_id: (templated) 2 or "deal", 31 or "smart_invoice", for all rows that name none.
    :param pay_system_id: (templated) pay system, kind ORDER, for all rows that name none; else the portal chooses.
    :param fill_products: put all product rows in that are still available, in rows that name no ``products``.
    :param tag: write a digest of the key into each payment (field ``xmlId``), and look for it before adding. Needs the
        scope ``sale`` and an administrator's webhook.
    :param if_unpaid_exists: (templated) what to do if an object has an unpaid payment: "add" another one, "return" it
        (status ``existing``), or "fail" (status ``refused``).
    :param max_amount: (templated) refuse to add each payment of more than this; text such as "5000.00". By default the
        option ``[bitrix24] max_amount`` of Airflow's configuration.
    :param max_total: (templated) send nothing if the product rows that the list would put in add up to more than this,
        whatever their currencies. Needs ``fill_products`` or ``products`` in each row.
    :param batch_size: how many payments share a request: 1 to 50, where 49 and 50 mean 48; it is halved after trouble,
        and grows again.
    :param fail_on: when the task fails: "any" item failed, the outcome of one is "unknown" (or one is not started),
        "never" (not even if the list had to stop), or above a share of failed items such as 0.05.
    :param receipts_path: (templated) JSONL file for the results of all items, such as ``s3://bucket/{{ ds }}.jsonl``;
        needed for more than 500 items.
    :param allow_backfill: work in backfill runs too; by default the option ``[bitrix24] allow_backfill``, else they are
        refused.
    :param journal_conn_id: (templated) Airflow connection of a database (postgres, mysql, sqlite) that keeps the
        journal, so that other runs know it. By default the option ``[bitrix24] journal_conn_id``, else Airflow's task
        state store (3.3); "task_state" for the latter whatever the option says.
    :param deferrable: wait in the triggerer when the portal's working-time limit is reached; else Airflow starts the
        same attempt again later. Neither holds a worker slot, and neither uses a retry. What this task has done is
        not read again then; it waits on the worker if reading again what others have done, or what has failed, would
        use up too much of the limit. Default is ``[operators] default_deferrable``.
    :param bitrix24_conn_id: (templated) Airflow connection; its webhook needs the scope ``crm``.
    :return: as that of :class:`PayInvoicesOperator`.
    """

    noun = "payment"
    job = "add_crm_payments"
    template_fields = (
        "items",
        "entity_type_id",
        "pay_system_id",
        "if_unpaid_exists",
        "max_amount",
        "max_total",
        "receipts_path",
        "journal_conn_id",
        "bitrix24_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"items": "json"}

    def __init__(
        self,
        *,
        items: Iterable[int | str | Mapping[str, Any]] | str,
        entity_type_id: int | str = 2,
        pay_system_id: int | str | None = None,
        fill_products: bool = False,
        tag: bool = False,
        if_unpaid_exists: IfUnpaidExists = "add",
        max_amount: Decimal | str | int | None = None,
        max_total: Decimal | str | int | None = None,
        batch_size: int = BATCH_SIZE,
        fail_on: FailOn = "any",
        receipts_path: str | None = None,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_amount=max_amount,
            max_total=max_total,
            batch_size=batch_size,
            fail_on=fail_on,
            receipts_path=receipts_path,
            allow_backfill=allow_backfill,
            journal_conn_id=journal_conn_id,
            deferrable=deferrable,
            bitrix24_conn_id=bitrix24_conn_id,
            **kwargs,
        )
        self.items = items
        self.entity_type_id = entity_type_id
        self.pay_system_id = pay_system_id
        self.fill_products = fill_products
        self.tag = tag
        self.if_unpaid_exists = if_unpaid_exists
        self.were_given = given(self)

    def checked_items(self, context: Context) -> list[Item]:
        """Check all rows."""
        from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
        from airflow_provider_bitrix24.operators.list_report import Item

        fields = ("entity_id", "entity_type_id", "pay_system_id", "products", "idempotency_key")
        wrong = WrongRows()
        rows = read_rows(self.items, "items", wrong, id_field="entity_id", fields=fields)
        fill, tag = switch(self.fill_products, "fill_products"), switch(self.tag, "tag")
        if_unpaid_exists = one_of(self.if_unpaid_exists, "if_unpaid_exists", IF_UNPAID_EXISTS)
        max_amount = self.limit()

        def operation(row: Row) -> AddCrmPayment:
            entity_id = positive_id(row.get("entity_id"), row.named("entity_id"))
            type_id = read_entity_type_id(row.get("entity_type_id", self.entity_type_id), row.named("entity_type_id"))
            products = row.get("products")
            return AddCrmPayment(
                portal=self.hook.portal,
                key=f"{self.hook.portal}:{self._key_of(context, row, type_id, entity_id)}",
                entity_id=entity_id,
                entity_type_id=type_id,
                pay_system_id=optional_id(row.get("pay_system_id", self.pay_system_id), row.named("pay_system_id")),
                fill_products=fill and products is None,
                products=None if products is None else chosen_products(products, row.named("products")),
                if_unpaid_exists=if_unpaid_exists,
                tag=tag,
                max_amount=max_amount,
                with_orders=False,  # two commands for each object: 50 objects are read in two requests
            )

        pairs = wrong.each(lambda row: (row, operation(row)), rows)
        wrong.add_duplicates(
            ((row, self._name(row, one)) for row, one in pairs),
            "For two payments of one object, give each an idempotency_key of its own; else remove one of them.",
        )
        wrong.refuse()
        self._refuse_total_of_empty_payments([one for _, one in pairs])
        return [Item(row.where, one) for row, one in pairs]

    def _key_of(self, context: Context, row: Row, entity_type_id: int, entity_id: int) -> str:
        """The key: the row's, if there is something that keeps it across runs, else that of the task and the object."""
        given_key = row.get("idempotency_key")
        if given_key is None:
            return f"{identity(context)}:{ENTITY_NAMES[entity_type_id].replace(' ', '_')}:{entity_id}"
        key = business_key(given_key, row.named("idempotency_key"))
        if named_journal(self.journal_conn_id) is None and not self.tag:
            raise Bitrix24ConfigError(
                f"{row.named('idempotency_key')} {shown(key)} needs a journal that all runs share.",
                NOT_SENT,
                "Set journal_conn_id or tag=True, or leave idempotency_key out for one payment in each run.",
            )
        return f"key:{key}"

    @staticmethod
    def _name(row: Row, operation: AddCrmPayment) -> str:
        """What a row names, for messages about duplicates."""
        key = row.get("idempotency_key")
        return operation.subject if key is None else f"the idempotency_key {operation.key.partition(':key:')[2]!r}"

    def _refuse_total_of_empty_payments(self, operations: Sequence[AddCrmPayment]) -> None:
        if self.max_total is not None and not all(one.fill_products or one.products for one in operations):
            raise Bitrix24ConfigError(
                "max_total limits what product rows add up to, and payments without products are added with the sum 0.",
                NOT_SENT,
                "Set fill_products=True, give products in each row, or leave max_total out.",
            )

    def preview(self, items: Sequence[Item]) -> Preview | None:
        """Read the product rows, if their sum is limited."""
        if self.max_total is None:
            return None
        from airflow_provider_bitrix24.at_most_once.preview import preview_products

        operations: Any = [item.operation for item in items]
        return self.read_within_limit(preview_products(self.hook.client, operations))
