"""``crm.item.*``: leads, deals and smart invoices in camelCase; ``crm.category.list``: their pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import (
    Condition,
    as_mapping,
    convert,
    lenient_conditions,
    split_key,
)
from airflow_provider_bitrix24.sandbox.portal.item_fields import TEMPLATES, TYPES
from airflow_provider_bitrix24.sandbox.portal.item_values import (
    FREE,
    OWN_COLUMNS,
    kind_of,
    new_item,
    put,
    record,
    remove,
    value_of,
    values_of,
    wire,
)
from airflow_provider_bitrix24.sandbox.portal.model import DEAL, SMART_INVOICE, Item
from airflow_provider_bitrix24.sandbox.portal.pages import page_of
from airflow_provider_bitrix24.sandbox.portal.payments import RIGHTS, check_staff
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, rest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.sandbox.portal.tables import Table


def _type(call: Call, entity_type_id: int, right: str) -> Table[Item]:
    check_staff(call)
    if entity_type_id == 5:
        raise RestError("ENTITY_TYPE_NOT_SUPPORTED", "Entity type is not supported")
    if entity_type_id not in RIGHTS:
        raise RestError("NOT_FOUND", "Smart process not found")
    if not call.may(f"{RIGHTS[entity_type_id]}.{right}"):
        raise RestError("ACCESS_DENIED", "Access denied")
    return call.state.items(entity_type_id)


def _find(items: Table[Item], number: int) -> Item:
    item = items.get(number)
    if item is None:
        raise RestError("NOT_FOUND", "Element not found")
    return item


@rest("crm.item.get", scope="crm")
def item_get(call: Call, entity_type_id: int, id: int) -> object:
    """One item."""
    return {"item": wire(_find(_type(call, entity_type_id, "read"), id))}


def _holds(item: Item, filter_: Mapping[str, Any], known: set[str]) -> bool:
    """Is a filter, with its nested groups, true of this item?"""
    results = []
    for key, value in filter_.items():
        if key == "logic":
            continue
        if key.isdigit():
            results.append(_holds(item, as_mapping(value), known))
            continue
        operator, name = split_key(key)
        if name not in known and not FREE.match(name):
            raise RestError("INVALID_ARG_VALUE", f"Invalid filter: field '{name}' is not allowed in filter")
        try:
            wanted = convert(kind_of(name), value)
        except ValueError:
            raise RestError("INVALID_ARG_VALUE", f"Invalid filter: field '{name}' has invalid value") from None
        condition = Condition(operator, name, wanted)
        results.append(any(condition.holds(value) for value in values_of(item, name)))
    return any(results) if php.to_text(filter_.get("logic")).upper() == "OR" else all(results)


def _id_conditions(filter_: Mapping[str, Any]) -> list[Condition]:
    """What a filter says of the ids, unless it is but one of several possibilities."""
    if php.to_text(filter_.get("logic")).upper() == "OR":
        return []
    return lenient_conditions({key: value for key, value in filter_.items() if key != "logic"}, {"id": "integer"})


@rest("crm.item.list", scope="crm")
def item_list(
    call: Call,
    entity_type_id: int,
    select: list[str] | None = None,
    filter: dict[str, Any] | None = None,
    order: dict[str, Any] | None = None,
) -> object:
    """Items, 50 to a page; unknown fields in filter or order are errors."""
    items = _type(call, entity_type_id, "read")
    blank = Item(id=0, entity_type_id=entity_type_id, fields=TEMPLATES[entity_type_id])
    known = set(wire(blank)) | {"entityTypeId"}
    _holds(blank, filter or {}, known)  # an unknown field is an error even if there is nothing to filter
    for name in order or {}:
        if name not in known:
            raise RestError("INVALID_ARG_VALUE", f"Invalid order: field '{name}' is not allowed in order")
    page = page_of(
        items,
        _id_conditions(filter or {}),
        list((order or {"id": "asc"}).items()),
        call.params.get("start", 0),
        value_of,
        column_of=OWN_COLUMNS.get,
        holds=(lambda item: _holds(item, filter, known)) if filter else None,
        total_without_count=0,
    )
    names = [php.to_text(name) for name in select or []]
    shown = [wire(item) for item in page.result]
    if names and "*" not in names:
        shown = [{name: value for name, value in row.items() if name in {"id", *names}} for row in shown]
    return Listing({"items": shown}, page.total, page.next)


@rest("crm.item.add", scope="crm", writes=True)
def item_add(call: Call, entity_type_id: int, fields: dict[str, Any] | None = None) -> object:
    """A new item."""
    _type(call, entity_type_id, "add")
    item = new_item(call.state, entity_type_id, fields or {}, now=call.now, user_id=call.user.id)
    record(call, "item_added", item)
    return {"item": wire(item)}


@rest("crm.item.update", scope="crm", writes=True)
def item_update(call: Call, entity_type_id: int, id: int, fields: dict[str, Any]) -> object:
    """Change an item. The currency of its order stays as it was."""
    item = _find(_type(call, entity_type_id, "update"), id)
    if names := put(item, fields):
        item.fields |= {"updatedTime": php.iso(call.now), "updatedBy": call.user.id}
        record(call, "item_changed", item, changed=names)
    return {"item": wire(item)}


@rest("crm.item.delete", scope="crm", writes=True)
def item_delete(call: Call, entity_type_id: int, id: int) -> object:
    """Remove an item with its product rows. Its orders and their payments stay."""
    items = _type(call, entity_type_id, "delete")
    if id not in items:
        raise RestError("NOT_FOUND", "Item not found")
    remove(call, items[id])
    return []


#: The pipeline of each type. As documented, that of deals shows no ids of another system.
_CATEGORIES: dict[int, dict[str, Any]] = {
    DEAL: {"id": 0, "name": "General", "sort": 300},
    SMART_INVOICE: {"id": 1, "name": "General", "sort": 500, "originId": "", "originatorId": ""},
}


@rest("crm.category.list", scope="crm")
def category_list(call: Call, entity_type_id: int) -> object:
    """The pipelines of a type, as far as the caller may read them."""
    if entity_type_id not in RIGHTS:
        raise RestError("NOT_FOUND", "Smart process not found")
    if entity_type_id not in _CATEGORIES:
        raise RestError("ENTITY_TYPE_NOT_SUPPORTED", f"Entity type {TYPES[entity_type_id]} is not supported")
    may_read = call.may(f"{RIGHTS[entity_type_id]}.read")
    rows = [_CATEGORIES[entity_type_id] | {"entityTypeId": entity_type_id, "isDefault": "Y"}] if may_read else []
    return Listing({"categories": rows}, len(rows))
