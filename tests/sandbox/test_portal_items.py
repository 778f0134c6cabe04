"""Deals, leads and smart invoices with their rows, and the orders bound to them."""

from __future__ import annotations

from typing import Any

import pytest


def test_item_get(rest: Any) -> None:
    deal = rest("crm.item.get", entityTypeId=2, id=1)["item"]
    assert (deal["opportunity"], deal["currencyId"], deal["companyId"], deal["contactId"]) == (1020, "EUR", 5, 4)
    invoice = rest("crm.item.get", entityTypeId=31, id=102)["item"]
    assert (invoice["opportunity"], invoice["stageId"], invoice["entityTypeId"]) == (665, "DT31_1:N", 31)
    assert rest.error("crm.item.get", entityTypeId=31, id=1) == "NOT_FOUND"
    assert rest.error("crm.item.get", entityTypeId=5, id=1) == "ENTITY_TYPE_NOT_SUPPORTED"
    assert rest.error("crm.item.get", entityTypeId=177, id=1) == "NOT_FOUND"
    rest.portal.state.users[7].staff = False
    assert rest.as_user(7).error("crm.item.get", entityTypeId=2, id=1) == "ALLOWED_ONLY_INTRANET_USER"


def test_item_add_and_update(rest: Any) -> None:
    given = {"title": "T", "opportunity": "10.50", "isManualOpportunity": "Y", "contactIds": [4, "5"], "contactId": 8}
    given |= {"createdBy": 9, "nonsense": 1, "ufCrm_12": "free", "parentId7": 3, "xmlId": "key", "observers": {"0": 2}}
    item = rest("crm.item.add", entityTypeId=31, fields=given)["item"]
    assert (item["id"], item["opportunity"], item["contactIds"], item["createdBy"]) == (104, 10.5, [8, 5], 1)
    assert (item["ufCrm_12"], item["parentId7"], item["observers"]) == ("free", 3, [2])
    assert "nonsense" not in item
    rest.clock.advance(60)
    changed = {"title": "U", "contactId": 8, "companyId": "6", "comments": "c"}
    item = rest("crm.item.update", entityTypeId=31, id=104, fields=changed)["item"]
    assert (item["title"], item["companyId"], item["updatedTime"]) == ("U", 6, "2025-11-22T10:27:40+02:00")
    rest("crm.item.update", entityTypeId=31, id=104, fields=changed)
    assert rest.events() == ["item_added", "item_changed"]
    assert rest("crm.item.add", entityTypeId=2)["item"]["title"] == "Deal #7"
    assert (
        rest.error("crm.item.add", entityTypeId=2, fields={"currencyId": "euro"}) == "CRM_FIELD_ERROR_VALUE_NOT_VALID"
    )
    assert rest.as_user(7, "deal.add").error("crm.item.add", entityTypeId=2, fields={}) == "ACCESS_DENIED"


def test_changed_currency_does_not_reach_the_order(rest: Any) -> None:
    rest("crm.item.update", entityTypeId=2, id=4, fields={"currencyId": "USD"})
    number = rest("crm.item.payment.add", entityId=4, entityTypeId=2)
    assert rest("crm.item.payment.get", id=number)["currency"] == "EUR"


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({">id": 4}, [5, 6]),
        ({">=opportunity": 1020, "<opportunity": "2000"}, [1, 6]),
        ({"@stageId": ["NEW"], "!companyId": 5}, [3, 5, 6]),
        ({"0": {"logic": "OR", "0": {"=opportunity": 560}, "1": {"id": 3}}}, [3, 5]),
        ({"logic": "or", "=opportunity": 560, "id": 3}, [3, 5]),
        ({"0": [{"id": 3}], "=opportunity": 0}, [3]),
        ({"%title": "website"}, [6]),
        ({"<createdTime": "2025-11-13", "id": [1, 2]}, [1, 2]),
        ({"=assignedById": 7, "currencyId": "EUR", "entityTypeId": 2, "id": 1}, [1]),
        ({"ufCrm_9": "x"}, []),
    ],
    ids=str,
)
def test_item_list_filter(filter_: dict[str, Any], expected: list[int], rest: Any) -> None:
    items = rest("crm.item.list", entityTypeId=2, filter=filter_)["items"]
    assert [item["id"] for item in items] == expected


def test_item_list(rest: Any) -> None:
    body = rest.body("crm.item.list", entityTypeId=2, select=["title"], order={"opportunity": "desc"})
    assert (body["result"]["items"][0], body["total"]) == ({"id": 2, "title": "Workplace equipment"}, 6)
    assert len(rest("crm.item.list", entityTypeId=2, select=["*"], filter={"id": 1})["items"][0]) > 50
    uncounted = rest.body("crm.item.list", entityTypeId=2, start=-1, filter={">id": 2}, order={"id": "ASC"})
    assert (uncounted["total"], [item["id"] for item in uncounted["result"]["items"]]) == (0, [3, 4, 5, 6])

    def text(**params: Any) -> Any:
        return rest.body("crm.item.list", entityTypeId=31, **params)["error_description"]

    assert text(filter={"0": {"ID": 1}}) == "Invalid filter: field 'ID' is not allowed in filter"
    assert text(filter={">createdTime": "soon"}) == "Invalid filter: field 'createdTime' has invalid value"
    assert text(order={"price": "asc"}) == "Invalid order: field 'price' is not allowed in order"


def test_deals_the_old_way(rest: Any) -> None:
    deal = rest("crm.deal.get", id=1)
    assert (deal["ID"], deal["OPPORTUNITY"], deal["COMPANY_ID"], deal["CONTACT_ID"]) == ("1", "1020.00", "5", "4")
    assert rest("crm.deal.get", id="3")["COMPANY_ID"] is None
    number = rest(
        "crm.deal.add", FIELDS={"TITLE": "D", "OPPORTUNITY": "5", "CONTACT_ID": 9, "ID": 99, "CREATED_BY_ID": 9}
    )
    deal = rest("crm.deal.get", ID=number)
    assert (deal["ID"], deal["TITLE"], deal["OPPORTUNITY"], deal["CREATED_BY_ID"]) == ("7", "D", "5.00", "1")
    assert rest.body("crm.deal.add", fields={"CURRENCY_ID": "?"}) == {
        "error": "",
        "error_description": 'Invalid value for field "Currency"',
    }
    assert rest.as_user(7, "deal.add").error("crm.deal.add", fields={}) == ""


def test_deal_list(rest: Any) -> None:
    def ids(**params: Any) -> list[str]:
        return [row["ID"] for row in rest("crm.deal.list", **params)]

    assert ids(filter={">ID": 4, "NOTHING": 1}) == ["5", "6"]
    assert ids(order={"OPPORTUNITY": "DESC"})[0] == "2"
    assert ids(filter={"<DATE_CREATE": "2025-11-13", "@ID": [1]}) == ["1"]
    assert rest("crm.deal.list", select=["ID", "TITLE", "X"], filter={"ID": 3}, start=-1) == [
        {"ID": "3", "TITLE": "First talk, nothing agreed yet"}
    ]
    assert rest.body("crm.deal.list", order="ID")["error_description"] == "Parameter 'order' must be array."
    assert rest.as_user(7, "deal.read").error("crm.deal.list") == ""


def test_row_prices_as_documented(rest: Any) -> None:
    fields = {"ownerId": 3, "ownerType": "D", "productId": 9, "price": 80000, "quantity": 2, "discountTypeId": 2}
    row = rest("crm.item.productrow.add", fields={**fields, "discountRate": 20, "taxRate": 20, "taxIncluded": "Y"})
    row = row["productRow"]
    assert (row["priceExclusive"], row["priceNetto"], row["priceBrutto"], row["discountSum"]) == (
        66666.67,
        83333.34,
        100000.01,
        16666.67,
    )
    assert row["productName"] == "Product 9"
    assert rest("crm.item.get", entityTypeId=2, id=3)["item"]["opportunity"] == 160000
    updated = rest("crm.item.productrow.update", id=row["id"], fields={"price": 10, "taxRate": None, "measureCode": 6})
    updated = updated["productRow"]
    assert (updated["price"], updated["taxRate"], updated["measureName"]) == (10, None, "m")
    rest("crm.item.productrow.update", id=row["id"], fields={"price": 10, "discountRate": 100})
    assert rest("crm.item.productrow.get", id=row["id"])["productRow"]["priceNetto"] == 10
    assert rest("crm.item.productrow.delete", id=row["id"]) is None
    assert rest("crm.item.get", entityTypeId=2, id=3)["item"]["opportunity"] == 0
    rest("crm.item.productrow.update", id=1, fields={"price": 450})
    assert rest.events() == ["row_added", "row_changed", "row_changed", "row_deleted"]


def test_rows_are_replaced(rest: Any) -> None:
    before = rest("crm.item.productrow.list", filter={"=ownerType": "SI", "=ownerId": 101})["productRows"]
    given = [{"id": before[0]["id"], "price": 1, "quantity": 1}, {"productName": "New", "price": 2, "quantity": 2}]
    after = rest("crm.item.productrow.set", ownerType="SI", ownerId=101, productRows=given)["productRows"]
    assert [row["id"] == before[0]["id"] for row in after] == [True, False]
    assert [row["productName"] for row in after] == ["Licence", "New"]
    assert rest("crm.item.get", entityTypeId=31, id=101)["item"]["opportunity"] == 5


def test_row_list(rest: Any) -> None:
    owner = {"=ownerType": "D", "=ownerId": 2}
    body = rest.body("crm.item.productrow.list", filter={**owner, ">price": 100}, order={"price": "desc"})
    assert ([row["price"] for row in body["result"]["productRows"]], body["total"]) == ([389, 214.5], 2)
    assert rest.error("crm.item.productrow.list", filter={**owner, "=nothing": 1}) == "INVALID_ARG_VALUE"
    assert rest.error("crm.item.productrow.list", filter=owner, order={"nothing": "asc"}) == "INVALID_ARG_VALUE"
    assert rest.error("crm.item.productrow.getAvailableForPayment", ownerType="D", ownerId=99) == "OWNER_NOT_FOUND"


def test_amount_set_by_hand_stays(rest: Any) -> None:
    rest("crm.item.update", entityTypeId=2, id=1, fields={"isManualOpportunity": "Y", "opportunity": 7})
    rest("crm.item.productrow.update", id=1, fields={"price": 1})
    assert rest("crm.item.get", entityTypeId=2, id=1)["item"]["opportunity"] == 7


def test_order_entity(rest: Any) -> None:
    body = rest.body("crm.orderentity.list", filter={"=ownerTypeId": 2, "nothing": 1}, order={"orderId": "desc"})
    assert (body["result"]["orderEntity"][0], body["total"]) == ({"orderId": 3, "ownerId": 6, "ownerTypeId": 2}, 3)
    assert rest("crm.orderentity.list", select=["orderId"])["orderEntity"][0] == {"orderId": 1}
    rest("crm.orderentity.add", fields={"orderId": 1, "ownerId": 3, "ownerTypeId": 2})
    assert rest.error("crm.orderentity.add", fields={"orderId": 1, "ownerId": 3, "ownerTypeId": 2}) == "201650000001"
    assert rest.as_user(7, "order.update").error("crm.orderentity.add", fields={"orderId": 1}) == "200040300020"
    assert rest.events() == ["order_bound"]


def test_public_url(rest: Any) -> None:
    rest.portal.act.add_payment(2, 4, amount="10")

    def url(number: int) -> Any:
        return rest("salescenter.payment.getPublicUrl", id=number)["payment"]["url"]

    assert "paymentId=1001" in url(1001)
    assert "paymentId=1033" in url(1033)
    commands = {str(n): f"salescenter.payment.getPublicUrl?id={n}&options[qr]=0" for n in (1001, 1033, 1002)}
    found = rest.batch(commands)["result"]
    assert found["1001"] == found["1033"]  # one process remembers one address per order
    assert "paymentId=1002" in found["1002"]["payment"]["url"]
    assert "qr" not in found["1001"]["payment"]
    rest.portal.state.options["public_url_available"] = False
    assert rest.error("salescenter.payment.getPublicUrl", id=1001) == "0"
    rest.portal.state.options["phone_confirmed"] = False
    assert rest("salescenter.payment.getPublicUrl", id=1001) == {"connectedSiteId": 10, "isPhoneConfirmed": False}
    assert rest.error("salescenter.payment.getPublicUrl", id=99) == "200640400001"


def test_deals_change_and_go_the_old_way(rest: Any) -> None:
    fields = {"TITLE": "Audit", "STAGE_ID": "WON", "OPPORTUNITY": "10.5", "NOTHING": 1, "ID": 9}
    assert rest("crm.deal.update", ID=1, FIELDS=fields) is True
    assert rest("crm.deal.update", ID=1, FIELDS=fields) is True  # changes nothing
    deal = rest("crm.deal.get", id=1)
    assert (deal["ID"], deal["TITLE"], deal["STAGE_ID"], deal["OPPORTUNITY"]) == ("1", "Audit", "WON", "10.50")
    assert rest("crm.deal.delete", id=4) is True
    assert rest.body("crm.deal.get", id=4)["error_description"] == "Not found"
    assert rest.error("crm.item.productrow.list", filter={"=ownerType": "D", "=ownerId": 4}) == "OWNER_NOT_FOUND"
    assert rest("sale.payment.get", id=1001)["payment"]["orderId"] == 1  # the money stays
    assert rest("crm.item.payment.list", entityId=4, entityTypeId=2) == []  # although payment 1001 exists
    assert rest.events() == ["item_changed", "item_deleted"]
    assert rest("crm.deal.fields")["ID"]["isReadOnly"] is True


@pytest.mark.parametrize(
    ("params", "denied", "text"),
    [
        ({}, (), "ID is not defined or invalid."),
        ({"id": 99}, (), "Not found."),
        ({"id": 1}, ("deal.update", "deal.delete"), "Access denied."),
    ],
)
def test_refusals_of_deal_changes(params: dict[str, Any], denied: tuple[str, ...], text: str, rest: Any) -> None:
    caller = rest.as_user(7, *denied)
    assert caller.body("crm.deal.update", {**params, "fields": {}}) == {"error": "", "error_description": text}
    assert caller.body("crm.deal.delete", params) == {"error": "", "error_description": text}
    assert caller.body("crm.deal.update", id=1)["error_description"] == "Parameter 'fields' must be array."
    bad = rest.body("crm.deal.update", id=1, fields={"CURRENCY_ID": "euro"})
    assert bad == {"error": "", "error_description": 'Invalid value for field "Currency"'}


def test_items_are_deleted(rest: Any) -> None:
    assert rest("crm.item.delete", entityTypeId=31, id=101) == []
    assert rest.body("crm.item.delete", entityTypeId=31, id=101)["error_description"] == "Item not found"
    assert rest.error("crm.item.delete", entityTypeId=99, id=1) == "NOT_FOUND"
    assert rest.as_user(7, "deal.delete").error("crm.item.delete", entityTypeId=2, id=1) == "ACCESS_DENIED"
    assert rest.events() == ["item_deleted"]


def test_pipelines(rest: Any) -> None:
    body = rest.body("crm.category.list", entityTypeId=2)
    assert body["total"] == 1
    (deals,) = body["result"]["categories"]
    assert (deals["id"], deals["entityTypeId"], deals["isDefault"]) == (0, 2, "Y")
    (invoices,) = rest("crm.category.list", entityTypeId=31)["categories"]
    # An item without a pipeline is in the one that is listed.
    for entity_type_id, category in ((2, deals), (31, invoices)):
        item = rest("crm.item.add", entityTypeId=entity_type_id, fields={})["item"]
        assert item["categoryId"] == category["id"]
    assert rest.error("crm.category.list", entityTypeId=1) == "ENTITY_TYPE_NOT_SUPPORTED"
    assert rest.error("crm.category.list", entityTypeId=177) == "NOT_FOUND"
    assert rest.as_user(7, "deal.read")("crm.category.list", entityTypeId=2) == {"categories": []}
