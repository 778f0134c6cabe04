"""``sale.order.*`` and ``sale.persontype.list``, for administrators; unknown keys are dropped, filters included."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import (
    Unconvertible,
    as_list,
    field_value,
    lenient_conditions,
    matching,
    ordered,
)
from airflow_provider_bitrix24.sandbox.portal.model import ZERO, Order, words
from airflow_provider_bitrix24.sandbox.portal.orders import PERSON_TYPES, payments_of
from airflow_provider_bitrix24.sandbox.portal.pages import page_of, paged
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, changed, rest
from airflow_provider_bitrix24.sandbox.portal.sale_payments import FIELDS as PAYMENT_FIELDS
from airflow_provider_bitrix24.sandbox.portal.sale_payments import understood
from airflow_provider_bitrix24.sandbox.portal.sale_payments import wire as payment_wire

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal.model import State

_STRINGS = (
    "accountNumber additionalInfo comments currency id1c lid lockedBy orderTopic personTypeXmlId reasonCanceled "
    "reasonMarked recurringId statusId statusXmlId userDescription version1c xmlId"
)
_TIMES = "dateCanceled dateInsert dateLock dateMarked dateStatus dateUpdate"
_INTEGERS = "affiliateId companyId empCanceledId empMarkedId empStatusId id personTypeId responsibleId userId version"
_CHARS = "canceled deducted externalOrder marked payed recountFlag updated1c"
#: camelCase field -> type.
FIELDS: dict[str, str] = {
    **dict.fromkeys(words(_STRINGS), "string"),
    **dict.fromkeys(words(_TIMES), "datetime"),
    **dict.fromkeys(words(_INTEGERS), "integer"),
    **dict.fromkeys(words(_CHARS), "char"),
    **dict.fromkeys(("price", "discountValue", "taxValue"), "double"),
}
_WRITABLE = frozenset(
    words(
        "price discountValue statusId empStatusId dateInsert marked empMarkedId reasonMarked userDescription "
        "additionalInfo comments companyId responsibleId recurringId lockedBy recountFlag affiliateId updated1c "
        "orderTopic xmlId id1c version1c externalOrder canceled empCanceledId reasonCanceled"
    )
)
#: Columns of the order itself; every other writable field is kept as it was given.
_OWN = {
    "id": "id",
    "accountNumber": "account_number",
    "currency": "currency",
    "responsibleId": "responsible_id",
    "personTypeId": "person_type_id",
    "canceled": "canceled",
    "xmlId": "xml_id",
    "dateInsert": "date_insert",
    "dateUpdate": "date_update",
}
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(words(_STRINGS), ""),
    **dict.fromkeys(words(_CHARS), "N"),
    **{"lid": "s1", "statusId": "N", "discountValue": ZERO, "taxValue": ZERO, "userId": 1, "version": 0},
}
_LONGEST_XML_ID = 255


def _check(call: Call, right: str) -> None:
    if not call.user.admin:
        raise RestError(200040300010 if right == "read" else 200040300020, "Access Denied")


def _find(call: Call, number: int) -> Order:
    order = call.state.orders.get(number)
    if order is None:
        raise RestError(200540400001, "order does not exist")
    return order


class _Books:
    """An order's price and paid flag follow from its payments and their items."""

    def __init__(self, state: State) -> None:
        self._state = state

    def _price(self, order: Order) -> Decimal:
        """What the payments pay for; a price that was set by hand goes before it."""
        payments = self._state.payments.having("order_id", order.id)
        items = [item for payment in payments for item in self._state.payable_items.having("payment_id", payment.id)]
        return sum((Decimal(item.quantity) * item.price for item in items), ZERO)

    def _payed(self, order: Order) -> str:
        """Y as soon as the paid payments reach the price; for a price of 0.00 a paid payment of 0.00 is enough."""
        payments = self._state.payments.having("order_id", order.id)
        paid = [payment.sum for payment in payments if payment.paid == "Y"]
        return "Y" if paid and sum(paid, ZERO) >= self.read(order, "price") else "N"

    def read(self, order: Order, name: str) -> Any:
        """A field of an order."""
        if name in _OWN:
            return getattr(order, _OWN[name])
        if name == "payed":
            return self._payed(order)
        if name in order.fields:
            value = order.fields[name]
            return Decimal(value or 0) if FIELDS[name] == "double" else value
        return self._price(order) if name == "price" else _DEFAULTS.get(name)


def _shown(name: str, value: Any) -> Any:
    if FIELDS[name] == "datetime":
        return php.iso(value)
    return php.number(value) if FIELDS[name] == "double" else value


def _wire(books: _Books, order: Order, names: list[str]) -> dict[str, Any]:
    """These fields of an order as they are sent."""
    return {name: _shown(name, books.read(order, name)) for name in sorted(names)}


def _clients(order: Order) -> list[dict[str, Any]]:
    found = [(4, order.company_id)] if order.company_id else []
    found += [(3, number) for number in order.contact_ids]
    return [
        {"entityId": number, "entityTypeId": kind, "id": order.id * 100 + index, "isPrimary": "Y" if not index else "N"}
        | {"orderId": order.id, "roleId": 0, "sort": 0}
        for index, (kind, number) in enumerate(found)
    ]


def _basket(state: State, order: Order, own: set[int]) -> list[dict[str, Any]]:
    items = [item for number in own for item in state.payable_items.having("payment_id", number)]
    targets = {item.target_id for item in items if item.kind == "product"}
    rows = [state.product_rows[number] for number in sorted(targets) if number in state.product_rows]
    return [
        {
            "id": row.id,
            "orderId": order.id,
            "name": row.product_name,
            "productId": row.product_id,
            "price": php.number(row.price),
            "quantity": php.number(row.quantity),
            "currency": order.currency,
            "xmlId": row.xml_id,
            "measureCode": str(row.measure_code),
            "sort": row.sort,
        }
        for row in rows
    ]


@rest("sale.order.get", scope="sale")
def get(call: Call, id: int) -> object:
    """One order with its payments, deliveries, clients and basket."""
    _check(call, "read")
    order, state = _find(call, id), call.state
    payments = payments_of(state, {order.id})
    shipments = state.shipments.having("order_id", order.id)
    return {
        "order": _wire(_Books(state), order, list(FIELDS))
        | {
            "basketItems": _basket(state, order, {payment.id for payment in payments}),
            "clients": _clients(order),
            "payments": [payment_wire(state, payment, list(PAYMENT_FIELDS)) for payment in payments],
            "propertyValues": [],
            "requisiteLink": [],
            "shipments": [
                {
                    "id": row.id,
                    "orderId": row.order_id,
                    "deliveryName": row.name,
                    "priceDelivery": php.number(row.price),
                }
                for row in shipments
            ],
        }
    }


@rest("sale.order.list", scope="sale")
def list_(
    call: Call,
    select: list[str] | None = None,
    filter: dict[str, Any] | None = None,
    order: dict[str, Any] | None = None,
) -> object:
    """Orders, 50 to a page. A mistyped filter key is not an error: it finds more."""
    _check(call, "read")
    state, books = call.state, _Books(call.state)
    names = [name for name in map(php.to_text, as_list(select)) if name in FIELDS] or list(FIELDS)
    conditions = lenient_conditions(understood(call, filter or {}, FIELDS), FIELDS)
    directions = [(name, way) for name, way in (order or {}).items() if name in FIELDS] or [("id", "asc")]
    start = call.params.get("start", 0)
    page = page_of(state.orders, conditions, directions, start, books.read, column_of=_OWN.get)
    return Listing({"orders": [_wire(books, row, names) for row in page.result]}, page.total, page.next)


@rest("sale.order.update", scope="sale", writes=True)
def update(call: Call, id: int, fields: dict[str, Any]) -> object:
    """Change an order. Unknown, read-only and unconvertible fields are dropped without a word."""
    _check(call, "write")
    order = _find(call, id)
    own, kept = {}, {}
    for name, value in fields.items():
        if name not in _WRITABLE:
            continue
        try:
            converted = field_value(FIELDS[name], value)
        except Unconvertible:
            continue
        if name == "xmlId" and len(php.to_text(converted)) > _LONGEST_XML_ID:
            text = f'The value of the field "XML_ID" is too long. Maximum length: {_LONGEST_XML_ID}'
            raise RestError("BX_INVALID_VALUE", text)
        if name in _OWN:
            own[_OWN[name]] = converted if converted is not None else ""
        else:
            kept[name] = str(converted) if isinstance(converted, Decimal) else converted
    was_canceled = order.canceled
    names = changed(order, own) + [name for name, value in kept.items() if order.fields.get(name) != value]
    order.fields |= kept
    if was_canceled != order.canceled:
        stamp = {"dateCanceled": call.now, "empCanceledId": call.user.id} if order.canceled == "Y" else {}
        order.fields |= {"dateCanceled": None, "empCanceledId": None} | stamp
        event = "order_canceled" if order.canceled == "Y" else "order_reopened"
        call.record(event, order_id=order.id, currency=order.currency)
    if names:
        order.date_update = call.now
        if names != ["canceled"]:
            call.record("order_changed", order_id=order.id, currency=order.currency, changed=names)
    shown = _wire(_Books(call.state), order, list(FIELDS)) | {"clients": _clients(order), "requisiteLink": []}
    return {"order": shown}


_PERSON_KINDS = {"id": "integer", "name": "string", "sort": "integer", "active": "string", "code": "string"}


@rest("sale.persontype.list", scope="sale")
def person_type_list(
    call: Call,
    select: list[str] | None = None,
    filter: dict[str, Any] | None = None,
    order: dict[str, Any] | None = None,
) -> object:
    """Payer types: company and contact."""
    _check(call, "read")
    rows = [
        {"id": number, "name": name, "sort": 100 + 10 * index, "active": "Y", "code": name}
        for index, (number, name) in enumerate(PERSON_TYPES.items())
    ]

    def read(row: dict[str, Any], name: str) -> Any:
        return row[name]

    names = [name for name in map(php.to_text, as_list(select)) if name in _PERSON_KINDS] or list(_PERSON_KINDS)
    found = matching(rows, lenient_conditions(understood(call, filter or {}, _PERSON_KINDS), _PERSON_KINDS), read)
    directions = [(name, way) for name, way in (order or {}).items() if name in _PERSON_KINDS] or [("id", "asc")]
    page = paged(ordered(found, directions, read), call.params.get("start", 0))
    shown = [{name: str(row[name]) if name == "sort" else row[name] for name in names} for row in page.result]
    return Listing({"personTypes": shown}, page.total, page.next)
