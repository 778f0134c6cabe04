"""Objects made behind the scenes, as a colleague would have made them before the story begins."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.directory import new_client
from airflow_provider_bitrix24.sandbox.portal.item_values import new_item
from airflow_provider_bitrix24.sandbox.portal.model import (
    DEAL,
    LEAD,
    OWNER_TYPES,
    SMART_INVOICE,
    Handler,
    Invoice,
    Order,
    Payment,
    PaySystem,
    Shipment,
    User,
)
from airflow_provider_bitrix24.sandbox.portal.product_rows import new_row, recount_item
from airflow_provider_bitrix24.sandbox.portal.side_tables import Chat

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal.model import State
    from airflow_provider_bitrix24.sandbox.portal.tables import Table

_ITEMS = {"lead": LEAD, "deal": DEAL, "smart_invoice": SMART_INVOICE}
_ROWS: dict[str, tuple[str, type[Any]]] = {
    "user": ("users", User),
    "pay_system": ("pay_systems", PaySystem),
    "handler": ("handlers", Handler),
    "invoice": ("invoices", Invoice),
    "order": ("orders", Order),
    "payment": ("payments", Payment),
    "shipment": ("shipments", Shipment),
    "chat": ("chats", Chat),
}
_COLUMNS = {kind: {row.name: str(row.type) for row in fields(table[1])} for kind, table in _ROWS.items()}
_TYPES: dict[str, Any] = {"int": int, "float": int | float, "str": str, "bool": bool, "list": list, "dict": dict}
_CLIENTS = {"company": "companies", "contact": "contacts"}
KINDS = frozenset([*_ITEMS, *_ROWS, *_CLIENTS, "product_row", "webhook", "application"])


def create_object(state: State, kind: str, given: dict[str, Any], now: float) -> int:
    """One object from fields in snake_case (items and product rows: as REST calls them, camelCase); returns its id.

    An ``id`` may be given. Unknown kinds and fields are refused by name with ``ValueError``.
    """
    if kind in _ITEMS:
        return _create_item(state, _ITEMS[kind], given, now)
    if kind == "product_row":
        return _create_product_row(state, given)
    if kind in _CLIENTS:
        table = _CLIENTS[kind]
        number = _claim(state, table, getattr(state, table), given.pop("id", None))
        return new_client(state, table, given, now=now, number=number).id
    if kind not in _ROWS:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(sorted(KINDS))}")
    table, row_type = _ROWS[kind]
    rows: Table[Any] = getattr(state, table)
    columns = _COLUMNS[kind]
    unknown = sorted(set(given) - set(columns))
    if unknown:
        raise ValueError(f"a {kind} has no {', '.join(unknown)}; it has: {', '.join(columns)}")
    values = {name: _value(columns[name], name, value) for name, value in given.items()}
    if kind == "invoice":
        values = {"date_insert": now, "date_update": now} | values
    number = _claim(state, table, rows, values.pop("id", None))
    try:
        rows[number] = row_type(id=number, **values)
    except TypeError:
        raise ValueError(f"a {kind} needs more than {', '.join(sorted(values)) or 'nothing'}") from None
    if kind == "invoice" and "account_number" not in values:
        rows[number].account_number = str(number)
    return number


def _value(annotation: str, name: str, value: Any) -> Any:
    if annotation.startswith("Decimal") and value is not None:
        amount = php.to_decimal(value)
        if amount is None:
            raise ValueError(f"{name} must be a number, not {value!r}")
        return amount
    kind = re.split(r"[ \[]", annotation)[0]
    fits = isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "bool")
    if not fits and not (value is None and annotation.endswith("None")):
        raise ValueError(f"{name} must be {annotation}, not {value!r}")
    return value


def _claim(state: State, table: str, rows: Table[Any], wanted: int | None) -> int:
    if wanted is None:
        return state.new_id(table)
    if wanted in rows:
        raise ValueError(f"{table} has {wanted} already")
    return wanted


def _create_item(state: State, entity_type_id: int, given: dict[str, Any], now: float) -> int:
    items = state.items(entity_type_id)
    wanted = given.pop("id", None)
    if wanted is not None and wanted in items:
        raise ValueError(f"there is an item {wanted} already")
    user_id = int(given.get("assignedById", 1))
    item = new_item(state, entity_type_id, given, now=now, user_id=user_id)
    if wanted is not None:
        items[wanted] = items.pop(item.id)
        item.id = wanted
        item.title = given.get("title", f"{item.title.partition('#')[0]}#{wanted}")
    return item.id


def _create_product_row(state: State, given: dict[str, Any]) -> int:
    owner_type, owner_id = str(given.get("ownerType", "D")), int(given.get("ownerId", 0))
    if owner_type not in OWNER_TYPES or owner_id not in state.items(OWNER_TYPES[owner_type]):
        raise ValueError(f"no owner {owner_type} {owner_id} for a product row")
    wanted = given.pop("id", None)
    if wanted in state.product_rows:
        raise ValueError(f"there is a product row {wanted} already")
    row = new_row(state, owner_type, owner_id, given)
    if wanted is not None:
        state.product_rows[wanted] = state.product_rows.pop(row.id)
        row.id = wanted
    recount_item(state, owner_type, owner_id)
    return row.id
