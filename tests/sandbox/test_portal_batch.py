"""batch: order, halt, limits, references and how broken ones are treated."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote


def test_results_in_php_arrays(rest: Any) -> None:
    found = rest.batch({"a": "profile", "b": "sale.payment.list?select[]=id"})
    assert found["result"]["b"] == {"payments": [{"id": 1001}, {"id": 1002}, {"id": 1003}, {"id": 1004}]}
    assert found["result_error"] == []
    assert found["result_total"] == {"b": 4}
    assert found["result_next"] == []
    assert set(found["result_time"]) == {"a", "b"}
    nothing: dict[str, Any] = {name: [] for name in found}
    assert rest.batch({}) == rest("batch") == rest("batch", cmd="profile") == nothing


def test_lists_stay_lists_only_without_gaps(rest: Any) -> None:
    assert rest.batch(["server.time", "user.admin"])["result"][1] is True
    found = rest.batch(["user.admin", "nothing", "user.admin"])
    assert found["result"] == {"0": True, "2": True}
    assert found["result_error"] == {"1": {"error": "ERROR_METHOD_NOT_FOUND", "error_description": "Method not found!"}}


def test_sequence_and_halt(rest: Any) -> None:
    commands = {
        "a": "crm.item.payment.pay?id=1001",
        "b": "crm.item.payment.pay?id=9",
        "c": "crm.item.payment.pay?id=1003",
    }
    assert set(rest.batch(commands)["result"]) == {"a", "c"}
    for halt in (1, "1", True, "false"):  # PHP's truth
        found = rest("batch", cmd=commands, halt=halt)
        assert (found["result"], set(found["result_error"])) == ({"a": True}, {"b"})
    assert set(rest("batch", cmd=commands, halt="0")["result"]) == {"a", "c"}
    assert rest.events() == ["payment_paid", "payment_paid"]


def test_51st_command_is_refused_and_fifty_have_run(rest: Any) -> None:
    commands = {f"c{n}": "crm.item.payment.add?entityId=3&entityTypeId=2" for n in range(52)}
    found = rest.batch(commands)
    assert len(found["result"]) == 50
    assert {key: error["error"] for key, error in found["result_error"].items()} == dict.fromkeys(
        ("c50", "c51"), "ERROR_BATCH_LENGTH_EXCEEDED"
    )
    assert rest.events().count("payment_added") == 50


def test_what_is_no_text_is_skipped(rest: Any) -> None:
    found = rest.batch({"a": {"method": "user.admin"}, "b": 5, "c": "user.admin", "d": None})
    assert found["result"] == {"c": True}
    assert found["result_error"] == []


def test_not_inside(rest: Any) -> None:
    found = rest.batch({"a": "batch?cmd[x]=profile", "b": "download", "c": "Upload?x=1"})
    codes = {error["error"] for error in found["result_error"].values()}
    assert (len(found["result_error"]), codes) == (3, {"ERROR_BATCH_METHOD_NOT_ALLOWED"})


def test_scope_is_asked_per_command(rest: Any) -> None:
    found = rest.as_user(1, scopes=("crm",)).batch({"a": "sale.payment.list", "b": "crm.item.payment.get?id=1001"})
    assert found["result_error"]["a"]["error"] == "insufficient_scope"
    assert found["result"]["b"]["id"] == 1001


def test_values_come_from_a_query_string(rest: Any) -> None:
    xml_id = quote("a&b=c#d+e", safe="")
    rest.batch({"a": f"sale.payment.update?id=1001&fields[paySystemId]=6&fields[xmlId]={xml_id}"})
    assert rest.portal.state.payments[1001].xml_id == "a&b=c#d+e"
    rest.batch({"a": "sale.payment.update?id=1001&fields[paySystemId]=6&fields[xmlId]=a&b=c#d+e"})
    assert rest.portal.state.payments[1001].xml_id == "a"


def test_whole_reference_keeps_its_type(rest: Any) -> None:
    commands = {
        "add": "crm.item.payment.add?entityId=1&entityTypeId=2",
        "rows": "crm.item.productrow.getAvailableForPayment?ownerType=D&ownerId=1",
        "put": "crm.item.payment.product.add?paymentId=$result[add]&rowId=$result[rows][productRows][0][id]&quantity=1",
        "get": "crm.item.payment.get?id=$RESULT[add]",
        "tag": "sale.payment.update?id=$result[add]&fields[paySystemId]=6&fields[comments]=$result[add], $result[rows]",
        "list": "sale.payment.list?filter[@id][]=$result[add]&select[]=id",
        "more": "sale.payment.list?start=$total[list]&select[]=$result[list][payments][0]",
    }
    found = rest.batch(commands, halt=1)
    assert found["result_error"] == []
    assert (found["result"]["add"], found["result"]["get"]["sum"]) == (1033, 450)
    assert found["result"]["tag"]["payment"]["comments"] == "1033, $result[rows]"  # an array stays unreplaced
    assert found["result"]["list"] == {"payments": [{"id": 1033}]}


def test_broken_reference_is_a_partial_structure(rest: Any) -> None:
    commands = {"add": "crm.item.payment.add?entityId=99&entityTypeId=2", "get": "crm.item.payment.get?id=$result[add]"}
    found = rest.batch(commands)
    assert found["result_error"]["get"]["error"] == "100"  # the whole result map, where a number is wanted
    assert "Invalid value {Array}" in found["result_error"]["get"]["error_description"]
    ok = "crm.item.payment.get?id=1002"
    other = {"ok": ok, "bad": "nothing", "list": "sale.payment.list?filter[@id]=$result[ok][nothing]&select[]=id"}
    found = rest.batch(other)
    assert [row["id"] for row in found["result"]["list"]["payments"]] == [1002]  # an IN over the payment's own values
    assert set(rest.batch(commands, halt=1)["result_error"]) == {"add"}


def test_references_in_keys_and_lists(rest: Any) -> None:
    found = rest.batch({"a": "user.admin", "b": "crm.item.payment.list?entityId=4&entityTypeId=2&$result[a][x]=1"})
    assert found["result"]["b"][0]["id"] == 1001


def test_log_knows_what_was_inside(rest: Any) -> None:
    rest.batch({"a": "crm.item.payment.get?id=1001", "b": "crm.item.payment.get?id=9"})
    outer, first, second = rest.portal.requests
    assert (outer["method"], outer["status"], outer["inside_batch"]) == ("batch", 200, False)
    assert (first["method"], first["params"], first["inside_batch"]) == ("crm.item.payment.get", {"id": "1001"}, True)
    assert (second["error"], second["user_id"]) == ("0", 1)


def test_ledger_and_log_know_the_names_of_commands(rest: Any) -> None:
    commands = {"deal-4": "crm.item.payment.pay?id=1001", "none": "crm.item.payment.pay?id=99"}
    rest.batch({**commands, "deal-6": "crm.item.payment.pay?id=1003"})
    rest.batch(["crm.item.payment.pay?id=1004"])
    rest("crm.item.payment.unpay", id=1004)
    found = [(entry["payment_id"], entry["command"]) for entry in rest.portal.ledger]
    assert found == [(1001, "deal-4"), (1003, "deal-6"), (1004, "0"), (1004, None)]
    names = [(entry["method"], entry["command"]) for entry in rest.portal.requests]
    assert names[:4] == [("batch", None), *(("crm.item.payment.pay", name) for name in ("deal-4", "none", "deal-6"))]
    assert names[-1] == ("crm.item.payment.unpay", None)
