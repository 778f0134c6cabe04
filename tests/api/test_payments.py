"""One flow per REST method: what it sends, and what it makes of the documented responses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pendulum
import pytest

from airflow_provider_bitrix24.api import payments, queries
from airflow_provider_bitrix24.api.calls.pay_systems import sale_paysystem_pay_invoice
from airflow_provider_bitrix24.api.calls.payments import (
    crm_item_payment_add,
    crm_item_payment_delete,
    crm_item_payment_pay,
    crm_item_payment_unpay,
)
from airflow_provider_bitrix24.api.deleted import Lookup, PaymentIfThere
from airflow_provider_bitrix24.api.io import Effect, SendDeadline, Unknown
from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.at_most_once.course import SendCall
from airflow_provider_bitrix24.at_most_once.sending import send_one
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24NoAnswer,
    Bitrix24NotFound,
    Bitrix24OutcomeUnknown,
    Bitrix24RateLimited,
)
from tests.api.scripted import Play, client, error_response, json_response, play

DEADLINE = SendDeadline(monotonic=1, wall=1)
PAYMENT = {
    "id": 1036,
    "accountNumber": "3653/1",
    "paid": "Y",
    "datePaid": "2024-05-20T12:32:02+03:00",
    "empPaidId": 1,
    "paySystemId": 6,
    "sum": 0,
    "currency": "USD",
    "paySystemName": "Cash",
}
INVOICE = {
    "ID": "2",
    "ACCOUNT_NUMBER": "2",
    "ORDER_TOPIC": "Services",
    "STATUS_ID": "N",
    "PAYED": "N",
    "DATE_PAYED": "",
    "EMP_PAYED_ID": None,
    "CANCELED": "N",
    "PRICE": "1500.00",
    "CURRENCY": "EUR",
    "PAY_SYSTEM_ID": "31",
}


def plays(flow: Any, *results: Any) -> Play:
    return play(flow(client()), *(json_response({"result": result}) for result in results))


def batched(results: Any, errors: Any = ()) -> Any:
    return {"result": results, "result_error": errors}


def sends(call: Any) -> Any:
    """The flow that sends a write for a key."""
    return lambda one: send_one(one, SendCall(call=call, digest="k", deadline=DEADLINE))


def test_pay_invoice_sends_the_documented_parameters() -> None:
    played = plays(sends(sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)), True)
    (request,) = played.requests
    assert (request.method, request.params) == ("sale.paysystem.pay.invoice", {"INVOICE_ID": 2, "PAY_SYSTEM_ID": 31})
    assert (request.effect, request.not_after, request.headers["Idempotency-Key"]) == (Effect.IDEMPOTENT, DEADLINE, "k")
    played = plays(sends(sale_paysystem_pay_invoice(invoice_id=2, bx_rest_handler="h")), True)
    assert played.requests[0].params == {"INVOICE_ID": 2, "BX_REST_HANDLER": "h"}
    assert played.value is True


WRITES = {
    "pay_invoice": sends(sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)),
    "pay_crm_payment": sends(crm_item_payment_pay(id=2)),
    "unpay_crm_payment": sends(crm_item_payment_unpay(id=2)),
    "delete_crm_payment": sends(crm_item_payment_delete(id=2)),
    "update_crm_payment": lambda one: payments.update_crm_payment(one, payment_id=2, pay_system_id=8),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("result", [False, None, [], 1, "true"])
def test_only_true_is_true(name: str, result: Any) -> None:
    error = plays(WRITES[name], result).error
    assert isinstance(error, Bitrix24OutcomeUnknown)
    assert error.answered


def test_update_and_pay_send_the_documented_parameters() -> None:
    request = plays(WRITES["update_crm_payment"], True).requests[0]
    assert (request.method, request.params) == ("crm.item.payment.update", {"id": 2, "fields": {"paySystemId": 8}})
    request = plays(WRITES["pay_crm_payment"], True).requests[0]
    assert (request.method, request.params, request.effect) == ("crm.item.payment.pay", {"id": 2}, Effect.IDEMPOTENT)


def test_add_returns_the_id() -> None:
    played = plays(sends(crm_item_payment_add(entity_id="13123", entity_type_id=2)), 1033)
    assert played.value == 1033
    assert played.requests[0].params == {"entityId": 13123, "entityTypeId": 2}
    assert played.requests[0].effect is Effect.NON_IDEMPOTENT
    played = plays(sends(crm_item_payment_add(entity_id=1, entity_type_id=31, fields={"paySystemId": 6})), "1034")
    assert played.value == 1034
    assert played.requests[0].params["fields"] == {"paySystemId": 6}


@pytest.mark.parametrize("result", [0, None, True, -1, [], {"id": 1}, "x", Decimal("1.5")])
def test_an_add_without_an_id_is_an_unknown_outcome(result: Any) -> None:
    flow = sends(crm_item_payment_add(entity_id=1, entity_type_id=2))(client())
    body = f'{{"result": {result}}}'.encode() if isinstance(result, Decimal) else {"result": result}
    error = play(flow, json_response(body)).error
    assert isinstance(error, Bitrix24OutcomeUnknown)
    assert error.answered
    assert error.__context__ is None


def test_a_payment_is_read() -> None:
    played = plays(lambda one: payments.get_crm_payment(one, payment_id=1036), PAYMENT)
    assert played.requests[0].params == {"id": 1036}
    payment = played.value
    assert (payment.id, payment.account_number, payment.paid, payment.paid_by_id) == (1036, "3653/1", True, 1)
    assert (payment.pay_system_id, payment.pay_system_name) == (6, "Cash")
    assert payment.paid_at == pendulum.datetime(2024, 5, 20, 9, 32, 2)
    assert payment.money == Money(Decimal(0), "USD")


@pytest.mark.parametrize("wire", [None, [], {}, {**PAYMENT, "paid": "maybe"}, {**PAYMENT, "sum": None}])
def test_a_payment_that_cannot_be_read_is_no_answer(wire: Any) -> None:
    error = plays(lambda one: payments.get_crm_payment(one, payment_id=1036), wire).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "http" not in str(error)


def test_which_field_cannot_be_read_is_said() -> None:
    error = plays(lambda one: payments.get_crm_payment(one, payment_id=1), {**PAYMENT, "paid": "maybe"}).error
    assert "paid: " in str(error)
    assert "neither Y nor N: 'maybe'" in str(error)
    assert error.__context__ is None


def test_a_list_sends_filter_and_order_only_if_given() -> None:
    flow = lambda one: payments.list_crm_payments(  # noqa: E731
        one, entity_id=5, entity_type_id="smart_invoice", filter={">id": 1}, order={"id": "desc"}
    )
    played = plays(flow, [PAYMENT])
    assert [payment.id for payment in played.value] == [1036]
    expected = {"entityId": 5, "entityTypeId": 31, "filter": {">id": 1}, "order": {"id": "desc"}}
    assert played.requests[0].params == expected
    played = plays(lambda one: payments.list_crm_payments(one, entity_id=5, entity_type_id=2), [])
    assert played.value == []
    assert played.requests[0].params == {"entityId": 5, "entityTypeId": 2}
    error = plays(lambda one: payments.list_crm_payments(one, entity_id=5, entity_type_id=2), {"x": []}).error
    assert isinstance(error, Bitrix24NoAnswer)


def test_many_payments_take_few_requests() -> None:
    ids = list(range(1, 61))
    first = {f"p{number}": {**PAYMENT, "id": number} for number in ids[:50]}
    second = {f"p{number}": {**PAYMENT, "id": number} for number in ids[50:]}
    played = plays(
        lambda one: payments.get_crm_payments(one, payment_ids=[*ids, 1, "2"]), batched(first), batched(second)
    )
    assert list(played.value) == ids
    assert len(played.requests) == 2


def test_a_payment_that_is_gone_does_not_hide_the_others() -> None:
    gone = {"p2": {"error": 0, "error_description": "Payment has not been found"}}
    here = batched({"p1": {**PAYMENT, "id": 1}}, gone)
    found = plays(lambda one: payments.get_crm_payments(one, payment_ids=[1, 2]), here).value
    assert found[1].id == 1
    assert isinstance(found[2], Bitrix24NotFound)


def test_what_says_nothing_about_a_payment_is_raised() -> None:
    blocked = {"p2": {"error": "OPERATION_TIME_LIMIT"}}
    flow = lambda one: payments.get_crm_payments(one, payment_ids=[1, 2])  # noqa: E731
    here = {"p1": {**PAYMENT, "id": 1}}
    assert isinstance(plays(flow, batched(here, blocked)).error, Bitrix24RateLimited)
    assert isinstance(plays(flow, batched(here)).error, Bitrix24NoAnswer)


@pytest.mark.parametrize(
    ("flow", "result"),
    [
        (lambda one: payments.get_crm_payment(one, payment_id=1), PAYMENT),
        (lambda one: payments.get_crm_payments(one, payment_ids=[1]), batched({"p1": PAYMENT})),
        (lambda one: payments.get_invoice(one, invoice_id=7), INVOICE),
    ],
)
def test_another_object_than_asked_for_is_no_answer(flow: Any, result: Any) -> None:
    error = plays(flow, result).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "responded with another object" in str(error)


@pytest.mark.parametrize("wanted", [[1036, "1037"], (1036,), {1036}, 1036, "1036"])
def test_a_list_by_ids_returns_no_others(wanted: Any) -> None:
    flow = lambda one: payments.list_crm_payments(  # noqa: E731
        one, entity_id=5, entity_type_id=2, filter={"@id": wanted, "paid": "Y"}
    )
    assert [payment.id for payment in plays(flow, [PAYMENT]).value] == [1036]
    assert plays(flow, []).value == []
    error = plays(flow, [PAYMENT, {**PAYMENT, "id": 1}]).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "not asked for" in str(error)


def test_no_ids_take_no_request() -> None:
    assert plays(lambda one: payments.get_crm_payments(one, payment_ids=[])).value == {}
    assert plays(lambda one: payments.get_invoices(one, invoice_ids=())).value == {}


def test_an_invoice_is_read() -> None:
    invoice = plays(lambda one: payments.get_invoice(one, invoice_id=2), INVOICE).value
    assert (invoice.id, invoice.subject, invoice.status_id, invoice.paid) == (2, "Services", "N", False)
    assert (invoice.paid_at, invoice.paid_by_id, invoice.cancelled, invoice.declined) == (None, None, False, False)
    assert (str(invoice.money), invoice.pay_system_id) == ("1500.00 EUR", 31)


def test_a_thousand_invoices_are_one_request() -> None:
    ids = list(range(1, 1001))
    results = {
        f"c{index}": [{**INVOICE, "ID": str(number)} for number in ids[index * 50 : index * 50 + 50] if number != 7]
        for index in range(20)
    }
    played = plays(lambda one: payments.get_invoices(one, invoice_ids=ids), batched(results))
    assert set(played.value) == set(ids) - {7}
    assert len(played.requests) == 1


def test_invoices_that_were_not_asked_for_are_no_answer() -> None:
    flow = lambda one: payments.get_invoices(one, invoice_ids=[1])  # noqa: E731
    assert isinstance(plays(flow, batched({"c0": [INVOICE]})).error, Bitrix24NoAnswer)


IDS = {
    "invoice_id": lambda one, value: payments.get_invoice(one, invoice_id=value),
    "invoice_ids": lambda one, value: payments.get_invoices(one, invoice_ids=[value]),
    "payment_id": lambda one, value: payments.get_crm_payment(one, payment_id=value),
    "payment_ids": lambda one, value: payments.get_crm_payments(one, payment_ids=[value]),
    "entity_id": lambda one, value: payments.list_crm_payments(one, entity_id=value, entity_type_id=2),
    "entity_type_id": lambda one, value: payments.list_crm_payments(one, entity_id=1, entity_type_id=value),
    "pay_system_id": lambda one, value: payments.update_crm_payment(one, payment_id=1, pay_system_id=value),
}


@pytest.mark.parametrize("field", IDS)
@pytest.mark.parametrize("value", [0, -1, True, None, "None", "", 1.0, "1.0", [1], {}])
def test_wrong_ids_are_refused_by_name_before_sending(field: str, value: Any) -> None:
    error = plays(lambda one: IDS[field](one, value)).error
    assert isinstance(error, Bitrix24ConfigError)
    assert str(error).startswith(field)


def test_a_lost_write_is_an_unknown_outcome() -> None:
    error = play(WRITES["pay_invoice"](client()), Unknown("reset")).error
    assert isinstance(error, Bitrix24OutcomeUnknown)
    error = play(WRITES["pay_crm_payment"](client()), error_response(0, "Payment has not been found")).error
    assert isinstance(error, Bitrix24NotFound)


GONE = {"error": "100", "error_description": "Payment not found"}


@pytest.mark.parametrize(
    ("said", "of_none", "gone"),
    [
        (GONE, GONE, True),
        (GONE, {**GONE, "error_description": "Order not found"}, False),
        ({"error": "ACCESS_DENIED"}, {"error": "ACCESS_DENIED"}, False),
        ({"error": "QUERY_LIMIT_EXCEEDED"}, {"error": "QUERY_LIMIT_EXCEEDED"}, False),
        (GONE, None, False),
    ],
)
def test_a_payment_is_gone_if_the_portal_says_of_it_what_it_says_of_none(said: Any, of_none: Any, gone: bool) -> None:
    errors = {"payment": said, **({"no_payment": of_none} if of_none else {})}
    reply = {"result": {}, "result_error": {name: {"error_description": "", **error} for name, error in errors.items()}}
    played = plays(lambda one: queries.ask(one, PaymentIfThere(payment_id=2)), reply)
    assert (played.error is None, played.value) == ((True, Lookup(payment=None)) if gone else (False, None))
