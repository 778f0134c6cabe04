"""``crm.item.payment.product.*`` and ``.delivery.*``: what a payment pays for, and thereby its sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import orders
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError, item_access_denied
from airflow_provider_bitrix24.sandbox.portal.filters import matching, ordered, orm_column, orm_conditions
from airflow_provider_bitrix24.sandbox.portal.model import OWNER_TYPES, PayableItem, Payment, ProductRow
from airflow_provider_bitrix24.sandbox.portal.payments import (
    check_order,
    check_staff,
    find_payment,
    read_column,
    record_payment,
)
from airflow_provider_bitrix24.sandbox.portal.registry import Call, rest

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal.model import Shipment

_COLUMNS = {
    "ID": "integer",
    "PAYMENT_ID": "integer",
    "QUANTITY": "double",
    "TARGET_ID": "integer",
    "DATE_INSERT": "datetime",
    "XML_ID": "string",
}
_ENTITY = r"\Bitrix\Sale\Internals\PayableItem"
#: The wire name of what an item of this kind points to.
_TARGET = {"product": "rowId", "delivery": "deliveryId"}


def _editable(call: Call, payment: Payment) -> None:
    check_order(call, "update")
    if payment.paid == "Y":  # said in the same words as a missing right
        raise item_access_denied()


def _item(call: Call, item_id: int, kind: str) -> PayableItem:
    item = call.state.payable_items.get(item_id)
    if item is None or item.kind != kind:
        raise RestError(0, "Payable item has not been found")
    return item


def _save(call: Call, payment: Payment, event: str, **facts: Any) -> None:
    orders.recount(call.state, payment)
    record_payment(call, event, payment, **facts)


def _add(call: Call, payment: Payment, kind: str, target: ProductRow | Shipment, quantity: int) -> int:
    order = call.state.orders[payment.order_id]
    number = call.state.new_id("payable_items")
    item = PayableItem(number, payment.id, kind, target.id, quantity, target.price, call.now)
    call.state.payable_items[number] = item
    orders.restore_client(call.state, order, call.user.id)
    _save(call, payment, f"{kind}_added", item_id=number, **{_TARGET[kind]: target.id}, quantity=quantity)
    return number


def _list(
    call: Call, payment_id: int, kind: str, filter_: dict[str, Any] | None, order: dict[str, Any] | None
) -> list[dict[str, Any]]:
    check_staff(call)
    payment = find_payment(call.state, payment_id)
    check_order(call, "read")
    target = _TARGET[kind]

    def column(key: str) -> str:
        return key.replace(target, "targetId")

    # the portal writes its own "=PAYMENT_ID" over the caller's
    given = {column(key): value for key, value in (filter_ or {}).items() if key != "=paymentId"}
    conditions = orm_conditions(given, _COLUMNS, _ENTITY)
    directions = [(orm_column(column(key), _COLUMNS, _ENTITY), way) for key, way in (order or {"id": "asc"}).items()]
    own = [item for item in call.state.payable_items.having("payment_id", payment.id) if item.kind == kind]
    rows = ordered(matching(own, conditions, read_column), directions, read_column)
    return [
        {"id": row.id, "paymentId": row.payment_id, "quantity": row.quantity, target: row.target_id} for row in rows
    ]


def _delete(call: Call, item_id: int, kind: str) -> bool:
    check_staff(call)
    item = _item(call, item_id, kind)
    payment = find_payment(call.state, item.payment_id)
    _editable(call, payment)
    del call.state.payable_items[item_id]
    _save(call, payment, f"{kind}_deleted", item_id=item_id, **{_TARGET[kind]: item.target_id}, quantity=item.quantity)
    return True


def _check_quantity(call: Call, row: ProductRow, quantity: int, *, without: int | None = None) -> None:
    if quantity <= 0:
        raise RestError(0, "Product quantity cannot be less than or equal to 0")
    if quantity > orders.available_quantity(call.state, row.id, without=without):
        raise RestError(0, "Insufficient product quantity to add to payment")


@rest("crm.item.payment.product.add", scope="crm", writes=True)
def product_add(call: Call, payment_id: int, row_id: int, quantity: int) -> object:
    """Pay for so many pieces of a row; a fraction of a piece is cut off without a word."""
    check_staff(call)
    payment = find_payment(call.state, payment_id)
    _editable(call, payment)
    if quantity <= 0:
        raise RestError(0, "Product quantity cannot be less than or equal to 0")
    owner = orders.owner_of(call.state, payment.order_id)
    if owner is None:
        raise RestError(0, "Order binding has not been found")
    row = call.state.product_rows.get(row_id)
    if row is None or (OWNER_TYPES[row.owner_type], row.owner_id) != (owner.owner_type_id, owner.owner_id):
        raise RestError(0, "Product item not found")
    _check_quantity(call, row, quantity)
    return _add(call, payment, "product", row, quantity)


@rest("crm.item.payment.product.list", scope="crm")
def product_list(
    call: Call, payment_id: int, filter: dict[str, Any] | None = None, order: dict[str, Any] | None = None
) -> object:
    """The rows that a payment pays for, all at once."""
    return _list(call, payment_id, "product", filter, order)


@rest("crm.item.payment.product.setQuantity", scope="crm", writes=True)
def product_set_quantity(call: Call, id: int, quantity: int) -> object:
    """Pay for another number of pieces."""
    check_staff(call)
    item = _item(call, id, "product")
    payment = find_payment(call.state, item.payment_id)
    _editable(call, payment)
    row = call.state.product_rows.get(item.target_id)
    if row is None:
        raise RestError(0, "Product item not found")
    _check_quantity(call, row, quantity, without=item.id)
    if item.quantity != quantity:
        item.quantity = quantity
        _save(call, payment, "product_changed", item_id=item.id, rowId=row.id, quantity=quantity)
    return True


@rest("crm.item.payment.product.delete", scope="crm", writes=True)
def product_delete(call: Call, id: int) -> object:
    """Pay no longer for this row."""
    return _delete(call, id, "product")


def _shipment(call: Call, payment: Payment, delivery_id: int) -> Shipment:
    shipment = call.state.shipments.get(delivery_id)
    if shipment is None or shipment.order_id != payment.order_id:
        raise RestError(0, "Delivery item not found")
    return shipment


@rest("crm.item.payment.delivery.add", scope="crm", writes=True)
def delivery_add(call: Call, payment_id: int, delivery_id: int) -> object:
    """Pay for a delivery; nobody minds if it is added twice."""
    check_staff(call)
    payment = find_payment(call.state, payment_id)
    _editable(call, payment)
    return _add(call, payment, "delivery", _shipment(call, payment, delivery_id), 1)


@rest("crm.item.payment.delivery.list", scope="crm")
def delivery_list(
    call: Call, payment_id: int, filter: dict[str, Any] | None = None, order: dict[str, Any] | None = None
) -> object:
    """The deliveries that a payment pays for."""
    return _list(call, payment_id, "delivery", filter, order)


@rest("crm.item.payment.delivery.setDelivery", scope="crm", writes=True)
def delivery_set(call: Call, id: int, delivery_id: int) -> object:
    """Pay for another delivery instead."""
    check_staff(call)
    item = _item(call, id, "delivery")
    payment = find_payment(call.state, item.payment_id)
    _editable(call, payment)
    shipment = _shipment(call, payment, delivery_id)
    if item.target_id != delivery_id:
        item.target_id, item.price = shipment.id, shipment.price
        _save(call, payment, "delivery_changed", item_id=item.id, deliveryId=delivery_id)
    return True


@rest("crm.item.payment.delivery.delete", scope="crm", writes=True)
def delivery_delete(call: Call, id: int) -> object:
    """Pay no longer for this delivery."""
    return _delete(call, id, "delivery")
