"""crm.invoice.*: capital letters, strings, pages of fifty, errors without a code."""

from __future__ import annotations

from typing import Any

import pytest


def test_seeded_states(rest: Any) -> None:
    def state(number: int) -> tuple[str, ...]:
        row = rest("crm.invoice.get", id=number)
        return row["PAYED"], row["STATUS_ID"], row["CANCELED"], row["PRICE"], row["CURRENCY"]

    assert state(1) == ("Y", "P", "N", "800.00", "EUR")
    assert state(2) == ("N", "N", "N", "1500.00", "EUR")
    assert state(4)[:3] == ("N", "D", "Y")
    assert state(5)[:3] == ("N", "D", "N")
    assert state(6)[3] == "0.00"
    assert state(13)[3:] == ("900.00", "USD")


def test_every_value_is_a_string(rest: Any) -> None:
    row = rest("crm.invoice.get", ID="2")
    nested = ("PRODUCT_ROWS", "INVOICE_PROPERTIES")
    assert all(value is None or isinstance(value, str) for key, value in row.items() if key not in nested)
    assert (row["DATE_PAYED"], row["EMP_PAYED_ID"], row["DATE_BILL"][-6:]) == ("", None, "+02:00")
    assert row["PRODUCT_ROWS"] == [{"ID": "2", "PRODUCT_NAME": "Services", "PRICE": "1500.00", "QUANTITY": "1"}]
    assert row["INVOICE_PROPERTIES"] == []


@pytest.mark.parametrize("number", [None, "", 0, -1, "x", [2]])
def test_bad_ids(number: Any, rest: Any) -> None:
    assert rest.body("crm.invoice.get", id=number) == {
        "error": "",
        "error_description": "ID is not defined or invalid.",
    }


def test_list(rest: Any) -> None:
    def ids(**params: Any) -> list[str]:
        return [row["ID"] for row in rest("crm.invoice.list", **params)]

    assert ids() == [str(number) for number in range(13, 0, -1)]
    assert ids(filter={"ID": [2, 3], "PAYED": "N"}, order={"ID": "ASC"}) == ["2", "3"]
    assert ids(filter={">PRICE": 1000}, ORDER={"PRICE": "DESC"}) == ["9", "2"]
    assert ids(filter={"=PAYED": "Y", "NOTHING": 1}) == ["1"]
    assert ids(filter={">DATE_INSERT": "2025-11-08"}, order={"NOTHING": "ASC"}) == []
    assert rest("crm.invoice.list", filter={"ID": 2}, select=["ID", "PRICE", "CURRENCY_ID"]) == [
        {"ID": "2", "PRICE": "1500.00"}
    ]
    assert rest("crm.invoice.list", filter={"ID": 99}) == []
    assert rest.error("crm.invoice.list", filter="x") == ""


def test_pages(rest: Any) -> None:
    for _ in range(50):
        rest.portal.create("invoice", {"price": "1.00"})
    first = rest.body("crm.invoice.list", order={"ID": "ASC"})
    assert (first["total"], first["next"], first["result"][-1]["ID"]) == (63, 50, "50")
    assert rest.body("crm.invoice.list", start=50)["result"][-1]["ID"] == "1"
    keyset = rest.body("crm.invoice.list", order={"ID": "ASC"}, filter={">ID": "20"}, start=-1)
    assert [row["ID"] for row in keyset["result"]][:1] == ["21"]
    assert set(keyset) == {"result", "time"}


def fields(**more: Any) -> dict[str, Any]:
    rows = [{"PRODUCT_NAME": "Day", "QUANTITY": 2, "PRICE": "100.50"}, {"ID": 77, "PRICE": 1}]
    base = {"ORDER_TOPIC": "T", "PERSON_TYPE_ID": 1, "PAY_SYSTEM_ID": 31, "STATUS_ID": "N", "PRODUCT_ROWS": rows}
    return {**base, **more}


def test_add(rest: Any) -> None:
    number = rest("crm.invoice.add", fields=fields(XML_ID="key", PRICE=5, INVOICE_PROPERTIES={"COMPANY": "Firm"}))
    row = rest("crm.invoice.get", id=number)
    assert (row["PRICE"], row["XML_ID"], row["PAYED"]) == ("202.00", "key", "N")
    assert row["INVOICE_PROPERTIES"] == {"COMPANY": "Firm"}
    assert [each["ID"] for each in row["PRODUCT_ROWS"]][1] == "77"
    assert [each["ID"] for each in rest("crm.invoice.list", filter={"XML_ID": "key"})] == [str(number)]
    paid = rest("crm.invoice.add", fields=fields(STATUS_ID="P"))
    assert rest("crm.invoice.get", id=paid)["PAYED"] == "Y"
    assert rest.events() == ["invoice_added", "invoice_added", "invoice_paid"]
    assert rest.portal.ledger[0]["amount"] == "202.00"


def test_add_complains_in_markup(rest: Any) -> None:
    body = rest.body("crm.invoice.add", fields={"ORDER_TOPIC": "T"})
    assert body["error"] == ""
    assert body["error_description"] == (
        "The field 'Payer type' is required.<br />The field 'Payment method' is required.<br />"
        "The field 'Status' is required.<br />The invoice has no products.<br />"
    )


def test_update(rest: Any) -> None:
    assert rest("crm.invoice.update", id=2, fields={"STATUS_ID": "P", "PAY_VOUCHER_NUM": "9", "PRICE": 1}) == 2
    row = rest("crm.invoice.get", id=2)
    assert (row["PAYED"], row["PAY_VOUCHER_NUM"], row["PRICE"]) == ("Y", "9", "1500.00")
    assert rest("crm.invoice.update", id=2, fields={"STATUS_ID": "D"}) == 2
    row = rest("crm.invoice.get", id=2)
    assert (row["PAYED"], row["STATUS_ID"], row["DATE_PAYED"]) == ("N", "D", "")
    rest("crm.invoice.update", id=2, fields={"PRODUCT_ROWS": [{"PRICE": 779.6, "QUANTITY": 4}]})
    assert rest("crm.invoice.get", id=2)["PRICE"] == "3118.40"
    assert rest("crm.invoice.update", id=3, fields={"STATUS_ID": "N", "DATE_BILL": "never"}) == 3
    assert rest.events() == ["invoice_paid", "invoice_unpaid", "invoice_changed"]
    assert rest.body("crm.invoice.update", id=2)["error_description"].endswith("<br />")


def test_delete(rest: Any) -> None:
    assert rest("crm.invoice.delete", id=2) is True
    assert rest.body("crm.invoice.delete", id=2) == {"error": "", "error_description": "Not found."}
    assert rest.events() == ["invoice_deleted"]


def test_fields(rest: Any) -> None:
    found = rest("crm.invoice.fields")
    assert found["PRICE"] == {"type": "double", "isReadOnly": True, "isRequired": False}
    assert found["ORDER_TOPIC"] == {"type": "string", "isReadOnly": False, "isRequired": True}


def test_rights(rest: Any) -> None:
    caller = rest.as_user(7, *(f"invoice.{right}" for right in ("read", "add", "update", "delete")))
    for method in ("get", "list", "add", "update", "delete", "fields"):
        body = caller.body(f"crm.invoice.{method}", id=2)
        assert body == {"error": "", "error_description": "Access denied."}


def test_external_key_that_is_too_long_is_refused(rest: Any) -> None:
    assert rest("crm.invoice.update", id=2, fields={"XML_ID": "x" * 255}) == 2
    body = rest.body("crm.invoice.update", id=2, fields={"XML_ID": "x" * 256})
    assert body["error"] == ""
    assert "XML_ID" in body["error_description"]
    assert rest("crm.invoice.get", id=2)["XML_ID"] == "x" * 255
