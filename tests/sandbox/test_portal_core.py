"""The front door: who may come in, what is logged, how replies look, and what a portal keeps."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock, SystemClock
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal


@pytest.mark.parametrize(
    ("dialect", "statuses"), [("source", (401, 401, 401, 401, 401, 401)), ("docs", (401, 403, 403, 400, 403, 401))]
)
def test_authentication(dialect: str, statuses: tuple[int, ...], make_rest: Any) -> None:
    rest = make_rest(dialect=dialect, require_https=True)
    portal, secret = rest.portal, rest.secret
    found = []

    def knock(method: str = "profile", **auth: Any) -> None:
        reply = portal.handle(method, {}, auth=Auth(**auth))
        found.append((reply.status, reply.body["error"]))

    knock()
    knock(user_id=1, secret="wrong")
    portal.webhook.scopes = ["crm"]
    knock("sale.payment.list", user_id="1", secret=secret)
    knock(user_id=1, secret=secret, secure=False)
    portal.state.options["subscription"] = False
    knock(user_id=1, secret=secret)
    portal.state.options["subscription"] = True
    portal.state.users[1].active = False
    knock(user_id=1, secret=secret)
    codes = "NO_AUTH_FOUND INVALID_CREDENTIALS insufficient_scope INVALID_REQUEST ACCESS_DENIED authorization_error"
    assert found == list(zip(statuses, codes.split(), strict=True))


def test_user_and_secret_belong_together(rest: Any) -> None:
    webhook = rest.portal.add_webhook(7)
    assert rest.portal.handle("profile", {}, auth=Auth(1, webhook.secret)).status == 401
    assert rest.portal.handle("profile", {}, auth=Auth("7", webhook.secret)).body["result"]["ADMIN"] is False
    with pytest.raises(ValueError, match="no user 99"):
        rest.portal.add_webhook(99)


def test_who_am_i(rest: Any) -> None:
    assert rest("profile")["ADMIN"] is True
    assert rest("user.admin") is True
    assert rest("scope") == ["crm", "sale", "pay_system", "salescenter"]
    caller = rest.as_user(7, scopes=("crm",))
    assert caller("user.admin") is False
    assert caller("scope") == ["crm"]
    everything = ["crm", "im", "pay_system", "sale", "salescenter", "user", "user_basic", "user_brief"]
    assert caller("scope", full=True) == everything
    assert caller("method.get", name="Sale.Payment.List") == {"isExisting": True, "isAvailable": False}
    assert caller("method.get", name="CRM.deal.get") == {"isExisting": True, "isAvailable": True}
    assert "sale.payment.list" not in caller("methods")
    assert "sale.payment.list" in caller("methods", full=1)
    assert {"profile", "crm.item.payment.add"} <= set(caller("methods"))
    assert "batch" not in caller("methods", full=1)
    assert rest("server.time") == "2025-11-22T10:26:40+02:00"
    assert rest("feature.get", CODE="rest_offline_extended") == {"value": "Y"}
    assert rest("feature.get", code="other") == {"value": "N"}


def test_method_names_in_any_case(rest: Any) -> None:
    assert rest("CRM.Item.Payment.Get", id=1001)["id"] == 1001


def test_envelope(rest: Any) -> None:
    reply = rest.reply("user.admin")
    assert (reply.status, reply.transport) == (200, None)
    assert reply.headers == {
        "Content-Type": "application/json; charset=utf-8",
        "Date": "Sat, 22 Nov 2025 08:26:40 GMT",
    }
    assert reply.body["time"] == {
        "start": 1_763_800_000.0,
        "finish": 1_763_800_000.0,
        "duration": 0.0,
        "processing": 0.0,
        "date_start": "2025-11-22T10:26:40+02:00",
        "date_finish": "2025-11-22T10:26:40+02:00",
    }
    assert set(rest.body("nothing")) == {"error", "error_description"}


def test_dialects_of_a_numeric_code(make_rest: Any) -> None:
    assert make_rest(dialect="source").error("crm.item.payment.get", id=9) == "0"
    assert make_rest(dialect="docs").error("crm.item.payment.get", id=9) == 0
    with pytest.raises(ValueError, match="dialect"):
        Portal(dialect="other")  # type: ignore[arg-type]


def test_idempotency_key_is_noted_with_the_change(rest: Any) -> None:
    auth = Auth(1, rest.secret)
    add = {"entityId": 3, "entityTypeId": 2}
    rest.portal.handle("crm.item.payment.add", add, auth=auth, headers={"idempotency-KEY": "k1"})
    rest.portal.handle(
        "batch", {"cmd": {"a": "crm.item.payment.pay?id=1033"}}, auth=auth, headers={"Idempotency-Key": "k2"}
    )
    assert [entry["idempotency_key"] for entry in rest.portal.ledger] == ["k1", "k1", "k2"]
    rest.portal.handle("crm.item.payment.add", add, auth=auth, headers={"Idempotency-Key": "k1"})
    assert rest.events().count("payment_added") == 2  # v2 ignores it


def test_log(rest: Any) -> None:
    rest.reply("crm.item.payment.get", id=9, auth="token", note=[f"x{rest.secret}x", {"access_token": "t"}])
    rest.portal.handle("profile", {}, auth=Auth("me", "wrong"))
    rest.portal.handle("profile", {}, auth=Auth())
    first, second, third = rest.portal.requests
    assert first == {
        "at": "2025-11-22T10:26:40+02:00",
        "method": "crm.item.payment.get",
        "params": {"id": 9, "auth": "***", "note": ["x***x", {"access_token": "***"}]},
        "user_id": 1,
        "token": None,
        "status": 400,
        "error": "0",
        "fault": None,
        "transport": None,
        "inside_batch": False,
        "command": None,
    }
    assert (second["user_id"], second["error"], third["user_id"]) == (0, "INVALID_CREDENTIALS", None)
    assert rest.secret not in json.dumps(rest.portal.requests)
    assert rest.secret not in repr(rest.portal.webhook) + repr(Auth(1, rest.secret))


def test_log_forgets_the_oldest(rest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_bitrix24.sandbox.portal.request_log.KEPT_REQUESTS", 3)
    for number in range(5):
        rest("method.get", name=str(number))
    assert [entry["params"]["name"] for entry in rest.portal.requests] == ["2", "3", "4"]


def test_dump_and_load(rest: Any) -> None:
    rest("crm.item.payment.add", entityId=1, entityTypeId=2)
    rest("crm.item.payment.product.add", paymentId=1033, rowId=1, quantity=1)
    rest("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=31)
    rest.error("crm.item.payment.delete", id=1002)
    rest("crm.item.payment.delete", id=1001)
    text = json.dumps(rest.portal.dump())
    other = Portal(rest.clock, seed=False)
    other.load(json.loads(text))
    assert other.dump() == rest.portal.dump()
    assert other.view() == rest.portal.view()
    auth = Auth(1, rest.secret)
    reply = other.handle("crm.item.payment.list", {"entityId": 1, "entityTypeId": 2}, auth=auth)
    assert reply.body["result"][0]["sum"] == 450
    assert other.handle("crm.item.payment.add", {"entityId": 1, "entityTypeId": 2}, auth=auth).body["result"] == 1034
    with pytest.raises(ValueError, match="no dump"):
        other.load({"version": 2})


def test_reset(rest: Any) -> None:
    rest.portal.add_webhook(7)
    rest.portal.faults.add(kind="html")
    rest.portal.state.options["subscription"] = False
    rest.reply("profile")
    rest.portal.reset()
    assert rest("crm.item.payment.add", entityId=1, entityTypeId=2) == 1033
    assert (len(rest.portal.requests), len(rest.portal.webhooks), rest.portal.faults.describe()) == (1, 1, [])


def test_empty_portal(make_rest: Any) -> None:
    rest = make_rest(seed=False, secret="s3cret", scopes=("crm",))
    assert rest.secret == "s3cret"
    assert (rest("crm.deal.list"), rest("crm.invoice.list"), rest("scope")) == ([], [], ["crm"])
    number = rest("crm.deal.add", fields={"TITLE": "First"})
    assert rest("crm.item.payment.add", entityId=number, entityTypeId=2) == 0  # no pay system, no payment


def test_view_holds_everything_but_secrets(rest: Any) -> None:
    rest("crm.item.payment.add", entityId=1, entityTypeId=2)
    rest("crm.item.payment.product.add", paymentId=1033, rowId=1, quantity=1)
    rest.portal.create("order", {"account_number": "9", "currency": "EUR", "responsible_id": 1, "person_type_id": 1})
    view = rest.portal.view()
    text = json.dumps(view)
    assert rest.secret not in text
    deal = view["deals"][0]
    assert (deal["opportunity"], deal["order_ids"], deal["product_rows"][0]["price"]) == ("1020.00", [5], "450.00")
    payment = next(row for row in view["payments"] if row["id"] == 1033)
    assert (payment["entity_type_id"], payment["entity_id"], payment["sum"]) == (2, 1, "450.00")
    assert (payment["items"][0]["quantity"], payment["date_bill"]) == (1, "2025-11-22T10:26:40+02:00")
    assert view["orders"][-1]["entity_id"] is None
    assert {row["id"]: row["payed"] for row in view["invoices"]}[1] == "Y"


def test_revision_tells_that_something_may_have_changed(rest: Any) -> None:
    before = rest.portal.revision
    rest("crm.item.payment.get", id=1001)
    assert rest.portal.revision == before
    rest("crm.item.payment.pay", id=1001)
    assert rest.portal.revision > before


def test_objects(rest: Any) -> None:
    create = rest.portal.create
    assert create("deal", {"title": "T", "companyId": 3}) == 7
    assert create("smart_invoice", {"id": 500}) == 500
    assert rest("crm.item.get", entityTypeId=31, id=500)["item"]["title"] == "Invoice #500"
    assert rest("crm.item.add", entityTypeId=31)["item"]["id"] == 501
    row = create("product_row", {"ownerType": "D", "ownerId": 7, "productName": "P", "price": 5, "quantity": 2})
    assert create("product_row", {"id": 900, "ownerType": "D", "ownerId": 7, "price": "1.50"}) == 900
    assert rest("crm.deal.get", id=7)["OPPORTUNITY"] == "11.50"
    assert row < 900
    number = create("invoice", {"price": "5.5", "order_topic": "x"})
    assert rest("crm.invoice.get", id=number)["ACCOUNT_NUMBER"] == str(number)
    assert create("user", {"id": 20, "name": "Eva"}) == 20
    hook = create("webhook", {"user_id": 20, "scopes": ["crm"], "secret": "abc"})
    assert rest.portal.handle("profile", {}, auth=Auth(20, hook.secret)).body["result"]["NAME"] == "Eva"
    assert create("pay_system", {"name": "P", "action_file": "cash"}) == 34


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        ("thing", {}, "unknown kind 'thing'; known: application, chat, company, contact, deal"),
        ("user", {"colour": "red"}, "a user has no colour; it has: id, name"),
        ("invoice", {"price": "much"}, "price must be a number, not 'much'"),
        ("invoice", {"id": 2}, "invoices has 2 already"),
        ("deal", {"id": 1}, "there is an item 1 already"),
        ("product_row", {"ownerType": "D", "ownerId": 99}, "no owner D 99"),
        ("product_row", {"id": 1, "ownerType": "D", "ownerId": 1}, "there is a product row 1 already"),
        ("pay_system", {"name": "P"}, "a pay_system needs more than name"),
        ("handler", {}, "a handler needs more than nothing"),
    ],
    ids=str,
)
def test_objects_that_cannot_be(kind: str, fields: dict[str, Any], text: str, rest: Any) -> None:
    with pytest.raises(ValueError, match=text):
        rest.portal.create(kind, fields)


def test_many_threads_one_ledger(rest: Any) -> None:
    def add() -> None:
        for _ in range(25):
            rest("crm.item.payment.add", entityId=3, entityTypeId=2)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rest.events().count("payment_added") == 100
    assert len({payment.xml_id for payment in rest.portal.state.payments.values()}) == 104
    assert rest.events().count("order_created") == 1


def test_clocks() -> None:
    clock = ManualClock(5.0)
    clock.advance(2.5)
    assert clock.time() == 7.5
    with pytest.raises(ValueError, match="cannot be advanced by -1"):
        clock.advance(-1)
    assert SystemClock().time() > 1_700_000_000
    assert isinstance(Portal().clock, SystemClock)
