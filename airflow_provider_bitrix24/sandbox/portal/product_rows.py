"""``crm.item.productrow.*``: goods on items, and how much of them no payment has taken yet."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import orders, php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import (
    Condition,
    Unconvertible,
    as_mapping,
    convert,
    field_value,
    split_key,
)
from airflow_provider_bitrix24.sandbox.portal.model import OWNER_TYPES, ZERO, Item, ProductRow
from airflow_provider_bitrix24.sandbox.portal.pages import page_of
from airflow_provider_bitrix24.sandbox.portal.payments import RIGHTS, column_types
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, changed, rest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.sandbox.portal.model import State

_CENT = Decimal("0.01")
COLUMNS = {php.camel(name): kind for name, kind in column_types(ProductRow).items()}
_WRITABLE = set(COLUMNS) - {"id", "ownerId", "ownerType"}


def wire(row: ProductRow, *, quantity: Decimal | None = None, store: bool = False) -> dict[str, Any]:
    """A row with its computed prices: without tax, and before the discount."""
    tax = 1 + (row.tax_rate or ZERO) / 100
    exclusive = (row.price / tax).quantize(_CENT, ROUND_HALF_UP)
    left = 1 - row.discount_rate / 100
    netto = exclusive / left if left > 0 else exclusive

    def cents(amount: Decimal) -> int | float | None:
        return php.number(amount.quantize(_CENT, ROUND_HALF_UP))

    shown = {
        "id": row.id,
        "ownerId": row.owner_id,
        "ownerType": row.owner_type,
        "productId": row.product_id,
        "productName": row.product_name,
        "price": php.number(row.price),
        "priceAccount": php.number(row.price),
        "priceExclusive": cents(exclusive),
        "priceNetto": cents(netto),
        "priceBrutto": cents(netto.quantize(_CENT, ROUND_HALF_UP) * tax),
        "quantity": php.number(row.quantity if quantity is None else quantity),
        "discountTypeId": row.discount_type_id,
        "discountRate": php.number(row.discount_rate),
        "discountSum": cents(netto - exclusive),
        "taxRate": php.number(row.tax_rate),
        "taxIncluded": row.tax_included,
        "customized": "Y",
        "measureCode": row.measure_code,
        "measureName": "pcs" if row.measure_code == 796 else "m",
        "sort": row.sort,
        "xmlId": row.xml_id,
        "type": 4,
    }
    return shown | {"storeId": 1} if store else shown


def _owner(call: Call, owner_type: str, owner_id: int, right: str) -> Item:
    if owner_type not in OWNER_TYPES:
        raise RestError("ENTITY_TYPE_NOT_SUPPORTED", "Working with this type of objects is not supported")
    kind = OWNER_TYPES[owner_type]
    if not call.may(f"{RIGHTS[kind]}.{right}"):
        raise RestError("ACCESS_DENIED", "Access denied")
    item = call.state.items(kind).get(owner_id)
    if item is None:
        raise RestError("OWNER_NOT_FOUND", "Owner was not found")
    return item


def _owner_or_nothing(call: Call, owner_type: str, owner_id: int) -> None:
    """Check that the rows of an owner may be read; in one variant a missing owner is one without rows."""
    try:
        _owner(call, owner_type, owner_id, "read")
    except RestError as error:
        if error.code != "OWNER_NOT_FOUND" or not call.state.options["missing_owner_has_no_rows"]:
            raise


def _find(call: Call, number: int, right: str) -> ProductRow:
    row = call.state.product_rows.get(number)
    if row is None:
        raise RestError("NOT_FOUND", "Item not found")
    _owner(call, row.owner_type, row.owner_id, right)
    return row


def rows_of(state: State, owner_type: str, owner_id: int) -> list[ProductRow]:
    """The rows of an item, in their order."""
    rows = [row for row in state.product_rows.having("owner_id", owner_id) if row.owner_type == owner_type]
    return sorted(rows, key=lambda row: (row.sort, row.id))


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in given if name not in _WRITABLE | {"ownerId", "ownerType"}]
    if unknown:
        raise RestError("INVALID_ARG_VALUE", f"Unknown field {unknown[0]}")
    values: dict[str, Any] = {}
    for name in _WRITABLE & set(given):
        try:
            value = field_value(COLUMNS[name], given[name])
        except Unconvertible:
            raise RestError("INVALID_ARG_VALUE", f"Invalid value of field {name}") from None
        if value is not None or name == "taxRate":
            values[php.snake(name, upper=False)] = value
    return values


def new_row(state: State, owner_type: str, owner_id: int, given: Mapping[str, Any]) -> ProductRow:
    """A new row; a product without a name gets one."""
    values = _values(given)
    row = ProductRow(state.new_id("product_rows"), owner_type, owner_id, **values)
    row.product_name = row.product_name or f"Product {row.product_id}"
    state.product_rows[row.id] = row
    return row


def recount_item(state: State, owner_type: str, owner_id: int) -> None:
    """Unless somebody set it by hand, the amount of an item is that of its rows."""
    item = state.items(OWNER_TYPES[owner_type])[owner_id]
    if item.fields.get("isManualOpportunity") != "Y":
        item.opportunity = sum((row.price * row.quantity for row in rows_of(state, owner_type, owner_id)), ZERO)


def _saved(call: Call, event: str, owner_type: str, owner_id: int, **facts: Any) -> None:
    recount_item(call.state, owner_type, owner_id)
    call.record(event, entity_type_id=OWNER_TYPES[owner_type], entity_id=owner_id, **facts)


@rest("crm.item.productrow.add", scope="crm", writes=True)
def add(call: Call, fields: dict[str, Any]) -> object:
    """Put goods on an item."""
    owner_type, owner_id = php.to_text(fields.get("ownerType")), php.to_int(fields.get("ownerId"))
    _owner(call, owner_type, owner_id, "update")
    row = new_row(call.state, owner_type, owner_id, fields)
    _saved(call, "row_added", owner_type, owner_id, row_id=row.id)
    return {"productRow": wire(row)}


@rest("crm.item.productrow.get", scope="crm")
def get(call: Call, id: int) -> object:
    """One row."""
    return {"productRow": wire(_find(call, id, "read"), store=True)}


@rest("crm.item.productrow.update", scope="crm", writes=True)
def update(call: Call, id: int, fields: dict[str, Any]) -> object:
    """Change a row. What a payment has already taken of it stays as it was."""
    row = _find(call, id, "update")
    if names := changed(row, _values(fields)):
        _saved(call, "row_changed", row.owner_type, row.owner_id, row_id=row.id, changed=names)
    return {"productRow": wire(row)}


@rest("crm.item.productrow.set", scope="crm", writes=True)
def set_(call: Call, owner_type: str, owner_id: int, product_rows: list[Any]) -> object:
    """Replace all rows of an item; rows given with their id are kept."""
    _owner(call, owner_type, owner_id, "update")
    given = [dict(as_mapping(row)) for row in product_rows]
    kept = {php.to_int(row.get("id")) for row in given}
    for row in rows_of(call.state, owner_type, owner_id):
        if row.id not in kept:
            del call.state.product_rows[row.id]
    own = {row.id for row in rows_of(call.state, owner_type, owner_id)}
    result = []
    for values in given:
        number = php.to_int(values.pop("id", 0))
        if number in own:
            changed(call.state.product_rows[number], _values(values))
            result.append(call.state.product_rows[number])
        else:
            result.append(new_row(call.state, owner_type, owner_id, values))
    _saved(call, "rows_set", owner_type, owner_id)
    return {"productRows": [wire(row) for row in result]}


@rest("crm.item.productrow.delete", scope="crm", writes=True)
def delete(call: Call, id: int) -> object:
    """Take a row off an item; says nothing."""
    row = _find(call, id, "update")
    del call.state.product_rows[row.id]
    _saved(call, "row_deleted", row.owner_type, row.owner_id, row_id=row.id)
    return None


@rest("crm.item.productrow.list", scope="crm")
def list_(call: Call, filter: dict[str, Any], order: dict[str, Any] | None = None) -> object:
    """The rows of one item, 50 to a page; the item must be named in the filter."""
    parsed = [(*split_key(key), value) for key, value in filter.items()]
    equal = {name: value for operator, name, value in parsed if operator == "="}
    if "ownerType" not in equal or "ownerId" not in equal:
        if call.state.options["missing_owner_has_no_rows"]:
            return Listing({"productRows": []}, 0)
        raise RestError("INVALID_ARG_VALUE", "Filter must contain ownerType and ownerId")
    _owner_or_nothing(call, php.to_text(equal["ownerType"]), php.to_int(equal["ownerId"]))
    for name in [name for _, name, _ in parsed] + list(order or {}):
        if name not in COLUMNS:
            raise RestError("INVALID_ARG_VALUE", f"Invalid filter: field '{name}' is not allowed in filter")
    try:
        conditions = [Condition(operator, name, convert(COLUMNS[name], value)) for operator, name, value in parsed]
    except Unconvertible:
        raise RestError("INVALID_ARG_VALUE", "Invalid filter: a value is not of its field's type") from None
    directions = list((order or {"id": "asc"}).items())
    start = call.params.get("start", 0)
    page = page_of(call.state.product_rows, conditions, directions, start, _read, column_of=_column)
    return Listing({"productRows": [wire(row, store=True) for row in page.result]}, page.total, page.next)


def _column(name: str) -> str:
    return php.snake(name, upper=False)


def _read(row: ProductRow, name: str) -> Any:
    return getattr(row, _column(name))


_COMPUTED = {
    "priceExclusive": "double",
    "priceNetto": "double",
    "priceBrutto": "double",
    "discountSum": "double",
    "customized": "char",
    "measureName": "string",
    "type": "integer",
    "storeId": "integer",
}
_READ_ONLY = {"id", "priceExclusive", "priceNetto", "priceBrutto", "type", "storeId"}


@rest("crm.item.productrow.fields", scope="crm")
def fields(call: Call) -> object:
    """What the fields are."""
    kinds = {name: kind for name, kind in COLUMNS.items() if name != "xmlId"} | _COMPUTED | {"taxIncluded": "char"}
    return {
        "fields": {
            name: {
                "type": kind,
                "isRequired": name in ("ownerId", "ownerType", "productId"),
                "isReadOnly": name in _READ_ONLY,
                "isImmutable": name in ("ownerId", "ownerType"),
                "isMultiple": False,
                "isDynamic": False,
                "title": name,
            }
            for name, kind in kinds.items()
        }
    }


@rest("crm.item.productrow.getAvailableForPayment", scope="crm")
def available_for_payment(call: Call, owner_id: int, owner_type: str) -> object:
    """The rows of which something is left that no payment pays for, with what is left."""
    _owner_or_nothing(call, owner_type, owner_id)
    left = [(row, orders.available_quantity(call.state, row.id)) for row in rows_of(call.state, owner_type, owner_id)]
    return {"productRows": [wire(row, quantity=quantity) for row, quantity in left if quantity > 0]}
