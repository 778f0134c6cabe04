"""sale.payment.*: everything about a payment, for administrators, and keys dropped without a word."""

from __future__ import annotations

from typing import Any

import pytest


def ids(rest: Any, **params: Any) -> list[int]:
    return [row["id"] for row in rest("sale.payment.list", **params)["payments"]]


@pytest.fixture
def many(rest: Any) -> Any:
    """Sixty payments of deal 3, beside the four seeded ones."""
    for _ in range(60):
        rest("crm.item.payment.add", entityId=3, entityTypeId=2)
    return rest


@pytest.mark.parametrize(
    "filter_",
    [{"=xmlID": "key"}, {"=XML_ID": "key"}, {"=nothing": 1}, {">dateBill": "soon"}, {"=orderID": 1}],
    ids=str,
)
def test_what_is_mistyped_is_dropped_and_finds_everything(filter_: dict[str, Any], rest: Any) -> None:
    assert ids(rest, filter=filter_) == [1001, 1002, 1003, 1004]


def test_filters_that_are_understood(rest: Any) -> None:
    assert ids(rest, filter={"=xmlId": "key"}) == []
    assert ids(rest, filter={"=paid": "Y"}) == [1002]
    assert ids(rest, filter={">=sum": 640, "@paySystemId": [6]}) == [1003, 1004]
    assert ids(rest, filter={">dateBill": "2025-11-19"}) == [1001, 1002, 1003, 1004]
    assert ids(rest, filter={">dateBill": "2025-11-20T00:00:00+02:00"}) == []
    assert ids(rest, filter={"=paySystemIsCash": "Y", "=priceCod": 0}, order={"id": "desc", "ID": "asc"})[0] == 1004


def test_pages(many: Any) -> None:
    first = many.body("sale.payment.list", select=["id", "nothing"])
    assert (first["total"], first["next"], len(first["result"]["payments"])) == (64, 50, 50)
    assert first["result"]["payments"][0] == {"id": 1001}
    second = many.body("sale.payment.list", start=50)
    assert (second["total"], "next" in second, len(second["result"]["payments"])) == (64, False, 14)
    rounded = many.body("sale.payment.list", start=30)
    assert (rounded["result"]["payments"][0]["id"], rounded["next"]) == (1001, 50)
    uncounted = many.body("sale.payment.list", start=-1, filter={">id": 1040}, order={"id": "asc"})
    assert set(uncounted) == {"result", "time"}
    assert [row["id"] for row in uncounted["result"]["payments"]] == list(range(1041, 1091))
    backwards = many.body("sale.payment.list", start="-1", order={"id": "desc"})
    assert backwards["result"]["payments"][0]["id"] == 1092


def test_get_shows_what_crm_does_not(rest: Any) -> None:
    payment = rest("sale.payment.get", id=1001)["payment"]
    assert (payment["orderId"], payment["priceCod"], payment["sum"], payment["paySystemIsCash"]) == (1, "0", 350, "Y")
    assert payment["dateBill"] == "2025-11-19T10:26:40+02:00"
    rest.portal.state.pay_systems.clear()
    assert rest("sale.payment.get", id=1001)["payment"]["paySystemXmlId"] == ""


def test_update_writes_what_it_knows_and_drops_the_rest(rest: Any) -> None:
    fields = {"paySystemId": 6, "xmlId": "af-1", "psInvoiceId": "00017", "sum": "12.34", "datePayBefore": "never"}
    fields |= {"XML_ID": "other", "currency": "USD", "orderId": 2, "comments": None, "marked": "Y"}
    payment = rest("sale.payment.update", id=1001, fields=fields)["payment"]
    assert (payment["xmlId"], payment["psInvoiceId"], payment["sum"], payment["currency"]) == (
        "af-1",
        "00017",
        12.34,
        "EUR",
    )
    assert (payment["orderId"], payment["datePayBefore"], payment["comments"]) == (1, None, "")
    assert payment["dateMarked"] == "2025-11-22T10:26:40+02:00"
    assert ids(rest, filter={"=xmlId": "af-1"}) == [1001]
    rows = rest("crm.item.payment.list", entityId=4, entityTypeId=2, filter={"=xmlId": "af-1"})
    assert [row["id"] for row in rows] == [1001]
    assert rest.events() == ["payment_updated"]
    rest("sale.payment.update", id=1001, fields={"paySystemId": 6, "xmlId": "af-1", "psInvoiceId": 17})
    assert rest("sale.payment.get", id=1001)["payment"]["psInvoiceId"] == 17


def test_update_that_changes_nothing_is_no_entry(rest: Any) -> None:
    rest("sale.payment.update", id=1001, fields={"paySystemId": 6, "sum": 350})
    assert rest.portal.ledger == []


def test_update_pays_and_unpays(rest: Any) -> None:
    paid = {"paySystemId": 6, "paid": "Y", "datePaid": "2025-11-01T12:00:00", "psSum": None}
    payment = rest("sale.payment.update", id=1001, fields=paid)["payment"]
    assert (payment["paid"], payment["datePaid"]) == ("Y", "2025-11-01T12:00:00+02:00")
    assert rest.error("sale.payment.update", id=1001, fields={"paySystemId": 6, "sum": 1}) == (
        "SALE_PAYMENT_NOT_ALLOWED_CHANGE_SUM"
    )
    rest("sale.payment.update", id=1001, fields={"paySystemId": 8, "paid": "N", "sum": 1})
    assert rest.events() == ["payment_paid", "payment_unpaid"]
    assert rest("crm.item.payment.get", id=1001)["paySystemName"] == "Card on the payment page"


def test_update_refusals(rest: Any) -> None:
    assert rest.body("sale.payment.update", id=1001, fields={"sum": 1}) == {
        "error": "0",
        "error_description": "Required fields: paySystemId",
    }
    assert rest.error("sale.payment.update", id=1001, fields={"paySystemId": 99}) == "0"
    assert rest.error("sale.payment.update", id=1001, fields="x") == "100"
    assert rest.error("sale.payment.update", id=1, fields={"paySystemId": 6}) == "200640400001"


def test_add_and_delete(rest: Any) -> None:
    added = rest("sale.payment.add", fields={"orderId": 1, "paySystemId": 8, "sum": "99.90", "xmlId": "key"})["payment"]
    assert (added["id"], added["sum"], added["xmlId"], added["accountNumber"]) == (1033, 99.9, "key", "1/2")
    paid = rest("sale.payment.add", fields={"orderId": 1, "paySystemId": 8, "paid": "Y"})["payment"]
    assert (paid["paid"], paid["xmlId"][:3]) == ("Y", "bx_")
    assert rest("sale.payment.delete", id=1033) is True
    assert rest.error("sale.payment.delete", id=paid["id"]) == "SALE_PAYMENT_DELETE_EXIST_PAID"
    assert rest.error("sale.payment.add", fields={"orderId": 1, "paySystemId": 99}) == "0"
    assert rest.error("sale.payment.add", fields={"orderId": 1, "paySystemId": 99}) == "0"
    assert rest.events() == ["payment_added", "payment_added", "payment_paid", "payment_deleted"]


def test_only_administrators(rest: Any) -> None:
    caller = rest.as_user(7)
    assert caller.error("sale.payment.get", id=1001) == "200040300010"
    assert caller.error("sale.payment.list") == "200040300010"
    fields = {"orderId": 1, "paySystemId": 6}
    assert caller.error("sale.payment.add", fields=fields) == "200040300020"
    assert caller.error("sale.payment.update", id=1001, fields=fields) == "200040300020"
    assert caller.error("sale.payment.delete", id=1001) == "200040300020"
    assert rest.portal.ledger == []


def test_texts_that_are_too_long_are_refused(rest: Any) -> None:
    fields = {"paySystemId": 6, "xmlId": "x" * 255, "payVoucherNum": "1" * 20}
    assert rest("sale.payment.update", id=1001, fields=fields)["payment"]["xmlId"] == "x" * 255
    for name, value in (("xmlId", "x" * 256), ("payVoucherNum", "1" * 21)):
        before = list(rest.events())
        assert rest.error("sale.payment.update", id=1001, fields={**fields, name: value}) == "BX_INVALID_VALUE"
        assert rest.error("sale.payment.add", fields={**fields, "orderId": 1, name: value}) == "BX_INVALID_VALUE"
        assert rest.events() == before


def test_add_to_an_unknown_order(rest: Any) -> None:
    body = rest.body("sale.payment.add", fields={"orderId": 99, "paySystemId": 6})
    assert body == {"error": "200540400001", "error_description": "order does not exist"}
