"""The values of leads, deals and smart invoices: as they are stored, as clients see them, as filters compare them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import as_list
from airflow_provider_bitrix24.sandbox.portal.item_fields import TEMPLATES, TYPES, WRITABLE
from airflow_provider_bitrix24.sandbox.portal.model import DEAL, OWNER_TYPES, Item

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from airflow_provider_bitrix24.sandbox.portal.model import State
    from airflow_provider_bitrix24.sandbox.portal.registry import Call

OWN = {
    "title": "title",
    "opportunity": "opportunity",
    "taxValue": "tax_value",
    "currencyId": "currency_id",
    "companyId": "company_id",
    "contactIds": "contact_ids",
    "assignedById": "assigned_by_id",
}
OWN_COLUMNS = {**OWN, "id": "id"}
FREE = re.compile(r"(ufCrm_\w+|parentId\d+)\Z")
_MULTIPLE = ("observers", "contactIds")


def new_item(state: State, entity_type_id: int, given: Mapping[str, Any], *, now: float, user_id: int) -> Item:
    """A lead, deal or smart invoice with the fields that were given; what nobody knows is ignored."""
    number = state.new_id({1: "leads", 2: "deals", 31: "smart_invoices"}[entity_type_id])
    stamp = php.iso(now)
    item = Item(id=number, entity_type_id=entity_type_id, assigned_by_id=user_id)
    item.fields = {
        name: value[:] if isinstance(value, list) else value for name, value in TEMPLATES[entity_type_id].items()
    }
    item.fields |= dict.fromkeys(("createdTime", "updatedTime", "movedTime", "lastActivityTime"), stamp)
    item.fields |= dict.fromkeys(("createdBy", "updatedBy", "movedBy", "lastActivityBy"), user_id)
    item.title = f"{TYPES[entity_type_id]} #{number}"
    put(item, given)
    state.items(entity_type_id)[number] = item
    return item


def put(item: Item, given: Mapping[str, Any]) -> list[str]:
    """Write camelCase fields; the names of those that changed."""
    names = []
    for name, value in given.items():
        value = _checked(name, value)
        if name in OWN:
            old, column = getattr(item, OWN[name]), OWN[name]
            if old != value:
                setattr(item, column, value)
                names.append(name)
        elif name == "contactId":
            if item.contact_ids[:1] != [php.to_int(value)]:
                item.contact_ids = [php.to_int(value), *item.contact_ids[1:]]
                names.append(name)
        elif (name in WRITABLE[item.entity_type_id] or FREE.match(name)) and item.fields.get(name) != value:
            item.fields[name] = value
            names.append(name)
    return names


def _checked(name: str, value: Any) -> Any:
    if name in _MULTIPLE:
        if not isinstance(value, list | dict):
            raise RestError(100, f"Expected iterable value for multiple field, but got {type(value).__name__} instead")
        return [php.to_int(each) for each in as_list(value)]
    if name in ("opportunity", "taxValue"):
        return _money(name, value)
    if name in ("companyId", "assignedById"):
        return php.to_int(value)
    if name == "currencyId" and re.fullmatch(r"[A-Z]{3}", php.to_text(value)) is None:
        raise RestError("CRM_FIELD_ERROR_VALUE_NOT_VALID", 'Invalid value for field "Currency"')
    return php.to_text(value) if name in ("title", "currencyId") else php.jsonable(value)


def _money(name: str, value: Any) -> Decimal:
    amount = php.to_decimal(value)
    if amount is None:
        raise RestError("CRM_FIELD_ERROR_VALUE_NOT_VALID", f'Invalid value for field "{name}"')
    return amount


def wire(item: Item) -> dict[str, Any]:
    """An item with every field, in camelCase."""
    own: dict[str, Any] = {name: getattr(item, column) for name, column in OWN.items()}
    own |= {"opportunity": php.number(item.opportunity), "taxValue": php.number(item.tax_value)}
    own["contactId"] = item.contact_ids[0] if item.contact_ids else 0
    if item.entity_type_id not in (DEAL, 31):
        del own["taxValue"]
    return {"id": item.id, **item.fields, **own, "entityTypeId": item.entity_type_id}


def kind_of(name: str) -> str:
    """The type of a field, as filters and ``crm.deal.fields`` call it."""
    if name in ("opportunity", "taxValue"):
        return "double"
    if name in ("id", *_MULTIPLE):
        return "integer"
    if name.endswith("Time") or name in ("begindate", "closedate"):
        return "datetime"
    return "integer" if name.endswith(("Id", "By", "ById")) and not name.startswith(_WORD_IDS) else "string"


#: Fields that end in Id and hold words.
_WORD_IDS = ("stage", "currency", "source", "type", "origin", "previous", "accountCurrency", "xml", "event", "stageSem")


def value_of(item: Item, name: str) -> Any:
    """The value of a field as its type, for comparisons."""
    if name in ("opportunity", "taxValue"):
        return getattr(item, OWN[name])
    return _typed(name, field_of(item, name))


def field_of(item: Item, name: str) -> Any:
    """One field of those that ``wire`` shows."""
    if name == "contactId":
        return item.contact_ids[0] if item.contact_ids else 0
    if name in ("id", "entityTypeId") or name in OWN:
        return getattr(item, OWN.get(name, php.snake(name, upper=False)))
    return item.fields.get(name)


def _typed(name: str, value: Any) -> Any:
    """A value of a field, which may hold what a client has written there, as the type of the field."""
    kind = kind_of(name)
    if value is None or isinstance(value, list | dict) or (kind == "datetime" and not value):
        return None
    return {"datetime": php.parse_time, "integer": php.to_int}.get(kind, php.to_text)(value)


def values_of(item: Item, name: str) -> list[Any]:
    """What a condition on a field is about: its value, or each of those that a multiple field has."""
    if name in _MULTIPLE:
        return [_typed(name, each) for each in field_of(item, name) or [None]]
    return [value_of(item, name)]


def remove(call: Call, item: Item) -> None:
    """Remove an item with its product rows."""
    short = next(name for name, kind in OWNER_TYPES.items() if kind == item.entity_type_id)
    for row in call.state.product_rows.having("owner_id", item.id):
        if row.owner_type == short:
            del call.state.product_rows[row.id]
    del call.state.items(item.entity_type_id)[item.id]
    record(call, "item_deleted", item)


def record(call: Call, event: str, item: Item, **facts: Any) -> None:
    """Write into the ledger what happened to an item."""
    call.record(
        event,
        entity_type_id=item.entity_type_id,
        entity_id=item.id,
        amount=item.opportunity,
        currency=item.currency_id,
        **facts,
    )
