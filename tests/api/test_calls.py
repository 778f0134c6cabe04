"""Calls as values: what goes over the wire, what is refused before, and how results are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api import calls
from airflow_provider_bitrix24.api.batch import BatchReply
from airflow_provider_bitrix24.api.calls.call import build, read_batch, row_reader
from airflow_provider_bitrix24.api.methods import METHODS
from airflow_provider_bitrix24.api.models import Invoice, PayableProduct, Payment, Profile
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24NoAnswer,
    Bitrix24NotFound,
    Bitrix24OutcomeUnknown,
)

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.methods.row import Method, Param

PAYMENT = {"id": 7, "accountNumber": "1/1", "paid": "N", "sum": 10, "currency": "EUR"}
INVOICE = {"ID": "2", "ACCOUNT_NUMBER": "2", "PAYED": "N", "PRICE": "1500.00", "CURRENCY": "EUR"}


def sample(row: Method, param: Param) -> tuple[Any, Any]:
    """A value of a parameter, and what it is on the wire."""
    key = param.names[0] if param.names else "x"
    if row.rows is not None and row.rows.fields is not None and param.type in ("filter", "order", "select"):
        key = row.rows.id_field
    given: dict[str, tuple[Any, Any]] = {
        "id": ("12", 12), "ids": ((1, "2"), [1, 2]), "int": (0, 0), "whole": ("3", 3), "text": ("t", "t"),
        "texts": (["t", 5], ["t", "5"]), "flag": (True, "Y"), "bool": (False, False), "object": ({key: 1}, {key: 1}),
        "objects": ([{"a": 1}], [{"a": 1}]), "attach": ("{}", "{}"), "filter": ({key: 1}, {key: 1}),
        "order": ({key: "ASC"}, {key: "ASC"}), "select": ((key,), [key]), "start": (-1, -1),
    }  # fmt: skip
    return given[param.type]


@pytest.mark.parametrize("row", METHODS.values(), ids=lambda row: row.name)
def test_every_argument_has_its_name_on_the_wire(row: Method) -> None:
    samples = {param: sample(row, param) for param in row.params}
    call = getattr(calls, row.python)(**{param.python: given for param, (given, _) in samples.items()})
    assert call.row is row
    assert call.params == {param.wire: wire for param, (_, wire) in samples.items()}


@pytest.mark.parametrize("row", [row for row in METHODS.values() if row.params], ids=lambda row: row.name)
def test_only_what_is_given_is_sent_and_what_is_required_must_be(row: Method) -> None:
    required = {param.python: sample(row, param)[0] for param in row.params if param.required}
    if row.any_of:
        required |= {param.python: sample(row, param)[0] for param in row.params if param.wire == row.any_of[0]}
    call = build(row.name, **required)
    assert len(call.params) == len(required)
    for missing in required:
        with pytest.raises(Bitrix24ConfigError, match="Nothing was sent"):
            build(row.name, **{**required, missing: None})


@pytest.mark.parametrize(
    ("method", "values", "words"),
    [
        ("crm.item.payment.pay", {"id": 0}, "id must be"),
        ("crm.item.payment.pay", {"id": "x"}, "id must be"),
        ("crm.item.payment.product.add", {"payment_id": 1, "row_id": 1, "quantity": 2.5}, "quantity must be"),
        ("crm.item.payment.add", {"entity_id": 1, "entity_type_id": 2, "fields": [1]}, "fields must be a mapping"),
        ("crm.item.payment.update", {"id": 1, "fields": {"PAID": "Y"}}, "Did you mean 'paid'"),
        ("crm.item.payment.update", {"id": 1, "fields": {}}, "fields is missing"),
        ("sale.payment.list", {"filter": {"PAID": "N"}}, "Did you mean 'paid'"),
        ("sale.payment.list", {"select": "id"}, "select must be a list"),
        ("sale.payment.list", {"select": {"id": 1}}, "select must be a list"),
        ("sale.payment.list", {"select": 1}, "select must be a list"),
        ("sale.payment.list", {"start": -2}, "start must be"),
        ("sale.payment.list", {"start": True}, "start must be"),
        ("sale.paysystem.pay.invoice", {"invoice_id": 1}, "needs pay_system_id or bx_rest_handler"),
        ("im.message.add", {"dialog_id": True, "message": "x"}, "dialog_id must be a text"),
        ("im.message.add", {"dialog_id": "", "message": "x"}, "dialog_id is missing"),
        ("im.message.add", {"dialog_id": 1, "message": "x", "system": "yes"}, "system must be True or False"),
        ("im.message.add", {"dialog_id": 1, "attach": 5}, "attach must be"),
        ("scope", {"full": "Y"}, "full must be True or False"),
    ],
)
def test_what_cannot_be_meant_is_refused(method: str, values: Any, words: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match=words):
        build(method, **values)


def test_flags_may_be_letters() -> None:
    assert build("im.message.add", dialog_id=1, message="x", system="N").params["SYSTEM"] == "N"
    assert build("im.message.add", dialog_id=1, message="x", system=False).params["SYSTEM"] == "N"


# -- results


def test_objects_are_models() -> None:
    assert isinstance(calls.crm_item_payment_get(id=7).read(PAYMENT), Payment)
    assert isinstance(calls.crm_invoice_get(id=2).read(INVOICE), Invoice)
    assert isinstance(calls.profile().read({"ID": "1", "ADMIN": True}), Profile)
    with pytest.raises(Bitrix24NoAnswer, match="another object"):
        calls.crm_item_payment_get(id=8).read(PAYMENT)


def test_lists_are_models() -> None:
    call = calls.crm_item_payment_list(entity_id=1, entity_type_id=2, filter={"=paid": "N"})
    assert [payment.id for payment in call.read([PAYMENT])] == [7]
    with pytest.raises(Bitrix24NoAnswer, match="does not satisfy"):
        call.read([{**PAYMENT, "paid": "Y"}])
    with pytest.raises(Bitrix24NoAnswer, match="not a list"):
        call.read({"payments": []})
    rows = {"productRows": [{"id": 1, "productName": "x", "price": 1, "quantity": 2}]}
    (row,) = calls.crm_item_productrow_get_available_for_payment(owner_type="D", owner_id=1).read(rows)
    assert row.name == "x"
    (line,) = calls.crm_item_payment_product_list(payment_id=1).read(
        [{"id": 1, "paymentId": 1, "rowId": 2, "quantity": 1}]
    )
    assert isinstance(line, PayableProduct)


def test_other_results_stay_as_they_came() -> None:
    call = calls.sale_payment_list(filter={"=paid": "N"})
    assert call.read({"payments": [{"id": 1, "paid": "N"}]}) == {"payments": [{"id": 1, "paid": "N"}]}
    with pytest.raises(Bitrix24NoAnswer, match="does not satisfy"):
        call.read({"payments": [{"id": 1, "paid": "Y"}]})
    assert calls.crm_invoice_list(select=["ID"]).read([{"ID": "2"}]) == [{"ID": "2"}]
    assert calls.server_time().read("2026-11-22T10:00:00+02:00") == "2026-11-22T10:00:00+02:00"
    assert calls.event_bind(event="ONX", handler="https://x").read(False) is False


@pytest.mark.parametrize("result", [False, None, 1, "true", {}])
def test_a_write_that_does_not_return_true_has_an_unknown_outcome(result: Any) -> None:
    with pytest.raises(Bitrix24OutcomeUnknown, match="without the value true"):
        calls.crm_item_payment_pay(id=1).read(result)
    assert calls.sale_paysystem_pay_invoice(invoice_id=1, pay_system_id=2).read(True) is True


@pytest.mark.parametrize("result", [False, None, 0, True, {}])
def test_a_write_that_does_not_return_an_id_has_an_unknown_outcome(result: Any) -> None:
    with pytest.raises(Bitrix24OutcomeUnknown, match="without an id"):
        calls.crm_item_payment_add(entity_id=1, entity_type_id=2).read(result)
    assert calls.crm_deal_add(fields={"TITLE": "x"}).read("394") == 394


def test_rows_of_iterate() -> None:
    assert isinstance(row_reader("crm.invoice.list", {})(INVOICE), Invoice)
    assert row_reader("crm.invoice.list", {"SELECT": ["ID"]})(INVOICE) is INVOICE
    for method in ("crm.deal.list", "crm.lead.list", "profile"):
        assert row_reader(method, {})(INVOICE) is INVOICE
    with pytest.raises(Bitrix24NoAnswer, match="cannot be read"):
        row_reader("crm.invoice.list", {})({"ID": "x"})


def test_the_results_of_a_batch_are_read_too() -> None:
    gone = Bitrix24NotFound("0", 200, "crm.item.payment.get")
    reply = BatchReply({"p": PAYMENT, "raw": PAYMENT, "done": False}, {"gone": gone}, None, {}, {})
    read = read_batch(
        reply,
        {
            "p": calls.crm_item_payment_get(id=7),
            "done": calls.crm_item_payment_pay(id=7),
            "gone": calls.crm_item_payment_get(id=8),
            "raw": ("crm.item.payment.get", {"id": 7}),
        },
    )
    assert read.value("p").id == 7
    assert read.value("raw") is PAYMENT
    with pytest.raises(Bitrix24OutcomeUnknown):
        read.value("done")
    with pytest.raises(Bitrix24NotFound):
        read.value("gone")


def test_lists_in_a_batch_are_compared_with_their_filters() -> None:
    rows = {"payments": [{"id": 1, "paid": "Y"}]}
    reply = BatchReply({"good": rows, "wrong": rows}, {}, None, {}, {})
    read = read_batch(
        reply,
        {
            "good": ("sale.payment.list", {"filter": {"=paid": "Y"}}),
            "wrong": ("sale.payment.list", {"filter": {"=paid": "N"}}),
        },
    )
    assert read.value("good") == rows
    with pytest.raises(Bitrix24NoAnswer, match="does not satisfy"):
        read.value("wrong")
