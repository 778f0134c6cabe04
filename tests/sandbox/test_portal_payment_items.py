"""What a payment pays for: rows, deliveries, quantities, and the sum that follows from them."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def payment(rest: Any) -> Any:
    """A new payment of deal 1 (rows: 2 x 450.00 and 1 x 120.00)."""
    return rest("crm.item.payment.add", entityId=1, entityTypeId=2)


@pytest.fixture
def rows(rest: Any) -> list[int]:
    found = rest("crm.item.productrow.list", filter={"=ownerType": "D", "=ownerId": 1})["productRows"]
    return [row["id"] for row in found]


def free(rest: Any) -> list[Any]:
    found = rest("crm.item.productrow.getAvailableForPayment", ownerType="D", ownerId=1)["productRows"]
    return [(row["productName"], row["quantity"]) for row in found]


def total(rest: Any, payment: int) -> Any:
    return rest("crm.item.payment.get", id=payment)["sum"]


def test_rows_make_the_sum(rest: Any, payment: int, rows: list[int]) -> None:
    assert free(rest) == [("Consulting day", 2), ("Travel", 1)]
    first = rest("crm.item.payment.product.add", paymentId=payment, rowId=rows[0], quantity=1)
    assert (first, total(rest, payment), free(rest)) == (1193, 450, [("Consulting day", 1), ("Travel", 1)])
    second = rest("crm.item.payment.product.add", paymentId=payment, rowId=rows[1], quantity="1")
    assert (total(rest, payment), free(rest)) == (570, [("Consulting day", 1)])
    listed = rest("crm.item.payment.product.list", paymentId=payment)
    assert listed == [
        {"id": first, "paymentId": payment, "quantity": 1, "rowId": rows[0]},
        {"id": second, "paymentId": payment, "quantity": 1, "rowId": rows[1]},
    ]
    assert rest("crm.item.payment.product.setQuantity", id=first, quantity=2) is True
    assert rest("crm.item.payment.product.setQuantity", id=first, quantity=2) is True
    assert (total(rest, payment), free(rest)) == (1020, [])
    assert rest("crm.item.payment.product.delete", id=second) is True
    assert rest.error("crm.item.payment.product.delete", id=second) == "0"
    assert total(rest, payment) == 900
    assert rest.events()[2:] == ["product_added", "product_added", "product_changed", "product_deleted"]
    assert rest.portal.ledger[-1]["amount"] == "900.00"


def test_list_filter_and_order(rest: Any, payment: int, rows: list[int]) -> None:
    for row, quantity in zip(rows, (2, 1), strict=True):
        rest("crm.item.payment.product.add", paymentId=payment, rowId=row, quantity=quantity)

    def listed(**options: Any) -> list[Any]:
        return [row["rowId"] for row in rest("crm.item.payment.product.list", paymentId=payment, **options)]

    assert listed(order={"id": "desc"}) == [rows[1], rows[0]]
    assert listed(filter={"=rowId": rows[1]}) == [rows[1]]
    assert listed(filter={">=quantity": 2}) == [rows[0]]
    assert rest.error("crm.item.payment.product.list", paymentId=payment, filter={"nothing": 1}) == "0"


def test_fractions_are_cut_off_without_a_word(rest: Any, payment: int, rows: list[int]) -> None:
    item = rest("crm.item.payment.product.add", paymentId=payment, rowId=rows[0], quantity=1.9)
    assert rest("crm.item.payment.product.list", paymentId=payment)[0]["quantity"] == 1
    rest("crm.item.payment.product.setQuantity", id=item, quantity="2.9")
    assert total(rest, payment) == 900
    assert rest.error("crm.item.payment.product.add", paymentId=payment, rowId=rows[1], quantity=0.9) == "0"


def test_refusals(rest: Any, payment: int, rows: list[int]) -> None:
    def text(method: str, **params: Any) -> Any:
        body = rest.body(f"crm.item.payment.product.{method}", **params)
        assert body["error"] == "0"
        return body["error_description"]

    def add(row: int, quantity: Any) -> Any:
        return text("add", paymentId=payment, rowId=row, quantity=quantity)

    assert add(rows[0], 0) == "Product quantity cannot be less than or equal to 0"
    assert add(rows[0], -1) == "Product quantity cannot be less than or equal to 0"
    assert add(rows[0], 3) == "Insufficient product quantity to add to payment"
    assert add(9999, 1) == "Product item not found"
    foreign = rest("crm.item.productrow.list", filter={"=ownerType": "D", "=ownerId": 2})["productRows"][0]["id"]
    assert add(foreign, 1) == "Product item not found"
    item = rest("crm.item.payment.product.add", paymentId=payment, rowId=rows[0], quantity=2)
    assert add(rows[0], 1) == "Insufficient product quantity to add to payment"
    assert text("setQuantity", id=item, quantity=0) == "Product quantity cannot be less than or equal to 0"
    assert text("setQuantity", id=item, quantity=3) == "Insufficient product quantity to add to payment"
    rest("crm.item.productrow.delete", id=rows[0])
    assert text("setQuantity", id=item, quantity=1) == "Product item not found"
    binding = rest.portal.state.payments[payment].order_id
    rest("crm.orderentity.deleteByFilter", fields={"ownerId": 1, "ownerTypeId": 2, "orderId": binding})
    assert add(rows[1], 1) == "Order binding has not been found"


def test_paid_payment_is_access_denied_even_for_the_administrator(rest: Any, payment: int, rows: list[int]) -> None:
    item = rest("crm.item.payment.product.add", paymentId=payment, rowId=rows[0], quantity=1)
    rest("crm.item.payment.pay", id=payment)
    refused = [
        rest.error("crm.item.payment.product.add", paymentId=payment, rowId=rows[1], quantity=1),
        rest.error("crm.item.payment.product.setQuantity", id=item, quantity=2),
        rest.error("crm.item.payment.product.delete", id=item),
    ]
    assert refused == ["ACCESS_DENIED"] * 3
    assert total(rest, payment) == 450


def test_deliveries_can_be_counted_twice(rest: Any, payment: int) -> None:
    order = rest.portal.state.payments[payment].order_id
    for number, price in ((50, "4.90"), (51, "9.90")):
        rest.portal.create("shipment", {"id": number, "order_id": order, "price": price})
    rest.portal.create("shipment", {"id": 52, "order_id": 1})
    first = rest("crm.item.payment.delivery.add", paymentId=payment, deliveryId=50)
    second = rest("crm.item.payment.delivery.add", paymentId=payment, deliveryId=50)
    assert total(rest, payment) == 9.8
    assert rest("crm.item.payment.delivery.setDelivery", id=second, deliveryId=51) is True
    assert rest("crm.item.payment.delivery.setDelivery", id=second, deliveryId=51) is True
    assert total(rest, payment) == 14.8
    assert rest("crm.item.payment.delivery.list", paymentId=payment, filter={"=deliveryId": 51}) == [
        {"id": second, "paymentId": payment, "quantity": 1, "deliveryId": 51}
    ]
    assert rest("crm.item.payment.delivery.delete", id=first) is True
    assert total(rest, payment) == 9.9
    assert rest.error("crm.item.payment.delivery.add", paymentId=payment, deliveryId=52) == "0"  # of another order
    assert rest.error("crm.item.payment.delivery.delete", id=first) == "0"
    assert rest.error("crm.item.payment.product.delete", id=second) == "0"  # a delivery is no product
    assert rest.events()[2:] == ["delivery_added", "delivery_added", "delivery_changed", "delivery_deleted"]


def test_deleting_the_payment_frees_its_rows(rest: Any, payment: int, rows: list[int]) -> None:
    rest("crm.item.payment.product.add", paymentId=payment, rowId=rows[0], quantity=2)
    assert free(rest) == [("Travel", 1)]
    rest("crm.item.payment.delete", id=payment)
    assert free(rest) == [("Consulting day", 2), ("Travel", 1)]
    assert all(item.payment_id != payment for item in rest.portal.state.payable_items.values())


def test_seeded_payments_pay_for_their_first_row(rest: Any) -> None:
    for number, owner_type, owner_id in ((1001, "D", 4), (1002, "D", 5), (1003, "D", 6), (1004, "SI", 102)):
        rows = rest("crm.item.productrow.list", filter={"=ownerType": owner_type, "=ownerId": owner_id})["productRows"]
        paid = rest("crm.item.payment.product.list", paymentId=number)
        assert [item["rowId"] for item in paid] == [rows[0]["id"]]
        assert rest("crm.item.payment.get", id=number)["sum"] == rows[0]["price"]
        left = rest("crm.item.productrow.getAvailableForPayment", ownerType=owner_type, ownerId=owner_id)["productRows"]
        assert [row["id"] for row in left] == [rows[1]["id"]]
