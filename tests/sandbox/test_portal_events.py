"""Handlers of events, and the queue of offline events: what fills it, who empties it, what is lost on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_bitrix24.sandbox.portal import Auth, Portal

CRM = ("crm", "sale", "pay_system", "salescenter")


@dataclass
class App:
    """An application that user 1, or somebody else, has signed in to."""

    portal: Portal
    token: str

    def body(self, method: str, **params: Any) -> dict[str, Any]:
        reply = self.portal.handle(method, params, auth=Auth(), headers={"Authorization": f"Bearer {self.token}"})
        assert isinstance(reply.body, dict)
        return reply.body

    def __call__(self, method: str, **params: Any) -> Any:
        body = self.body(method, **params)
        assert "error" not in body, body
        return body["result"]

    def error(self, method: str, **params: Any) -> Any:
        return self.body(method, **params)["error"]

    def offline(self, *events: str, **more: Any) -> None:
        for event in events:
            assert self("event.bind", event=event, event_type="offline", **more) is True

    def queue(self) -> list[tuple[str, Any]]:
        return [(row["EVENT_NAME"], row["EVENT_DATA"]["FIELDS"]["ID"]) for row in self("event.offline.list")]


@pytest.fixture
def make_app(rest: Any) -> Any:
    def make(user_id: int = 1, client_id: str = "local.app", scopes: tuple[str, ...] = CRM) -> App:
        portal = rest.portal
        application = portal.oauth.applications.get(client_id) or portal.add_application(client_id, scopes=scopes)
        return App(portal, portal.grant(application, user_id).access_token)

    return make


def test_payments_fill_the_queue(rest: Any, make_app: Any) -> None:
    app = make_app()
    rest("crm.item.payment.add", entityTypeId=2, entityId=1)
    app.offline("OnPaymentEntitySaved", "OnPaymentDeleted", "OnSaleOrderSaved")
    assert app.queue() == []  # nothing from before
    number = rest("crm.item.payment.add", entityTypeId=2, entityId=2)
    assert app.queue() == [("ONSALEORDERSAVED", 6), ("ONPAYMENTENTITYSAVED", number)]
    rest("crm.item.payment.pay", id=number)
    rest("crm.item.payment.pay", id=number)  # changes nothing
    rest("crm.item.payment.unpay", id=number)
    assert len(app.queue()) == 2  # one row for equal events: paid and unpaid between two looks is seen once
    rest.portal.act.pay_payment(1001)
    rest("crm.item.payment.delete", id=number)
    assert app.queue()[2:] == [("ONPAYMENTENTITYSAVED", 1001), ("ONSALEORDERSAVED", 1), ("ONPAYMENTDELETED", number)]


def test_orders_are_saved_with_their_payments(rest: Any, make_app: Any) -> None:
    app = make_app()
    app.offline("OnSaleOrderSaved", "OnOrderEntitySaved")
    rest("sale.payment.update", id=1001, fields={"paySystemId": 6, "comments": "by bank"})
    rest("sale.order.update", id=2, fields={"comments": "later"})
    found = {row["EVENT_NAME"]: row["EVENT_DATA"]["FIELDS"] for row in app("event.offline.list")}
    assert found == {"ONORDERENTITYSAVED": {"ID": 2}, "ONSALEORDERSAVED": {"ID": 2, "XML_ID": "", "ACTION": "save"}}
    assert len(app.queue()) == 4


def test_a_repeat_renews_the_time(rest: Any, make_app: Any) -> None:
    app = make_app()
    app.offline("OnPaymentEntitySaved")
    rest("crm.item.payment.pay", id=1001)
    before = app("event.offline.list")[0]
    rest.clock.advance(60)
    rest("crm.item.payment.unpay", id=1001)
    after = app("event.offline.list")
    assert len(after) == 1
    assert (after[0]["ID"], after[0]["MESSAGE_ID"]) == (before["ID"], before["MESSAGE_ID"])
    assert after[0]["TIMESTAMP_X"] > before["TIMESTAMP_X"]
    assert len(after[0]["MESSAGE_ID"]) == 32


def test_legacy_invoices(rest: Any, make_app: Any) -> None:
    """A gateway's mark is saved as a sale: no event of the invoice, and an id of another table than usual."""
    app = make_app()
    names = ["OnCrmInvoiceAdd", "OnCrmInvoiceUpdate", "OnCrmInvoiceSetStatus", "OnCrmInvoiceDelete"]
    app.offline(*names, "OnPaymentEntitySaved")
    rest("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=31)
    rest.portal.act.pay_invoice(7)
    assert app.queue() == [("ONPAYMENTENTITYSAVED", 2), ("ONPAYMENTENTITYSAVED", 7)]
    rest("crm.invoice.update", id=3, fields={"STATUS_ID": "P"})
    rest("crm.invoice.update", id=8, fields={"COMMENTS": "later"})
    rest("crm.invoice.delete", id=9)
    rest.portal.act.decline_invoice(10)
    assert app.queue()[2:] == [
        ("ONCRMINVOICEUPDATE", 3),
        ("ONCRMINVOICESETSTATUS", 3),
        ("ONCRMINVOICEUPDATE", 8),
        ("ONCRMINVOICEDELETE", 9),
        ("ONCRMINVOICEUPDATE", 10),
        ("ONCRMINVOICESETSTATUS", 10),
    ]


def test_deals_and_smart_invoices(rest: Any, make_app: Any) -> None:
    app = make_app()
    app.offline("OnCrmDealAdd", "OnCrmDealUpdate", "OnCrmDynamicItemUpdate")
    deal = rest("crm.deal.add", fields={"TITLE": "New"})
    rest("crm.item.update", entityTypeId=2, id=deal, fields={"title": "Other"})
    rest("crm.item.update", entityTypeId=31, id=101, fields={"title": "Other"})
    assert app.queue() == [("ONCRMDEALADD", deal), ("ONCRMDEALUPDATE", deal), ("ONCRMDYNAMICITEMUPDATE", 101)]
    app.offline("OnCrmDynamicItemUpdate_31")
    rest("crm.item.update", entityTypeId=31, id=102, fields={"title": "Other"})
    assert ("ONCRMDYNAMICITEMUPDATE_31", 102) in app.queue()[3:]
    app("event.offline.get", filter={"=EVENT_NAME": "ONCRMDYNAMICITEMUPDATE_31"})
    app("event.offline.get", filter={">ID": "3"})
    assert app("event.offline.list")[-1]["EVENT_DATA"]["FIELDS"]["ENTITY_TYPE_ID"] == 31
    app.offline("OnCrmDealDelete")
    rest("crm.deal.delete", id=deal)
    assert app.queue()[3:] == [("ONCRMDEALDELETE", deal)]


def test_get_clears_by_default_so_a_lost_reply_loses_the_events(rest: Any, make_app: Any) -> None:
    app = make_app()
    app.offline("OnPaymentEntitySaved")
    rest("crm.item.payment.pay", id=1001)
    rest.portal.faults.add_json({"kind": "drop_after", "method": "event.offline.get", "occurrence": 1})
    reply = rest.portal.handle("event.offline.get", {}, auth=Auth(), headers={"Authorization": f"Bearer {app.token}"})
    assert reply.transport == "drop"
    assert app("event.offline.get") == {"process_id": None, "events": []}


def test_reservations(rest: Any, make_app: Any) -> None:
    app = make_app()
    app.offline("OnPaymentEntitySaved")
    for number in (1001, 1003, 1004):
        rest("crm.item.payment.pay", id=number)
    first = app("event.offline.get", clear=0, limit=2)
    assert [event["EVENT_DATA"]["FIELDS"]["ID"] for event in first["events"]] == [1001, 1003]
    assert len(first["process_id"]) == 32
    assert len(app("event.offline.get", clear=0)["events"]) == 1  # what is reserved is hidden
    again = app("event.offline.get", clear=0, process_id=first["process_id"])
    assert again == first  # after a lost reply
    listed = {row["ID"]: row["PROCESS_ID"] for row in app("event.offline.list")}
    assert listed[first["events"][0]["ID"]] == first["process_id"]
    rest("crm.item.payment.unpay", id=1001)  # beside the reserved row, a new one
    assert len(app.queue()) == 4
    process, ids = first["process_id"], [event["ID"] for event in first["events"]]
    assert app("event.offline.clear", process_id=process, id=[ids[0]]) is True
    assert [row["ID"] for row in app("event.offline.list")] == [ids[1], "3", "4"]
    message = first["events"][1]["MESSAGE_ID"]
    assert app("event.offline.error", process_id=process, message_id=[message]) is True
    assert app("event.offline.get", clear=0, filter={"=ID": ids[1]})["events"] == []
    assert [event["ID"] for event in app("event.offline.get", clear=0, error=1)["events"]] == [ids[1]]
    assert app("event.offline.clear", process_id=process) is True


@pytest.mark.parametrize(("dialect", "left"), [("source", ["1"]), ("docs", ["2"])])
def test_clear_with_both_kinds_of_ids(dialect: str, left: list[str], rest: Any, make_app: Any) -> None:
    rest.portal.dialect = dialect
    app = make_app()
    app.offline("OnPaymentEntitySaved")
    rest("crm.item.payment.pay", id=1001)
    rest("crm.item.payment.pay", id=1003)
    taken = app("event.offline.get", clear=0)
    second = taken["events"][1]["MESSAGE_ID"]
    assert app("event.offline.clear", process_id=taken["process_id"], id=[1], message_id=[second]) is True
    assert [row["ID"] for row in app("event.offline.list")] == left
    assert app.error("event.offline.clear") == "ERROR_ARGUMENT"


def test_source_wants_whole_message_ids(make_app: Any) -> None:
    assert make_app().error("event.offline.clear", process_id="x", message_id=[2]) == "ERROR_ARGUMENT"


def test_own_changes_are_not_queued_for_the_same_connector(rest: Any, make_app: Any) -> None:
    app = make_app()
    app.offline("OnPaymentEntitySaved", auth_connector="airflow")
    rest("crm.item.payment.pay", id=1001, auth_connector="airflow")
    rest("crm.item.payment.pay", id=1003, auth_connector="other")
    assert app("event.offline.get") == {"process_id": None, "events": []}
    found = app("event.offline.get", auth_connector="airflow")["events"]
    assert [event["EVENT_DATA"]["FIELDS"]["ID"] for event in found] == [1003]


def test_queues_are_apart_and_old_events_go(rest: Any, make_app: Any) -> None:
    app, other = make_app(), make_app(client_id="local.other")
    app.offline("OnPaymentEntitySaved")
    rest("crm.item.payment.pay", id=1001)
    assert (len(app.queue()), other.queue()) == (1, [])
    rest.clock.advance(2_952_001)
    fresh = make_app()
    assert fresh.queue() == []


def test_pages_of_the_list(rest: Any, make_app: Any) -> None:
    app = make_app()
    app.offline("OnPaymentEntitySaved")
    for _ in range(60):
        rest("crm.item.payment.add", entityTypeId=2, entityId=3)
    body = app.body("event.offline.list", order={"ID": "DESC"})
    assert (len(body["result"]), body["total"], body["next"], body["result"][0]["ID"]) == (50, 60, 50, "60")
    assert len(app("event.offline.list", start=50)) == 10
    assert len(app("event.offline.get")["events"]) == 50


def test_extended_mode_needs_a_license(rest: Any, make_app: Any) -> None:
    rest.portal.set_options({"features": []})
    app = make_app()
    app.offline("OnPaymentEntitySaved")
    for more in ({"clear": 0}, {"process_id": "x"}, {"error": 1}, {"auth_connector": "x"}):
        assert app.error("event.offline.get", **more) == "WRONG_LICENSE"
    assert app("event.offline.get")["events"] == []
    bind = {"event": "OnPaymentDeleted", "event_type": "offline", "auth_connector": "x"}
    assert app.error("event.bind", **bind) == "WRONG_LICENSE"


def test_only_administrators_may_empty_the_queue(make_app: Any) -> None:
    app = make_app(7)
    for method in ("get", "list", "clear", "error"):
        assert app.error(f"event.offline.{method}", process_id="x") == "ACCESS_DENIED"


def test_bind_and_unbind(make_app: Any) -> None:
    app = make_app()
    online = {"event": "onCrmDealAdd", "handler": "https://example.com/hook"}
    assert app("event.bind", **online) is True
    body = app.body("event.bind", **online)
    assert body["error_description"] == "Unable to set event handler: Handler already binded"
    assert app("event.bind", event="onCrmDealAdd", handler="no address") is False
    app.offline("OnCrmDealAdd")
    assert app("event.get") == [
        {"event": "ONCRMDEALADD", "handler": "https://example.com/hook", "auth_type": "0", "offline": 0},
        {"event": "ONCRMDEALADD", "handler": "", "auth_type": "0", "offline": 1, "connector_id": ""},
    ]
    assert app("event.unbind", event="OnCrmDealAdd", handler="https://example.com/other") == {"count": 0}
    assert app("event.unbind", event="OnCrmDealAdd", event_type="offline") == {"count": 1}
    assert app("event.unbind", event="OnCrmDealAdd", handler="https://example.com/hook") == {"count": 1}
    assert app("event.get") == []
    assert make_app(client_id="local.crm", scopes=("crm",)).error("event.bind", event="OnPaymentEntitySaved") == (
        "ERROR_EVENT_NOT_FOUND"
    )


def test_queue_survives_a_dump(rest: Any, make_app: Any) -> None:
    app = make_app()
    app.offline("OnPaymentEntitySaved")
    rest("crm.item.payment.pay", id=1001)
    rest.portal.load(rest.portal.dump())
    rest("crm.item.payment.unpay", id=1001)
    assert app.queue() == [("ONPAYMENTENTITYSAVED", 1001)]


def test_methods_of_applications_that_the_sandbox_lacks(make_app: Any, rest: Any) -> None:
    assert rest.error("placement.bind") == "WRONG_AUTH_TYPE"
    assert make_app().error("placement.bind") == "ERROR_METHOD_NOT_FOUND"
