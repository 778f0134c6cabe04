"""OAuth in process: trouble at the token endpoint, the log of the tokens, secrets, and what is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bitrix24.sandbox.portal import Application, TokenPair

HOUR = 3600


# -- trouble at the token endpoint ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "transport", "status", "rotated"),
    [
        ({"kind": "drop_before"}, "drop", 200, False),
        ({"kind": "drop_after"}, "drop", 200, True),
        ({"kind": "truncate"}, "truncate", 200, True),
        ({"kind": "slow"}, "slow", 200, True),
        ({"kind": "close_idle"}, "close_idle", 200, False),
        ({"kind": "html", "status": 504}, None, 504, False),
        ({"kind": "html", "when": "after"}, None, 502, True),
        ({"kind": "empty_body"}, None, 200, True),
        ({"kind": "invalid_json", "when": "before"}, None, 200, False),
        ({"kind": "redirect"}, None, 302, False),
        ({"kind": "query_limit_exceeded"}, None, 503, False),
        ({"kind": "error", "code": "invalid_grant", "status": 400}, None, 400, False),
        ({"kind": "error_after_executing", "code": "X", "status": 500}, None, 500, True),
        ({"kind": "internal_server_error"}, None, 500, True),
        ({"kind": "flood"}, "hostile", 200, True),
        ({"kind": "lure"}, None, 200, True),
    ],
    ids=str,
)
def test_faults_strike_the_token_endpoint(
    client: Any, options: dict[str, Any], transport: str | None, status: int, rotated: bool
) -> None:
    client.portal.faults.add(method="oauth.token", occurrence=1, **options)
    reply = client.refresh()
    assert (reply.transport, reply.status) == (transport, status)
    assert client.portal.requests[-1]["fault"] == options["kind"]
    assert ("refreshed" in client.events()) is rotated
    assert client.refresh().status == (400 if rotated else 200)  # the old token is dead if it has rotated
    noted = [entry["fault"] for entry in client.portal.tokens_log if entry["event"] == "refreshed"]
    assert noted == ([options["kind"]] if rotated else [None])


def test_hold_before_and_after_rotating(client: Any) -> None:
    for when, events in (("before", ["issued"]), ("after", ["issued", "refreshed", "refreshed"])):
        fault = client.portal.faults.add(kind="hold", method="oauth.token", when=when, times=1)
        token = client.pair.refresh_token
        reply = client.refresh(token)
        assert reply.transport == "hold"
        assert client.events() == events
        client.portal.faults.release(fault)
        assert reply.held is not None
        client.pair.refresh_token = reply.held.reply.body["refresh_token"]
    assert client.refresh().status == 200


def test_commit_later_rotates_behind_the_clients_back(client: Any) -> None:
    client.portal.faults.add(kind="commit_later", method="oauth.token", seconds=60)
    assert client.refresh().transport == "drop"
    client.portal.faults.clear()
    assert client.events() == ["issued", "refreshed"]
    assert client.refused(client.refresh()) == (400, "invalid_grant")


def test_lure_names_another_host(client: Any) -> None:
    client.portal.faults.add(kind="lure", location="https://evil.example:8443/some/where")
    answer = client.refresh().body
    assert isinstance(answer, dict)
    assert answer["client_endpoint"] == answer["server_endpoint"] == "https://evil.example:8443/rest/"
    assert answer["domain"] == "evil.example:8443"
    assert client.result("profile", answer["access_token"])["ID"] == "7"


def test_star_is_not_the_token_endpoint(client: Any) -> None:
    client.portal.faults.add(kind="drop_before")
    assert client.refresh().transport is None
    assert client.events() == ["issued", "refreshed"]
    assert client.call("profile", client.pair.access_token).transport == "drop"


@pytest.mark.parametrize(
    ("kind", "method"),
    [("lure", "crm.deal.get"), ("read_lag", "oauth.token"), ("true_not_applied", "oauth.token")],
)
def test_faults_that_make_no_sense(client: Any, kind: str, method: str) -> None:
    with pytest.raises(ValueError, match=f"{kind} means nothing to {method}"):
        client.portal.faults.add(kind=kind, method=method)


# -- logs and secrets -------------------------------------------------------------------------------------------------


def test_log_tells_refreshes_apart(client: Any) -> None:
    second = client.refresh().body["refresh_token"]
    client.clock.advance(HOUR)
    client.refresh(second)
    client.refresh(second)
    columns = ("event", "grant_type", "number", "previous", "previous_expired", "error")
    assert [tuple(entry[name] for name in columns) for entry in client.portal.tokens_log] == [
        ("issued", None, 1, None, None, None),
        ("refreshed", "refresh_token", 2, 1, False, None),
        ("refreshed", "refresh_token", 3, 2, True, None),
        ("refused", "refresh_token", None, None, None, "invalid_grant"),
    ]
    assert {entry["client_id"] for entry in client.portal.tokens_log} == {"local.app"}
    assert client.portal.tokens_log[2]["at"] == "2025-11-22T11:26:40+02:00"


def test_an_expiry_is_noted_once(client: Any) -> None:
    client.portal.expire_access_tokens()
    client.portal.expire_access_tokens()
    for _ in range(5):
        client.call("profile", client.pair.access_token)
    assert client.events() == ["issued", "expired"]


def test_log_forgets_the_oldest(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_bitrix24.sandbox.portal.oauth.KEPT_EVENTS", 2)
    for _ in range(3):
        client.portal.grant(client.application)
    assert [entry["number"] for entry in client.portal.tokens_log] == [3, 4]


def test_secrets_are_in_no_log(client: Any) -> None:
    code = client.portal.sign_in(client.application)
    pair, secret = client.pair, client.application.client_secret
    client.token(grant_type="authorization_code", code=code)
    client.refresh(client_id=secret)  # in the wrong field
    client.token(grant_type=pair.refresh_token, refresh_token=pair.refresh_token)
    fresh = client.refresh().body
    tokens = [pair.access_token, pair.refresh_token, fresh["access_token"], fresh["refresh_token"]]
    for place in [*tokens, code, secret]:
        client.call(place, fresh["access_token"])
        client.call("crm.deal.list", fresh["access_token"], filter={place: f"x{place}x"}, select=[place])
        client.call("batch", fresh["access_token"], cmd={place: f"crm.deal.get?id={place}"})
    client.call("profile", auth=pair.access_token, access_token=pair.access_token, refresh_token="r", client_secret="c")
    told = json.dumps([client.portal.requests, client.portal.tokens_log, client.portal.ledger, client.portal.view()])
    told += repr([client.portal.oauth.view(), client.application, pair, client.portal.oauth.applications])
    for secret_text in [*tokens, code, secret]:
        assert secret_text not in told
    assert client.portal.requests[-1]["params"] == dict.fromkeys(
        ("auth", "access_token", "refresh_token", "client_secret"), "***"
    )


def test_view_of_applications(client: Any) -> None:
    client.refresh()
    client.refresh()
    client.portal.grant(client.application, 1)
    (shown,) = client.portal.oauth.view()
    assert (shown["client_id"], shown["users"], shown["refreshed"], shown["refused"]) == ("local.app", [1, 7], 1, 1)


# -- keeping ----------------------------------------------------------------------------------------------------------


def test_dump_and_load_keep_it_all(client: Any, make_client: Any) -> None:
    code = client.portal.sign_in(client.application)
    client.portal.grant(client.application)
    client.refresh()
    twin = make_client()
    twin.portal.load(json.loads(json.dumps(client.portal.dump())))
    assert twin.portal.dump() == client.portal.dump()
    assert twin.result("profile", client.pair.access_token)["ID"] == "7"
    assert twin.result("profile", twin.pair.access_token) == "invalid_token"
    assert twin.refused(twin.refresh(client.pair.refresh_token)) == (400, "invalid_grant")
    assert twin.token(grant_type="authorization_code", code=code).status == 200
    numbers = [entry["number"] for entry in twin.portal.tokens_log if entry["number"]]
    assert numbers == [1, 2, 3, 4]


def test_dump_of_a_portal_without_oauth_can_still_be_loaded(client: Any) -> None:
    dump = client.portal.dump()
    del dump["oauth"]
    client.portal.load(dump)
    assert client.result("profile", client.pair.access_token)["ID"] == "7"


def test_reset_keeps_applications_and_ends_their_grants(client: Any) -> None:
    client.portal.reset()
    assert client.portal.tokens_log == []
    assert client.result("profile", client.pair.access_token) == "invalid_token"
    assert isinstance(client.portal.oauth.applications["local.app"], Application)
    assert isinstance(client.portal.grant(client.application), TokenPair)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"client_id": "local.app"}, "client_id: there is an application 'local.app' already"),
        ({"redirect_uri": "ftp://x"}, "redirect_uri: must be"),
        ({"redirect_uri": "/callback"}, "redirect_uri: must be"),
        ({"access_token_lifetime": 0}, "access_token_lifetime: must be a number of seconds above 0"),
        ({"refresh_token_lifetime": float("inf")}, "refresh_token_lifetime: must be"),
    ],
    ids=str,
)
def test_applications_that_make_no_sense(client: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        client.portal.add_application(**options)
    assert list(client.portal.oauth.applications) == ["local.app"]
