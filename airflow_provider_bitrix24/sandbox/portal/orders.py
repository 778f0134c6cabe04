"""Orders and their payments: what every way of creating, paying and changing a payment has in common."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal.model import ZERO, Binding, Item, Order, Payment, PaySystem, State
from airflow_provider_bitrix24.sandbox.portal.registry import changed

if TYPE_CHECKING:
    from collections.abc import Callable

#: Payer types: (id, name). Orders without a company belong to a contact.
PERSON_TYPES = {1: "CRM_COMPANY", 2: "CRM_CONTACT"}
COMPANY, CONTACT = 1, 2


def orders_of(state: State, entity_type_id: int, entity_id: int) -> list[Order]:
    """The orders bound to an item, the newest first."""
    bound = state.bindings.having("owner_id", entity_id)
    ids = {binding.order_id for binding in bound if binding.owner_type_id == entity_type_id}
    return [state.orders[number] for number in sorted(ids, reverse=True) if number in state.orders]


def owner_of(state: State, order_id: int) -> Binding | None:
    """What the order is bound to."""
    return next(iter(state.bindings.having("order_id", order_id)), None)


def payments_of(state: State, order_ids: set[int]) -> list[Payment]:
    """The payments of these orders, by id."""
    found = (state.payments.having("order_id", number) for number in order_ids)
    return sorted((payment for rows in found for payment in rows), key=lambda payment: payment.id)


def ledger_facts(state: State, payment: Payment) -> dict[str, Any]:
    """What the ledger says about a payment."""
    owner = owner_of(state, payment.order_id)
    return {
        "payment_id": payment.id,
        "entity_type_id": owner.owner_type_id if owner else None,
        "entity_id": owner.owner_id if owner else None,
        "amount": payment.sum,
        "currency": payment.currency,
        "pay_system_id": payment.pay_system_id,
    }


def create_order(state: State, item: Item, responsible_id: int, *, now: float | None = None) -> Order:
    """A new, empty order with the item's client and currency, bound to the item."""
    number = state.new_id("orders")
    order = Order(
        id=number,
        account_number=str(number),
        currency=item.currency_id,
        responsible_id=responsible_id,
        person_type_id=COMPANY if item.company_id else CONTACT,
        company_id=item.company_id,
        contact_ids=list(item.contact_ids),
        date_insert=now,
        date_update=now,
    )
    state.orders[number] = order
    binding = Binding(state.new_id("bindings"), number, item.id, item.entity_type_id)
    state.bindings[binding.id] = binding
    return order


def strip_order(order: Order, user_id: int) -> list[str]:
    """What the builder does to an order of which it was told only the id: another responsible, no client."""
    return changed(order, {"responsible_id": user_id, "company_id": 0, "contact_ids": [], "person_type_id": CONTACT})


def restore_client(state: State, order: Order, user_id: int) -> list[str]:
    """What ``product.add`` does to the order: the item's client is back, the responsible is the caller."""
    values: dict[str, Any] = {"responsible_id": user_id}
    owner = owner_of(state, order.id)
    item = state.items(owner.owner_type_id).get(owner.owner_id) if owner else None
    if item is not None:
        values |= {"company_id": item.company_id, "contact_ids": list(item.contact_ids)}
        values["person_type_id"] = COMPANY if item.company_id else CONTACT
    return changed(order, values)


def default_pay_system(state: State, order: Order) -> PaySystem | None:
    """The one taken if none is named: cash if the order may use it, else the first of the list."""
    allowed = [
        system
        for system in state.pay_systems.values()
        if system.active == "Y"
        and system.entity_registry_type == "ORDER"
        and system.person_type_id in (0, order.person_type_id)
    ]
    allowed.sort(key=lambda system: (system.action_file != "cash", system.sort, system.id))
    return allowed[0] if allowed else None


def create_payment(
    state: State, order: Order, system: PaySystem, *, now: float, user_id: int | None, uniqid: Callable[[], str]
) -> Payment:
    """A new payment: empty, unpaid, in the order's currency."""
    order.payments_numbered += 1
    payment = Payment(
        id=state.new_id("payments"),
        order_id=order.id,
        account_number=f"{order.account_number}/{order.payments_numbered}",
        pay_system_id=system.id,
        pay_system_name=system.name,
        currency=order.currency,
        xml_id=f"bx_{uniqid()}",
        date_bill=now,
        responsible_id=user_id,
        emp_responsible_id=user_id,
        date_responsible_id=now,
    )
    state.payments[payment.id] = payment
    return payment


def set_paid(payment: Payment, paid: str, *, now: float, user_id: int | None) -> bool:
    """Set the flag; if it had this value already nothing happens, and the first date stays."""
    if payment.paid == paid:
        return False
    payment.paid = paid
    payment.date_paid, payment.emp_paid_id = (now, user_id) if paid == "Y" else (None, None)
    return True


def delete_payment(state: State, payment: Payment) -> None:
    """Remove a payment and what hangs on it."""
    del state.payments[payment.id]
    for item in state.payable_items.having("payment_id", payment.id):
        del state.payable_items[item.id]


def recount(state: State, payment: Payment) -> None:
    """The sum of a payment is that of its items."""
    items = state.payable_items.having("payment_id", payment.id)
    payment.sum = sum((Decimal(item.quantity) * item.price for item in items), ZERO)


def available_quantity(state: State, row_id: int, *, without: int | None = None) -> Decimal:
    """How much of a product row no payment has taken yet (``without``: a payable item not to count)."""
    taken = sum(
        item.quantity
        for item in state.payable_items.having("target_id", row_id)
        if item.kind == "product" and item.id != without
    )
    return state.product_rows[row_id].quantity - taken
