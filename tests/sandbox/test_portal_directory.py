"""Companies, contacts, statuses and users; and what tells them about payments."""

from __future__ import annotations

from typing import Any

import pytest


def test_companies_and_contacts(rest: Any) -> None:
    company = rest("crm.company.get", ID=5)
    assert (company["ID"], company["TITLE"], company["HAS_PHONE"], company["LOGO"]) == ("5", "Alder Works", "Y", None)
    assert company["PHONE"] == [{"ID": "50", "VALUE_TYPE": "WORK", "VALUE": "+49 30 1234560", "TYPE_ID": "PHONE"}]
    contact = rest("crm.contact.get", id="4")
    assert (contact["NAME"], contact["LAST_NAME"], contact["COMPANY_ID"]) == ("Mara", "Holm", "5")
    assert all(value is None or isinstance(value, str | list) for value in {**company, **contact}.values())


def test_lists_of_companies_and_contacts(rest: Any) -> None:
    body = rest.body("crm.company.list", FILTER={"COMPANY_TYPE": "CUSTOMER"}, SELECT=["TITLE", "PHONE"])
    assert body["total"] == 2
    assert [set(row) for row in body["result"]] == [{"ID", "TITLE", "PHONE"}, {"ID", "TITLE"}]
    assert "EMAIL" not in rest("crm.company.list")[0]
    assert "EMAIL" in rest("crm.company.list", select=["*", "EMAIL"])[0]
    found = rest("crm.contact.list", filter={"EMAIL": "mara@alder.example"}, order={"ID": "DESC"})
    assert [row["ID"] for row in found] == ["4"]
    assert [row["ID"] for row in rest("crm.company.list", filter={">ID": 5, ">=DATE_CREATE": "2025-01-01"})] == ["6"]
    assert len(rest("crm.company.list", filter={"nothing": 1})) == 2  # dropped without a word
    for number in range(100, 160):
        rest.portal.create("contact", {"id": number, "name": "N", "email": ["a@b.example", "c@d.example"]})
    page = rest.body("crm.contact.list", start=50)
    assert (page["total"], len(page["result"]), "next" in page) == (61, 11, False)


@pytest.mark.parametrize("kind", ["company", "contact"])
def test_refusals_of_companies_and_contacts(kind: str, rest: Any) -> None:
    assert rest.body(f"crm.{kind}.get")["error_description"] == "ID is not defined or invalid."
    assert rest.body(f"crm.{kind}.get", id=99) == {"error": "", "error_description": "Not found"}
    denied = rest.as_user(7, f"{kind}.read")
    assert denied.body(f"crm.{kind}.get", id=5)["error_description"] == "Access denied"
    assert denied.body(f"crm.{kind}.list")["error_description"] == "Access denied."
    assert rest.body(f"crm.{kind}.list", filter="x")["error_description"] == "Parameter 'filter' must be array."
    with pytest.raises(ValueError, match="have no COLOUR"):
        rest.portal.create(kind, {"colour": "red"})


def test_items_name_companies_that_exist(rest: Any) -> None:
    for deal in rest("crm.deal.list", filter={">COMPANY_ID": 0}):
        assert rest("crm.company.get", id=deal["COMPANY_ID"])["ID"] == deal["COMPANY_ID"]
        assert rest("crm.contact.get", id=deal["CONTACT_ID"])["ID"] == deal["CONTACT_ID"]


def test_statuses(rest: Any) -> None:
    stages = rest("crm.status.list", filter={"ENTITY_ID": "DEAL_STAGE"}, order={"SORT": "ASC"})
    assert [row["STATUS_ID"] for row in stages] == ["NEW", "PREPARATION", "EXECUTING", "WON", "LOSE"]
    assert stages[3]["SEMANTICS"] == "S"
    assert stages[3]["EXTRA"] == {"SEMANTICS": "success", "COLOR": "#7BD500"}
    invoices = rest.body("crm.status.list", filter={"ENTITY_ID": "INVOICE_STATUS", "SEMANTICS": "S"})
    assert ([row["STATUS_ID"] for row in invoices["result"]], invoices["total"]) == (["P"], 1)
    assert rest.error("crm.status.list", filter="DEAL_STAGE") == "Invalid parameters."
    rights = [f"{entity}.read" for entity in ("deal", "lead", "smart_invoice", "invoice", "company", "contact")]
    assert rest.as_user(7, *rights[1:])("crm.status.list")
    assert rest.as_user(7, *rights).body("crm.status.list")["error_description"] == "Access denied."


def test_statuses_of_legacy_invoices(rest: Any) -> None:
    body = rest.body("crm.invoice.status.list")
    assert [row["STATUS_ID"] for row in body["result"]] == ["N", "S", "A", "P", "D"]
    assert body["total"] == 5
    rows = rest("crm.invoice.status.list", filter={"NAME": "Paid"}, order={"SORT": "DESC"}, select=["STATUS_ID"])
    assert rows == [{"STATUS_ID": "P"}]
    number = body["result"][3]["ID"]
    found = rest("crm.invoice.status.get", id=number)
    assert found == body["result"][3]
    assert set(found) == set(rest("crm.invoice.status.fields"))
    for wrong, text in ((None, "ID is not defined or invalid."), (1, "Not found.")):
        assert rest.body("crm.invoice.status.get", id=wrong)["error_description"] == text
    assert rest.as_user(7, "invoice.read")("crm.invoice.status.list") == body["result"]  # for everybody


def test_users(rest: Any) -> None:
    assert rest.error("user.get") == "insufficient_scope"
    for scope in ("user", "user_brief", "user_basic"):
        caller = rest.as_user(7, scopes=(scope,))
        assert caller("user.current")["NAME"] == "Ivo"
        assert "user.current" in caller("methods")
    body = caller.body("user.get", sort="ID", order="desc")
    assert ([row["ID"] for row in body["result"]], body["total"]) == (["7", "1"], 2)
    assert [row["ID"] for row in caller("user.get", FILTER={"LAST_NAME": "Berg"})] == ["1"]
    assert [row["ID"] for row in caller("user.get", ID=7)] == ["7"]
    rest.portal.state.users[1].active = False
    assert [row["ID"] for row in caller("user.get", filter={"ACTIVE": True})] == ["7"]
    assert [row["ID"] for row in caller("user.get", filter={"ACTIVE": "N"})] == ["1"]


def test_notifications(rest: Any) -> None:
    assert rest.error("im.notify.system.add", USER_ID=7, MESSAGE="Paid") == "insufficient_scope"
    caller = rest.as_user(7, scopes=("im",))
    first = caller("im.notify.system.add", USER_ID=1, MESSAGE=" Payment 1001 is paid ", TAG="PAYMENT|1001")
    second = caller("im.notify.system.add", USER_ID=1, MESSAGE="Payment 1001 is paid", TAG="PAYMENT|1001")
    caller("im.notify.system.add", USER_ID=1, MESSAGE="Something else")
    kept = list(rest.portal.state.messages.values())
    assert (first, [message.id for message in kept]) == (1, [second, 3])  # one tag, one notification
    assert (kept[0].target, kept[0].author_id, kept[0].text) == ("user 1", 7, "Payment 1001 is paid")
    assert caller.error("im.notify.system.add", MESSAGE="x") == "USER_ID_EMPTY"
    assert caller.error("im.notify.system.add", USER_ID=1, MESSAGE=" ") == "MESSAGE_EMPTY"
    assert caller.error("im.notify.system.add", USER_ID=1, MESSAGE="x", ATTACH="y" * 60_001) == "ATTACH_OVERSIZE"
    assert caller("im.notify.system.add", USER_ID=99, MESSAGE="x") is False
    assert rest.events() == ["notification_added"] * 3


def test_messages(rest: Any) -> None:
    caller = rest.as_user(7, scopes=("im",))
    number = caller("im.message.add", DIALOG_ID="chat1", MESSAGE="Paid")
    assert caller("im.message.add", DIALOG_ID="chat1", MESSAGE="Thanks", REPLY_ID=number) == number + 1
    assert caller("im.message.add", DIALOG_ID=1, ATTACH={"a": 1}) == number + 2
    assert [message.target for message in rest.portal.state.messages.values()] == ["chat 1", "chat 1", "user 1"]
    for params, code in [
        ({"DIALOG_ID": "chat1"}, "MESSAGE_EMPTY"),
        ({"MESSAGE": "x"}, "USER_ID_EMPTY"),
        ({"DIALOG_ID": "somebody", "MESSAGE": "x"}, "USER_ID_EMPTY"),
        ({"DIALOG_ID": 99, "MESSAGE": "x"}, "USER_NOT_FOUND"),
        ({"DIALOG_ID": "chat99", "MESSAGE": "x"}, "CHAT_ID"),
        ({"DIALOG_ID": "sg1", "MESSAGE": "x"}, "CHAT_ID"),
        ({"DIALOG_ID": 1, "MESSAGE": "x", "REPLY_ID": number}, "REPLY_FROM_OTHER_CHAT_ERROR"),
        ({"DIALOG_ID": 1, "MESSAGE": "x", "REPLY_ID": 99}, "REPLY_ACCESS_ERROR"),
    ]:
        assert caller.error("im.message.add", params) == code
    assert rest.events() == ["message_added"] * 3
    assert [message["target"] for message in rest.portal.view()["messages"]] == ["chat 1", "chat 1", "user 1"]


def test_comments(rest: Any) -> None:
    def add(**fields: Any) -> dict[str, Any]:
        return {"fields": {"ENTITY_ID": 4, "ENTITY_TYPE": "deal", "COMMENT": "Paid by bank transfer", **fields}}

    number = rest("crm.timeline.comment.add", add(FILES=[["1.gif", "R0lGODlhAQABAIAAAP"]]))
    rest("crm.timeline.comment.add", add(ENTITY_TYPE="DYNAMIC_31", ENTITY_ID=101))
    rest("crm.timeline.comment.add", add(ENTITY_TYPE="company", ENTITY_ID=5))
    made = rest.portal.state.messages[number]
    assert (made.kind, made.target, made.text, made.files) == ("comment", "deal 4", "Paid by bank transfer", ["1.gif"])
    assert [(entry["entity_type_id"], entry["entity_id"]) for entry in rest.portal.ledger] == [
        (2, 4),
        (31, 101),
        (None, None),
    ]
    for params, code in [
        ({}, "100"),
        ({"FIELDS": {"ENTITY_ID": 4, "ENTITY_TYPE": "deal", "COMMENT": "x"}}, "100"),
        (add(ENTITY_ID=None), "100"),
        (add(COMMENT=" "), "INVALID_ARG_VALUE"),
        (add(ENTITY_TYPE="thing"), "OWNER_NOT_FOUND"),
        (add(ENTITY_ID=99), "NOT_FOUND"),
    ]:
        assert rest.error("crm.timeline.comment.add", params) == code
    assert rest.as_user(7, "deal.update").error("crm.timeline.comment.add", add()) == "ACCESS_DENIED"
