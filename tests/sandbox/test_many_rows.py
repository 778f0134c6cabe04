"""A portal with 20,000 payments serves a request with the same work as one with 1,000."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal
from airflow_provider_bitrix24.sandbox.portal.filters import lenient_conditions, matching
from airflow_provider_bitrix24.sandbox.portal.model import Binding, Invoice, Item, Order, PayableItem, Payment
from airflow_provider_bitrix24.sandbox.portal.php import snake
from airflow_provider_bitrix24.sandbox.portal.sale_payments import FIELDS
from airflow_provider_bitrix24.sandbox.portal.side_tables import EventHandler, OfflineEvent

if TYPE_CHECKING:
    from types import FrameType

FEW, MANY = 1_000, 20_000
START = 1_763_800_000.0
#: The first row that was paid on the last day; always the same number of rows come after it.
RECENT = 120
LAST_DAY = "2025-11-22T00:00:00+02:00"
APP = "local.app"


def _portal(rows: int) -> Portal:
    """Deals with an order, a payment and an invoice each, and as many events in the queue; half of it is paid."""
    portal = Portal(ManualClock(START), seed=False, customers_pay_after=60)
    portal.create("pay_system", {"id": 6, "name": "Cash", "action_file": "cash"})
    state = portal.state
    for number in range(1, rows + 1):
        at = START - 3600 if number > rows - RECENT else START - 30 * 86_400 + number
        paid = "Y" if number % 2 else "N"
        state.deals[number] = Item(number, 2, f"Deal {number}")
        state.orders[number] = Order(number, f"A{number}", "EUR", 1, 1, date_insert=at, date_update=at)
        state.bindings[number] = Binding(number, number, number, 2)
        state.payments[number] = Payment(
            number,
            number,
            f"A{number}/1",
            paid,
            at if paid == "Y" else None,
            pay_system_id=6,
            sum=Decimal(10),
            xml_id=f"key-{number}",
            date_bill=at,
        )
        state.payable_items[number] = PayableItem(number, number, "product", number, 1, Decimal(10))
        state.invoices[number] = Invoice(
            number, price=Decimal(10), account_number=f"I{number}", payed=paid, date_payed=at, date_update=at
        )
        event = OfflineEvent(number, APP, "ONPAYMENTENTITYSAVED", START + number, message_id=f"{number:032}")
        state.offline_events[number] = event
    state.event_handlers[1] = EventHandler(1, APP, "ONPAYMENTENTITYSAVED", offline=True)
    return portal


@pytest.fixture(scope="module")
def portals() -> tuple[Portal, Portal]:
    return _portal(FEW), _portal(MANY)


def _steps(portal: Portal, method: str, params: dict[str, Any]) -> int:
    """How many functions are called, generators resumed included, until a request has its reply."""
    if method.startswith("event."):
        token = portal.grant(portal.oauth.applications.get(APP) or portal.add_application(APP)).access_token
        auth, headers = Auth(), {"Authorization": f"Bearer {token}"}
    else:
        auth, headers = Auth(1, portal.webhook.secret), {}
    portal.handle(method, params, auth=auth, headers=headers)  # what is put in order once is in order from now on
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        reply = portal.handle(method, params, auth=auth, headers=headers)
    finally:
        sys.setprofile(before)
    assert isinstance(reply.body, dict)
    assert "error" not in reply.body, reply.body
    assert not isinstance(reply.body["result"], dict) or not reply.body["result"].get("result_error"), reply.body
    return steps


def _pages(rows: int) -> dict[str, str]:
    """Fifty pages, each after the last id of the page before."""
    first = f"sale.payment.list?start=-1&order[id]=asc&filter[>id]={rows // 2}"
    follow = "sale.payment.list?start=-1&order[id]=asc&filter[>id]=$result[{}][payments][49][id]"
    return {"0": first} | {str(page): follow.format(page - 1) for page in range(1, 10)}


BY_ID = {"order": {"id": "asc"}, "start": -1}
BY_UPPER_ID = {"order": {"ID": "ASC"}, "start": -1}
REQUESTS: dict[str, Any] = {
    "payments after an id": ("sale.payment.list", lambda n: {"filter": {">id": n // 2}, **BY_ID}),
    "the newest payments": ("sale.payment.list", lambda n: {"order": {"id": "desc"}}),
    "a page of all payments, counted": ("sale.payment.list", lambda n: {"start": 500}),
    "payments of a time": ("sale.payment.list", lambda n: {"filter": {">=dateBill": LAST_DAY, ">id": 0}, **BY_ID}),
    "payments paid since": (
        "sale.payment.list",
        lambda n: {"filter": {">=datePaid": LAST_DAY, "paid": "Y", ">id": n - RECENT}, **BY_ID},
    ),
    "a payment by its key": ("sale.payment.list", lambda n: {"filter": {"=xmlId": f"key-{n // 2}"}}),
    "payments by their ids": ("sale.payment.list", lambda n: {"filter": {"@id": list(range(n - 60, n))}, **BY_ID}),
    "payments of orders": ("sale.payment.list", lambda n: {"filter": {"=orderId": [1, 7, n]}}),
    "pages in a batch": ("batch", lambda n: {"cmd": _pages(n)}),
    "payments of a deal": ("crm.item.payment.list", lambda n: {"entityId": n // 2, "entityTypeId": 2}),
    "orders after an id": ("sale.order.list", lambda n: {"filter": {">id": n // 2}, **BY_ID}),
    "orders changed since": ("sale.order.list", lambda n: {"filter": {">=dateUpdate": LAST_DAY}, **BY_ID}),
    "an order": ("sale.order.get", lambda n: {"id": n // 2}),
    "orders of a deal": ("crm.orderentity.list", lambda n: {"filter": {"=ownerId": n, "=ownerTypeId": 2}}),
    "invoices after an id": ("crm.invoice.list", lambda n: {"filter": {">ID": n // 2}, **BY_UPPER_ID}),
    "the newest invoices, counted": ("crm.invoice.list", lambda n: {}),
    "invoices paid since": (
        "crm.invoice.list",
        lambda n: {"filter": {">=DATE_PAYED": LAST_DAY, "PAYED": "Y"}, **BY_UPPER_ID},
    ),
    "an invoice by its number": ("crm.invoice.list", lambda n: {"filter": {"ACCOUNT_NUMBER": f"I{n}"}}),
    "deals after an id": ("crm.deal.list", lambda n: {"filter": {">ID": n // 2}, **BY_UPPER_ID}),
    "items after an id": ("crm.item.list", lambda n: {"entityTypeId": 2, "filter": {">id": n // 2}, **BY_ID}),
    "add a payment": ("crm.item.payment.add", lambda n: {"entityId": n // 2, "entityTypeId": 2}),
    "add a deal": ("crm.deal.add", lambda n: {"fields": {"TITLE": "New"}}),
    "pay": ("crm.item.payment.pay", lambda n: {"id": n // 2}),
    "set back": ("crm.item.payment.unpay", lambda n: {"id": n // 2 + 1}),
    "what a payment pays for": ("crm.item.payment.product.list", lambda n: {"paymentId": n // 2}),
    "take events": ("event.offline.get", lambda n: {"clear": 0}),
    "take events for good": ("event.offline.get", lambda n: {"limit": 50}),
}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_work_does_not_grow_with_the_rows(request_: Any, portals: tuple[Portal, Portal]) -> None:
    method, params = request_
    few, many = (_steps(portal, method, params(rows)) for portal, rows in zip(portals, (FEW, MANY), strict=True))
    assert many <= 1.5 * few + 200


def test_new_objects_do_not_look_at_the_old_ones(portals: tuple[Portal, Portal]) -> None:
    for kind, fields in (("payment", {"order_id": 1, "sum": "5.00"}), ("invoice", {"price": "5.00"}), ("deal", {})):
        counts = []
        for portal in portals:
            steps = []
            sys.setprofile(lambda *_, steps=steps: steps.append(1))
            try:
                portal.create(kind, dict(fields))
            finally:
                sys.setprofile(None)
            counts.append(len(steps))
        assert counts[1] <= 1.5 * counts[0]


FILTERS: list[dict[str, Any]] = [
    {},
    {">=dateBill": LAST_DAY, "<id": 950},
    {"><id": [100, 130], "paid": "Y"},
    {"@id": [5, 3, 3, 2000], "!paid": "N"},
    {"=orderId": [7, 9], ">id": 8},
    {">id": 10, "<=id": 10},
    {">id": [990, 980]},
    {"=datePaid": None, ">id": 990},
    {"<dateBill": LAST_DAY, ">=dateBill": "2025-10-23T10:30:00+02:00", "paid": ["Y"]},
    {"%xmlId": "KEY-99", ">id": 100},
    {"@id": []},
    {"@xmlId": ["key-7", "key-8", "nobody's"], "<id": 8},
]


@pytest.mark.parametrize("filter_", FILTERS, ids=str)
@pytest.mark.parametrize("order", [{"id": "asc"}, {"id": "desc"}, {"sum": "desc", "id": "asc"}], ids=str)
def test_lists_are_those_that_a_look_at_every_row_finds(
    filter_: dict[str, Any], order: dict[str, str], portals: tuple[Portal, Portal]
) -> None:
    portal = portals[0]
    conditions = lenient_conditions(filter_, FIELDS)
    rows = matching(portal.state.payments.values(), conditions, lambda row, name: getattr(row, snake(name).lower()))
    expected = sorted((row.id for row in rows), reverse=order.get("id") == "desc")
    ids: list[int] = []
    start: int | None = 0
    while start is not None:
        params = {"filter": filter_, "order": order, "select": ["id"], "start": start}
        body: Any = portal.handle("sale.payment.list", params, auth=Auth(1, portal.webhook.secret)).body
        ids += [row["id"] for row in body["result"]["payments"]]
        start = body.get("next")
    assert body["total"] == len(expected)
    assert (sorted(ids) if "sum" in order else ids) == expected
    params = {"filter": filter_, "order": order, "select": ["id"], "start": -1}
    body = portal.handle("sale.payment.list", params, auth=Auth(1, portal.webhook.secret)).body
    assert [row["id"] for row in body["result"]["payments"]] == ids[:50]


def test_columns_stay_in_order(portals: tuple[Portal, Portal]) -> None:
    portal = portals[0]
    payments = portal.state.payments
    assert [row.id for row in payments.having("xml_id", "key-5")] == [5]
    payments[5].xml_id = "another"
    payments[7].xml_id = "another"
    del payments[9]
    payments[3] = Payment(3, 3, xml_id="another")
    assert [row.id for row in payments.having("xml_id", "another")] == [3, 5, 7]
    assert payments.having("xml_id", "key-5") == payments.having("xml_id", "key-9") == []
    twin = portal.state.copy().payments
    twin[5].xml_id = "key-5"
    assert [row.id for row in payments.having("xml_id", "another")] == [3, 5, 7]
    assert [row.id for row in twin.having("xml_id", "another")] == [3, 7]
