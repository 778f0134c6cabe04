"""What is on the portal: rows as dataclasses, money as Decimal, times as epoch seconds; all of it JSON-able."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

from airflow_provider_bitrix24.sandbox.portal.options import defaults
from airflow_provider_bitrix24.sandbox.portal.side_tables import Chat, Client, EventHandler, Message, OfflineEvent
from airflow_provider_bitrix24.sandbox.portal.tables import Row, Table


def words(text: str) -> list[str]:
    """A list of names, written as a sentence."""
    return text.split()


DEAL, LEAD, SMART_INVOICE = 2, 1, 31
#: The short names of owner types in product rows.
OWNER_TYPES = {"L": LEAD, "D": DEAL, "SI": SMART_INVOICE}
ZERO = Decimal(0)

#: Handlers that take no request from a gateway: ``sale.paysystem.pay.*`` answers ``true`` and does nothing.
PASSIVE_HANDLERS = frozenset(
    words(
        "authorize bill billby billde billen billkz billla billbr billua billfr cash cashondelivery "
        "cashondeliverycalc inner invoicedocument orderdocument sberbank tbankbusiness"
    )
)


@dataclass
class User(Row):
    """A person of the portal. ``denied`` lists rights taken away, such as ``deal.update`` or ``order.read``."""

    id: int
    name: str = ""
    last_name: str = ""
    admin: bool = False
    staff: bool = True
    active: bool = True
    denied: list[str] = field(default_factory=list)


@dataclass
class Webhook:
    """An incoming webhook: acts as its user, within its scopes."""

    user_id: int
    secret: str = field(repr=False)
    scopes: list[str] = field(default_factory=list)


@dataclass
class PaySystem(Row):
    """A way to pay: ``action_file`` is its handler, ``entity_registry_type`` (ORDER or CRM_INVOICE) what it is for."""

    id: int
    name: str
    action_file: str
    entity_registry_type: str = "ORDER"
    active: str = "Y"
    person_type_id: int = 0
    sort: int = 100
    psa_name: str = ""
    description: str = ""
    is_cash: str = "N"
    new_window: str = "N"
    ps_mode: str | None = None
    tarif: str | None = None
    logotip: str | None = None
    xml_id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Handler(Row):
    """A REST handler that an application has brought."""

    id: int
    name: str
    code: str
    sort: int = 100
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Item(Row):
    """A lead, deal or smart invoice. ``fields`` holds what has no rule of its own, in camelCase."""

    id: int
    entity_type_id: int
    title: str = ""
    opportunity: Decimal = ZERO
    tax_value: Decimal = ZERO
    currency_id: str = "EUR"
    company_id: int = 0
    contact_ids: list[int] = field(default_factory=list)
    assigned_by_id: int = 1
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class ProductRow(Row):
    """A row of goods on an item; ``price`` is what one piece costs the customer."""

    id: int
    owner_type: str
    owner_id: int
    product_name: str = ""
    product_id: int = 0
    price: Decimal = ZERO
    quantity: Decimal = Decimal(1)
    discount_type_id: int = 2
    discount_rate: Decimal = ZERO
    tax_rate: Decimal | None = None
    tax_included: str = "N"
    measure_code: int = 796
    sort: int = 10
    xml_id: str = ""


@dataclass
class Invoice(Row):
    """A legacy invoice, with rows of its own and a payment that nothing shows over REST."""

    id: int
    order_topic: str = ""
    account_number: str = ""
    price: Decimal = ZERO
    currency: str = "EUR"
    tax_value: Decimal = ZERO
    status_id: str = "N"
    payed: str = "N"
    canceled: str = "N"
    date_insert: float = 0.0
    date_update: float = 0.0
    date_bill: float | None = None
    date_pay_before: float | None = None
    date_payed: float | None = None
    date_status: float | None = None
    date_marked: float | None = None
    emp_payed_id: int | None = None
    emp_status_id: int | None = None
    pay_voucher_date: float | None = None
    pay_voucher_num: str = ""
    pay_system_id: int | None = None
    person_type_id: int = 1
    responsible_id: int = 1
    created_by: int = 1
    reason_marked: str = ""
    comments: str = ""
    user_description: str = ""
    xml_id: str = ""
    uf_company_id: int = 0
    uf_contact_id: int = 0
    uf_deal_id: int = 0
    uf_quote_id: int = 0
    uf_mycompany_id: int = 0
    product_rows: list[dict[str, Any]] = field(default_factory=list)
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass
class Order(Row):
    """The order behind an item: payments hang on it."""

    id: int
    account_number: str
    currency: str
    responsible_id: int
    person_type_id: int
    company_id: int = 0
    contact_ids: list[int] = field(default_factory=list)
    canceled: str = "N"
    xml_id: str = ""
    payments_numbered: int = 0
    date_insert: float | None = None
    date_update: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class Binding(Row):
    """Which order belongs to which item (``crm.orderentity``)."""

    id: int
    order_id: int
    owner_id: int
    owner_type_id: int


@dataclass
class Payment(Row):
    """A payment of an order; the names are the table's columns, all of them."""

    id: int
    order_id: int
    account_number: str = ""
    paid: str = "N"
    date_paid: float | None = None
    emp_paid_id: int | None = None
    pay_system_id: int = 0
    pay_system_name: str = ""
    sum: Decimal = ZERO
    currency: str = "EUR"
    xml_id: str = ""
    date_bill: float | None = None
    date_pay_before: float | None = None
    responsible_id: int | None = None
    emp_responsible_id: int | None = None
    date_responsible_id: float | None = None
    company_id: int | None = None
    comments: str = ""
    is_return: str = "N"
    pay_return_num: str = ""
    pay_return_date: float | None = None
    pay_return_comment: str = ""
    emp_return_id: int | None = None
    pay_voucher_num: str = ""
    pay_voucher_date: float | None = None
    price_cod: Decimal = ZERO
    ps_status: str = ""
    ps_status_code: str = ""
    ps_status_description: str = ""
    ps_status_message: str = ""
    ps_sum: Decimal | None = None
    ps_currency: str = ""
    ps_response_date: float | None = None
    ps_invoice_id: str | None = None
    ps_recurring_token: str = ""
    ps_card_number: str = ""
    external_payment: str = "N"
    marked: str = "N"
    reason_marked: str = ""
    date_marked: float | None = None
    emp_marked_id: int | None = None
    updated_1c: str = "N"
    id_1c: str = ""
    version_1c: str = ""


@dataclass
class PayableItem(Row):
    """A product row or a delivery (shipment) that a payment pays for."""

    id: int
    payment_id: int
    kind: str  # "product" or "delivery"
    target_id: int
    quantity: int
    price: Decimal
    date_insert: float = 0.0
    xml_id: str = ""


@dataclass
class Shipment(Row):
    """A delivery of an order."""

    id: int
    order_id: int
    price: Decimal = ZERO
    name: str = ""


@dataclass
class State:
    """Every table of the portal, its counters and its ledger."""

    users: Table[User] = field(default_factory=Table)
    pay_systems: Table[PaySystem] = field(default_factory=Table)
    handlers: Table[Handler] = field(default_factory=Table)
    leads: Table[Item] = field(default_factory=Table)
    deals: Table[Item] = field(default_factory=Table)
    smart_invoices: Table[Item] = field(default_factory=Table)
    product_rows: Table[ProductRow] = field(default_factory=Table)
    invoices: Table[Invoice] = field(default_factory=Table)
    orders: Table[Order] = field(default_factory=Table)
    bindings: Table[Binding] = field(default_factory=Table)
    payments: Table[Payment] = field(default_factory=Table)
    payable_items: Table[PayableItem] = field(default_factory=Table)
    shipments: Table[Shipment] = field(default_factory=Table)
    companies: Table[Client] = field(default_factory=Table)
    contacts: Table[Client] = field(default_factory=Table)
    chats: Table[Chat] = field(default_factory=Table)
    messages: Table[Message] = field(default_factory=Table)
    event_handlers: Table[EventHandler] = field(default_factory=Table)
    offline_events: Table[OfflineEvent] = field(default_factory=Table)
    counters: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=defaults)
    ledger: list[dict[str, Any]] = field(default_factory=list)

    def items(self, entity_type_id: int) -> Table[Item]:
        """The table of one CRM type."""
        return {LEAD: self.leads, DEAL: self.deals, SMART_INVOICE: self.smart_invoices}[entity_type_id]

    def new_id(self, table: str) -> int:
        """The next id of a table; like a database's, it is never given twice."""
        rows: Table[Any] = getattr(self, table)
        number = max(self.counters.get(table, 0), rows.newest) + 1
        self.counters[table] = number
        return number

    def copy(self) -> State:
        """An independent copy."""
        return copy.deepcopy(self)

    def dump(self) -> dict[str, Any]:
        """As JSON-able data: money as strings, ids as strings where JSON wants keys."""
        data: dict[str, Any] = {}
        for name in _TABLES:
            data[name] = [plain(row) for row in getattr(self, name).values()]
        for name in ("counters", "options", "ledger"):
            data[name] = copy.deepcopy(getattr(self, name))
        return data

    @classmethod
    def load(cls, data: dict[str, Any]) -> State:
        """The state that ``dump`` wrote."""
        state = cls()
        for name, row_type in _TABLES.items():
            setattr(state, name, Table(_row(row_type, row) for row in data.get(name, [])))
        state.counters = dict(data.get("counters", {}))
        state.options.update(copy.deepcopy(data.get("options", {})))
        state.ledger = copy.deepcopy(data.get("ledger", []))
        return state


_TABLES: dict[str, type[Any]] = {
    "users": User,
    "pay_systems": PaySystem,
    "handlers": Handler,
    "leads": Item,
    "deals": Item,
    "smart_invoices": Item,
    "product_rows": ProductRow,
    "invoices": Invoice,
    "orders": Order,
    "bindings": Binding,
    "payments": Payment,
    "payable_items": PayableItem,
    "shipments": Shipment,
    "companies": Client,
    "contacts": Client,
    "chats": Chat,
    "messages": Message,
    "event_handlers": EventHandler,
    "offline_events": OfflineEvent,
}


def money_text(amount: Decimal) -> str:
    """Money as people read it: at least two places, no exponent."""
    text = f"{amount:f}"
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"


def plain(row: Any) -> dict[str, Any]:
    """A row as JSON-able data."""
    values = {column.name: getattr(row, column.name) for column in fields(row)}
    return {
        name: money_text(v) if isinstance(v, Decimal) else copy.deepcopy(v) if isinstance(v, list | dict) else v
        for name, v in values.items()
    }


def _row(row_type: type[Any], data: dict[str, Any]) -> Any:
    values = copy.deepcopy(data)
    for column in fields(row_type):
        value = values.get(column.name)
        if str(column.type).startswith("Decimal") and value is not None:
            values[column.name] = Decimal(value)
    return row_type(**values)
