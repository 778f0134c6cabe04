"""Wire to Python: what is understood exactly, and what is refused rather than guessed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bitrix24.api.models import Invoice, Money, PayableProduct, Payment, PaySystem, ProductRow, Profile
from airflow_provider_bitrix24.api.values import entity_type_id, money_amount, plain, positive_id, shown
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError


@pytest.mark.parametrize("value", [123, "123", " 123 ", "0123"])
def test_ids(value: Any) -> None:
    assert positive_id(value, "invoice_id") == 123


@pytest.mark.parametrize(
    "value",
    [
        0,
        "0",
        -5,
        "-5",
        True,
        False,
        None,
        "None",
        "",
        " ",
        123.0,
        "123.0",
        "1e3",
        "٣",
        "+5",
        [1],
        {},
        Decimal(5),
        2**63,
        "9" * 30,
        b"5",
    ],
)
def test_what_is_no_id(value: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match="invoice_id must be a whole positive number") as caught:
        positive_id(value, "invoice_id")
    assert "Nothing was sent" in str(caught.value)


def test_long_values_are_cut_in_messages() -> None:
    assert len(shown("x" * 1000)) == 60
    assert shown("x") == "'x'"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_values_that_cannot_be_shown_do_not_hide_the_error() -> None:
    assert shown(10**5000) == "<int that cannot be shown>"
    assert shown(Broken()) == "<Broken that cannot be shown>"
    for read in (positive_id, entity_type_id, money_amount):
        for value in (10**5000, -(10**5000), Broken()):
            with pytest.raises(Bitrix24ConfigError, match=r"^field must be .* cannot be shown"):
                read(value, "field")


@pytest.mark.parametrize(
    ("value", "number"), [(2, 2), ("2", 2), ("deal", 2), (" Deal ", 2), (31, 31), ("smart_invoice", 31)]
)
def test_entity_types(value: Any, number: int) -> None:
    assert entity_type_id(value) == number


@pytest.mark.parametrize("value", [1, "lead", True, None, 2.0, "", "5", [2], "None"])
def test_other_entity_types(value: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match="kind must be 2 or 'deal', 31 or 'smart_invoice'"):
        entity_type_id(value, "kind")


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("1500.00", "1500.00"),
        ("1500", "1500"),
        (" 10.10 ", "10.10"),
        ("0", "0"),
        (5, "5"),
        (Decimal("0.1"), "0.1"),
        (Decimal("1E+3"), "1000"),
    ],
)
def test_amounts(value: Any, amount: str) -> None:
    assert money_amount(value, "expected_amount") == Decimal(amount)


@pytest.mark.parametrize(
    "value",
    [
        *(1.5, True, None, "", "None", "1,5", "NaN", "Infinity", "1e999999", [], Decimal("sNaN"), Decimal("Infinity")),
        *(
            "1_500",
            "1e3",
            "\u0661\u0665\u0660\u0660",
            "\uff11\uff15\uff10\uff10",
            "+5",
            "-5",
            -5,
            Decimal(-5),
            "5.",
            ".5",
            "1 500",
            "0x10",
            "9" * 40,
        ),
        *([0, [1], 2], (0, (1,), 2), b"5"),
    ],
)
def test_what_is_no_amount(value: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match="expected_amount must be an amount"):
        money_amount(value, "expected_amount")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1500", "1500.00"),
        ("1500.00000000", "1500.00"),
        ("10.1", "10.10"),
        ("0.125", "0.125"),
        ("0", "0.00"),
        ("0E+10", "0.00"),
        ("-0", "0.00"),
        ("1E+3", "1000.00"),
        ("1E-8", "0.00000001"),
        ("12345678901234567890.12", "12345678901234567890.12"),
        ("-5.5", "-5.50"),
    ],
)
def test_amounts_as_text(amount: str, text: str) -> None:
    assert Money(Decimal(amount), "EUR").amount_text == text
    assert str(Money(Decimal(amount), "EUR")) == f"{text} EUR"


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=8))
def test_text_and_back_is_the_same_amount(amount: Decimal) -> None:
    text = Money(amount, "EUR").amount_text
    assert Decimal(text) == amount
    assert "E" not in text
    assert len(text.partition(".")[2]) >= 2


@pytest.mark.parametrize(
    ("one", "other", "currency", "same"),
    [
        ("1500", "1500.00", "EUR", True),
        ("1500.00", "1500.00000001", "EUR", True),
        ("1500.00", "1500.005", "EUR", False),
        ("1500.00", "1499.996", "EUR", True),
        ("100", "100.4", "JPY", True),
        ("100", "101", "JPY", False),
        ("1.000", "1.001", "KWD", False),
        ("1.000", "1.0004", "KWD", True),
    ],
)
def test_the_same_money_by_its_currency(one: str, other: str, currency: str, same: bool) -> None:
    assert Money(Decimal(one), currency).same_as(Money(Decimal(other), currency)) is same
    assert Money(Decimal(other), currency).same_as(Money(Decimal(one), currency)) is same


def test_other_currencies_are_never_the_same() -> None:
    assert not Money(Decimal(5), "EUR").same_as(Money(Decimal(5), "USD"))


PAYMENT = {
    "id": "7",
    "paid": "N",
    "datePaid": None,
    "empPaidId": 0,
    "paySystemId": "",
    "sum": "10.10",
    "currency": "eur",
}


def test_a_payment_in_text_and_with_little_in_it() -> None:
    payment = Payment.from_wire(PAYMENT)
    assert (payment.id, payment.paid, payment.paid_at, payment.paid_by_id) == (7, False, None, None)
    assert (payment.pay_system_id, payment.pay_system_name, payment.account_number) == (None, "", "")
    assert payment.money == Money(Decimal("10.10"), "EUR")
    with pytest.raises(ValueError, match="frozen"):
        payment.paid = True  # type: ignore[misc]


@pytest.mark.parametrize(
    "broken",
    [
        {"id": None},
        {"id": "x"},
        {"id": 1.5},
        {"id": Decimal("1.5")},
        {"id": True},
        {"paid": None},
        {"paid": 1},
        {"paid": "yes"},
        {"datePaid": "tomorrow"},
        {"datePaid": "P1D"},
        {"datePaid": 5},
        {"empPaidId": "me"},
        {"sum": ""},
        {"sum": None},
        {"sum": "NaN"},
        {"sum": Decimal("1e99")},
        {"currency": []},
        {"currency": True},
    ],
)
def test_what_cannot_be_read_is_not_guessed(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Payment.from_wire({**PAYMENT, **broken})


def test_flags_may_be_json() -> None:
    assert Payment.from_wire({**PAYMENT, "paid": True}).paid is True
    assert Payment.from_wire({**PAYMENT, "paid": " y "}).paid is True


def test_an_invoice_that_was_declined() -> None:
    wire = {"ID": 5, "PAYED": "N", "STATUS_ID": "D", "PRICE": Decimal("1.5"), "CURRENCY": "EUR", "CANCELED": "Y"}
    invoice = Invoice.from_wire({**wire, "DATE_PAYED": "2026-01-02T00:00:00+02:00", "ACCOUNT_NUMBER": 5})
    assert (invoice.declined, invoice.cancelled, invoice.account_number) == (True, True, "5")
    assert invoice.paid_at == pendulum.datetime(2026, 1, 1, 22)
    assert Invoice.from_wire({**wire, "CANCELED": None}).cancelled is False


def test_the_other_models() -> None:
    wire = {"ID": "31", "NAME": "Bank", "ACTION_FILE": "h", "ENTITY_REGISTRY_TYPE": "CRM_INVOICE", "ACTIVE": "Y"}
    system = PaySystem.from_wire(wire)
    assert (system.id, system.name, system.action_file, system.entity_registry_type, system.active) == (
        31, "Bank", "h", "CRM_INVOICE", True,
    )  # fmt: skip
    row = ProductRow.from_wire({"id": 1, "productName": "iphone", "price": Decimal("79999.5"), "quantity": 3})
    assert (row.id, row.name, row.price, row.quantity) == (1, "iphone", Decimal("79999.5"), Decimal(3))
    product = PayableProduct.from_wire({"id": 1195, "paymentId": 1039, "quantity": 2, "rowId": 17587})
    assert (product.id, product.payment_id, product.row_id, product.quantity) == (1195, 1039, 17587, Decimal(2))


@pytest.mark.parametrize(
    ("flag", "admin"), [(True, True), ("Y", True), ("1", True), (False, False), ("N", False), (None, False)]
)
def test_a_profile(flag: Any, admin: bool) -> None:
    profile = Profile.from_wire({"ID": "1", "ADMIN": flag, "NAME": "Anna", "LAST_NAME": "Berg"})
    assert (profile.user_id, profile.name, profile.is_admin) == (1, "Anna Berg", admin)
    assert Profile.from_wire({"ID": 1}).name == ""


def test_a_result_as_json_keeps_its_fractions() -> None:
    result = {"sum": Decimal("10.10"), "rows": ({1: Decimal("1E+2")}, None), "paid": True}
    assert plain(result) == {"sum": "10.10", "rows": [{"1": "100"}, None], "paid": True}
