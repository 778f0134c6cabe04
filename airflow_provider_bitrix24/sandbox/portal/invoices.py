"""``crm.invoice.*``: legacy invoices, in capital letters, every value a string, errors without a code."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import fields as dataclass_fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import (
    Unconvertible,
    as_list,
    as_mapping,
    field_value,
    lenient_conditions,
)
from airflow_provider_bitrix24.sandbox.portal.model import ZERO, Invoice, money_text, words
from airflow_provider_bitrix24.sandbox.portal.pages import page_of
from airflow_provider_bitrix24.sandbox.portal.payments import column_types, read_column
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, changed, rest

if TYPE_CHECKING:
    from collections.abc import Mapping

PAID, NEW = "P", "N"
_XML_ID_LENGTH = 255
_NESTED = {"PRODUCT_ROWS", "PROPERTIES"}
COLUMNS = {name: kind for name, kind in column_types(Invoice).items() if name not in _NESTED}
_TITLES = {
    "ORDER_TOPIC": "Topic",
    "PERSON_TYPE_ID": "Payer type",
    "PAY_SYSTEM_ID": "Payment method",
    "STATUS_ID": "Status",
}
_WRITABLE = words(
    "ORDER_TOPIC ACCOUNT_NUMBER CURRENCY STATUS_ID DATE_BILL DATE_INSERT DATE_PAY_BEFORE DATE_MARKED PAY_SYSTEM_ID "
    "PERSON_TYPE_ID PAY_VOUCHER_DATE PAY_VOUCHER_NUM REASON_MARKED RESPONSIBLE_ID COMMENTS USER_DESCRIPTION XML_ID "
    "UF_COMPANY_ID UF_CONTACT_ID UF_DEAL_ID UF_QUOTE_ID UF_MYCOMPANY_ID"
)


def _refusal(*lines: str) -> RestError:
    """Legacy errors have no code and end in markup."""
    return RestError("", "".join(f"{line}<br />" for line in lines))


def set_invoice_paid(invoice: Invoice, payed: str, *, now: float, user_id: int | None) -> bool:
    """Set the flag and the status that belongs to it; nothing happens if it had this value already."""
    if invoice.payed == payed:
        return False
    invoice.payed, invoice.status_id = payed, PAID if payed == "Y" else NEW
    invoice.date_payed, invoice.emp_payed_id = (now, user_id) if payed == "Y" else (None, None)
    invoice.date_status, invoice.emp_status_id, invoice.date_update = now, user_id, now
    return True


def ledger_facts(invoice: Invoice, pay_system_id: int | None = None) -> dict[str, Any]:
    """What the ledger says about an invoice."""
    return {
        "invoice_id": invoice.id,
        "amount": invoice.price,
        "currency": invoice.currency,
        "pay_system_id": pay_system_id if pay_system_id is not None else invoice.pay_system_id,
    }


def _text(column: str, value: Any) -> str | None:
    if COLUMNS[column] == "datetime":
        return php.iso(value) or ""
    if isinstance(value, Decimal):
        return money_text(value)
    return None if value is None else str(value)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if value is None else php.to_text(value) for key, value in row.items()}


def _check(call: Call, right: str) -> None:
    if not call.may(f"invoice.{right}"):
        raise RestError("", "Access denied.")


def _find(call: Call) -> Invoice:
    number = call.legacy("id")
    if not php.is_numeric(number) or php.to_int(number) <= 0:
        raise RestError("", "ID is not defined or invalid.")
    invoice = call.state.invoices.get(php.to_int(number))
    if invoice is None:
        raise RestError("", "Not found.")
    return invoice


def _array(call: Call, name: str) -> Mapping[str, Any]:
    value = call.legacy(name)
    if value is not None and not isinstance(value, dict | list):
        raise RestError("", f"Parameter '{name}' must be array.")
    return as_mapping(value)


@rest("crm.invoice.get", scope="crm")
def get(call: Call) -> object:
    """One invoice with its rows and properties."""
    _check(call, "read")
    invoice = _find(call)
    shown: dict[str, Any] = {column: _text(column, read_column(invoice, column)) for column in sorted(COLUMNS)}
    shown["INVOICE_PROPERTIES"] = php.json_array(invoice.properties)
    shown["PRODUCT_ROWS"] = [_row(row) for row in invoice.product_rows]
    return shown


@rest("crm.invoice.list", scope="crm")
def list_(call: Call) -> object:
    """Invoices, 50 to a page, the newest first unless told otherwise."""
    _check(call, "read")
    conditions = lenient_conditions(_array(call, "filter"), COLUMNS)
    order = [(name, way) for name, way in _array(call, "order").items() if name in COLUMNS] or [("ID", "DESC")]
    selected = [name for name in map(php.to_text, as_list(call.legacy("select"))) if name in COLUMNS]
    page = page_of(call.state.invoices, conditions, order, call.legacy("start"), read_column, column_of=str.lower)
    names = selected or sorted(COLUMNS)
    return Listing(
        [{name: _text(name, read_column(row, name)) for name in names} for row in page.result], page.total, page.next
    )


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Writable columns from outside; what cannot be read is dropped."""
    values = {}
    for name in _WRITABLE:
        with contextlib.suppress(Unconvertible, KeyError):
            values[name.lower()] = field_value(COLUMNS[name], given[name])
    if len(php.to_text(values.get("xml_id"))) > _XML_ID_LENGTH:
        raise _refusal(f"The value of the field 'XML_ID' is too long. Maximum length: {_XML_ID_LENGTH}.")
    return values


def _put_rows(call: Call, values: dict[str, Any], given: Mapping[str, Any]) -> None:
    if "PRODUCT_ROWS" not in given:
        return
    rows = []
    price = ZERO
    for row in (dict(as_mapping(each)) for each in as_list(given["PRODUCT_ROWS"])):
        cost = php.to_decimal(row.get("PRICE")) or ZERO
        count = php.to_decimal(row.get("QUANTITY", 1)) or ZERO
        price += cost * count
        number = php.to_int(row.get("ID")) or call.state.new_id("product_rows")
        rows.append(php.jsonable(row) | {"ID": number, "PRICE": money_text(cost), "QUANTITY": f"{count:f}"})
    values |= {"product_rows": rows, "price": price}


def _write(call: Call, invoice: Invoice, values: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Write columns; a status of success or away from it changes the paid flag with it."""
    status = values.pop("status_id", None)
    names = changed(invoice, values)
    event = None
    if status is not None and status != invoice.status_id:
        payed = "Y" if status == PAID else "N"
        if set_invoice_paid(invoice, payed, now=call.now, user_id=call.user.id):
            event = "invoice_paid" if payed == "Y" else "invoice_unpaid"
        names += changed(invoice, {"status_id": status, "date_status": call.now, "emp_status_id": call.user.id})
        names.append("status_id")
    return event, names


@rest("crm.invoice.add", scope="crm", writes=True)
def add(call: Call) -> object:
    """A new invoice; its price is that of its rows."""
    _check(call, "add")
    given = _array(call, "fields")
    empty = [title for name, title in _TITLES.items() if not php.truthy(given.get(name))]
    missing = [f"The field '{title}' is required." for title in empty]
    if not as_list(given.get("PRODUCT_ROWS")):
        missing.append("The invoice has no products.")
    if missing:
        raise _refusal(*missing)
    number = call.state.new_id("invoices")
    invoice = Invoice(
        id=number,
        account_number=str(number),
        date_insert=call.now,
        date_update=call.now,
        created_by=call.user.id,
        responsible_id=call.user.id,
        properties=php.jsonable(dict(as_mapping(given.get("INVOICE_PROPERTIES")))),
    )
    values = _values(given)
    _put_rows(call, values, given)
    call.state.invoices[number] = invoice
    event, _ = _write(call, invoice, values)
    call.record("invoice_added", **ledger_facts(invoice))
    if event is not None:
        call.record(event, **ledger_facts(invoice))
    return number


@rest("crm.invoice.update", scope="crm", writes=True)
def update(call: Call) -> object:
    """Change an invoice."""
    _check(call, "update")
    invoice = _find(call)
    given = _array(call, "fields")
    if not given:
        raise _refusal("No fields to update.")
    values = _values(given)
    _put_rows(call, values, given)
    event, names = _write(call, invoice, values)
    if event or names:
        invoice.date_update = call.now
        call.record(event or "invoice_changed", **ledger_facts(invoice), changed=names)
    return invoice.id


@rest("crm.invoice.delete", scope="crm", writes=True)
def delete(call: Call) -> object:
    """Remove an invoice."""
    _check(call, "delete")
    invoice = _find(call)
    del call.state.invoices[invoice.id]
    call.record("invoice_deleted", **ledger_facts(invoice))
    return True


@rest("crm.invoice.getexternallink", scope="crm")
def get_external_link(call: Call) -> object:
    """The address where a customer sees an invoice."""
    _check(call, "read")
    invoice = _find(call)
    access = hashlib.sha256(f"invoice {invoice.id}".encode()).hexdigest()[:32]
    return f"http://portal.invalid/pub/invoice/{invoice.id}/{access}/"


@rest("crm.invoice.fields", scope="crm")
def fields(call: Call) -> object:
    """What the fields are."""
    _check(call, "read")
    names = {column.name.upper() for column in dataclass_fields(Invoice)} - _NESTED
    return {
        name: {"type": COLUMNS[name], "isReadOnly": name not in _WRITABLE, "isRequired": name in _TITLES}
        for name in sorted(names)
    }
