"""The control plane: scripts trouble, plays people, makes objects, turns the clock; says clearly what it cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.libraries

SECRET = "abc123secret"


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Portal(ManualClock(), secret=SECRET)) as server:
        yield server


@pytest.fixture
def http(server: SandboxServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=300, trust_env=False) as client:
        yield client


def call(http: httpx.Client, method: str, secret: str = SECRET, user_id: int = 1, **params: Any) -> httpx.Response:
    return http.post(f"/rest/{user_id}/{secret}/{method}", json=params)


def test_ledger_and_requests(http: httpx.Client) -> None:
    assert http.get("/_sandbox/ledger").json() == {"entries": []}
    assert http.get("/_sandbox/requests").json() == {"requests": []}
    assert call(http, "crm.item.payment.add", entityId=4, entityTypeId=2).json()["result"] == 1033
    (entry,) = [row for row in http.get("/_sandbox/ledger").json()["entries"] if row["event"] == "payment_added"]
    assert (entry["event"], entry["payment_id"], entry["by"], entry["method"]) == (
        "payment_added",
        1033,
        "rest",
        "crm.item.payment.add",
    )
    (request,) = http.get("/_sandbox/requests").json()["requests"]
    assert (request["method"], request["status"], request["error"]) == ("crm.item.payment.add", 200, None)


def test_requests_with_fractions_are_shown_exactly(http: httpx.Client) -> None:
    call(http, "crm.deal.add", fields={"TITLE": "x", "OPPORTUNITY": 1999.99})
    assert '"OPPORTUNITY":1999.99' in http.get("/_sandbox/requests").text


def test_state(http: httpx.Client) -> None:
    state = http.get("/_sandbox/state").json()
    assert {deal["id"] for deal in state["deals"]} == {1, 2, 3, 4, 5, 6}
    assert {invoice["id"] for invoice in state["smart_invoices"]} == {101, 102, 103}
    assert {payment["id"] for payment in state["payments"]} == {1001, 1002, 1003, 1004}
    assert len(state["invoices"]) == 13
    assert state["time"] == "2025-11-22T10:26:40+02:00"
    assert {"orders", "pay_systems", "ledger", "requests", "faults"} <= set(state)


def test_secrets_are_never_shown(server: SandboxServer, http: httpx.Client) -> None:
    other = server.portal.add_webhook(secret="other1secret")
    call(http, "crm.deal.add", fields={"TITLE": f"stolen {SECRET}", "COMMENTS": other.secret})
    http.get(f"/rest/1/{SECRET}/profile", params={"auth": "token1secret"})
    for path in ("/", "/_sandbox/page/page.js", "/_sandbox/requests", "/_sandbox/faults"):
        text = http.get(path).text
        assert "1secret" not in text.replace(SECRET, "leaked 1secret")
    state = http.get("/_sandbox/state").json()
    assert SECRET not in str(state["requests"])
    assert "secret" not in {key for table in state.values() if isinstance(table, list) for row in table for key in row}


def test_fault_is_added_counted_and_cleared(http: httpx.Client) -> None:
    added = http.post(
        "/_sandbox/faults", json={"kind": "query_limit_exceeded", "method": "crm.deal.get", "occurrence": 2, "times": 1}
    )
    assert added.json() == {"id": 1}
    statuses = [call(http, "crm.deal.get", id=1).status_code for _ in range(3)]
    assert statuses == [200, 503, 200]
    (fault,) = http.get("/_sandbox/faults").json()["faults"]
    assert (fault["id"], fault["kind"], fault["hits"], fault["holding"]) == (1, "query_limit_exceeded", 1, 0)
    assert http.request("DELETE", "/_sandbox/faults").status_code == 200
    assert http.get("/_sandbox/faults").json() == {"faults": []}


def test_commit_later_is_released(http: httpx.Client) -> None:
    fault = http.post("/_sandbox/faults", json={"kind": "commit_later", "method": "crm.item.payment.add"}).json()["id"]
    with pytest.raises(httpx.RemoteProtocolError):
        call(http, "crm.item.payment.add", entityId=4, entityTypeId=2)
    assert http.get("/_sandbox/ledger").json()["entries"] == []
    assert http.post(f"/_sandbox/faults/{fault}/release").json() == {"released": 1}
    assert "payment_added" in http.get("/_sandbox/ledger").text


@pytest.mark.parametrize(
    ("action", "fields", "event"),
    [
        ("pay_payment", {"payment_id": 1001}, "payment_paid"),
        ("unpay_payment", {"payment_id": 1002, "by": "person", "user_id": 7}, "payment_unpaid"),
        ("delete_payment", {"payment_id": 1001}, "payment_deleted"),
        ("add_payment", {"entity_type_id": 2, "entity_id": 4, "amount": 12.5}, "payment_added"),
        ("set_sum", {"payment_id": 1001, "amount": "12.50"}, "payment_updated"),
        ("pay_invoice", {"invoice_id": 2}, "invoice_paid"),
        ("unpay_invoice", {"invoice_id": 1}, "invoice_unpaid"),
        ("cancel_invoice", {"invoice_id": 2}, "invoice_canceled"),
        ("decline_invoice", {"invoice_id": 2}, "invoice_declined"),
        ("delete_invoice", {"invoice_id": 2}, "invoice_deleted"),
        ("cancel_order", {"order_id": 1}, "order_canceled"),
    ],
)
def test_people_act(http: httpx.Client, action: str, fields: dict[str, Any], event: str) -> None:
    answer = http.post("/_sandbox/act", json={"action": action, **fields})
    assert answer.status_code == 200, answer.text
    (entry,) = http.get("/_sandbox/ledger").json()["entries"]
    assert entry["event"] == event
    assert entry["by"] in ("customer", "person")
    if "amount" in fields:
        assert entry["amount"] == "12.50"


def test_objects(http: httpx.Client) -> None:
    def make(kind: str, **fields: Any) -> dict[str, Any]:
        answer = http.post("/_sandbox/objects", json={"kind": kind, "fields": fields})
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    deal = make("deal", title="New")["id"]
    assert make("product_row", ownerType="D", ownerId=deal, productName="Work", price=99.99, quantity=2)["id"] > 0
    assert make("smart_invoice", title="New")["id"] > 103
    invoice = make("invoice", price=10.1, order_topic="By hand")["id"]
    assert make("pay_system", name="Wire", action_file="sandbox_wire")["id"] > 33
    user = make("user", name="Eva", last_name="Lang")["id"]
    state = http.get("/_sandbox/state").json()
    assert next(row for row in state["invoices"] if row["id"] == invoice)["price"] == "10.10"
    assert next(row for row in state["deals"] if row["id"] == deal)["product_rows"][0]["price"] == "99.99"

    webhook = make("webhook", user_id=user, scopes=["crm"])
    assert webhook["url"].endswith(f"/rest/{user}/{webhook['secret']}/")
    assert call(http, "scope", webhook["secret"], user).status_code == 200
    assert call(http, "sale.payment.list", webhook["secret"], user).json()["error"] == "insufficient_scope"


def test_clock(http: httpx.Client) -> None:
    assert http.post("/_sandbox/clock", json={"advance": 90}).json() == {"time": "2025-11-22T10:28:10+02:00"}


def test_clock_lets_due_requests_go_on(http: httpx.Client) -> None:
    http.post("/_sandbox/faults", json={"kind": "commit_later", "method": "crm.item.payment.add", "seconds": 60})
    with pytest.raises(httpx.RemoteProtocolError):
        call(http, "crm.item.payment.add", entityId=4, entityTypeId=2)
    http.post("/_sandbox/clock", json={"advance": 59})
    assert http.get("/_sandbox/ledger").json()["entries"] == []
    http.post("/_sandbox/clock", json={"advance": 1})
    assert "payment_added" in http.get("/_sandbox/ledger").text


def test_machine_clock_cannot_be_advanced() -> None:
    with SandboxServer(Portal()) as server:
        answer = httpx.post(f"{server.url}/_sandbox/clock", json={"advance": 1}, trust_env=False)
        assert answer.status_code == 409
        assert "cannot be advanced" in answer.json()["error"]


def test_reset(http: httpx.Client) -> None:
    call(http, "crm.item.payment.add", entityId=1, entityTypeId=2)
    http.post("/_sandbox/faults", json={"kind": "drop_before"})
    assert http.post("/_sandbox/reset").status_code == 200
    state = http.get("/_sandbox/state").json()
    assert (state["ledger"], state["requests"], state["faults"]) == ([], [], [])
    assert call(http, "crm.item.payment.add", entityId=1, entityTypeId=2).json()["result"] == 1033


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("faults", {}, "kind: missing"),
        ("faults", {"kind": "meteor"}, "meteor"),
        ("faults", {"kind": "hold", "methodname": "x"}, "methodname: unknown"),
        ("faults", {"kind": "hold", "method": 5}, "method: must be str"),
        ("faults", {"kind": "hold", "seconds": "5"}, "seconds: must be"),
        ("faults", {"kind": "hold", "occurrence": 0}, "occurrence must be"),
        ("faults", {"kind": "hold", "occurrence": 1.5}, "occurrence: must be"),
        ("faults", {"kind": "hold", "times": True}, "times: must be"),
        ("faults", {"kind": "hold", "probability": 2}, "probability must be between 0 and 1"),
        ("faults", {"kind": "hold", "when": "never"}, "when"),
        ("act", {}, "action: must be one of"),
        ("act", {"action": "_mark"}, "action: must be one of"),
        ("act", {"action": ["pay_payment"]}, "action: must be one of"),
        ("act", {"action": "pay_payment"}, "payment_id: missing"),
        ("act", {"action": "pay_payment", "payment_id": "1001"}, "payment_id: must be int"),
        ("act", {"action": "pay_payment", "payment_id": True}, "payment_id: must be int"),
        ("act", {"action": "pay_payment", "payment_id": 999}, "payment 999"),
        ("act", {"action": "pay_payment", "payment_id": 1001, "by": "ghost"}, "by: must be"),
        ("act", {"action": "pay_payment", "payment_id": 1001, "when": 1}, "when: unknown"),
        ("act", {"action": "set_sum", "payment_id": 1001, "amount": "much"}, "amount: must be"),
        ("act", {"action": "set_sum", "payment_id": 1001, "amount": "NaN"}, "amount: must be"),
        ("act", {"action": "add_payment", "entity_type_id": 2, "entity_id": 99}, "no 99"),
        ("objects", {"kind": "castle"}, "kind: must be one of"),
        ("objects", {"kind": ["deal"]}, "kind: must be one of"),
        ("objects", {"kind": "deal", "fields": []}, "fields: must be an object"),
        ("objects", {"kind": "deal", "field": {}}, "field: unknown"),
        ("objects", {"kind": "invoice", "fields": {"prise": 1}}, "prise"),
        ("objects", {"kind": "invoice", "fields": {"price": "much"}}, "price"),
        ("objects", {"kind": "webhook", "fields": {"user": 1}}, "fields.user: unknown"),
        ("objects", {"kind": "webhook", "fields": {"user_id": 99}}, "user 99"),
        ("objects", {"kind": "webhook", "fields": {"scopes": "crm"}}, "fields.scopes: must be"),
        ("clock", {}, "advance: must be"),
        ("clock", {"advance": -1}, "advance: must be"),
        ("clock", {"advance": "1"}, "advance: must be"),
        ("clock", {"advance": True}, "advance: must be"),
        ("clock", {"advance": 1, "seconds": 2}, "seconds: unknown"),
        ("act", [], "must be a JSON object"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(http: httpx.Client, path: str, body: Any, message: str) -> None:
    before = http.get("/_sandbox/state").json()
    answer = http.post(f"/_sandbox/{path}", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert http.get("/_sandbox/state").json() == before


def test_body_that_does_not_parse(http: httpx.Client) -> None:
    answer = http.post("/_sandbox/act", content=b"{'action'")
    assert answer.status_code == 400
    assert "does not parse" in answer.json()["error"]


def test_unknown_fault_cannot_be_released(http: httpx.Client) -> None:
    answer = http.post("/_sandbox/faults/77/release")
    assert answer.status_code == 404
    assert "no fault 77" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_pages_of_other_sites_are_refused(http: httpx.Client, headers: dict[str, str]) -> None:
    answer = http.post("/_sandbox/act", json={"action": "pay_payment", "payment_id": 1001}, headers=headers)
    assert answer.status_code == 403
    assert http.get("/_sandbox/state", headers=headers).status_code == 403
    assert http.get("/_sandbox/ledger").json() == {"entries": []}
