"""sale.paysystem.* for administrators: lists in capital letters, handlers with unique codes, settings per payer."""

from __future__ import annotations

from typing import Any

import pytest


def ids(rest: Any, **params: Any) -> list[int]:
    return [row["ID"] for row in rest("sale.paysystem.list", **params)]


def test_list_is_everything_at_once(rest: Any) -> None:
    body = rest.body("sale.paysystem.list")
    assert [row["ID"] for row in body["result"]] == [6, 8, 31, 32, 33]
    assert set(body) == {"result", "time"}
    assert body["result"][2]["ENTITY_REGISTRY_TYPE"] == "CRM_INVOICE"
    handlers = {row["CODE"] for row in rest("sale.paysystem.handler.list")}
    rest_systems = [row["ID"] for row in body["result"] if row["ACTION_FILE"] in handlers]
    assert rest_systems == [8, 31, 33]


def test_list_select_filter_order_in_any_case(rest: Any) -> None:
    assert ids(rest, FILTER={"@ID": [31, "8"]}, ORDER={"ID": "DESC"}) == [31, 8]
    assert ids(rest, filter={"=entity_registry_type": "CRM_INVOICE", "active": "Y"}) == [31, 32]
    assert ids(rest, order={"SORT": "desc", "ID": "asc"}) == [8, 6, 31, 32, 33]
    assert rest("sale.paysystem.list", select=["id", "TARIFF", "LOGOTYPE", "TARIF"], filter={"ID": 6}) == [
        {"ID": 6, "TARIFF": None, "LOGOTYPE": None}
    ]
    assert rest.error("sale.paysystem.list", filter={"NOTHING": 1}) == "ERROR_CHECK_FAILURE"


def test_pay_system_from_cradle_to_grave(rest: Any) -> None:
    given = {"NAME": "New", "PERSON_TYPE_ID": 1, "BX_REST_HANDLER": "sandbox_card", "SETTINGS": {}}
    number = rest("sale.paysystem.add", given)
    assert number == 34
    row = rest("sale.paysystem.list", FILTER={"ID": number})[0]
    assert (row["ENTITY_REGISTRY_TYPE"], row["PSA_NAME"], row["ACTIVE"]) == ("CRM_INVOICE", "New", "Y")
    fields = {"NAME": "Newer", "sort": 5, "BX_REST_HANDLER": "sandbox_bank", "PERSON_TYPE_ID": 2}
    assert rest("sale.paysystem.update", ID=number, FIELDS=fields) is True
    assert rest("sale.paysystem.update", ID=number, FIELDS=fields) is True
    assert rest("sale.paysystem.update", ID=number) is True
    row = rest("sale.paysystem.list", FILTER={"ID": number})[0]
    assert (row["NAME"], row["SORT"], row["ACTION_FILE"], row["PERSON_TYPE_ID"]) == ("Newer", 5, "sandbox_bank", 2)
    assert rest("sale.paysystem.delete", ID=number) is True
    assert rest.error("sale.paysystem.delete", ID=number) == "ERROR_PAY_SYSTEM_NOT_FOUND"
    assert rest.events() == ["pay_system_added", "pay_system_changed", "pay_system_deleted"]
    again = {**given, "ENTITY_REGISTRY_TYPE": "ORDER"}
    assert rest("sale.paysystem.add", again) == 35  # an id is not given twice
    assert rest("sale.paysystem.list", FILTER={"ID": 35})[0]["ENTITY_REGISTRY_TYPE"] == "ORDER"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"NAME": ""}, "Parameter NAME is not defined"),
        ({"PERSON_TYPE_ID": None}, "Parameter PERSON_TYPE_ID is not defined"),
        ({"BX_REST_HANDLER": ""}, "Parameter BX_REST_HANDLER is not defined"),
        ({"ENTITY_REGISTRY_TYPE": "LEAD"}, "Value of ENTITY_REGISTRY_TYPE is incorrect"),
    ],
    ids=str,
)
def test_add_refusals(changed: dict[str, Any], text: str, rest: Any) -> None:
    given = {"NAME": "New", "PERSON_TYPE_ID": 1, "BX_REST_HANDLER": "sandbox_card"}
    assert rest.body("sale.paysystem.add", {**given, **changed}) == {
        "error": "ERROR_CHECK_FAILURE",
        "error_description": text,
    }


def test_handlers(rest: Any) -> None:
    given = {"NAME": "Mine", "CODE": "mine", "SETTINGS": {"FORM_DATA": {"FIELDS": {"phone": {"VISIBLE": "Y"}}}}}
    number = rest("sale.paysystem.handler.add", given)
    assert rest.error("sale.paysystem.handler.add", given) == "ERROR_HANDLER_ALREADY_EXIST"
    row = rest("sale.paysystem.handler.list")[-1]
    assert (row["ID"], row["SORT"], row["SETTINGS"]) == (str(number), "100", given["SETTINGS"])
    assert rest("sale.paysystem.handler.update", ID=number, FIELDS={"CODE": "mine2", "SORT": 7}) is True
    assert rest("sale.paysystem.handler.update", ID=number, FIELDS={"CODE": "mine2"}) is True
    assert rest("sale.paysystem.handler.list")[-1]["CODE"] == "mine2"
    assert rest.error("sale.paysystem.handler.update", ID=number) == "ERROR_CHECK_FAILURE"
    assert rest.body("sale.paysystem.handler.delete", ID=2)["error_description"] == (
        "Pay systems use this handler: 31, 33"
    )
    assert rest.error("sale.paysystem.handler.delete") == "ERROR_PAY_SYSTEM_DELETE"
    assert rest("sale.paysystem.handler.delete", ID=number) is True
    assert rest.error("sale.paysystem.handler.delete", ID=number) == "ERROR_HANDLER_NOT_FOUND"
    assert rest.events() == ["handler_added", "handler_changed", "handler_deleted"]


def test_settings(rest: Any) -> None:
    value = {"KEY": {"TYPE": "VALUE", "VALUE": "k"}}
    assert rest("sale.paysystem.settings.get", ID=8, PERSON_TYPE_ID=1) == []
    assert rest("sale.paysystem.settings.update", ID=8, PERSON_TYPE_ID=0, SETTINGS=value) is True
    assert rest("sale.paysystem.settings.update", ID=8, PERSON_TYPE_ID=0, SETTINGS=value) is True
    assert rest("sale.paysystem.settings.get", ID=8, PERSON_TYPE_ID=1) == {"KEY": "k"}  # for all payers
    own = {"KEY": {"TYPE": "VALUE", "VALUE": "own"}}
    rest("sale.paysystem.settings.update", ID=8, PERSON_TYPE_ID=2, SETTINGS=own)
    assert rest("sale.paysystem.settings.get", ID=8, PERSON_TYPE_ID=2) == {"KEY": "own"}
    assert rest("sale.paysystem.settings.get", ID=8, PERSON_TYPE_ID=1) == {"KEY": "k"}
    assert rest.error("sale.paysystem.settings.get", ID=8) == "ERROR_CHECK_FAILURE"
    assert rest.events() == ["pay_system_changed", "pay_system_changed"]


def test_small_lists_of_crm(rest: Any) -> None:
    body = rest.body("crm.paysystem.list", order={"ID": "desc", "NOTHING": "asc"}, filter={"%NAME": "cash"})
    assert body["result"] == [
        {
            "ID": "32",
            "NAME": "Cash on delivery",
            "ACTIVE": "Y",
            "SORT": "100",
            "DESCRIPTION": "",
            "PERSON_TYPE_ID": "0",
            "ACTION_FILE": "cash",
            "NEW_WINDOW": "N",
        }
    ]
    assert body["total"] == 1
    assert len(rest("crm.paysystem.list")) == 3
    assert rest("crm.persontype.list", filter={"NAME": "CRM_COMPANY"}) == [{"ID": "1", "NAME": "CRM_COMPANY"}]
    assert [row["ID"] for row in rest("crm.persontype.list", order={"ID": "DESC"})] == ["2", "1"]
