"""``crm.orderentity.*``: which orders belong to which items."""

from __future__ import annotations

from typing import Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import lenient_conditions, split_key
from airflow_provider_bitrix24.sandbox.portal.model import Binding
from airflow_provider_bitrix24.sandbox.portal.pages import page_of
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, rest

_FIELDS = {"orderId": "integer", "ownerId": "integer", "ownerTypeId": "integer"}


def _check(call: Call, right: str) -> None:
    if not call.may(f"order.{right}"):
        raise RestError("200040300010" if right == "read" else "200040300020", "Access Denied")


def _column(name: str) -> str:
    return php.snake(name, upper=False)


def _read(row: Binding, name: str) -> Any:
    return getattr(row, _column(name))


def _key(fields: dict[str, Any], *names: str) -> dict[str, int]:
    missing = [name for name in names if not php.truthy(fields.get(name))]
    if missing:
        raise RestError("0", f"Required fields: {', '.join(missing)}")
    return {name: php.to_int(fields[name]) for name in names}


def _bound(call: Call, key: dict[str, int]) -> list[Binding]:
    rows = call.state.bindings.having("order_id", key["orderId"])
    return [row for row in rows if all(_read(row, name) == value for name, value in key.items())]


@rest("crm.orderentity.list", scope="crm")
def list_(
    call: Call,
    select: list[str] | None = None,
    filter: dict[str, Any] | None = None,
    order: dict[str, Any] | None = None,
) -> object:
    """Bindings, 50 to a page, by owner; unknown filter keys are dropped."""
    _check(call, "read")
    names = [name for name in map(php.to_text, select or []) if name in _FIELDS] or list(_FIELDS)
    if call.state.options["order_entity_refuses_unknown_filters"]:
        for key in filter or {}:
            if split_key(key)[1] not in _FIELDS:
                raise RestError(0, f"Unknown field {split_key(key)[1]} in filter")
    conditions = lenient_conditions(filter or {}, _FIELDS)
    directions = [(name, way) for name, way in (order or {}).items() if name in _FIELDS] or [("ownerId", "asc")]
    start = call.params.get("start", 0)
    page = page_of(call.state.bindings, conditions, directions, start, _read, column_of=_column)
    shown = [{name: _read(row, name) for name in names} for row in page.result]
    return Listing({"orderEntity": shown}, page.total, page.next)


@rest("crm.orderentity.add", scope="crm", writes=True)
def add(call: Call, fields: dict[str, Any]) -> object:
    """Bind an order to an item; the same binding twice is an error."""
    _check(call, "update")
    key = _key(fields, "orderId", "ownerId", "ownerTypeId")
    if _bound(call, key):
        raise RestError("201650000001", "Duplicate entry for key [ownerId, ownerTypeId, orderId]")
    number = call.state.new_id("bindings")
    call.state.bindings[number] = Binding(number, key["orderId"], key["ownerId"], key["ownerTypeId"])
    call.record("order_bound", entity_type_id=key["ownerTypeId"], entity_id=key["ownerId"], order_id=key["orderId"])
    return {"dealOrder": key}


@rest("crm.orderentity.deleteByFilter", scope="crm", writes=True)
def delete_by_filter(call: Call, fields: dict[str, Any]) -> object:
    """Unbind an order from an item."""
    _check(call, "update")
    key = _key(fields, "ownerId", "ownerTypeId", "orderId")
    for row in _bound(call, key):
        del call.state.bindings[row.id]
        owner = {"entity_type_id": row.owner_type_id, "entity_id": row.owner_id}
        call.record("order_unbound", **owner, order_id=row.order_id)
    return True


@rest("crm.orderentity.getFields", scope="crm")
def get_fields(call: Call) -> object:
    """What the fields are."""
    _check(call, "read")
    shape = {"isImmutable": True, "isReadOnly": False, "isRequired": True}
    return {"orderEntity": {name: {**shape, "type": kind} for name, kind in _FIELDS.items()}}
