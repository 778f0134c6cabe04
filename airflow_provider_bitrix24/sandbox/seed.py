"""The objects of a fresh portal, with fixed ids so that tests and docs can name them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal.model import DEAL, PayableItem
from airflow_provider_bitrix24.sandbox.portal.objects import create_object
from airflow_provider_bitrix24.sandbox.portal.orders import create_order, set_paid
from airflow_provider_bitrix24.sandbox.portal.php import uniqid
from airflow_provider_bitrix24.sandbox.portal.product_rows import rows_of

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal.model import State

DAY = 86_400.0
_BANK_SETTINGS = {
    "1": {
        "BANK_ACCOUNT": {"TYPE": "VALUE", "VALUE": "DE02 1203 0000 0000 2020 51"},
        "PAYMENT_ID": {"TYPE": "PAYMENT", "VALUE": "ACCOUNT_NUMBER"},
    }
}
_PAY_SYSTEMS: list[dict[str, Any]] = [
    {"id": 6, "name": "Cash", "action_file": "cash", "is_cash": "Y"},
    {"id": 8, "name": "Card on the payment page", "action_file": "sandbox_card", "sort": 200},
    {
        "id": 31,
        "name": "Bank transfer",
        "action_file": "sandbox_bank",
        "entity_registry_type": "CRM_INVOICE",
        "settings": _BANK_SETTINGS,
    },
    {
        "id": 32,
        "name": "Cash on delivery",
        "action_file": "cash",
        "entity_registry_type": "CRM_INVOICE",
        "is_cash": "Y",
    },
    {
        "id": 33,
        "name": "Inactive",
        "action_file": "sandbox_bank",
        "entity_registry_type": "CRM_INVOICE",
        "active": "N",
    },
]
_INVOICES: list[tuple[int, str, str]] = [
    (1, "800.00", "paid"),
    (2, "1500.00", "unpaid"),
    (3, "249.90", "unpaid"),
    (4, "410.00", "cancelled"),
    (5, "95.00", "declined"),
    (6, "0.00", "unpaid"),
    (7, "120.00", "unpaid"),
    (8, "75.50", "unpaid"),
    (9, "1999.99", "unpaid"),
    (10, "310.00", "unpaid"),
    (11, "42.00", "unpaid"),
    (12, "680.40", "unpaid"),
    (13, "900.00", "unpaid"),
]
_STATUS: dict[str, dict[str, Any]] = {
    "paid": {"status_id": "P", "payed": "Y", "emp_payed_id": 1},
    "unpaid": {"status_id": "N"},
    "cancelled": {"status_id": "D", "canceled": "Y", "reason_marked": "Cancelled by the customer"},
    "declined": {"status_id": "D", "reason_marked": "Will not be paid"},
}
Rows = list[tuple[str, str, int]]
#: Type of item, id, title, company, product rows (name, price, quantity), payment (id, sum, paid) of the first row.
_ITEMS: list[tuple[str, int, str, int, Rows, tuple[int, str, bool] | None]] = [
    ("deal", 1, "Process audit", 5, [("Consulting day", "450.00", 2), ("Travel", "120.00", 1)], None),
    (
        "deal",
        2,
        "Workplace equipment",
        5,
        [("Desk", "389.00", 3), ("Chair", "214.50", 6), ("Assembly", "95.00", 1)],
        None,
    ),
    ("deal", 3, "First talk, nothing agreed yet", 0, [], None),
    (
        "deal",
        4,
        "Maintenance contract",
        5,
        [("Maintenance, one year", "350.00", 1), ("Spare parts", "80.00", 1)],
        (1001, "350.00", False),
    ),
    (
        "deal",
        5,
        "Training",
        6,
        [("Training day", "500.00", 1), ("Course material", "60.00", 1)],
        (1002, "500.00", True),
    ),
    (
        "deal",
        6,
        "Website relaunch",
        6,
        [("Website, first part", "990.00", 1), ("Website, second part", "990.00", 1)],
        (1003, "990.00", False),
    ),
    ("smart_invoice", 101, "Invoice 101", 5, [("Licence", "60.00", 4), ("Set-up", "180.00", 1)], None),
    (
        "smart_invoice",
        102,
        "Invoice 102",
        6,
        [("Hosting, one year", "640.00", 1), ("Domain", "25.00", 1)],
        (1004, "640.00", False),
    ),
    ("smart_invoice", 103, "Invoice 103, still empty", 0, [], None),
]


def plant(state: State, now: float, *, objects: bool = True) -> None:
    """The people are always there; everything else only with ``objects``."""
    create_object(state, "user", {"id": 1, "name": "Anna", "last_name": "Berg", "admin": True}, now)
    create_object(state, "user", {"id": 7, "name": "Ivo", "last_name": "Klein"}, now)
    state.counters |= {"payments": 1032, "payable_items": 1192, "handlers": 0}
    if not objects:
        return
    for number, (code, name) in enumerate([("sandbox_card", "Sandbox card"), ("sandbox_bank", "Sandbox bank")], 1):
        settings = {"CURRENCY": ["EUR"], "CODES": {"BANK_ACCOUNT": {"NAME": "Bank account", "SORT": "100"}}}
        create_object(state, "handler", {"id": number, "name": name, "code": code, "settings": settings}, now)
    for pay_system in _PAY_SYSTEMS:
        create_object(state, "pay_system", dict(pay_system), now)
    company = {"id": 5, "title": "Alder Works", "email": "office@alder.example", "phone": "+49 30 1234560"}
    create_object(state, "company", company, now)
    create_object(state, "company", {"id": 6, "title": "Birch Media", "email": "hello@birch.example"}, now)
    contact = {"id": 4, "name": "Mara", "last_name": "Holm", "company_id": "5", "email": "mara@alder.example"}
    create_object(state, "contact", contact, now)
    create_object(state, "chat", {"id": 1, "title": "Finance"}, now)
    _plant_invoices(state, now)
    _plant_items(state, now)


def _plant_invoices(state: State, now: float) -> None:
    for number, price, status in _INVOICES:
        issued = now - (40 - number) * DAY
        fields: dict[str, Any] = {
            "id": number,
            "order_topic": f"Services, invoice {number}",
            "price": price,
            "currency": "USD" if number == 13 else "EUR",
            "date_insert": issued,
            "date_update": issued,
            "date_bill": issued,
            "date_pay_before": issued + 30 * DAY,
            "date_status": issued,
            "pay_system_id": 31,
            "uf_company_id": 5,
            "product_rows": [{"ID": number, "PRODUCT_NAME": "Services", "PRICE": price, "QUANTITY": "1"}],
        }
        fields |= _STATUS[status]
        if status == "paid":
            fields |= {"date_payed": issued + 5 * DAY, "pay_voucher_date": issued + 5 * DAY}
        create_object(state, "invoice", fields, now)


def _plant_items(state: State, now: float) -> None:
    for kind, number, title, company, rows, payment in _ITEMS:
        born = now - 10 * DAY
        fields = {"id": number, "title": title, "companyId": company, "contactIds": [4] if company else []}
        create_object(state, kind, {**fields, "currencyId": "EUR", "assignedById": 7}, born)
        short = "D" if kind == "deal" else "SI"
        for sort, (name, price, quantity) in enumerate(rows, 1):
            values = {"productName": name, "price": price, "quantity": quantity, "sort": sort * 10}
            create_object(state, "product_row", {"ownerType": short, "ownerId": number, **values}, now)
        if payment is not None:
            _plant_payment(state, 2 if kind == "deal" else 31, number, payment, now)


def _plant_payment(
    state: State, entity_type_id: int, entity_id: int, wanted: tuple[int, str, bool], now: float
) -> None:
    number, amount, paid = wanted
    item = state.items(entity_type_id)[entity_id]
    order = create_order(state, item, 7, now=now - 3 * DAY)
    order.payments_numbered = 1
    system = state.pay_systems[6]
    billed = now - 3 * DAY
    fields = {
        "id": number,
        "order_id": order.id,
        "account_number": f"{order.account_number}/1",
        "pay_system_id": system.id,
        "pay_system_name": system.name,
        "sum": Decimal(amount),
        "currency": order.currency,
        "xml_id": f"bx_{uniqid(int(billed * 1_000_000) + number)}",
        "date_bill": billed,
        "responsible_id": 7,
        "emp_responsible_id": 7,
        "date_responsible_id": billed,
    }
    create_object(state, "payment", fields, now)
    short = "D" if entity_type_id == DEAL else "SI"
    first = rows_of(state, short, entity_id)[0]
    state.payable_items[number + 100] = PayableItem(number + 100, number, "product", first.id, 1, first.price, billed)
    if paid:
        set_paid(state.payments[number], "Y", now=now - DAY, user_id=7)
