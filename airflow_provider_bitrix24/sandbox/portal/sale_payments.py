"""``sale.payment.*``: every column of a payment, for administrators; unknown keys are dropped, filters included."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import orders, php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import (
    Columns,
    Unconvertible,
    as_list,
    field_value,
    lenient_conditions,
    split_key,
)
from airflow_provider_bitrix24.sandbox.portal.model import ZERO, Payment, words
from airflow_provider_bitrix24.sandbox.portal.pages import page_of
from airflow_provider_bitrix24.sandbox.portal.payments import record_payment, remove
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, changed, rest

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal.model import State

_STRINGS = (
    "accountNumber comments currency id1c payReturnComment payReturnNum paySystemName paySystemXmlId payVoucherNum "
    "psCurrency psInvoiceId psStatusCode psStatusDescription psStatusMessage reasonMarked version1c xmlId"
)
_TIMES = "dateBill dateMarked datePaid datePayBefore dateResponsibleId payReturnDate payVoucherDate psResponseDate"
_INTEGERS = "companyId empMarkedId empPaidId empResponsibleId empReturnId id orderId paySystemId responsibleId"
_CHARS = "externalPayment isReturn marked paid paySystemIsCash psStatus updated1c"
#: camelCase field -> type.
FIELDS: dict[str, str] = {
    **dict.fromkeys(words(_STRINGS), "string"),
    **dict.fromkeys(words(_TIMES), "datetime"),
    **dict.fromkeys(words(_INTEGERS), "integer"),
    **dict.fromkeys(words(_CHARS), "char"),
    **dict.fromkeys(("priceCod", "psSum", "sum"), "double"),
}
_READ_ONLY = frozenset(
    words("accountNumber currency dateMarked dateResponsibleId id paySystemIsCash paySystemName paySystemXmlId")
)
#: What null becomes in columns that cannot be null.
_EMPTY: dict[str, Any] = {"string": "", "char": "N", "double": ZERO}
_REQUIRED = {"orderId", "paySystemId"}
#: The longest text that fits in a column.
_LONGEST = {"xmlId": 255, "payVoucherNum": 20}


@cache
def _column(name: str) -> str:
    return php.snake(name, upper=False).replace("1c", "_1c")


def _own_column(name: str) -> str | None:
    return None if name in ("paySystemXmlId", "paySystemIsCash") else _column(name)


def _reader(state: State) -> Any:
    def read(payment: Payment, name: str) -> Any:
        if _own_column(name) is None:
            system = state.pay_systems.get(payment.pay_system_id)
            return getattr(system, php.snake(name.removeprefix("paySystem"), upper=False), "")
        return getattr(payment, _column(name))

    return read


def wire(state: State, payment: Payment, names: list[str]) -> dict[str, Any]:
    """These fields of a payment as they are sent."""
    read = _reader(state)
    return {name: _value(name, read(payment, name)) for name in sorted(names)}


def _value(name: str, value: Any) -> Any:
    if FIELDS[name] == "datetime":
        return php.iso(value)
    if name == "psInvoiceId" and value == str(php.to_int(value)):
        return php.to_int(value)
    if FIELDS[name] == "double":
        return str(php.number(value)) if name == "priceCod" else php.number(value)
    return value


def _check(call: Call, right: str) -> None:
    if not call.user.admin:
        raise RestError(200040300010 if right == "read" else 200040300020, "Access Denied")


def _find(call: Call, payment_id: int) -> Payment:
    payment = call.state.payments.get(payment_id)
    if payment is None:
        raise RestError(200640400001, "payment does not exist")
    return payment


def _internal(fields: dict[str, Any]) -> dict[str, Any]:
    """What may be written, as columns; unknown, read-only and unconvertible fields are dropped without a word."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in FIELDS or name in _READ_ONLY:
            continue
        try:
            converted = field_value(FIELDS[name], value)
        except Unconvertible:
            continue
        if len(php.to_text(converted)) > _LONGEST.get(name, len(php.to_text(converted))):
            column = php.snake(name)
            text = f'The value of the field "{column}" is too long. Maximum length: {_LONGEST[name]}'
            raise RestError("BX_INVALID_VALUE", text)
        empty = _EMPTY.get(FIELDS[name]) if name != "psSum" else None
        values[_column(name)] = empty if converted is None else converted
    return values


def _require(fields: dict[str, Any], *names: str) -> None:
    missing = [name for name in names if not php.truthy(fields.get(name))]
    if missing:
        raise RestError(0, f"Required fields: {', '.join(missing)}")


def _apply(call: Call, payment: Payment, values: dict[str, Any]) -> list[str]:
    """Write columns; the names of those that changed, without the flag's own."""
    if "sum" in values and values["sum"] != payment.sum and payment.paid == "Y" and values.get("paid") != "N":
        raise RestError("SALE_PAYMENT_NOT_ALLOWED_CHANGE_SUM", "The sum of a paid payment cannot be changed")
    paid = values.pop("paid", None)
    if "marked" in values:
        values["date_marked"] = call.now
    if "pay_system_id" in values:
        system = call.state.pay_systems.get(values["pay_system_id"])
        if system is None:
            raise RestError(0, "Pay system not found")
        values["pay_system_name"] = system.name
    if paid in ("Y", "N") and orders.set_paid(payment, paid, now=call.now, user_id=call.user.id):
        changed(payment, values)
        record_payment(call, "payment_paid" if paid == "Y" else "payment_unpaid", payment)
        return []
    return changed(payment, values)


def understood(call: Call, filter_: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """A filter without what this portal drops: in one variant, every value that is not of its column's type."""
    if not call.state.options["sale_filters_drop_what_does_not_convert"]:
        return filter_
    kept = {}
    for key, value in filter_.items():
        operator, name = split_key(key)
        if isinstance(value, list | dict):
            fits = operator in ("@", "!@", "><", "!><")
        else:
            fits = columns.get(name) not in ("integer", "double") or php.is_numeric(value)
        if fits:
            kept[key] = value
    return kept


@rest("sale.payment.get", scope="sale")
def get(call: Call, id: int) -> object:
    """One payment with every field."""
    _check(call, "read")
    return {"payment": wire(call.state, _find(call, id), list(FIELDS))}


@rest("sale.payment.list", scope="sale")
def list_(
    call: Call,
    select: list[str] | None = None,
    filter: dict[str, Any] | None = None,
    order: dict[str, Any] | None = None,
) -> object:
    """Payments, 50 to a page. A mistyped filter key is not an error: it finds more."""
    _check(call, "read")
    names = [name for name in map(php.to_text, as_list(select)) if name in FIELDS] or list(FIELDS)
    read = _reader(call.state)
    conditions = lenient_conditions(understood(call, filter or {}, FIELDS), FIELDS)
    directions = [(name, way) for name, way in (order or {}).items() if name in FIELDS] or [("id", "asc")]
    start = call.params.get("start", 0)
    page = page_of(call.state.payments, conditions, directions, start, read, column_of=_own_column)
    return Listing({"payments": [wire(call.state, row, names) for row in page.result]}, page.total, page.next)


@rest("sale.payment.add", scope="sale", writes=True)
def add(call: Call, fields: dict[str, Any]) -> object:
    """A payment with everything said in one call."""
    _check(call, "write")
    _require(fields, "orderId", "paySystemId")
    values = _internal(fields)
    order = call.state.orders.get(values.pop("order_id", 0))
    system = call.state.pay_systems.get(values.get("pay_system_id", 0))
    if order is None:
        raise RestError(200540400001, "order does not exist")
    if system is None:
        raise RestError(0, "Pay system not found")
    payment = orders.create_payment(call.state, order, system, now=call.now, user_id=call.user.id, uniqid=call.uniqid)
    paid = values.pop("paid", "N")
    _apply(call, payment, values)
    record_payment(call, "payment_added", payment)
    if paid == "Y":
        _apply(call, payment, {**values, "paid": "Y"})
    return {"payment": wire(call.state, payment, list(FIELDS))}


@rest("sale.payment.update", scope="sale", writes=True)
def update(call: Call, id: int, fields: dict[str, Any]) -> object:
    """Change columns of a payment; ``paySystemId`` must be given every time."""
    _check(call, "write")
    payment = _find(call, id)
    _require(fields, "paySystemId")
    values = _internal(fields)
    values.pop("order_id", None)  # immutable
    names = _apply(call, payment, values)
    if names:
        record_payment(call, "payment_updated", payment, changed=names)
    return {"payment": wire(call.state, payment, list(FIELDS))}


@rest("sale.payment.delete", scope="sale", writes=True)
def delete(call: Call, id: int) -> object:
    """Remove an unpaid payment."""
    _check(call, "write")
    remove(call, _find(call, id))
    return True


@rest("sale.payment.getFields", scope="sale")
def get_fields(call: Call) -> object:
    """What the fields are."""
    return {
        "payment": {
            name: {
                "isImmutable": name == "orderId",
                "isReadOnly": name in _READ_ONLY,
                "isRequired": name in _REQUIRED,
                "type": FIELDS[name],
            }
            for name in sorted(FIELDS)
        }
    }
