"""Customers and colleagues: what happens on the portal without REST."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest


def test_customer_pays(rest: Any) -> None:
    rest.portal.act.pay_payment(1001)
    rest.portal.act.pay_payment(1001)
    payment = rest("crm.item.payment.get", id=1001)
    assert (payment["paid"], payment["empPaidId"]) == ("Y", None)
    entry = rest.portal.ledger[0]
    assert (entry["event"], entry["by"], entry["user_id"], entry["method"]) == ("payment_paid", "customer", None, None)
    rest.portal.act.unpay_payment(1001, user_id=7)
    assert rest("crm.item.payment.get", id=1001)["paid"] == "N"
    assert rest.events() == ["payment_paid", "payment_unpaid"]


def test_colleague_adds_changes_and_deletes(rest: Any) -> None:
    act = rest.portal.act
    number = act.add_payment(2, 3, amount="75.00", user_id=7)
    assert rest("crm.item.payment.get", id=number)["sum"] == 75
    assert act.add_payment(2, 3, pay_system_id=8) == number + 1
    assert rest("crm.item.payment.get", id=number + 1)["paySystemId"] == 8
    act.set_sum(number, Decimal("80.10"))
    act.set_sum(number, "80.10")
    act.delete_payment(number + 1)
    assert rest.events() == ["payment_added", "payment_added", "payment_updated", "payment_deleted"]
    assert [entry["by"] for entry in rest.portal.ledger] == ["person"] * 4
    assert rest.portal.ledger[2]["amount"] == "80.10"
    rest.portal.state.pay_systems.clear()
    with pytest.raises(ValueError, match="no pay system"):
        act.add_payment(2, 3)


def test_invoices(rest: Any) -> None:
    act = rest.portal.act

    def state(number: int) -> Any:
        row = rest("crm.invoice.get", id=number)
        return row["PAYED"], row["STATUS_ID"], row["CANCELED"]

    act.pay_invoice(2)
    act.pay_invoice(2)
    assert state(2) == ("Y", "P", "N")
    act.unpay_invoice(2)
    assert state(2) == ("N", "N", "N")
    act.cancel_invoice(2)
    act.cancel_invoice(2)
    assert state(2) == ("N", "D", "Y")
    act.decline_invoice(1)
    assert state(1) == ("N", "D", "N")
    act.delete_invoice(3)
    assert rest.error("crm.invoice.get", id=3) == ""
    assert rest.events() == [
        "invoice_paid",
        "invoice_unpaid",
        "invoice_canceled",
        "invoice_declined",
        "invoice_deleted",
    ]


def test_what_cannot_be_done(rest: Any) -> None:
    act = rest.portal.act
    with pytest.raises(LookupError, match="no payment 9"):
        act.pay_payment(9)
    with pytest.raises(LookupError, match="no invoice 99"):
        act.delete_invoice(99)
    with pytest.raises(ValueError, match="by must be"):
        act.pay_payment(1001, by="robot")
    act.cancel_order(1)
    act.cancel_order(1)
    assert rest.events()[-1] == "order_canceled"


def test_customers_pay_after_a_while(make_rest: Any) -> None:
    rest = make_rest(customers_pay_after=30)
    empty = rest("crm.item.payment.add", entityId=3, entityTypeId=2)
    number = rest.portal.act.add_payment(2, 3, amount="10")
    rest.clock.advance(29)
    assert rest("crm.item.payment.get", id=number)["paid"] == "N"
    rest.clock.advance(1)
    assert rest("crm.item.payment.get", id=number)["paid"] == "Y"
    assert rest("crm.item.payment.get", id=empty)["paid"] == "N"  # nothing to pay
    assert rest("crm.item.payment.get", id=1001)["paid"] == "N"  # was there before
    assert rest.portal.ledger[-1]["by"] == "customer"


def test_customers_wait_until_a_payment_is_filled(make_rest: Any) -> None:
    rest = make_rest(customers_pay_after=30)
    number = rest("crm.item.payment.add", entityId=1, entityTypeId=2)
    for row_id in (1, 2):
        rest.clock.advance(29)
        rest("crm.item.payment.product.add", paymentId=number, rowId=row_id, quantity=1)
    rest.clock.advance(29)
    assert rest("crm.item.payment.get", id=number)["paid"] == "N"
    rest.clock.advance(1)
    assert rest("crm.item.payment.get", id=number)["paid"] == "Y"
