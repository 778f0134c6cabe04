"""Whatever a client sends, it gets a reply: a result or an error of the portal, never a server that falls over."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.parameters import to_json
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal
from airflow_provider_bitrix24.sandbox.portal.php import parse_query
from airflow_provider_bitrix24.sandbox.portal.registry import METHODS
from airflow_provider_bitrix24.sandbox.server import SandboxServer

pytestmark = pytest.mark.usefixtures("unmeasured")

EXAMPLES: dict[str, Any] = json.loads((Path(__file__).parent / "documented-examples.json").read_text("utf-8"))
SCOPES = sorted({scope for method in METHODS.values() for scope in (method.scope, *method.other_scopes)} - {""})
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    10**30,
    -(10**30),
    Decimal("1.5"),
    Decimal("1e400"),
    Decimal("-1e-400"),
    "",
    " ",
    "abc",
    "1e999999",
    "-0",
    "0x1A",
    "9" * 5000,
    "9999-12-31T23:59:59-12:00",
    "0001-01-01T00:00:00+14:00",
    "31.12.9999 23:59:59",
    "01.01.0001",
    "\ud800",
    "a\x00b",
    "№" * 300,
    "$result[a][b]",
    "<b>",
    [],
    {},
    [[]],
    [None],
    [[1], [2]],
    [1, "x", None, {}],
    {"a": {"b": [1]}},
    {"": 1, ">": 2, "0": 3},
    ["1001", 1001],
]
NAMES = [
    *("id", "ID", "start", "filter", "order", "select", "fields", "entityId", "entityTypeId", "ownerId", "ownerType"),
    *("INVOICE_ID", "PAY_SYSTEM_ID", "PAYMENT_ID", "BX_REST_HANDLER", "PS_SUM", "NAME", "name", "code", "halt", "cmd"),
    *("event", "event_type", "auth_type", "handler", "process_id", "message_id", "limit", "clear", "sort", "FILTER"),
    *("USER_ID", "MESSAGE", "TAG", "DIALOG_ID", "REPLY_ID", "ATTACH", "SETTINGS", "PERSON_TYPE_ID", "full"),
]
OPERATORS = ["", "=", "!", ">", ">=", "<", "<=", "@", "!@", "%", "=%", "><", "!><", "!%"]
COLUMNS = [
    *("id", "ID", "paid", "sum", "dateBill", "datePaid", "xmlId", "orderId", "paySystemXmlId", "PAYED", "PRICE"),
    *("DATE_PAYED", "STATUS_ID", "opportunity", "createdTime", "stageId", "TITLE", "OPPORTUNITY", "DATE_MODIFY"),
    *("ownerId", "ownerType", "companyId", "EMAIL", "ACTIVE", "EVENT_NAME", "TIMESTAMP_X", "price", "payed", "logic"),
    *("NAME", "ACTION_FILE", "dateUpdate", "quantity", "basketId", "COMPANY_ID", "assignedById", "contactIds", "0"),
]
LISTS = sorted(method.name for method in METHODS.values() if method.name.lower().endswith(("list", "user.get")))


class Caller:
    """A portal whose every method one of two callers may call."""

    def __init__(self) -> None:
        self.portal = Portal(ManualClock(), scopes=SCOPES)
        self.portal.create("shipment", {"id": 1, "order_id": 1, "price": "5.00"})
        self.portal.create("lead", {"id": 1})
        application = self.portal.add_application("local.app", scopes=SCOPES)
        self.token = self.portal.grant(application).access_token
        for event in ("ONPAYMENTENTITYSAVED", "ONCRMDEALUPDATE"):
            self.call("event.bind", {"event": event, "event_type": "offline"})
        self.call("crm.item.payment.pay", {"id": 1001})

    def call(self, method: str, params: dict[str, Any]) -> None:
        """Call a method; the reply must be one that can be sent, and no failure of the server."""
        if METHODS[method.lower()].application_only:
            reply = self.portal.handle(method, params, auth=Auth(), headers={"Authorization": f"Bearer {self.token}"})
        else:
            reply = self.portal.handle(method, params, auth=Auth(1, self.portal.webhook.secret))
        assert reply.status < 500, (method, params, reply.body)
        to_json(reply.body)

    def check(self) -> None:
        """Nothing that was written makes a later look at the portal fail."""
        for name in LISTS:
            self.call(name, {"entityTypeId": 2, "entityId": 1, "paymentId": 1001, "filter": {}})
        to_json(self.portal.view())
        to_json(self.portal.requests)
        self.portal.load(json.loads(to_json(self.portal.dump())))


def _example(name: str) -> dict[str, Any]:
    request = EXAMPLES.get(name, {}).get("request") or {}
    return request if isinstance(request, dict) else parse_query(str(request))


def _changed(value: Any) -> list[Any]:
    """The same parameters with one of them, or of those inside, replaced by something odd."""
    if not isinstance(value, dict):
        return []
    found = [{**value, name: odd} for name in [*value, "unknown"] for odd in ODD]
    return found + [{**value, name: below} for name in value for below in _changed(value[name])]


@pytest.mark.parametrize("name", sorted(method.name for method in METHODS.values()))
def test_any_value_of_a_parameter_is_responded_to(name: str) -> None:
    caller, dice = Caller(), random.Random(name)
    declared = METHODS[name.lower()].parameters
    fitting: dict[str, Any] = {"int": 1001, "dict": {}, "list": [], "str": "D"}
    params = {wire: fitting[kind] for wire, _, kind, required in declared if required} | _example(name)
    found = _changed(params)
    for changed in dice.sample(found, min(len(found), 400)):
        caller.call(name, changed)
    for parameter in [wire for wire, *_ in declared] or NAMES:
        for odd in ODD if declared else dice.sample(ODD, 8):
            caller.call(name, {**params, parameter: odd})
    caller.check()


@pytest.mark.parametrize("name", LISTS)
def test_any_filter_is_responded_to(name: str) -> None:
    caller, dice = Caller(), random.Random(name)
    base = {"entityTypeId": 2, "entityId": 4, "paymentId": 1001, "ownerType": "D", "ownerId": 1}
    for operator in OPERATORS:
        for column in COLUMNS:
            filter_ = {**dice.choice([{}, {"=ownerType": "D", "=ownerId": 1}]), operator + column: dice.choice(ODD)}
            order = {column: dice.choice(["asc", "DESC", [], None])}
            caller.call(name, {**base, "filter": filter_, "order": order, "start": dice.choice(ODD)})


@pytest.mark.parametrize("name", ["sale.payment.update", "crm.item.update", "crm.invoice.update", "sale.order.update"])
def test_any_field_is_responded_to(name: str) -> None:
    caller = Caller()
    number = 1001 if "payment" in name else 1
    for column in [*COLUMNS, "comments", "priceCod", "psSum", "PRODUCT_ROWS", "currencyId", "DATE_BILL", "marked"]:
        for odd in ODD:
            caller.call(name, {"id": number, "entityTypeId": 2, "fields": {"paySystemId": 6, column: odd}})
    caller.check()


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        ("payment", {"order_id": 1, "date_bill": "2026-01-01"}, "date_bill must be float | None, not '2026-01-01'"),
        ("payment", {"order_id": "1"}, "order_id must be int, not '1'"),
        ("invoice", {"xml_id": None}, "xml_id must be str, not None"),
        ("user", {"admin": 1}, "admin must be bool, not 1"),
        ("order", {"id": 9, "contact_ids": 4}, "contact_ids must be list"),
    ],
)
def test_objects_made_behind_the_scenes_have_the_types_of_their_columns(
    kind: str, fields: dict[str, Any], text: str, rest: Any
) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        rest.portal.create(kind, fields)


def test_a_failure_of_the_sandbox_itself_is_a_reply(rest: Any, monkeypatch: Any, caplog: Any) -> None:
    def fail(*_: Any, **__: Any) -> object:
        raise ZeroDivisionError

    monkeypatch.setitem(METHODS, "profile", dataclasses.replace(METHODS["profile"], handler=fail))
    reply = rest.reply("profile")
    assert (reply.status, reply.body["error"]) == (500, "INTERNAL_SERVER_ERROR")
    assert rest.portal.requests[-1]["error"] == "INTERNAL_SERVER_ERROR"
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[1, 2]",
        b'{"id": 1e400}',
        b'{"id": 1e99999999999999999999}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b'{"id": NaN}',
        b'{"id": "\\ud800"}',
        b"\xff\xfe{}",
        b'{"filter": ' * 400 + b"1" + b"}" * 400,
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
@pytest.mark.parametrize("method", ["crm.deal.list", "crm.item.payment.get", "batch"])
def test_any_json_body_is_responded_to(method: str, body: bytes) -> None:
    with SandboxServer(Portal(secret="abc123secret")) as server, httpx.Client(trust_env=False, timeout=300) as client:
        url, json_type = f"{server.url}/rest/1/abc123secret/{method}", {"Content-Type": "application/json"}
        assert client.post(url, content=body, headers=json_type).status_code < 500
        assert client.post(url, content=b"a" + b"[b]" * 5000 + b"=1").status_code < 500
        query = "filter" + "[a]" * 400 + "=1"
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert client.post(url, content=query, headers=form).status_code < 500
        assert client.get(f"{server.url}/_sandbox/state").status_code == 200
