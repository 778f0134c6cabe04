"""``crm.item.*`` in camelCase and ``crm.deal.*`` in capital letters: two views of the same items."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import (
    Condition,
    as_list,
    as_mapping,
    convert,
    lenient_conditions,
    split_key,
)
from airflow_provider_bitrix24.sandbox.portal.item_fields import DEAL_NAMES, TEMPLATES, TYPES, WRITABLE
from airflow_provider_bitrix24.sandbox.portal.model import DEAL, OWNER_TYPES, Item, money_text
from airflow_provider_bitrix24.sandbox.portal.pages import page_of
from airflow_provider_bitrix24.sandbox.portal.payments import RIGHTS, check_staff
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, rest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from airflow_provider_bitrix24.sandbox.portal.model import State
    from airflow_provider_bitrix24.sandbox.portal.tables import Table

_OWN = {
    "title": "title",
    "opportunity": "opportunity",
    "taxValue": "tax_value",
    "currencyId": "currency_id",
    "companyId": "company_id",
    "contactIds": "contact_ids",
    "assignedById": "assigned_by_id",
}
_OWN_COLUMNS = {**_OWN, "id": "id"}
_FREE = re.compile(r"(ufCrm_\w+|parentId\d+)\Z")
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
        if name in _OWN:
            old, column = getattr(item, _OWN[name]), _OWN[name]
            if old != value:
                setattr(item, column, value)
                names.append(name)
        elif name == "contactId":
            if item.contact_ids[:1] != [php.to_int(value)]:
                item.contact_ids = [php.to_int(value), *item.contact_ids[1:]]
                names.append(name)
        elif (name in WRITABLE[item.entity_type_id] or _FREE.match(name)) and item.fields.get(name) != value:
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
    own: dict[str, Any] = {name: getattr(item, column) for name, column in _OWN.items()}
    own |= {"opportunity": php.number(item.opportunity), "taxValue": php.number(item.tax_value)}
    own["contactId"] = item.contact_ids[0] if item.contact_ids else 0
    if item.entity_type_id not in (DEAL, 31):
        del own["taxValue"]
    return {"id": item.id, **item.fields, **own, "entityTypeId": item.entity_type_id}


def _kind(name: str) -> str:
    if name in ("opportunity", "taxValue"):
        return "double"
    if name in ("id", *_MULTIPLE):
        return "integer"
    if name.endswith("Time") or name in ("begindate", "closedate"):
        return "datetime"
    return "integer" if name.endswith(("Id", "By", "ById")) and not name.startswith(_WORD_IDS) else "string"


#: Fields that end in Id and hold words.
_WORD_IDS = ("stage", "currency", "source", "type", "origin", "previous", "accountCurrency", "xml", "event", "stageSem")


def _read(item: Item, name: str) -> Any:
    if name in ("opportunity", "taxValue"):
        return getattr(item, _OWN[name])
    return _typed(name, _field(item, name))


def _field(item: Item, name: str) -> Any:
    """One field of those that ``wire`` shows."""
    if name == "contactId":
        return item.contact_ids[0] if item.contact_ids else 0
    if name in ("id", "entityTypeId") or name in _OWN:
        return getattr(item, _OWN.get(name, php.snake(name, upper=False)))
    return item.fields.get(name)


def _typed(name: str, value: Any) -> Any:
    """A value of a field, which may hold what a client has written there, as the type of the field."""
    kind = _kind(name)
    if value is None or isinstance(value, list | dict) or (kind == "datetime" and not value):
        return None
    return {"datetime": php.parse_time, "integer": php.to_int}.get(kind, php.to_text)(value)


def _values(item: Item, name: str) -> list[Any]:
    """What a condition on a field is about: its value, or each of those that a multiple field has."""
    if name in _MULTIPLE:
        return [_typed(name, each) for each in _field(item, name) or [None]]
    return [_read(item, name)]


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
        if name not in known and not _FREE.match(name):
            raise RestError("INVALID_ARG_VALUE", f"Invalid filter: field '{name}' is not allowed in filter")
        try:
            wanted = convert(_kind(name), value)
        except ValueError:
            raise RestError("INVALID_ARG_VALUE", f"Invalid filter: field '{name}' has invalid value") from None
        condition = Condition(operator, name, wanted)
        results.append(any(condition.holds(value) for value in _values(item, name)))
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
        _read,
        column_of=_OWN_COLUMNS.get,
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
    _record(call, "item_added", item)
    return {"item": wire(item)}


@rest("crm.item.update", scope="crm", writes=True)
def item_update(call: Call, entity_type_id: int, id: int, fields: dict[str, Any]) -> object:
    """Change an item. The currency of its order stays as it was."""
    item = _find(_type(call, entity_type_id, "update"), id)
    if names := put(item, fields):
        item.fields |= {"updatedTime": php.iso(call.now), "updatedBy": call.user.id}
        _record(call, "item_changed", item, changed=names)
    return {"item": wire(item)}


@rest("crm.item.delete", scope="crm", writes=True)
def item_delete(call: Call, entity_type_id: int, id: int) -> object:
    """Remove an item with its product rows. Its orders and their payments stay."""
    items = _type(call, entity_type_id, "delete")
    if id not in items:
        raise RestError("NOT_FOUND", "Item not found")
    _remove(call, items[id])
    return []


def _remove(call: Call, item: Item) -> None:
    short = next(name for name, kind in OWNER_TYPES.items() if kind == item.entity_type_id)
    for row in call.state.product_rows.having("owner_id", item.id):
        if row.owner_type == short:
            del call.state.product_rows[row.id]
    del call.state.items(item.entity_type_id)[item.id]
    _record(call, "item_deleted", item)


def _record(call: Call, event: str, item: Item, **facts: Any) -> None:
    call.record(
        event,
        entity_type_id=item.entity_type_id,
        entity_id=item.id,
        amount=item.opportunity,
        currency=item.currency_id,
        **facts,
    )


# -- deals, the old way -----------------------------------------------------------------------------------------------

_DEAL_COLUMNS = {upper: _OWN_COLUMNS[name] for upper, name in DEAL_NAMES.items() if name in _OWN_COLUMNS}
_DEAL_KINDS = {upper: _kind(name) for upper, name in DEAL_NAMES.items()}
_DEAL_WRITABLE = {
    upper: name for upper, name in DEAL_NAMES.items() if name in WRITABLE[DEAL] or name in _OWN or name == "contactId"
}


def _deal_text(item: Item, upper: str) -> str | None:
    name = DEAL_NAMES[upper]
    if name in ("opportunity", "taxValue"):
        return money_text(getattr(item, _OWN[name]))
    value = _field(item, name)
    if name in ("companyId", "contactId") and not value:
        return None
    return None if value is None else php.to_text(value)


def _deal_array(call: Call, name: str) -> Mapping[str, Any]:
    value = call.legacy(name)
    if value is not None and not isinstance(value, dict | list):
        raise RestError("", f"Parameter '{name}' must be array.")
    return as_mapping(value)


def _find_deal(call: Call, right: str, end: str = "") -> Item:
    """The deal that ``id`` names; ``end`` ends the texts of the refusals, as each method has it."""
    number = call.legacy("id")
    if not php.is_numeric(number) or php.to_int(number) <= 0:
        raise RestError("", f"ID is not defined or invalid{end}")
    if not call.may(f"deal.{right}"):
        raise RestError("", f"Access denied{end}")
    item = call.state.deals.get(php.to_int(number))
    if item is None:
        raise RestError("", f"Not found{end}")
    return item


@rest("crm.deal.get", scope="crm")
def deal_get(call: Call) -> object:
    """One deal, every value a string."""
    item = _find_deal(call, "read")
    return {name: _deal_text(item, name) for name in DEAL_NAMES}


@rest("crm.deal.list", scope="crm")
def deal_list(call: Call) -> object:
    """Deals, 50 to a page."""
    order, filter_ = _deal_array(call, "order"), _deal_array(call, "filter")
    if not call.may("deal.read"):
        raise RestError("", "Access denied.")
    conditions = lenient_conditions(filter_, _DEAL_KINDS)

    def read(item: Item, upper: str) -> Any:
        return _read(item, DEAL_NAMES[upper])

    directions = [(name, way) for name, way in order.items() if name in DEAL_NAMES] or [("ID", "ASC")]
    start = call.legacy("start")
    page = page_of(
        call.state.deals,
        conditions,
        directions,
        start,
        read,
        column_of=_DEAL_COLUMNS.get,
    )
    selected = [name for name in map(php.to_text, as_list(call.legacy("select"))) if name in DEAL_NAMES]
    names = selected or list(DEAL_NAMES)
    return Listing([{name: _deal_text(row, name) for name in names} for row in page.result], page.total, page.next)


@rest("crm.deal.add", scope="crm", writes=True)
def deal_add(call: Call) -> object:
    """A new deal."""
    fields = call.legacy("fields")
    if not isinstance(fields, dict):
        raise RestError("", "Parameter 'fields' must be array.")
    if not call.may("deal.add"):
        raise RestError("", "Access denied.")
    given = {_DEAL_WRITABLE[upper]: value for upper, value in fields.items() if upper in _DEAL_WRITABLE}
    try:
        item = new_item(call.state, DEAL, given, now=call.now, user_id=call.user.id)
    except RestError as error:
        raise RestError("", error.text) from None
    _record(call, "item_added", item)
    return item.id


@rest("crm.deal.update", scope="crm", writes=True)
def deal_update(call: Call) -> object:
    """Change a deal. The currency of its order stays as it was."""
    fields = call.legacy("fields")
    if not isinstance(fields, dict):
        raise RestError("", "Parameter 'fields' must be array.")
    item = _find_deal(call, "update", ".")
    try:
        names = put(item, {_DEAL_WRITABLE[upper]: fields[upper] for upper in fields if upper in _DEAL_WRITABLE})
    except RestError as error:
        raise RestError("", error.text) from None
    if names:
        item.fields |= {"updatedTime": php.iso(call.now), "updatedBy": call.user.id}
        _record(call, "item_changed", item, changed=names)
    return True


@rest("crm.deal.delete", scope="crm", writes=True)
def deal_delete(call: Call) -> object:
    """Remove a deal. Its orders and their payments stay."""
    _remove(call, _find_deal(call, "delete", "."))
    return True


@rest("crm.deal.fields", scope="crm")
def deal_fields(call: Call) -> object:
    """What the fields are."""
    shape = {"isRequired": False, "isImmutable": False, "isMultiple": False, "isDynamic": False}
    return {
        upper: {"type": kind, **shape, "isReadOnly": upper not in _DEAL_WRITABLE, "title": upper}
        for upper, kind in _DEAL_KINDS.items()
    }
