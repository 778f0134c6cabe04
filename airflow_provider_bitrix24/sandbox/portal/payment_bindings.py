"""``sale.paymentitembasket.*`` and ``sale.paymentitemshipment.*``: what a payment pays for, for administrators.

The sandbox has no basket of its own: the basket item of a product row has the row's id.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import orders, php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import Condition, as_list, lenient_conditions
from airflow_provider_bitrix24.sandbox.portal.model import OWNER_TYPES, PayableItem, Payment
from airflow_provider_bitrix24.sandbox.portal.pages import page_of
from airflow_provider_bitrix24.sandbox.portal.payments import record_payment
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, changed, rest
from airflow_provider_bitrix24.sandbox.portal.sale_payments import understood

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True)
class Family:
    """One of the two families: the words of its replies and what its items point to."""

    kind: str
    one: str
    many: str
    target: str
    absent: str

    @property
    def fields(self) -> dict[str, str]:
        """The fields in camelCase, with their types."""
        shared = {"dateInsert": "datetime", "id": "integer", "paymentId": "integer", "xmlId": "string"}
        quantity = {"quantity": "double"} if self.kind == "product" else {}
        return dict(sorted({**shared, **quantity, self.target: "integer"}.items()))

    @property
    def required(self) -> list[str]:
        """What ``add`` must be given."""
        return ["paymentId", self.target, *(["quantity"] if self.kind == "product" else [])]


BASKET = Family("product", "paymentItemBasket", "paymentItemsBasket", "basketId", "basket item not exists")
SHIPMENT = Family("delivery", "paymentItemShipment", "paymentItemsShipment", "shipmentId", "shipment not exists")


def _check(call: Call, right: str) -> None:
    if not call.user.admin:
        raise RestError(200040300010 if right == "read" else 200040300020, "Access Denied")


def _column(family: Family, name: str) -> str:
    return "target_id" if name == family.target else php.snake(name, upper=False)


def _read(family: Family, row: PayableItem, name: str) -> Any:
    return getattr(row, _column(family, name))


def _wire(family: Family, row: PayableItem, names: list[str] | None = None) -> dict[str, Any]:
    shown = {name: _read(family, row, name) for name in names or family.fields}
    return {name: php.iso(value) if name == "dateInsert" else value for name, value in shown.items()}


def _find(call: Call, family: Family, number: int) -> PayableItem:
    row = call.state.payable_items.get(number)
    if row is None or row.kind != family.kind:
        raise RestError(201240400001, "payment item does not exist")
    return row


def _price(call: Call, family: Family, payment: Payment, target: int) -> Decimal:
    """What one piece of the target costs; it must belong to the payment's order."""
    if family.kind == "delivery":
        shipment = call.state.shipments.get(target)
        if shipment is not None and shipment.order_id == payment.order_id:
            return shipment.price
    else:
        row, owner = call.state.product_rows.get(target), orders.owner_of(call.state, payment.order_id)
        place = (OWNER_TYPES[row.owner_type], row.owner_id) if row is not None else None
        if row is not None and owner is not None and place == (owner.owner_type_id, owner.owner_id):
            return row.price
    raise RestError(201240400003, family.absent)


def _saved(call: Call, family: Family, payment: Payment, event: str, row: PayableItem) -> None:
    orders.recount(call.state, payment)
    record_payment(call, f"{family.kind}_{event}", payment, item_id=row.id, **{family.target: row.target_id})


def _editable(call: Call, payment_id: int) -> Payment:
    payment = call.state.payments.get(payment_id)
    if payment is None:
        raise RestError(201240400002, "payment not exists")
    if payment.paid == "Y":
        raise RestError("SALE_PAYMENT_NOT_ALLOWED_CHANGE_SUM", "The sum of a paid payment cannot be changed")
    return payment


def _add(call: Call, family: Family, fields: dict[str, Any]) -> object:
    _check(call, "write")
    missing = [name for name in family.required if not php.truthy(fields.get(name))]
    if missing:
        raise RestError(0, f"Required fields: {', '.join(missing)}")
    payment = _editable(call, php.to_int(fields["paymentId"]))
    target = php.to_int(fields[family.target])
    price = _price(call, family, payment, target)
    for row in call.state.payable_items.having("payment_id", payment.id):
        if (row.kind, row.target_id) == (family.kind, target):
            raise RestError(201250000001, f"Duplicate entry for key [paymentId, {family.target}]")
    number = call.state.new_id("payable_items")
    quantity = php.to_int(fields.get("quantity", 1))
    xml_id = php.to_text(fields.get("xmlId")) or f"bx_{call.uniqid()}"
    row = PayableItem(number, payment.id, family.kind, target, quantity, price, call.now, xml_id)
    call.state.payable_items[number] = row
    _saved(call, family, payment, "added", row)
    return {family.one: _wire(family, row)}


def _update(call: Call, family: Family, number: int, fields: dict[str, Any]) -> object:
    _check(call, "write")
    row = _find(call, family, number)
    payment = _editable(call, row.payment_id)
    values: dict[str, Any] = {}
    if "xmlId" in fields:
        values["xml_id"] = php.to_text(fields["xmlId"])
    if family.kind == "product" and php.to_int(fields.get("quantity")) > 0:
        values["quantity"] = php.to_int(fields["quantity"])
    if changed(row, values):
        _saved(call, family, payment, "changed", row)
    return {family.one: _wire(family, row)}


def _delete(call: Call, family: Family, number: int) -> object:
    _check(call, "write")
    row = _find(call, family, number)
    payment = _editable(call, row.payment_id)
    del call.state.payable_items[row.id]
    _saved(call, family, payment, "deleted", row)
    return True


def _list(
    call: Call,
    family: Family,
    select: list[str] | None,
    filter_: dict[str, Any] | None,
    order: dict[str, Any] | None,
) -> Listing:
    _check(call, "read")
    kinds = family.fields

    def read(row: PayableItem, name: str) -> Any:
        return _read(family, row, name)

    conditions = lenient_conditions(understood(call, filter_ or {}, kinds), kinds)
    conditions.append(Condition("=", "kind", family.kind))
    directions = [(name, way) for name, way in (order or {}).items() if name in kinds] or [("id", "asc")]
    start, column_of = call.params.get("start", 0), partial(_column, family)
    page = page_of(call.state.payable_items, conditions, directions, start, read, column_of=column_of)
    names = [name for name in map(php.to_text, as_list(select)) if name in kinds] or None
    return Listing({family.many: [_wire(family, row, names) for row in page.result]}, page.total, page.next)


def _get_fields(call: Call, family: Family) -> object:
    _check(call, "read")
    return {
        family.one: {
            name: {
                "isImmutable": name in ("paymentId", family.target),
                "isReadOnly": name in ("id", "dateInsert"),
                "isRequired": name in family.required,
                "type": kind,
            }
            for name, kind in family.fields.items()
        }
    }


def _register(prefix: str, family: Family) -> None:
    @rest(f"{prefix}.add", scope="sale", writes=True)
    def add(call: Call, fields: dict[str, Any]) -> object:
        return _add(call, family, fields)

    @rest(f"{prefix}.update", scope="sale", writes=True)
    def update(call: Call, id: int, fields: dict[str, Any]) -> object:
        return _update(call, family, id, fields)

    @rest(f"{prefix}.delete", scope="sale", writes=True)
    def delete(call: Call, id: int) -> object:
        return _delete(call, family, id)

    @rest(f"{prefix}.get", scope="sale")
    def get(call: Call, id: int) -> object:
        _check(call, "read")
        return {family.one: _wire(family, _find(call, family, id))}

    @rest(f"{prefix}.list", scope="sale")
    def list_(
        call: Call,
        select: list[str] | None = None,
        filter: dict[str, Any] | None = None,
        order: dict[str, Any] | None = None,
    ) -> object:
        return _list(call, family, select, filter, order)

    @rest(f"{prefix}.getFields", scope="sale")
    def get_fields(call: Call) -> object:
        return _get_fields(call, family)


_register("sale.paymentitembasket", BASKET)
_register("sale.paymentitemshipment", SHIPMENT)
