"""What is on the books, for people and the control plane: plain JSON, money as strings, times as ISO, no secrets."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import orders, php
from airflow_provider_bitrix24.sandbox.portal.model import OWNER_TYPES, money_text, plain, words
from airflow_provider_bitrix24.sandbox.portal.product_rows import rows_of

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal.model import Item, State


_PLAIN_TABLES = words("invoices pay_systems handlers users shipments companies contacts chats messages")


def _row(row: Any) -> dict[str, Any]:
    shown = plain(row)
    for column in fields(row):
        if str(column.type).startswith("float"):
            shown[column.name] = php.iso(shown[column.name])
    return shown


def _item(state: State, item: Item) -> dict[str, Any]:
    short = next(name for name, kind in OWNER_TYPES.items() if kind == item.entity_type_id)
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
        "product_rows": [_row(row) for row in rows_of(state, short, item.id)],
        "order_ids": [order.id for order in orders.orders_of(state, item.entity_type_id, item.id)],
    }


def view_state(state: State) -> dict[str, Any]:
    """Every table; payments and orders with the item that they belong to."""
    shown: dict[str, Any] = {
        "deals": [_item(state, item) for item in state.deals.values()],
        "smart_invoices": [_item(state, item) for item in state.smart_invoices.values()],
        "leads": [_item(state, item) for item in state.leads.values()],
    }
    for table in _PLAIN_TABLES:
        shown[table] = [_row(row) for row in getattr(state, table).values()]
    shown["payments"] = []
    for payment in state.payments.values():
        facts = orders.ledger_facts(state, payment)
        items = [_row(item) for item in state.payable_items.values() if item.payment_id == payment.id]
        owner = {"entity_type_id": facts["entity_type_id"], "entity_id": facts["entity_id"]}
        shown["payments"].append({**_row(payment), **owner, "items": items})
    shown["orders"] = []
    for order in state.orders.values():
        binding = orders.owner_of(state, order.id)
        owner = {
            "entity_type_id": binding.owner_type_id if binding else None,
            "entity_id": binding.owner_id if binding else None,
        }
        shown["orders"].append({**_row(order), **owner})
    shown["options"] = dict(state.options)
    return shown
