"""The documentation's own requests, replies and errors, one by one, against the sandbox."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.sandbox.portal.model import Binding, PayableItem
from airflow_provider_bitrix24.sandbox.portal.registry import METHODS

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal import Portal

EXAMPLES: dict[str, Any] = json.loads((Path(__file__).parent / "documented-examples.json").read_text("utf-8"))

#: Documented methods that a webhook may not call: they need an application.
APPLICATION = [
    "event.bind",
    "event.get",
    "event.offline.clear",
    "event.offline.error",
    "event.offline.get",
    "event.offline.list",
    "event.unbind",
]
KNOWN = [method for method in EXAMPLES if method not in APPLICATION]

#: Requests where the documentation shows none that could be sent as it is.
REQUESTS: dict[str, dict[str, Any]] = {
    "sale.paysystem.handler.add": {
        "NAME": "REST handler",
        "CODE": "my_handler",
        "SORT": 100,
        "SETTINGS": {"CURRENCY": ["EUR"], "FORM_DATA": {"ACTION_URI": "http://example.com/form", "METHOD": "POST"}},
    },
    "sale.paysystem.handler.update": {"ID": 1, "FIELDS": {"NAME": "REST handler, renamed"}},
    "crm.invoice.add": {
        "fields": {
            "ORDER_TOPIC": "Services",
            "PERSON_TYPE_ID": 1,
            "PAY_SYSTEM_ID": 31,
            "STATUS_ID": "N",
            "PRODUCT_ROWS": [{"ID": 0, "PRODUCT_NAME": "Day", "QUANTITY": 2, "PRICE": 100.5}],
        }
    },
    "crm.invoice.get": {"id": 2},
    "crm.invoice.getexternallink": {"id": 2},
    "crm.invoice.delete": {"id": 2},
    "crm.invoice.update": {
        "id": 2,
        "fields": {"USER_DESCRIPTION": "Updated", "PRODUCT_ROWS": [{"ID": 2, "QUANTITY": 4, "PRICE": 779.6}]},
    },
    "crm.deal.list": {"FILTER": {">OPPORTUNITY": 10000, "<=OPPORTUNITY": 20000}, "ORDER": {"TITLE": "ASC"}},
    "crm.deal.add": {"FIELDS": {"TITLE": "New deal", "TYPE_ID": "COMPLEX", "OPPORTUNITY": 1000000, "COMPANY_ID": 9}},
}
#: What varies from portal to portal, in names and in the values that stand for it.
_FREE = re.compile(r"(UF_CRM_|ufCrm_|PARENT_ID_|parentId)")


def world(make_rest: Any, **options: Any) -> Any:
    """A portal in which the documented ids exist."""
    rest = make_rest(dialect="docs", operating_limit=480, **options)
    _make_items(rest.portal)
    _make_pay_systems(rest.portal)
    _make_payments(rest.portal)
    _make_goods(rest.portal)
    return rest


def _make_items(portal: Portal) -> None:
    deals, leads = portal.state.deals, portal.state.leads
    for number in (13123, 13141, 13142, 13143, 13144, 351, 410):
        portal.create(
            "deal", {"id": number, "companyId": 9, "contactIds": [84], "typeId": "SALE", "opportunity": 15000}
        )
    day = "2024-08-30T02:00:00+02:00"
    deals[410].fields |= {"probability": 99, "begindate": day, "closedate": day, "additionalInfo": "More"}
    deals[410].fields |= {
        "sourceId": "CALLBACK",
        "sourceDescription": "Called",
        "utmSource": "google",
        "utmMedium": "CPC",
    }
    deals[351].fields |= {"begindate": day, "closedate": day, "searchContent": "351", "webformId": 0}
    deals[351].fields |= {"sourceId": "", "sourceDescription": ""}
    lead = {
        "stageId": "NEW",
        "sourceId": "WEB",
        "name": "Klaus",
        "lastName": "Weber",
        "secondName": "A",
        "webformId": 0,
    }
    lead |= {"opportunity": 6000, "isManualOpportunity": "Y", "birthdate": day, "honorific": "DR", "post": "Admin"}
    lead |= {"companyTitle": "Firm", "sourceDescription": "Web"}
    phone = {"id": 1, "valueType": "WORK", "value": "+49", "typeId": "PHONE"}
    for number in (250, 252, 253):
        portal.create("lead", {"id": number, **lead})
        leads[number].fields |= {"searchContent": "Klaus", "fm": [phone]}


def _make_pay_systems(portal: Portal) -> None:
    handlers = portal.state.handlers
    for handler in handlers.values():
        handler.settings = _handler_settings()
    for number, code in {1: "resthandlercodedoc", 2: "resthandlercode"}.items():
        handlers[100 + number] = handlers.pop(number)
        portal.create("handler", {"id": number, "name": "REST", "code": code, "settings": _handler_settings()})
    iframe = {"REST_SERVICE_ID_IFRAME": "snum", "REST_SERVICE_KEY_IFRAME": "skey", "PS_WORK_MODE_IFRAME": "REGULAR"}
    settings = {"1": {code: {"TYPE": "VALUE", "VALUE": value} for code, value in iframe.items()}}
    system = {"name": "Card", "action_file": "resthandlercode", "person_type_id": 1, "settings": settings}
    for number in (1, 11, 12, 110, 117, 118):
        portal.create("pay_system", {"id": number, **system})


def _make_payments(portal: Portal) -> None:
    payments = portal.state.payments
    order = {"currency": "EUR", "responsible_id": 1, "person_type_id": 1}
    for number, owner in {200: 13123, 5: 13144, 7: 6937, 5125: 6933, 5127: 6937, 5128: 6938}.items():
        portal.create("order", {"id": number, "account_number": str(number), **order})
        portal.state.bindings[number] = Binding(number, number, owner, 2)
    payment = {
        "order_id": 200,
        "pay_system_name": "Cash",
        "xml_id": "bx_1",
        "date_bill": 1.0,
        "date_responsible_id": 1.0,
    }
    payment |= {"emp_responsible_id": 1, "responsible_id": 1}
    systems = {1: 1, 10: 11}
    for number in (1, 5, 6, 9, 10, 144, 1035, 1036, 1037, 1038, 1039, 1040, 1063):
        portal.create("payment", {"id": number, **payment, "pay_system_id": systems.get(number, 6)})
    for name in [
        "date_marked",
        "date_paid",
        "date_pay_before",
        "pay_return_date",
        "pay_voucher_date",
        "ps_response_date",
    ]:
        setattr(payments[144], name, 1.0)
    payments[144].emp_return_id = payments[144].emp_marked_id = 1
    portal.create("payment", {"id": 1025, **payment, "pay_system_id": 6})
    payments[1036].paid, payments[1036].date_paid, payments[1036].emp_paid_id = "Y", 1.0, 1


def _make_goods(portal: Portal) -> None:
    row = {"ownerType": "D", "productId": 9621, "price": "79999.5", "quantity": 20, "taxRate": 10}
    for number, owner in {17587: 13123, 17588: 13123, 17622: 13141, 17648: 13142, 17655: 13143, 17657: 13144}.items():
        portal.create("product_row", {"id": number, "ownerId": owner, **row})
    portal.create("product_row", {"id": 2722, "ownerId": 13123, **row})
    portal.state.payable_items[1186] = PayableItem(1186, 1025, "product", 2722, 3, Decimal(10), 1.0, "myXmlId")
    for number in (4072, 4073):
        portal.create("shipment", {"id": number, "order_id": 200, "price": "4.90"})
    items = [(1194, "product", 17587, 1), (1195, "product", 17587, 2), (1196, "product", 17588, 3)]
    items += [(1199, "delivery", 4072, 1), (1201, "delivery", 4073, 1)]
    for number, kind, target, count in items:
        payment_id = 1039 if kind == "product" else 1040
        portal.state.payable_items[number] = PayableItem(number, payment_id, kind, target, count, Decimal(10))


def _handler_settings() -> dict[str, Any]:
    settings: dict[str, Any] = EXAMPLES["sale.paysystem.handler.list"]["success"][0]["result"][0]["SETTINGS"]
    return settings


def _common(samples: list[Any]) -> Any:
    """What the elements of a documented list have in common: a field that is null in one of them may be null."""
    if not samples or not isinstance(samples[0], dict):
        return samples[0] if samples else None
    shared = [key for key in samples[0] if all(key in each for each in samples)]
    return {key: None if any(each[key] is None for each in samples) else samples[0][key] for key in shared}


def differences(documented: Any, actual: Any, path: str = "") -> list[str]:
    """Where a reply has not the documented keys and JSON types; what is documented as null may be anything."""
    if documented is None:
        return []
    if isinstance(documented, dict):
        if not isinstance(actual, dict):
            return [f"{path} is no object"]
        found = [f"{path}.{key} is missing" for key in documented if key not in actual and not _FREE.match(key)]
        shared = [key for key in documented if key in actual and not _FREE.match(key)]
        return found + [each for key in shared for each in differences(documented[key], actual[key], f"{path}.{key}")]
    if isinstance(documented, list):
        if not isinstance(actual, list) or (documented and not actual):
            return [f"{path} is no list, or an empty one"]
        sample = _common(documented)
        return [each for one in actual for each in differences(sample, one, f"{path}[]")]
    kinds = (int, float) if type(documented) in (int, float) else type(documented)
    same = isinstance(actual, kinds) and isinstance(actual, bool) == isinstance(documented, bool)
    return [] if same else [f"{path} is {actual!r}, documented {documented!r}"]


def test_the_file_is_covered() -> None:
    assert {method for method in EXAMPLES if method.lower() not in METHODS} == set()
    assert sorted([*KNOWN, *APPLICATION]) == sorted(EXAMPLES)


@pytest.mark.parametrize("method", [method for method in KNOWN if method != "app.info"])
def test_request_is_answered_in_the_documented_shape(method: str, make_rest: Any) -> None:
    rest = world(make_rest)
    example = EXAMPLES[method]
    request = REQUESTS.get(method, example["request"])
    if method == "crm.orderentity.add":
        rest("crm.orderentity.deleteByFilter", request)
    if method == "sale.paymentitembasket.add":
        rest("sale.paymentitembasket.delete", id=1186)
    body = rest.body(method, request)
    assert "error" not in body, body
    for success in example["success"]:
        documented = {key: value for key, value in success.items() if key != "time"}
        assert differences(documented, body) == []
        for key, value in success["time"].items():
            assert differences(value, body["time"][key]) == []


@pytest.mark.parametrize("method", APPLICATION)
def test_method_of_applications(method: str, rest: Any) -> None:
    assert rest.reply(method).status == 403
    assert rest.error(method) == "WRONG_AUTH_TYPE"


#: Documented error replies that say nothing ("error", "some error"): any refusal has this shape.
VAGUE = [
    "sale.payment.getFields",
    "sale.payment.list",
    "sale.paymentitembasket.getfields",
    "sale.paymentitembasket.list",
    "crm.item.productrow.fields",
]
NOBODY = (
    "deal.read",
    "deal.update",
    "deal.add",
    "order.read",
    "order.update",
    "order.add",
    "invoice.add",
    "invoice.update",
)
#: How the documented error reply comes about: parameters, and the rights that the caller lacks.
ERRORS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "crm.item.payment.add": ({"entityId": 13123000, "entityTypeId": 2}, ()),
    "crm.item.payment.delete": ({"id": 1035}, NOBODY),
    "crm.item.payment.get": ({"id": 1036}, NOBODY),
    "crm.item.payment.list": ({"entityId": 13123, "entityTypeId": 2}, NOBODY),
    "crm.item.payment.pay": ({"id": 1038}, NOBODY),
    "crm.item.payment.unpay": ({"id": 1038}, NOBODY),
    "crm.item.payment.update": ({"id": 1036, "fields": {"paid": "Y"}}, NOBODY),
    "crm.item.payment.delivery.add": ({"paymentId": 99, "deliveryId": 4072}, ()),
    "crm.item.payment.delivery.delete": ({"id": 99}, ()),
    "crm.item.payment.delivery.list": ({"paymentId": 99}, ()),
    "crm.item.payment.delivery.setDelivery": ({"id": 99, "deliveryId": 4073}, ()),
    "crm.item.payment.product.add": ({"paymentId": 99, "rowId": 17587, "quantity": 2}, ()),
    "crm.item.payment.product.delete": ({"id": 99}, ()),
    "crm.item.payment.product.list": ({"paymentId": 99}, ()),
    "crm.item.payment.product.setQuantity": ({"id": 99, "quantity": 3}, ()),
    "salescenter.payment.getPublicUrl": ({"id": 99}, ()),
    "sale.paysystem.pay.payment": ({"PAYMENT_ID": 1, "PAY_SYSTEM_ID": 99}, ()),
    "sale.paysystem.settings.get": ({"ID": 99, "PERSON_TYPE_ID": 1}, ()),
    "sale.paysystem.settings.payment.get": ({"PAYMENT_ID": 10, "PAY_SYSTEM_ID": 99}, ()),
    "sale.paysystem.settings.update": ({"ID": 99, "PERSON_TYPE_ID": 1, "SETTINGS": {}}, ()),
    "sale.paysystem.update": ({"ID": 12, "FIELDS": {"BX_REST_HANDLER": "nothing"}}, ()),
    "sale.paysystem.add": ({}, ()),
    "sale.paysystem.delete": ({"ID": 99}, ()),
    "sale.paysystem.handler.add": ({"NAME": "R", "CODE": "resthandlercode", "SETTINGS": {"A": 1}}, ()),
    "sale.paysystem.handler.delete": ({"ID": 99}, ()),
    "sale.paysystem.handler.list": ({}, NOBODY),
    "sale.paysystem.handler.update": ({"ID": 99, "FIELDS": {"NAME": "R"}}, ()),
    "sale.paysystem.list": ({}, NOBODY),
    "sale.payment.add": ({"fields": {"orderId": 200, "paySystemId": 1}}, NOBODY),
    "sale.payment.delete": ({"id": 99}, ()),
    "sale.payment.get": ({"id": 99}, ()),
    "sale.payment.update": ({"id": 99, "fields": {"paySystemId": 1}}, ()),
    "sale.paymentitembasket.add": ({"fields": {"quantity": 3, "basketId": 2722, "paymentId": 99}}, ()),
    "sale.paymentitembasket.delete": ({"id": 99}, ()),
    "sale.paymentitembasket.get": ({"id": 99}, ()),
    "sale.paymentitembasket.update": ({"id": 99, "fields": {"quantity": 1}}, ()),
    "crm.orderentity.add": ({"fields": {"orderId": 5125, "ownerId": 6933, "ownerTypeId": 2}}, ()),
    "crm.orderentity.deleteByFilter": ({"fields": {"ownerTypeId": 2}}, ()),
    "crm.orderentity.getFields": ({}, NOBODY),
    "crm.orderentity.list": ({}, NOBODY),
    "app.info": ({}, ()),
    "feature.get": ({}, ()),
    "crm.item.productrow.add": ({"fields": {"ownerId": 99, "ownerType": "D"}}, ()),
    "crm.item.productrow.delete": ({"id": 99}, ()),
    "crm.item.productrow.getAvailableForPayment": ({"ownerType": "D", "ownerId": 13144}, NOBODY),
    "crm.item.productrow.get": ({"id": 99}, ()),
    "crm.item.productrow.list": ({"filter": {"=ownerType": "D", "=ownerId": 13142}}, NOBODY),
    "crm.item.productrow.set": ({"ownerType": "D", "ownerId": 99, "productRows": []}, ()),
    "crm.item.productrow.update": ({"id": 99, "fields": {"price": 1}}, ()),
    "crm.item.get": ({"entityTypeId": 2, "id": 99}, ()),
    "crm.item.list": ({"entityTypeId": 2, "filter": {"FIELD": 1}}, ()),
    "crm.item.add": ({"entityTypeId": 99, "fields": {}}, ()),
    "crm.item.update": ({"entityTypeId": 99, "id": 1, "fields": {}}, ()),
    "crm.category.list": ({"entityTypeId": 99}, ()),
    "crm.deal.list": ({"filter": "OPPORTUNITY"}, ()),
    "crm.deal.add": ({"fields": "TITLE"}, ()),
    "sale.paysystem.pay.invoice": ({"INVOICE_ID": 2, "PAY_SYSTEM_ID": 99}, ()),
    "sale.paysystem.settings.invoice.get": ({"INVOICE_ID": 2, "PAY_SYSTEM_ID": 99}, ()),
}


@pytest.mark.parametrize("method", [m for m in KNOWN if EXAMPLES[m]["error"] and m not in [*VAGUE, "crm.deal.get"]])
def test_documented_error(method: str, make_rest: Any) -> None:
    rest = world(make_rest)
    params, denied = ERRORS[method]
    body = (rest.as_user(7, *denied) if denied else rest).body(method, params)
    documented = EXAMPLES[method]["error"][0]
    assert body["error"] == documented["error"]
    assert type(body["error"]) is type(documented["error"])
    assert body["error_description"] == documented["error_description"]


ADMIN: tuple[str, ...] = ()
#: How documented error codes come about beyond the sample: (method, code) -> parameters, missing rights.
CODES: dict[tuple[str, str], tuple[dict[str, Any], tuple[str, ...]]] = {
    ("sale.paysystem.add", "ERROR_HANDLER_NOT_FOUND"): (
        {"NAME": "N", "PERSON_TYPE_ID": 1, "BX_REST_HANDLER": "nothing"},
        ADMIN,
    ),
    ("sale.paysystem.add", "ERROR_PERSON_TYPE_NOT_FOUND"): (
        {"NAME": "N", "PERSON_TYPE_ID": 9, "BX_REST_HANDLER": "resthandlercode"},
        ADMIN,
    ),
    ("sale.paysystem.delete", "ERROR_CHECK_FAILURE"): ({}, ADMIN),
    ("sale.paysystem.handler.add", "ERROR_CHECK_FAILURE"): ({}, ADMIN),
    ("sale.paysystem.handler.delete", "ERROR_PAY_SYSTEM_DELETE"): ({"ID": 2}, ADMIN),
    ("sale.paysystem.handler.update", "ERROR_CHECK_FAILURE"): ({}, ADMIN),
    ("sale.paysystem.handler.update", "ERROR_UNEXPECTED_ANSWER"): (
        {"ID": 1, "FIELDS": {"CODE": "resthandlercode"}},
        ADMIN,
    ),
    ("sale.paysystem.list", "ERROR_CHECK_FAILURE"): ({"SELECT": ["NOTHING"]}, ADMIN),
    ("sale.paysystem.pay.payment", "ERROR_PROCESS_REQUEST_RESULT"): ({"PAYMENT_ID": 9, "PAY_SYSTEM_ID": 12}, ADMIN),
    ("sale.paysystem.settings.update", "ERROR_HANDLER_NOT_FOUND"): (
        {"ID": 11, "PERSON_TYPE_ID": 1, "SETTINGS": {}},
        ADMIN,
    ),
    ("sale.paysystem.update", "ERROR_PERSON_TYPE_NOT_FOUND"): ({"ID": 12, "FIELDS": {"PERSON_TYPE_ID": 9}}, ADMIN),
    ("sale.paysystem.update", "ERROR_PAY_SYSTEM_NOT_FOUND"): ({"ID": 99}, ADMIN),
    ("sale.paysystem.update", "ERROR_CHECK_FAILURE"): ({}, ADMIN),
    ("sale.paysystem.pay.invoice", "ERROR_PROCESS_REQUEST_RESULT"): ({"INVOICE_ID": 2, "PAY_SYSTEM_ID": 8}, ADMIN),
    ("sale.payment.update", "100"): ({"id": 144}, ADMIN),
    ("sale.payment.delete", "200040300020"): ({"id": 5}, NOBODY),
    ("sale.payment.update", "200040300020"): ({"id": 144, "fields": {"paySystemId": 1}}, NOBODY),
    ("sale.payment.get", "200040300010"): ({"id": 6}, NOBODY),
    ("sale.paymentitembasket.add", "201250000001"): (
        {"fields": {"quantity": 3, "basketId": 2722, "paymentId": 1025}},
        ADMIN,
    ),
    ("sale.paymentitembasket.add", "201240400003"): (
        {"fields": {"quantity": 3, "basketId": 99, "paymentId": 1025}},
        ADMIN,
    ),
    ("sale.paymentitembasket.add", "0"): ({"fields": {"quantity": 3}}, ADMIN),
    ("sale.paymentitembasket.add", "200040300020"): ({"fields": {"quantity": 3}}, NOBODY),
    ("sale.paymentitembasket.update", "200040300020"): ({"id": 1186, "fields": {"quantity": 3}}, NOBODY),
    ("sale.paymentitembasket.delete", "200040300020"): ({"id": 1186}, NOBODY),
    ("sale.paymentitembasket.get", "200040300010"): ({"id": 1186}, NOBODY),
    ("sale.paymentitembasket.list", "200040300010"): ({}, NOBODY),
    ("sale.paymentitembasket.getfields", "200040300010"): ({}, NOBODY),
    ("crm.item.payment.update", "0"): ({"id": 1036, "fields": {"paySystemId": 99}}, ADMIN),
    ("sale.payment.add", "0"): ({"fields": {"orderId": 200}}, ADMIN),
    ("crm.item.productrow.update", "INVALID_ARG_VALUE"): ({"id": 17648, "fields": {"nothing": 1}}, ADMIN),
    ("crm.item.productrow.list", "INVALID_ARG_VALUE"): ({"filter": {}}, ADMIN),
    ("crm.item.productrow.add", "ENTITY_TYPE_NOT_SUPPORTED"): ({"fields": {"ownerType": "X"}}, ADMIN),
    ("crm.item.productrow.set", "ENTITY_TYPE_NOT_SUPPORTED"): (
        {"ownerType": "X", "ownerId": 1, "productRows": []},
        ADMIN,
    ),
    ("crm.item.add", "CRM_FIELD_ERROR_VALUE_NOT_VALID"): (
        {"entityTypeId": 2, "fields": {"opportunity": "much"}},
        ADMIN,
    ),
    ("crm.category.list", "ENTITY_TYPE_NOT_SUPPORTED"): ({"entityTypeId": 1}, ADMIN),
    ("crm.item.add", "100"): ({"entityTypeId": 2, "fields": {"observers": 2}}, ADMIN),
}


@pytest.mark.parametrize(("method", "code"), list(CODES), ids=lambda value: value)
def test_documented_code(method: str, code: str, make_rest: Any) -> None:
    rest = world(make_rest)
    rest.portal.state.payments[9].pay_system_id = 12
    rest.portal.state.pay_systems[12].action_file = "paypal"
    assert any(code in row[:2] for row in EXAMPLES[method]["error_codes"])
    params, denied = CODES[method, code]
    assert str((rest.as_user(7, *denied) if denied else rest).error(method, params)) == code


DENIED = [m for m in KNOWN if any("ACCESS_DENIED" in row[:2] for row in EXAMPLES[m]["error_codes"]) and m != "app.info"]


@pytest.mark.parametrize("method", DENIED)
def test_access_denied_is_documented(method: str, make_rest: Any) -> None:
    rest = world(make_rest)
    request = REQUESTS.get(method, EXAMPLES[method]["request"])
    if method.startswith("crm.item.") and request.get("entityTypeId") == 1:
        request = request | {"entityTypeId": 2}
    assert rest.as_user(7, *NOBODY).error(method, request) == "ACCESS_DENIED"


REQUIRED = [m for m in KNOWN if any(row[0] == "100" for row in EXAMPLES[m]["error_codes"])]


@pytest.mark.parametrize("method", REQUIRED)
def test_missing_parameters_are_error_100(method: str, make_rest: Any) -> None:
    body = world(make_rest).body(method)
    assert body["error"] == 100
    assert re.fullmatch(r"Could not find value for parameter \{\w+\}", body["error_description"])


def test_deal_errors_have_no_code(make_rest: Any) -> None:
    rest = world(make_rest)
    texts = [row[1] for row in EXAMPLES["crm.deal.get"]["error_codes"]]
    found = [
        rest.body("crm.deal.get"),
        rest.as_user(7, *NOBODY).body("crm.deal.get", ID=410),
        rest.body("crm.deal.get", ID=9),
    ]
    assert found == [{"error": "", "error_description": text} for text in texts]


def test_the_source_says_it_otherwise(make_rest: Any) -> None:
    rest = make_rest(dialect="source")
    nobody = rest.as_user(7, *NOBODY)
    assert nobody.body("crm.item.payment.get", id=1001) == {
        "error": "ACCESS_DENIED",
        "error_description": "Access denied",
    }
    assert rest.error("crm.item.payment.get") == "100"
    assert rest.error("sale.payment.get", id=9) == "200640400001"
