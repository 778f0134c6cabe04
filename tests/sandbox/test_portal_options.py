"""Options of the portal: both behaviours where the facts do not decide, and how an option is turned."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airflow_provider_bitrix24.sandbox.portal import Auth, Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

SECRET = "abc123secret"


def test_payment_list_pages_at_50(make_rest: Any) -> None:
    rest = make_rest(options={"payment_list_pages": True})
    for _ in range(60):
        rest("crm.item.payment.add", entityId=3, entityTypeId=2)
    first = rest.body("crm.item.payment.list", entityId=3, entityTypeId=2)
    assert (len(first["result"]), first["next"], first["total"]) == (50, 50, 60)
    second = rest.body("crm.item.payment.list", entityId=3, entityTypeId=2, start=50)
    assert (len(second["result"]), second.get("next"), second["total"]) == (10, None, 60)
    assert {row["id"] for row in first["result"] + second["result"]} == set(range(1033, 1093))
    last = first["result"][-1]["id"]
    keyset = rest("crm.item.payment.list", entityId=3, entityTypeId=2, filter={">id": last}, order={"id": "asc"})
    assert [row["id"] for row in keyset] == [row["id"] for row in second["result"]]


@pytest.mark.parametrize("commands", [None, "profile"])
def test_batch_without_commands(commands: Any, make_rest: Any) -> None:
    assert make_rest().batch(commands)["result"] == []
    rest = make_rest(options={"batch_needs_commands": True})
    assert rest.error("batch", cmd=commands) == "100"
    assert rest.batch({"me": "user.admin"})["result"] == {"me": True}


@pytest.mark.parametrize("instead", ["NO_AUTH_FOUND", "expired_token"])
def test_unknown_token(instead: str, make_client: Any) -> None:
    assert make_client().result("profile", "nobody's") == "invalid_token"
    client = make_client(options={"unknown_token_error": instead})
    assert client.result("profile", "nobody's") == instead
    assert client.result("user.admin", client.pair.access_token) is False


def test_unknown_filter_of_order_entities(make_rest: Any) -> None:
    assert len(make_rest()("crm.orderentity.list", filter={"=nothing": 1})["orderEntity"]) == 4
    rest = make_rest(options={"order_entity_refuses_unknown_filters": True})
    assert rest.error("crm.orderentity.list", filter={"=nothing": 1}) == "0"
    assert len(rest("crm.orderentity.list", filter={"=orderId": 1})["orderEntity"]) == 1


def test_filter_values_that_do_not_convert(make_rest: Any) -> None:
    def ids(rest: Any, **filter_: Any) -> list[int]:
        return [row["id"] for row in rest("sale.payment.list", filter=filter_)["payments"]]

    assert ids(make_rest(), **{"=id": "abc"}) == []
    assert ids(make_rest(), **{"=id": [1001, 1002]}) == [1001, 1002]
    rest = make_rest(options={"sale_filters_drop_what_does_not_convert": True})
    assert ids(rest, **{"=id": "abc"}) == ids(rest, **{"=id": [1001]}) == [1001, 1002, 1003, 1004]
    assert ids(rest, **{"@id": [1001]}) == [1001]
    assert ids(rest, **{"=id": "1001"}) == [1001]


def test_rows_of_a_missing_owner(make_rest: Any) -> None:
    available = "crm.item.productrow.getAvailableForPayment"
    assert make_rest().error(available, ownerId=99, ownerType="D") == "OWNER_NOT_FOUND"
    assert make_rest().error("crm.item.productrow.list", filter={}) == "INVALID_ARG_VALUE"
    rest = make_rest(options={"missing_owner_has_no_rows": True})
    assert rest(available, ownerId=99, ownerType="D") == {"productRows": []}
    assert rest("crm.item.productrow.list", filter={}) == {"productRows": []}
    assert rest("crm.item.productrow.list", filter={"=ownerId": 99, "=ownerType": "D"}) == {"productRows": []}
    assert rest.error(available, ownerId=99, ownerType="X") == "ENTITY_TYPE_NOT_SUPPORTED"
    assert rest.as_user(7, "deal.read").error(available, ownerId=1, ownerType="D") == "ACCESS_DENIED"


def test_webhook_address_without_a_method_and_other_verbs() -> None:
    with SandboxServer(Portal(secret=SECRET)) as server, httpx.Client(timeout=300, trust_env=False) as http:
        address = f"{server.url}/rest/1/{SECRET}"
        for path in (address, f"{address}/"):
            reply = http.post(path)
            assert (reply.status_code, reply.json()["error"]) == (401, "NO_AUTH_FOUND")
        assert [http.request(verb, f"{address}/profile").status_code for verb in ("PUT", "PATCH", "DELETE")] == [
            405
        ] * 3
        options = {"webhook_without_method": "ERROR_METHOD_NOT_FOUND", "any_http_method": True}
        answer = http.post(f"{server.url}/_sandbox/options", json=options).json()["options"]
        assert answer["any_http_method"] is True
        reply = http.post(address)
        assert (reply.status_code, reply.json()["error"]) == (404, "ERROR_METHOD_NOT_FOUND")
        assert http.put(f"{address}/crm.deal.get", json={"id": 1}).json()["result"]["ID"] == "1"
        assert all(SECRET not in str(entry) for entry in server.portal.requests)


def test_wrong_options_are_named(rest: Any) -> None:
    with pytest.raises(ValueError, match="unknown option 'nothing'; known: any_http_method"):
        Portal(options={"nothing": True})
    with pytest.raises(ValueError, match="payment_list_pages must be of type bool, not 'yes'"):
        rest.portal.set_options({"payment_list_pages": "yes"})
    with pytest.raises(ValueError, match="unknown_token_error must be one of invalid_token"):
        rest.portal.set_options({"unknown_token_error": "what"})
    with SandboxServer(rest.portal) as server:
        reply = httpx.post(f"{server.url}/_sandbox/options", json={"nothing": 1}, trust_env=False)
        assert (reply.status_code, reply.json()["error"][:24]) == (400, "unknown option 'nothing'")


def test_a_reset_keeps_the_options_of_the_portal() -> None:
    portal = Portal(options={"payment_list_pages": True})
    portal.set_options({"phone_confirmed": False})
    portal.reset()
    assert (portal.state.options["payment_list_pages"], portal.state.options["phone_confirmed"]) == (True, True)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"1/{SECRET}/crm.deal.get", 404, "ERROR_METHOD_NOT_FOUND"),
        ("1/wrong/crm.deal.get", 401, "INVALID_CREDENTIALS"),
        ("crm.deal.get", 401, "NO_AUTH_FOUND"),
        (f"1/{SECRET}", 401, "NO_AUTH_FOUND"),
    ],
)
def test_address_of_rest_3(path: str, status: int, code: str) -> None:
    with SandboxServer(Portal(secret=SECRET)) as server:
        reply = httpx.post(f"{server.url}/rest/api/{path}", json={"id": 1}, timeout=300, trust_env=False)
        assert reply.status_code == status
        assert reply.json()["error"]["code"] == code
        assert reply.json()["error"]["message"]
        assert server.portal.requests[-1]["error"] == code
        assert server.portal.ledger == []


def test_rest_3_knows_tokens(client: Any) -> None:
    reply = client.portal.handle_version_3("batch", {}, auth=Auth(), headers={"Authorization": "Bearer x"})
    assert reply.body == {"error": {"code": "invalid_token", "message": "Unable to get application by token"}}
