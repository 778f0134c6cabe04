"""``sale.order.*``, ``sale.persontype.list`` and what payments pay for, as administrators see it."""

from __future__ import annotations

from typing import Any

import pytest

ADMINISTRATOR_ONLY = [
    ("sale.order.get", {"id": 1}, "200040300010"),
    ("sale.order.list", {}, "200040300010"),
    ("sale.order.update", {"id": 1, "fields": {"comments": "x"}}, "200040300020"),
    ("sale.persontype.list", {}, "200040300010"),
    ("sale.paymentitembasket.list", {}, "200040300010"),
    ("sale.paymentitemshipment.add", {"fields": {}}, "200040300020"),
]


@pytest.mark.parametrize(("method", "params", "code"), ADMINISTRATOR_ONLY, ids=lambda value: str(value)[:30])
def test_administrators_only(method: str, params: dict[str, Any], code: str, rest: Any) -> None:
    assert "error" not in rest.body(method, params) or method.endswith("shipment.add")
    assert rest.as_user(7).error(method, params) == code
    assert rest.as_user(7, scopes=("crm",)).error(method, params) == "insufficient_scope"


def test_get(rest: Any) -> None:
    order = rest("sale.order.get", id=1)["order"]
    assert (order["id"], order["accountNumber"], order["currency"], order["price"]) == (1, "1", "EUR", 350)
    assert (order["payed"], order["canceled"], order["responsibleId"], order["personTypeId"]) == ("N", "N", 7, 1)
    assert [payment["id"] for payment in order["payments"]] == [1001]
    assert order["payments"][0]["orderId"] == 1
    assert [(row["name"], row["price"]) for row in order["basketItems"]] == [("Maintenance, one year", 350)]
    assert [(row["entityTypeId"], row["entityId"]) for row in order["clients"]] == [(4, 5), (3, 4)]
    assert order["dateInsert"] == "2025-11-19T10:26:40+02:00"
    assert rest.body("sale.order.get", id=99)["error"] == "200540400001"
    assert rest.error("sale.order.get") == "100"


def test_paid_when_its_payments_are(rest: Any) -> None:
    def payed(number: int) -> str:
        shown: str = rest("sale.order.get", id=number)["order"]["payed"]
        return shown

    assert (payed(1), payed(2)) == ("N", "Y")
    rest("crm.item.payment.pay", id=1001)
    assert payed(1) == "Y"
    rest("crm.item.payment.add", entityTypeId=2, entityId=3)
    assert payed(5) == "N"
    rest("crm.item.payment.pay", id=1033)
    assert payed(5) == "Y"  # an order of 0.00 is paid by a payment of 0.00


def test_list(rest: Any) -> None:
    def ids(**params: Any) -> list[int]:
        return [row["id"] for row in rest("sale.order.list", **params)["orders"]]

    assert ids() == [1, 2, 3, 4]
    assert ids(filter={"=payed": "Y"}) == [2]
    assert ids(filter={">=price": 640}, order={"price": "desc"}) == [3, 4]
    assert ids(filter={"PAYED": "Y"}) == [1, 2, 3, 4]  # dropped without a word
    assert rest("sale.order.list", select=["id", "accountNumber"], filter={"id": 1})["orders"] == [
        {"accountNumber": "1", "id": 1}
    ]
    for number in range(1, 61):
        rest.portal.create("deal", {"id": 100 + number})
        rest("crm.item.payment.add", entityTypeId=2, entityId=100 + number)
    first = rest.body("sale.order.list")
    assert (first["total"], first["next"], len(first["result"]["orders"])) == (64, 50, 50)
    assert len(ids(start=50)) == 14
    uncounted = rest.body("sale.order.list", start=-1, filter={">id": 60})
    assert ("total" in uncounted, len(uncounted["result"]["orders"])) == (False, 4)


def test_update(rest: Any) -> None:
    fields = {"xmlId": "key", "comments": "to be paid", "price": "351.5", "COMMENTS": "no", "currency": "USD"}
    order = rest("sale.order.update", id=1, fields=fields)["order"]
    assert (order["xmlId"], order["comments"], order["price"], order["currency"]) == ("key", "to be paid", 351.5, "EUR")
    assert order["dateUpdate"] == "2025-11-22T10:26:40+02:00"
    assert [row["id"] for row in rest("sale.order.list", filter={"=xmlId": "key"})["orders"]] == [1]
    rest("sale.order.update", id=1, fields=fields)
    assert rest.events() == ["order_changed"]  # the second time nothing changes
    assert rest.error("sale.order.update", id=1, fields={"xmlId": "x" * 256}) == "BX_INVALID_VALUE"
    assert rest.error("sale.order.update", id=99, fields=fields) == "200540400001"
    assert rest.error("sale.order.update", id=1) == "100"


def test_cancelled_order_cannot_be_paid(rest: Any) -> None:
    order = rest("sale.order.update", id=1, fields={"canceled": "Y", "reasonCanceled": "no budget"})["order"]
    assert (order["canceled"], order["reasonCanceled"], order["empCanceledId"]) == ("Y", "no budget", 1)
    assert order["dateCanceled"]
    assert rest.error("crm.item.payment.pay", id=1001) == "SALE_ORDER_PAID_ORDER_CANCELED"
    assert rest("sale.order.update", id=1, fields={"canceled": "N"})["order"]["dateCanceled"] is None
    assert rest("crm.item.payment.pay", id=1001) is True
    assert rest.events() == ["order_canceled", "order_changed", "order_reopened", "payment_paid"]


def test_person_types(rest: Any) -> None:
    body = rest.body("sale.persontype.list", select=["id", "name", "sort"], filter={"<=sort": 100})
    assert (body["result"]["personTypes"], body["total"]) == ([{"id": 1, "name": "CRM_COMPANY", "sort": "100"}], 1)
    assert [row["id"] for row in rest("sale.persontype.list", order={"sort": "DESC"})["personTypes"]] == [2, 1]


@pytest.mark.parametrize(
    ("family", "one", "many", "target", "number"),
    [
        ("sale.paymentitembasket", "paymentItemBasket", "paymentItemsBasket", "basketId", 10),
        ("sale.paymentitemshipment", "paymentItemShipment", "paymentItemsShipment", "shipmentId", 7),
    ],
)
def test_what_a_payment_pays_for(family: str, one: str, many: str, target: str, number: int, rest: Any) -> None:
    rest.portal.create("shipment", {"id": 7, "order_id": 1, "price": "4.90"})
    rows = rest("crm.item.productrow.list", filter={"=ownerType": "D", "=ownerId": 4})["productRows"]
    number = rows[1]["id"] if "basket" in family else number
    fields = {"paymentId": 1001, target: number, "quantity": 1, "xmlId": "line"}
    added = rest(f"{family}.add", fields=fields)[one]
    assert (added["paymentId"], added[target], added["xmlId"]) == (1001, number, "line")
    assert rest("crm.item.payment.get", id=1001)["sum"] == (430 if "basket" in family else 354.9)
    assert rest(f"{family}.get", id=added["id"])[one] == added
    assert rest(f"{family}.list", filter={"=xmlId": "line"})[many] == [added]
    assert rest(f"{family}.update", id=added["id"], fields={"xmlId": "other"})[one]["xmlId"] == "other"
    assert set(rest(f"{family}.getFields")[one]) == set(added)
    assert rest.error(f"{family}.add", fields=fields) == "201250000001"
    assert rest.error(f"{family}.add", fields={**fields, "paymentId": 99}) == "201240400002"
    assert rest.error(f"{family}.add", fields={**fields, target: 99}) == "201240400003"
    assert rest.error(f"{family}.add", fields={"paymentId": 1001}) == "0"
    assert rest(f"{family}.delete", id=added["id"]) is True
    assert rest("crm.item.payment.get", id=1001)["sum"] == 350
    assert rest.error(f"{family}.get", id=added["id"]) == "201240400001"
    rest("crm.item.payment.pay", id=1001)
    assert rest.error(f"{family}.add", fields=fields) == "SALE_PAYMENT_NOT_ALLOWED_CHANGE_SUM"


def test_link_of_an_invoice(rest: Any) -> None:
    link = rest("crm.invoice.getexternallink", id=2)
    assert link.startswith("http://portal.invalid/pub/invoice/2/")
    assert link != rest("crm.invoice.getexternallink", id=3)
    assert rest.body("crm.invoice.getexternallink", id=99)["error_description"] == "Not found."


def test_fields_of_small_lists(rest: Any) -> None:
    for kind in ("paysystem", "persontype"):
        row = rest(f"crm.{kind}.list")[0]
        assert set(rest(f"crm.{kind}.fields")) == set(row)
    shown = rest("crm.item.productrow.fields")["fields"]
    row = rest("crm.item.productrow.list", filter={"=ownerType": "D", "=ownerId": 4})["productRows"][0]
    assert set(shown) <= set(row)
    assert shown["id"]["isReadOnly"] is True


def test_what_cannot_be_converted_is_dropped(rest: Any) -> None:
    order = rest("sale.order.update", id=1, fields={"dateInsert": "soon", "comments": "kept"})["order"]
    assert (order["dateInsert"], order["comments"]) == ("2025-11-19T10:26:40+02:00", "kept")
