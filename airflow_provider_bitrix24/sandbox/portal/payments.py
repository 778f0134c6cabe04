"""``crm.item.payment.*``: empty payments on deals and smart invoices, a raw filter, and a flag that says paid."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import orders, php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError, item_access_denied
from airflow_provider_bitrix24.sandbox.portal.filters import matching, ordered, orm_column, orm_conditions
from airflow_provider_bitrix24.sandbox.portal.model import DEAL, LEAD, SMART_INVOICE, Item, Payment
from airflow_provider_bitrix24.sandbox.portal.pages import paged
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, changed, rest

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal.model import PaySystem, State

_ENTITY = r"\Bitrix\Sale\Internals\Payment"
#: CRM types and the first word of their rights.
RIGHTS = {LEAD: "lead", DEAL: "deal", SMART_INVOICE: "smart_invoice"}


def column_types(row_type: type[Any]) -> dict[str, str]:
    """The columns of a table, upper case, with the types that filters know."""
    return {column.name.upper(): _kind(column.name, str(column.type)) for column in fields(row_type)}


def _kind(name: str, annotation: str) -> str:
    if annotation.startswith("Decimal"):
        return "double"
    if annotation.startswith("int"):
        return "integer"
    return "datetime" if annotation.startswith("float") else "char" if name in _CHARS else "string"


_CHARS = {"paid", "is_return", "external_payment", "marked", "updated_1c"}
COLUMNS = column_types(Payment)


def read_column(row: Any, column: str) -> Any:
    """A column of a row by its upper-case name."""
    return getattr(row, column.lower())


def wire(payment: Payment) -> dict[str, Any]:
    """The nine fields that these methods return."""
    return {
        "id": payment.id,
        "accountNumber": payment.account_number,
        "paid": payment.paid,
        "datePaid": php.iso(payment.date_paid),
        "empPaidId": payment.emp_paid_id,
        "paySystemId": payment.pay_system_id,
        "sum": php.number(payment.sum),
        "currency": payment.currency,
        "paySystemName": payment.pay_system_name,
    }


def check_staff(call: Call) -> None:
    """Only people of the company may call these methods."""
    if not call.user.staff:
        raise RestError("ALLOWED_ONLY_INTRANET_USER", "Action is allowed only for intranet users", 403)


def find_payment(state: State, payment_id: int) -> Payment:
    """The payment, or the words for its absence."""
    payment = state.payments.get(payment_id)
    if payment is None:
        raise RestError(0, "Payment has not been found")
    return payment


def check_order(call: Call, right: str) -> None:
    """May the caller do this to orders?"""
    if not call.may(f"order.{right}"):
        raise item_access_denied()


def record_payment(call: Call, event: str, payment: Payment, **facts: Any) -> None:
    """Enter a change of a payment in the ledger."""
    call.record(event, **orders.ledger_facts(call.state, payment), **facts)


def pay(call: Call, payment: Payment, paid: str) -> bool:
    """Set the paid flag by REST; refused for a cancelled order."""
    if payment.paid != paid and paid == "Y" and call.state.orders[payment.order_id].canceled == "Y":
        raise RestError("SALE_ORDER_PAID_ORDER_CANCELED", "The order has been cancelled and cannot be paid")
    if not orders.set_paid(payment, paid, now=call.now, user_id=call.user.id):
        return False
    record_payment(call, "payment_paid" if paid == "Y" else "payment_unpaid", payment)
    return True


@rest("crm.item.payment.add", scope="crm", writes=True)
def add(call: Call, entity_id: int, entity_type_id: int, fields: dict[str, Any] | None = None) -> object:
    """A new, empty payment; nothing asks whether there is one already."""
    check_staff(call)
    state = call.state
    if state.options["payments_limit_reached"]:
        raise RestError(0, "The limit of payments of your plan has been reached")
    item = _item_to_pay(call, entity_id, entity_type_id)
    wanted = _wanted_pay_system(state, fields or {})
    found = orders.orders_of(state, entity_type_id, entity_id)
    order = found[0] if found else orders.create_order(state, item, call.user.id, now=call.now)
    facts = {"entity_type_id": entity_type_id, "entity_id": entity_id, "currency": order.currency, "order_id": order.id}
    if not found:
        call.record("order_created", **facts)
    elif stripped := orders.strip_order(order, call.user.id):
        call.record("order_changed", **facts, changed=stripped)
    system = wanted or orders.default_pay_system(state, order)
    if system is None:  # the payment is not saved, which the portal takes for a warning
        return 0
    payment = orders.create_payment(state, order, system, now=call.now, user_id=call.user.id, uniqid=call.uniqid)
    record_payment(call, "payment_added", payment)
    return payment.id


def _item_to_pay(call: Call, entity_id: int, entity_type_id: int) -> Item:
    if not call.may(f"{RIGHTS.get(entity_type_id, 'other')}.update"):
        raise item_access_denied()
    if entity_type_id not in RIGHTS:
        raise RestError(0, "Unknown entity type", docs=(0, "Invalid CRM object type"))
    if entity_type_id == LEAD:
        raise RestError(0, "Payments are disabled for this entity type", docs=(0, "Invalid CRM object type"))
    item = call.state.items(entity_type_id).get(entity_id)
    if item is None:
        if not call.user.admin:  # rights are asked first, and nobody has any on what does not exist
            raise item_access_denied()
        raise RestError(0, f"Entity with identifier №{entity_id} does not exist")
    return item


def _wanted_pay_system(state: State, given: dict[str, Any]) -> PaySystem | None:
    wanted = php.to_int(given.get("paySystemId"))  # hidden: the only field that is honoured
    if wanted and wanted not in state.pay_systems:
        raise RestError(0, "")  # the builder throws without a word
    return state.pay_systems.get(wanted)


@rest("crm.item.payment.get", scope="crm")
def get(call: Call, id: int) -> object:
    """One payment."""
    check_staff(call)
    payment = find_payment(call.state, id)
    check_order(call, "update" if call.dialect == "docs" else "read")
    return wire(payment)


@rest("crm.item.payment.list", scope="crm")
def list_(
    call: Call,
    entity_id: int,
    entity_type_id: int,
    filter: dict[str, Any] | None = None,
    order: dict[str, Any] | None = None,
) -> object:
    """All payments of all orders of the object, at once."""
    check_staff(call)
    exists = _check_readable(call, entity_type_id, entity_id)
    found = orders.orders_of(call.state, entity_type_id, entity_id) if exists else []
    ids = {bound.id for bound in found}
    # the portal writes its own "=ORDER_ID" over the caller's
    given = {key: value for key, value in (filter or {}).items() if key != "=orderId"}
    conditions = orm_conditions(given, COLUMNS, _ENTITY)
    directions = [(orm_column(name, COLUMNS, _ENTITY), way) for name, way in (order or {"id": "asc"}).items()]
    rows = ordered(matching(orders.payments_of(call.state, ids), conditions, read_column), directions, read_column)
    if not call.state.options["payment_list_pages"]:
        return [wire(payment) for payment in rows]
    page = paged(rows, call.params.get("start", 0))
    return Listing([wire(payment) for payment in page.result], page.total, page.next)


def _check_readable(call: Call, entity_type_id: int, entity_id: int) -> bool:
    """Does the object exist? What does not exist is readable for administrators only."""
    right = RIGHTS.get(entity_type_id)
    exists = right is not None and entity_id in call.state.items(entity_type_id)
    if not call.user.admin and not (exists and call.may(f"{right}.read")):
        raise item_access_denied()
    return exists


@rest("crm.item.payment.update", scope="crm", writes=True)
def update(call: Call, id: int, fields: dict[str, Any]) -> object:
    """Change the flag or the pay system; everything else is dropped."""
    check_staff(call)
    payment = find_payment(call.state, id)
    check_order(call, "update")
    given = {name: fields[name] for name in ("paid", "paySystemId") if name in fields}
    if not given:
        raise RestError(0, "Empty fields")
    if "paySystemId" in given:
        system = call.state.pay_systems.get(php.to_int(given["paySystemId"]))
        if system is None:
            raise RestError(0, "Payment system has not been found")
        if changed(payment, {"pay_system_id": system.id, "pay_system_name": system.name}):
            record_payment(call, "payment_updated", payment)
    if given.get("paid") in ("Y", "N"):  # compared as strings: a JSON true is neither
        pay(call, payment, given["paid"])
    return True


@rest("crm.item.payment.pay", scope="crm", writes=True)
def pay_(call: Call, id: int) -> object:
    """Mark as paid; no money moves, no acquirer is asked."""
    return _mark(call, id, "Y")


@rest("crm.item.payment.unpay", scope="crm", writes=True)
def unpay(call: Call, id: int) -> object:
    """Mark as not paid."""
    return _mark(call, id, "N")


def _mark(call: Call, payment_id: int, paid: str) -> bool:
    check_staff(call)
    payment = find_payment(call.state, payment_id)
    check_order(call, "update")
    pay(call, payment, paid)
    return True


@rest("crm.item.payment.delete", scope="crm", writes=True)
def delete(call: Call, id: int) -> object:
    """Remove an unpaid payment."""
    check_staff(call)
    payment = find_payment(call.state, id)
    check_order(call, "update")
    remove(call, payment)
    return True


def remove(call: Call, payment: Payment) -> None:
    """Delete a payment by REST; a paid one stays."""
    if payment.paid == "Y":
        raise RestError("SALE_PAYMENT_DELETE_EXIST_PAID", "A paid payment cannot be deleted")
    facts = orders.ledger_facts(call.state, payment)
    orders.delete_payment(call.state, payment)
    call.record("payment_deleted", **facts)
