"""What is on the books, for people and the control plane: plain JSON, money as strings, times as ISO, no secrets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.model import OWNER_TYPES, money_text, plain, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.sandbox.portal.model import Item, State


_PLAIN_TABLES = words("invoices pay_systems handlers users shipments companies contacts chats messages")


def _row(row: Any) -> dict[str, Any]:
    shown = plain(row)
    for column in fields(row):
        if str(column.type).startswith("float"):
            shown[column.name] = php.iso(shown[column.name])
    return shown


def _item(
    item: Item, rows: Mapping[tuple[str, int], list[dict[str, Any]]], bound: Mapping[tuple[int, int], set[int]]
) -> dict[str, Any]:
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
        "product_rows": rows.get((short, item.id), []),
        "order_ids": sorted(bound.get((item.entity_type_id, item.id), ()), reverse=True),
    }


_NOBODY: dict[str, int | None] = {"entity_type_id": None, "entity_id": None}


def _owners(state: State) -> dict[int, dict[str, int | None]]:
    """What each order is bound to, first binding first."""
    found: dict[int, dict[str, int | None]] = {}
    for row in state.bindings.values():
        found.setdefault(row.order_id, {"entity_type_id": row.owner_type_id, "entity_id": row.owner_id})
    return found


def view_state(state: State) -> dict[str, Any]:
    """Every table; payments and orders with the item that they belong to."""
    rows, bound = defaultdict(list), defaultdict(set)
    for row in sorted(state.product_rows.values(), key=lambda row: (row.sort, row.id)):
        rows[row.owner_type, row.owner_id].append(_row(row))
    for binding in state.bindings.values():
        if binding.order_id in state.orders:
            bound[binding.owner_type_id, binding.owner_id].add(binding.order_id)
    shown: dict[str, Any] = {
        table: [_item(item, rows, bound) for item in getattr(state, table).values()]
        for table in ("deals", "smart_invoices", "leads")
    }
    for table in _PLAIN_TABLES:
        shown[table] = [_row(row) for row in getattr(state, table).values()]
    owners = _owners(state)
    items = defaultdict(list)
    for item in state.payable_items.values():
        items[item.payment_id].append(_row(item))
    shown["payments"] = [
        {**_row(payment), **owners.get(payment.order_id, _NOBODY), "items": items[payment.id]}
        for payment in state.payments.values()
    ]
    shown["orders"] = [{**_row(order), **owners.get(order.id, _NOBODY)} for order in state.orders.values()]
    shown["options"] = dict(state.options)
    return shown
