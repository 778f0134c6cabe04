"""What is on the portal, for people and the control plane: plain JSON, money as strings, times as ISO, no secrets."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.model import OWNER_TYPES, Item, Order, Payment, money_text, plain, words
from airflow_provider_bitrix24.sandbox.portal.orders import orders_of, owner_of, payments_of
from airflow_provider_bitrix24.sandbox.portal.product_rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_bitrix24.sandbox.portal.model import State
    from airflow_provider_bitrix24.sandbox.portal.tables import Row, Table


#: The tables that people see.
TABLES = words(
    "deals smart_invoices leads payments orders invoices pay_systems handlers users shipments companies contacts chats "
    "messages"
)


def _plain(row: Any) -> dict[str, Any]:
    shown = plain(row)
    for column in fields(row):
        if str(column.type).startswith("float"):
            shown[column.name] = php.iso(shown[column.name])
    return shown


def _owner(state: State, order_id: int) -> dict[str, int | None]:
    binding = owner_of(state, order_id)
    return {
        "entity_type_id": binding.owner_type_id if binding else None,
        "entity_id": binding.owner_id if binding else None,
    }


def _summaries(payments: Iterable[Payment]) -> list[dict[str, Any]]:
    return [{"id": p.id, "paid": p.paid, "sum": money_text(p.sum), "currency": p.currency} for p in payments]


def _item(state: State, item: Item) -> dict[str, Any]:
    short = next(name for name, kind in OWNER_TYPES.items() if kind == item.entity_type_id)
    order_ids = [order.id for order in orders_of(state, item.entity_type_id, item.id)]
    return {
        "id": item.id,
        "entity_type_id": item.entity_type_id,
        "title": item.title,
        "stage_id": item.fields.get("stageId"),
        "opportunity": money_text(item.opportunity),
        "currency": item.currency_id,
        "company_id": item.company_id,
        "contact_ids": list(item.contact_ids),
        "assigned_by_id": item.assigned_by_id,
        "product_rows": [_plain(row) for row in rows_of(state, short, item.id)],
        "order_ids": order_ids,
        "payments": _summaries(payments_of(state, set(order_ids))),
    }


def view_row(state: State, row: Row) -> dict[str, Any]:
    """One row; payments and orders with the item that they belong to."""
    match row:
        case Item():
            return _item(state, row)
        case Payment():
            items = [_plain(item) for item in state.payable_items.having("payment_id", row.id)]
            return {**_plain(row), **_owner(state, row.order_id), "items": items}
        case Order():
            payments = _summaries(state.payments.having("order_id", row.id))
            return {**_plain(row), **_owner(state, row.id), "payments": payments}
    return _plain(row)


def view_state(state: State, newest: int | None = None) -> dict[str, Any]:
    """Every table, or the ``newest`` rows of each; with ``totals`` of the tables and of what is yet to be paid."""
    shown: dict[str, Any] = {}
    totals: dict[str, int] = {}
    for name in TABLES:
        table: Table[Any] = getattr(state, name)
        numbers = table.ids if newest is None else table.ids[-newest:]
        shown[name] = [view_row(state, table[number]) for number in numbers]
        totals[name] = len(table)
    closed = state.invoices.count("status_id", "P") + state.invoices.count("status_id", "D")
    totals |= {"unpaid_payments": state.payments.count("paid", "N"), "unpaid_invoices": len(state.invoices) - closed}
    return {**shown, "totals": totals, "options": dict(state.options)}
