"""Wire to Python: what is understood exactly, and what is refused rather than guessed."""

from __future__ import annotations

import importlib
import json
from decimal import Decimal
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bitrix24.api.envelope import Reply, open_envelope
from airflow_provider_bitrix24.api.io import Response
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


FLOATS = [
    ("99.900000000000006", "99.90"),
    ("8.1999999999999993", "8.20"),
    ("99.89999999999999", "99.90"),
    ("0.30000000000000004", "0.30"),
    ("1.0000000000000001e2", "100.00"),
    ("1.5E+2", "150.00"),
    ("9.9900000000000006E1", "99.90"),
    ("98765432109.869995", "98765432109.87"),
    ("123456789.12000000477", "123456789.12"),
    ("1e-15", "0.00"),
    ("-1e-20", "0.00"),
    ("33.333333333333336", "33.33333333"),
    ("12345678901234.5678", "12345678901234.5678"),
    ("12345678.12345678", "12345678.12345678"),
    ("0.125", "0.125"),
    ("0.00000001", "0.00000001"),
    ("1500.00", "1500.00"),
    ("1500", "1500.00"),
]
"""What a portal writes, and what it means."""


@pytest.mark.parametrize(("written", "meant"), FLOATS)
def test_the_tail_of_a_double_is_no_money(written: str, meant: str) -> None:
    """As JSON number and as text, in each kind of object that holds money or a quantity."""
    body = f'{{"result": {{"id": 1, "sum": {written}, "currency": "EUR", "text": "{written}"}}}}'.encode()
    reply = open_envelope(Response(status=200, headers={}, body=body, at=0.0), str)
    assert isinstance(reply, Reply)
    for value in (reply.result["sum"], reply.result["text"]):
        payment = Payment.from_wire({"id": 1, "paid": "N", "sum": value, "currency": "EUR"})
        invoice = Invoice.from_wire({"ID": 1, "PAYED": "N", "PRICE": value, "CURRENCY": "EUR"})
        row = ProductRow.from_wire({"id": 1, "price": value, "quantity": value})
        assert payment.money.amount_text == invoice.money.amount_text == meant
        assert row.price == row.quantity == Decimal(meant)


@pytest.mark.parametrize(
    ("amount", "limit", "more"),
    [
        ("99.90", "99.90", False),
        ("99.9", "99.90000", False),
        ("99.99999999", "100", False),
        ("100.00000001", "100", False),
        ("99.91", "99.90", True),
        ("99.9001", "99.90", True),
        ("100000000000000000000000000000.01", "100000000000000000000000000000", True),
        ("0", "0", False),
    ],
)
def test_more_than_a_limit(amount: str, limit: str, more: bool) -> None:
    assert Money(Decimal(amount), "EUR").exceeds(Decimal(limit)) is more


@given(st.decimals(min_value=0, max_value=10**11, places=2), st.integers(1, 3))
def test_no_way_in_which_php_writes_a_double_changes_the_money(amount: Decimal, digits: int) -> None:
    written = f"{float(amount):.{14 + digits}g}"
    payment = Payment.from_wire({"id": 1, "paid": "N", "sum": Decimal(written), "currency": "EUR"})
    assert payment.money.amount == amount


@pytest.mark.parametrize(
    "unreadable",
    [
        *("27.11.2026 14:05:00", "11/27/2026 02:05:00 pm", "27 ноября 2026", "tomorrow", "P1D", "0000-00-00 00:00:00"),
        *("2026-11-27T14:05:00", "2026-11-27 14:05:00", "2026-11-27", "14:05:00", "2026-13-45T99:00:00+00:00"),
        *("", " ", "0", "N", 0, 5, 1763800000, Decimal("1763800000.5"), True, False, [], {}, ["2026-11-27"], None),
    ],
)
def test_a_time_that_cannot_be_known_is_none(unreadable: Any) -> None:
    """Never refused, and never UTC by silence: the mark is what counts, and when it was made is only shown."""
    payment = Payment.from_wire({"id": 1, "paid": "Y", "sum": 5, "currency": "EUR", "datePaid": unreadable})
    invoice = Invoice.from_wire({"ID": 1, "PAYED": "Y", "PRICE": 5, "CURRENCY": "EUR", "DATE_PAYED": unreadable})
    assert (payment.paid, payment.paid_at) == (invoice.paid, invoice.paid_at) == (True, None)


@pytest.mark.parametrize(
    "known",
    [
        *("2026-11-27T14:05:00+03:00", "2026-11-27T11:05:00Z", " 2026-11-27 14:05:00+03:00", "2026-11-27T14:05+0300"),
        *("2026-11-27T14:05:00.000000+03", "2026-11-27T06:05:00,000-05:00"),
    ],
)
def test_a_time_with_its_zone_is_known(known: str) -> None:
    payment = Payment.from_wire({"id": 1, "paid": "Y", "sum": 5, "currency": "EUR", "datePaid": known})
    assert payment.paid_at == pendulum.datetime(2026, 11, 27, 11, 5)


@pytest.mark.parametrize("unreadable", [[], {}, True, "me", "12 (Anna)", Decimal("1.5"), "\u0661"])
def test_what_is_only_shown_stops_nothing(unreadable: Any) -> None:
    shown = dict.fromkeys(("accountNumber", "paySystemName", "empPaidId", "datePaid"), unreadable)
    payment = Payment.from_wire({"id": 1, "paid": "Y", "sum": 5, "currency": "EUR", **shown})
    assert (payment.paid, payment.paid_by_id, payment.paid_at) == (True, None, None)
    shown = dict.fromkeys(("ACCOUNT_NUMBER", "ORDER_TOPIC", "EMP_PAYED_ID", "DATE_PAYED"), unreadable)
    invoice = Invoice.from_wire({"ID": 1, "PAYED": "Y", "PRICE": 5, "CURRENCY": "EUR", **shown})
    assert (invoice.paid, invoice.paid_by_id, invoice.paid_at) == (True, None, None)
    assert Profile.from_wire({"ID": 1, "NAME": unreadable, "LAST_NAME": unreadable}).user_id == 1
    assert ProductRow.from_wire({"id": 1, "productName": unreadable, "price": 1, "quantity": 1}).quantity == 1


def through_xcom(value: Any) -> Any:
    """What the next task gets of what a task returns, by Airflow's own way to and from the database."""
    serde = importlib.import_module("airflow.sdk.serde" if AIRFLOW_V_3_2_PLUS else "airflow.serialization.serde")
    return serde.deserialize(json.loads(json.dumps(serde.serialize(value))))


THINGS: list[Any] = [
    Payment.from_wire(
        {"id": 1, "paid": "Y", "sum": Decimal("5.1"), "currency": "EUR", "datePaid": "2026-01-02T03:04:05+03:00"}
    ),
    Payment.from_wire({"id": 1, "paid": "N", "sum": 990, "currency": "JPY"}),
    Invoice.from_wire({"ID": "2", "PAYED": "N", "PRICE": "1500.00", "CURRENCY": "EUR", "CANCELED": "Y"}),
    PaySystem.from_wire({"ID": 3, "ACTIVE": "Y", "NAME": "Cash"}),
    ProductRow.from_wire({"id": 4, "price": "0.125", "quantity": 2}),
    PayableProduct.from_wire({"id": 4, "paymentId": 5, "rowId": 6, "quantity": 2}),
    Profile.from_wire({"ID": "1", "NAME": "Anna", "ADMIN": True}),
    Money(Decimal("1E+3"), "EUR"),
]


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: type(thing).__name__)
def test_what_the_hook_returns_passes_through_xcom_as_plain_data(thing: Any) -> None:
    plain = thing.as_dict()
    assert through_xcom(plain) == plain
    assert through_xcom([plain, {"first": plain}]) == [plain, {"first": plain}]
    assert json.loads(json.dumps(plain)) == plain


def test_plain_data_says_what_the_object_says() -> None:
    assert THINGS[0].as_dict() == {
        "id": 1,
        "account_number": "",
        "paid": True,
        "paid_at": "2026-01-02T03:04:05+03:00",
        "paid_by_id": None,
        "pay_system_id": None,
        "pay_system_name": "",
        "money": {"amount": "5.10", "currency": "EUR"},
    }
    assert THINGS[-1].as_dict() == {"amount": "1000.00", "currency": "EUR"}


@pytest.mark.parametrize("written", [990, "990", "990.0", Decimal(990), "990.00", "9.9e2"])
def test_money_is_written_alike_wherever_it_comes_from(written: Any) -> None:
    payment = Payment.from_wire({"id": 1, "paid": "N", "sum": written, "currency": "EUR"})
    invoice = Invoice.from_wire({"ID": 1, "PAYED": "N", "PRICE": written, "CURRENCY": "EUR"})
    assert str(payment.money.amount) == str(invoice.money.amount) == "990.00"


def test_a_result_as_json_keeps_its_fractions() -> None:
    result = {"sum": Decimal("10.10"), "rows": ({1: Decimal("1E+2")}, None), "paid": True}
    assert plain(result) == {"sum": "10.10", "rows": [{"1": "100"}, None], "paid": True}
