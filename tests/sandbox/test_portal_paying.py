"""sale.paysystem.pay.*: "true" that means paid, and "true" that means nothing."""

from __future__ import annotations

from typing import Any

import pytest


def invoice(rest: Any, number: int) -> Any:
    return rest("crm.invoice.get", id=number)


def test_pay_invoice_marks_it(rest: Any) -> None:
    assert rest("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=31) is True
    found = invoice(rest, 2)
    assert (found["PAYED"], found["STATUS_ID"], found["EMP_PAYED_ID"]) == ("Y", "P", "1")
    assert found["DATE_PAYED"] == found["PAY_VOUCHER_DATE"] == "2025-11-22T10:26:40+02:00"
    entry = rest.portal.ledger[0]
    assert (entry["event"], entry["invoice_id"], entry["amount"], entry["pay_system_id"]) == (
        "invoice_paid",
        2,
        "1500.00",
        31,
    )


def test_paying_again_rewrites_only_the_voucher(rest: Any) -> None:
    for _ in range(2):
        assert rest("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=31) is True
    assert rest.events() == ["invoice_paid"]  # at the same moment the second changes nothing
    rest.clock.advance(86_400)
    assert rest("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=31) is True
    found = invoice(rest, 2)
    assert found["DATE_PAYED"] == "2025-11-22T10:26:40+02:00"
    assert found["PAY_VOUCHER_DATE"] == "2025-11-23T10:26:40+02:00"
    assert rest.events() == ["invoice_paid", "invoice_changed"]


def test_parameter_names_in_any_case(rest: Any) -> None:
    assert rest("sale.paysystem.pay.invoice", invoice_id="3", Pay_System_Id="31") is True
    assert invoice(rest, 3)["PAYED"] == "Y"


def test_any_pay_system_of_the_registry_will_do_and_no_sum_is_compared(rest: Any) -> None:
    assert rest("sale.paysystem.pay.invoice", INVOICE_ID=13, BX_REST_HANDLER="sandbox_bank") is True
    assert (invoice(rest, 13)["PAYED"], invoice(rest, 13)["CURRENCY"]) == ("Y", "USD")
    assert rest.portal.ledger[0]["pay_system_id"] == 31  # the first with this handler
    assert rest("sale.paysystem.pay.invoice", INVOICE_ID=6, PAY_SYSTEM_ID=31) is True


@pytest.mark.parametrize(
    "handler", ["cash", "bill", "cashondelivery", "inner", "sberbank", "authorize", "tbankbusiness"]
)
def test_true_without_effect(handler: str, rest: Any) -> None:
    rest.portal.state.pay_systems[32].action_file = handler
    assert rest("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=32) is True
    assert rest("sale.paysystem.pay.invoice", INVOICE_ID=4, PAY_SYSTEM_ID=32) is True  # even a cancelled one
    rest.portal.state.pay_systems[6].action_file = handler
    assert rest("sale.paysystem.pay.payment", PAYMENT_ID=1001, PAY_SYSTEM_ID=6) is True
    assert invoice(rest, 2)["PAYED"] == "N"
    assert rest("crm.item.payment.get", id=1001)["paid"] == "N"
    assert rest.portal.ledger == []


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({}, "ERROR_CHECK_FAILURE", "Empty field BX_REST_HANDLER and PAY_SYSTEM_ID"),
        ({"PAY_SYSTEM_ID": 99}, "ERROR_CHECK_FAILURE", "Pay system with ID=99 not found"),
        ({"BX_REST_HANDLER": "nothing"}, "ERROR_CHECK_FAILURE", "Incorrect rest handler code"),
        ({"BX_REST_HANDLER": "cash"}, "ERROR_CHECK_FAILURE", "Incorrect rest handler code"),
        ({"PAY_SYSTEM_ID": 31, "BX_REST_HANDLER": "nothing"}, "ERROR_CHECK_FAILURE", "Incorrect rest handler code"),
        ({"PAY_SYSTEM_ID": 31}, "ERROR_CHECK_FAILURE", "Empty field INVOICE_ID!"),
        ({"PAY_SYSTEM_ID": 31, "INVOICE_ID": 101}, "ERROR_INTERNAL_INVOICE_NOT_FOUND", "Invoice #101 not found"),
        ({"PAY_SYSTEM_ID": 8, "INVOICE_ID": 2}, "ERROR_PROCESS_REQUEST_RESULT", "Pay system not found"),
        ({"PAY_SYSTEM_ID": 31, "INVOICE_ID": 4}, "ERROR_PROCESS_REQUEST_RESULT", "Invoice #4 has been cancelled"),
    ],
    ids=str,
)
def test_pay_invoice_refusals(params: dict[str, Any], code: str, text: str, rest: Any) -> None:
    assert rest.body("sale.paysystem.pay.invoice", params) == {"error": code, "error_description": text}
    assert rest.portal.ledger == []


def test_codes_that_differ_in_the_documentation(make_rest: Any) -> None:
    for dialect, missing, unsupported in (
        ("source", "ERROR_INTERNAL_INVOICE_NOT_FOUND", "ERROR_INVOICE_NO_SUPPORTED"),
        ("docs", "ERROR_CHECK_FAILURE", "ERROR_PAY_INVOICE_NOT_SUPPORTED"),
    ):
        rest = make_rest(dialect=dialect)
        assert rest.error("sale.paysystem.pay.invoice", INVOICE_ID=999, PAY_SYSTEM_ID=31) == missing
        rest.portal.state.options["legacy_invoices_supported"] = False
        assert rest.error("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=31) == unsupported


def test_both_given_the_number_wins(rest: Any) -> None:
    both = {"PAY_SYSTEM_ID": 32, "BX_REST_HANDLER": "sandbox_bank"}
    assert rest("sale.paysystem.pay.invoice", INVOICE_ID=2, **both) is True
    assert rest.portal.ledger == []  # 32 is cash


def test_rights_are_for_all_invoices_or_none(rest: Any) -> None:
    params = {"INVOICE_ID": 2, "PAY_SYSTEM_ID": 31}
    nobody = rest.as_user(7, "invoice.add", "invoice.update")
    assert nobody.reply("sale.paysystem.pay.invoice", params).status == 403
    assert nobody.error("sale.paysystem.pay.invoice", INVOICE_ID=999) == "ACCESS_DENIED"  # before anything else
    assert rest.as_user(7, "invoice.update")("sale.paysystem.pay.invoice", params) is True


@pytest.fixture
def card(rest: Any) -> int:
    number: int = rest("crm.item.payment.add", entityId=1, entityTypeId=2, fields={"paySystemId": 8})
    return number


def test_pay_payment_stamps_the_payment(rest: Any, card: int) -> None:
    stamps = {"PS_INVOICE_ID": "T-77", "PS_SUM": "10.50", "ps_currency": "EUR", "PS_CARD_NUMBER": "**** 1111"}
    assert rest("sale.paysystem.pay.payment", PAYMENT_ID=card, PAY_SYSTEM_ID=8, **stamps) is True
    payment = rest("sale.payment.get", id=card)["payment"]
    assert (payment["paid"], payment["psStatus"], payment["psInvoiceId"], payment["psSum"]) == ("Y", "Y", "T-77", 10.5)
    assert payment["psResponseDate"] == payment["datePaid"] == "2025-11-22T10:26:40+02:00"
    rest.clock.advance(60)
    assert rest("sale.paysystem.pay.payment", PAYMENT_ID=card, PAY_SYSTEM_ID=8) is True
    again = rest("sale.payment.get", id=card)["payment"]
    assert (again["datePaid"], again["psResponseDate"]) == (payment["datePaid"], "2025-11-22T10:27:40+02:00")
    assert rest.events()[2:] == ["payment_paid", "payment_updated"]
    rest("sale.paysystem.pay.payment", PAYMENT_ID=card, PAY_SYSTEM_ID=8)
    assert len(rest.portal.ledger) == 4


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "Empty field PAY_SYSTEM_ID!"),
        ({"PAY_SYSTEM_ID": 99}, "Pay system not found"),
        ({"PAY_SYSTEM_ID": 8}, "Empty field PAYMENT_ID"),
        ({"PAY_SYSTEM_ID": 8, "PAYMENT_ID": 9}, "Payment with ID=9 and PAY_SYSTEM_ID=8 not found"),
        ({"PAY_SYSTEM_ID": 8, "PAYMENT_ID": 1001}, "Payment with ID=1001 and PAY_SYSTEM_ID=8 not found"),
    ],
    ids=str,
)
def test_pay_payment_refusals(params: dict[str, Any], text: str, rest: Any) -> None:
    assert rest.body("sale.paysystem.pay.payment", params) == {
        "error": "ERROR_CHECK_FAILURE",
        "error_description": text,
    }


def test_other_gateways_do_not_find_a_payment_in_the_request(rest: Any, card: int) -> None:
    rest.portal.state.pay_systems[8].action_file = "paypal"
    assert rest.error("sale.paysystem.pay.payment", PAYMENT_ID=card, PAY_SYSTEM_ID=8) == "ERROR_PROCESS_REQUEST_RESULT"
    rest.portal.state.pay_systems[8].action_file = "sandbox_card"
    rest.portal.act.cancel_order(rest.portal.state.payments[card].order_id)
    assert rest.error("sale.paysystem.pay.payment", PAYMENT_ID=card, PAY_SYSTEM_ID=8) == "ERROR_PROCESS_REQUEST_RESULT"
    denied = rest.as_user(7, "order.add", "order.update")
    assert denied.error("sale.paysystem.pay.payment", PAYMENT_ID=card, PAY_SYSTEM_ID=8) == "ACCESS_DENIED"
    assert rest.events()[2:] == ["order_canceled"]


def test_settings_for_a_payment_and_for_an_invoice(rest: Any, card: int) -> None:
    settings = {"ACCOUNT": {"TYPE": "PAYMENT", "VALUE": "ACCOUNT_NUMBER"}, "KEY": {"TYPE": "VALUE", "VALUE": "k"}}
    rest("sale.paysystem.settings.update", ID=8, PERSON_TYPE_ID=1, SETTINGS=settings)
    found = rest("sale.paysystem.settings.payment.get", PAYMENT_ID=card, PAY_SYSTEM_ID=8)
    assert found == {"ACCOUNT": "5/1", "KEY": "k"}
    bank = rest("sale.paysystem.settings.invoice.get", INVOICE_ID=2, BX_REST_HANDLER="sandbox_bank")
    assert bank == {"BANK_ACCOUNT": "DE02 1203 0000 0000 2020 51", "PAYMENT_ID": "2"}
    del rest.portal.state.orders[rest.portal.state.payments[card].order_id]
    assert rest.error("sale.paysystem.settings.payment.get", PAYMENT_ID=card, PAY_SYSTEM_ID=8) == (
        "ERROR_INTERNAL_ORDER_NOT_FOUND"
    )
    assert rest("sale.paysystem.settings.payment.get", PAYMENT_ID=1001, PAY_SYSTEM_ID=6) == []  # PHP's empty array
