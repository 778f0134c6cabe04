"""crm.item.payment.*: empty payments, what a second one does to the order, the raw filter, the flag."""

from __future__ import annotations

from typing import Any

import pytest


def test_add_creates_an_order_and_an_empty_payment(rest: Any) -> None:
    body = rest.body("crm.item.payment.add", entityId=1, entityTypeId=2)
    assert body["result"] == 1033
    assert set(body) == {"result", "time"}
    payment = rest("crm.item.payment.get", id=1033)
    order = max(rest.portal.state.orders.values(), key=lambda order: order.id)
    assert payment == {
        "id": 1033,
        "accountNumber": f"{order.account_number}/1",
        "paid": "N",
        "datePaid": None,
        "empPaidId": None,
        "paySystemId": 6,
        "sum": 0,
        "currency": "EUR",
        "paySystemName": "Cash",
    }
    assert (order.company_id, order.contact_ids, order.person_type_id) == (5, [4], 1)
    assert rest.events() == ["order_created", "payment_added"]
    entry = rest.portal.ledger[1]
    assert entry == {
        "at": "2025-11-22T10:26:40+02:00",
        "event": "payment_added",
        "payment_id": 1033,
        "invoice_id": None,
        "entity_type_id": 2,
        "entity_id": 1,
        "amount": "0.00",
        "currency": "EUR",
        "pay_system_id": 6,
        "by": "rest",
        "user_id": 1,
        "method": "crm.item.payment.add",
        "idempotency_key": None,
        "command": None,
    }


def test_every_add_makes_another_payment_and_the_second_strips_the_order(rest: Any) -> None:
    rest.portal.state.orders[1].responsible_id = 7
    first = rest("crm.item.payment.add", entityId=4, entityTypeId=2)
    second = rest("crm.item.payment.add", entityId=4, entityTypeId=2)
    assert second == first + 1
    order = rest.portal.state.orders[1]
    assert (order.responsible_id, order.company_id, order.contact_ids, order.person_type_id) == (1, 0, [], 2)
    assert rest.events() == ["order_changed", "payment_added", "payment_added"]
    assert rest.portal.ledger[0]["changed"] == ["responsible_id", "company_id", "contact_ids", "person_type_id"]


def test_product_add_restores_the_client_but_not_the_responsible(rest: Any) -> None:
    number = rest("crm.item.payment.add", entityId=6, entityTypeId=2)
    row = rest("crm.item.productrow.getAvailableForPayment", ownerType="D", ownerId=6)["productRows"][0]
    rest("crm.item.payment.product.add", paymentId=number, rowId=row["id"], quantity=1)
    order = rest.portal.state.orders[rest.portal.state.payments[number].order_id]
    assert (order.company_id, order.contact_ids, order.responsible_id) == (6, [4], 1)


def test_the_newest_order_takes_the_payment(rest: Any) -> None:
    rest("crm.item.payment.add", entityId=4, entityTypeId=2)
    order = {"account_number": "90", "currency": "USD", "responsible_id": 1, "person_type_id": 1}
    rest.portal.create("order", {"id": 90, **order})
    rest("crm.orderentity.add", fields={"orderId": 90, "ownerId": 4, "ownerTypeId": 2})
    number = rest("crm.item.payment.add", entityId=4, entityTypeId=2)
    assert rest("crm.item.payment.get", id=number)["currency"] == "USD"  # the order's, not the deal's
    assert len(rest("crm.item.payment.list", entityId=4, entityTypeId=2)) == 3  # of all orders


def test_hidden_field_is_only_the_pay_system_in_camel_case(rest: Any) -> None:
    def add(**fields: Any) -> Any:
        number = rest("crm.item.payment.add", entityId=3, entityTypeId=2, fields=fields)
        return rest.portal.state.payments[number]

    assert add(paySystemId=8, sum=100, xmlId="mine").pay_system_id == 8
    payment = add(PAY_SYSTEM_ID=8, paySystemId=0)
    assert (payment.pay_system_id, payment.sum) == (6, 0)
    assert payment.xml_id != "mine"
    before = len(rest.portal.state.orders)
    assert rest.body("crm.item.payment.add", entityId=2, entityTypeId=2, fields={"paySystemId": 99}) == {
        "error": "0",
        "error_description": "",
    }
    assert len(rest.portal.state.orders) == before


def test_xml_ids_tell_the_time_and_never_repeat(rest: Any) -> None:
    numbers = [rest("crm.item.payment.add", entityId=3, entityTypeId=2) for _ in range(3)]
    ids = [rest.portal.state.payments[number].xml_id for number in numbers]
    assert ids[0] == f"bx_{1_763_800_000:08x}00000"
    assert ids[1:] == [f"bx_{1_763_800_000:08x}00001", f"bx_{1_763_800_000:08x}00002"]


@pytest.mark.parametrize(
    ("inactive", "person_type", "expected"),
    [((), 0, 6), ((6,), 0, 8), ((), 9, 8), ((6, 8), 0, None)],
    ids=["cash first", "else the first", "cash not for this payer", "none"],
)
def test_default_pay_system(inactive: tuple[int, ...], person_type: int, expected: int | None, rest: Any) -> None:
    for number in inactive:
        rest.portal.state.pay_systems[number].active = "N"
    rest.portal.state.pay_systems[6].person_type_id = person_type
    number = rest("crm.item.payment.add", entityId=3, entityTypeId=2)
    if expected is None:  # success that is none: the payment could not be saved
        assert number == 0
        assert rest.events() == ["order_created"]
    else:
        assert rest("crm.item.payment.get", id=number)["paySystemId"] == expected


def test_add_refusals_in_their_order(rest: Any) -> None:
    def text(caller: Any, entity_id: Any, entity_type_id: Any) -> Any:
        body = caller.body("crm.item.payment.add", entityId=entity_id, entityTypeId=entity_type_id)
        return body["error"], body["error_description"]

    somebody = rest.as_user(7)
    assert text(rest, 99, 2) == ("0", "Entity with identifier №99 does not exist")
    assert text(somebody, 99, 2) == ("ACCESS_DENIED", "Access denied")  # asked before existence
    assert text(rest, 1, 999) == ("0", "Unknown entity type")
    assert text(rest, 1, 1) == ("0", "Payments are disabled for this entity type")
    assert text(rest, "x", 2)[0] == "100"
    assert text(rest, "x", 2)[1].startswith("Invalid value {x} to match with parameter {entityId}.")
    assert text(rest, [1], 2)[1].startswith("Invalid value {Array}")
    assert text(rest, True, 2)[0] == "100"
    nobody = rest.as_user(7, "deal.update")
    assert text(nobody, 1, 2)[0] == "ACCESS_DENIED"
    rest.portal.state.options["payments_limit_reached"] = True
    assert text(nobody, 1, 2)[0] == "0"  # the plan is asked first
    rest.portal.state.options["payments_limit_reached"] = False
    rest.portal.state.users[7].staff = False
    assert text(somebody, 1, 2)[0] == "ALLOWED_ONLY_INTRANET_USER"
    assert rest.portal.ledger == []


def test_numbers_as_text_are_numbers(rest: Any) -> None:
    assert rest("crm.item.payment.add", entityId="101", entityTypeId="31.9") == 1033


def test_user_without_rights_may_list_but_not_get(rest: Any) -> None:
    caller = rest.as_user(7, "order.read", "order.update")
    assert [row["id"] for row in caller("crm.item.payment.list", entityId=4, entityTypeId=2)] == [1001]
    for method in ("get", "pay", "unpay", "delete"):
        assert caller.error(f"crm.item.payment.{method}", id=1001) == "ACCESS_DENIED"
        assert caller.error(f"crm.item.payment.{method}", id=9999) == "0"
    assert caller.error("crm.item.payment.update", id=1001, fields={"paid": "Y"}) == "ACCESS_DENIED"
    assert rest.as_user(7, "deal.read").error("crm.item.payment.list", entityId=4, entityTypeId=2) == "ACCESS_DENIED"


def test_get_needs_another_right_in_the_documentation(make_rest: Any) -> None:
    for dialect, allowed in (("source", True), ("docs", False)):
        body = make_rest(dialect=dialect).as_user(7, "order.update").body("crm.item.payment.get", id=1001)
        assert ("result" in body) is allowed


def test_pay_is_repeatable_and_keeps_its_first_date(rest: Any) -> None:
    assert rest("crm.item.payment.pay", id=1001) is True
    first = rest("crm.item.payment.get", id=1001)
    assert (first["paid"], first["datePaid"], first["empPaidId"]) == ("Y", "2025-11-22T10:26:40+02:00", 1)
    rest.clock.advance(3600)
    assert rest("crm.item.payment.pay", id=1001) is True
    assert rest("crm.item.payment.get", id=1001) == first
    assert rest("crm.item.payment.unpay", id=1001) is True
    assert rest("crm.item.payment.unpay", id=1001) is True
    assert rest("crm.item.payment.get", id=1001)["paid"] == "N"
    assert rest.events() == ["payment_paid", "payment_unpaid"]
    assert rest.portal.ledger[0]["amount"] == "350.00"


def test_pay_of_a_cancelled_order_is_refused(rest: Any) -> None:
    rest.portal.act.cancel_order(1)
    assert rest.error("crm.item.payment.pay", id=1001) == "SALE_ORDER_PAID_ORDER_CANCELED"
    assert rest("crm.item.payment.unpay", id=1001) is True
    assert rest.events() == ["order_canceled"]


def test_zero_sum_can_be_paid(rest: Any) -> None:
    number = rest("crm.item.payment.add", entityId=3, entityTypeId=2)
    assert rest("crm.item.payment.pay", id=number) is True
    assert rest("crm.item.payment.get", id=number)["paid"] == "Y"


def test_paid_payment_is_not_deleted(rest: Any) -> None:
    assert rest.error("crm.item.payment.delete", id=1002) == "SALE_PAYMENT_DELETE_EXIST_PAID"
    assert rest("crm.item.payment.delete", id=1001) is True
    assert rest.body("crm.item.payment.delete", id=1001) == {
        "error": "0",
        "error_description": "Payment has not been found",
    }
    assert rest.events() == ["payment_deleted"]


def test_update_whitelist(rest: Any) -> None:
    def update(**fields: Any) -> Any:
        return rest.body("crm.item.payment.update", id=1001, fields=fields)

    assert update(paySystemId=8)["result"] is True
    assert rest("crm.item.payment.get", id=1001)["paySystemName"] == "Card on the payment page"
    assert update(paySystemId=8)["result"] is True  # nothing new
    assert update(paySystemId=99)["error_description"] == "Payment system has not been found"
    assert update(PAID="Y", sum=5)["error_description"] == "Empty fields"
    assert update(paid=True)["result"] is True
    assert rest("crm.item.payment.get", id=1001)["paid"] == "N"  # a JSON true is not "Y"
    assert update(paid="Y", paySystemId=6)["result"] is True
    assert rest("crm.item.payment.get", id=1001)["paid"] == "Y"
    assert rest.events() == ["payment_updated", "payment_updated", "payment_paid"]


@pytest.fixture
def many(rest: Any) -> Any:
    """Deal 3 with sixty payments, 1033 to 1092."""
    for _ in range(60):
        rest("crm.item.payment.add", entityId=3, entityTypeId=2)
        rest.clock.advance(1)
    rest.portal.act.set_sum(1040, "10.50")
    rest.portal.act.pay_payment(1050)
    rest.portal.state.payments[1060].ps_invoice_id = "T-1"
    return rest


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({">id": 1090}, [1091, 1092]),
        ({">=id": "1092"}, [1092]),
        ({"<id": 1034}, [1033]),
        ({"<=id": 1033}, [1033]),
        ({"@id": [1033, "1034", 5]}, [1033, 1034]),
        ({"=id": [1033, 1034]}, [1033, 1034]),
        ({"id": 1033}, [1033]),
        ({"!@id": list(range(1034, 1093))}, [1033]),
        ({"!id": 1033, "<id": 1035}, [1034]),
        ({"!=id": 1033, "<id": 1035}, [1034]),
        ({"><id": [1050, 1052]}, [1050, 1051, 1052]),
        ({"!><id": [1034, 1092]}, [1033]),
        ({"><id": 1050}, []),
        ({">id": []}, []),
        ({"=sum": "10.5"}, [1040]),
        ({">sum": 0}, [1040]),
        ({"=sum": "much", ">id": 1091}, [1092]),
        ({"=paid": "Y"}, [1050]),
        ({"=empPaidId": 1}, []),
        ({"=psInvoiceId": "T-1"}, [1060]),
        ({"%psInvoiceId": "t-"}, [1060]),
        ({"=%psInvoiceId": "T%"}, [1060]),
        ({"%=psInvoiceId": "%-1"}, [1060]),
        ({"!%xmlId": "bx_"}, []),
        ({"=datePaid": None, "<id": 1034}, [1033]),
        ({"=datePaid": "", "<id": 1034}, [1033]),
        ({"!datePaid": False}, [1050]),
        ({"=empResponsibleId": 1, "=paySystemId": 6, ">id": 1091}, [1092]),
        ({">dateBill": "22.11.2025 10:27:38"}, [1092]),
        ({"<dateBill": "22.11.2025", ">id": 1}, []),
    ],
    ids=str,
)
def test_raw_filter(filter_: dict[str, Any], expected: list[int], many: Any) -> None:
    rows = many("crm.item.payment.list", entityId=3, entityTypeId=2, filter=filter_)
    assert [row["id"] for row in rows] == expected


def test_list_has_no_pages(many: Any) -> None:
    body = many.body("crm.item.payment.list", entityId=3, entityTypeId=2, start=50)
    assert len(body["result"]) == 60
    assert set(body) == {"result", "time"}


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"filter": {"ID": 1}}, "Unknown field definition `I_D` (I_D)"),
        ({"filter": {"=nothing": 1}}, "Unknown field definition `NOTHING` (NOTHING)"),
        ({"order": {"xmlID": "asc"}}, "Unknown field definition `XML_I_D` (XML_I_D)"),
        ({"filter": {">dateBill": "2025-11-22T00:00:00+02:00"}}, "Incorrect date/time: 2025-11-22T00:00:00+02:00"),
        ({"filter": {">dateBill": "32.13.2025"}}, "Incorrect date/time: 32.13.2025"),
    ],
    ids=str,
)
def test_raw_filter_complains(params: dict[str, Any], text: str, rest: Any) -> None:
    body = rest.body("crm.item.payment.list", entityId=4, entityTypeId=2, **params)
    assert body["error"] == "0"
    assert body["error_description"].startswith(text)


def test_list_order_and_absent_objects(many: Any) -> None:
    rows = many("crm.item.payment.list", entityId=3, entityTypeId=2, order={"sum": "desc", "id": "DESC"})
    assert [row["id"] for row in rows[:3]] == [1040, 1092, 1091]
    for entity_id, entity_type_id in ((99, 2), (1, 1), (1, 128)):
        assert many("crm.item.payment.list", entityId=entity_id, entityTypeId=entity_type_id) == []


def test_foreign_order_cannot_be_asked_for(rest: Any) -> None:
    found = rest("crm.item.payment.list", entityId=4, entityTypeId=2, filter={"=orderId": 2})
    assert [row["id"] for row in found] == [1001]


def test_missing_object_is_no_proof_of_absence(rest: Any) -> None:
    """An administrator reads an empty list; anybody else has no right to read what does not exist."""
    assert rest("crm.item.payment.list", entityId=99, entityTypeId=2) == []
    caller = rest.as_user(7)
    assert caller("crm.item.payment.list", entityId=1, entityTypeId=2) == []
    for entity_id, entity_type_id in ((99, 2), (99, 31), (1, 99)):
        assert caller.error("crm.item.payment.list", entityId=entity_id, entityTypeId=entity_type_id) == "ACCESS_DENIED"


def test_the_portals_own_order_filter_wins(rest: Any) -> None:
    def ids(filter_: dict[str, Any]) -> list[int]:
        return [row["id"] for row in rest("crm.item.payment.list", entityId=4, entityTypeId=2, filter=filter_)]

    assert ids({"=orderId": 2}) == [1001]
    assert ids({"orderId": 2}) == ids({"!=orderId": 1}) == []
    products = rest("crm.item.payment.product.list", paymentId=1001, filter={"=paymentId": 1002})
    assert [row["paymentId"] for row in products] == [1001]
