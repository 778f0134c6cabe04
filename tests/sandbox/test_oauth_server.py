"""OAuth over HTTP: the page where people sign in, the token endpoint, the control plane; and no secret anywhere."""

from __future__ import annotations

import logging
import re
import ssl
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Application, Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bitrix24.sandbox.portal import TokenPair

pytestmark = pytest.mark.libraries

TIMEOUT = 300  # seconds; a safety net, never what a test measures


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Portal(ManualClock())) as server:
        yield server


@pytest.fixture
def application(server: SandboxServer) -> Application:
    return server.portal.add_application("local.app", "client1secret")


@pytest.fixture
def http(server: SandboxServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=TIMEOUT, trust_env=False) as client:
        yield client


def credentials(application: Application, **params: str) -> dict[str, str]:
    return {"client_id": application.client_id, "client_secret": application.client_secret, **params}


def refresh(http: httpx.Client, application: Application, token: str) -> httpx.Response:
    params = credentials(application, grant_type="refresh_token", refresh_token=token)
    return http.get("/oauth/token/", params=params)


def fields_of(page: httpx.Response) -> dict[str, str]:
    """What a browser would send when the button is pressed at once."""
    found = {
        name: unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
    }
    (first, *_) = re.findall(r'<option value="(\d+)">', page.text)
    return {**found, "user_id": first}


# -- signing in -------------------------------------------------------------------------------------------------------


def test_sign_in_without_a_redirect_address(http: httpx.Client, application: Application) -> None:
    page = http.get("/oauth/authorize/", params={"client_id": "local.app", "state": '"<x>&'})
    assert page.status_code == 200
    assert "local.app" in page.text
    assert "crm, sale, pay_system, salescenter" in page.text
    assert "Anna Berg, administrator" in page.text
    assert "<script" not in page.text
    fields = fields_of(page)
    assert fields == {"client_id": "local.app", "state": '"<x>&', "user_id": "1"}
    answer = http.post("/oauth/authorize/", data=fields | {"user_id": "7"})
    code = re.search(r'<code id="code">(\w+)</code>', answer.text)
    assert code is not None
    assert answer.headers["cache-control"] == "no-store"
    params = credentials(application, grant_type="authorization_code", code=code[1])
    pair = http.get("/oauth/token/", params=params).json()
    profile = http.post("/rest/profile", headers={"Authorization": f"Bearer {pair['access_token']}"}).json()
    assert profile["result"]["ID"] == "7"
    assert http.get("/oauth/token/", params=params).json()["error"] == "invalid_grant"


def test_sign_in_with_a_redirect_address(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.add_application("local.web", "s", redirect_uri="https://app.example/back?tenant=5")
    page = http.get("/oauth/authorize/", params={"client_id": "local.web", "state": "a b&c"})
    assert "form-action 'self' https://app.example;" in page.headers["content-security-policy"]
    answer = http.post("/oauth/authorize/", data=fields_of(page))
    assert answer.status_code == 302
    target = urlsplit(answer.headers["location"])
    assert (target.scheme, target.netloc, target.path) == ("https", "app.example", "/back")
    query = dict(parse_qsl(target.query))
    host = server.url.removeprefix("http://")
    assert query.pop("code")
    assert query == {
        "tenant": "5",
        "state": "a b&c",
        "domain": host,
        "member_id": server.portal.oauth.member_id,
        "scope": "crm,sale,pay_system,salescenter",
        "server_domain": host,
    }


def test_code_is_dead_after_30_seconds(server: SandboxServer, http: httpx.Client, application: Application) -> None:
    code = server.portal.sign_in(application)
    assert isinstance(server.portal.clock, ManualClock)
    server.portal.clock.advance(30)
    answer = http.get("/oauth/token/", params=credentials(application, grant_type="authorization_code", code=code))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"client_id": "local.none"}, {}, 400),
        ({"client_id[]": "local.app"}, {}, 400),
        ({"client_id": "local.app", "user_id": "99"}, {}, 400),
        ({"client_id": "local.app", "user_id": "Anna"}, {}, 400),
        ({"client_id": "local.app", "user_id": "1"}, {"Origin": "https://evil.example"}, 403),
        ({"client_id": "local.app", "user_id": "1"}, {"Host": "evil.example"}, 403),
    ],
    ids=str,
)
def test_consent_that_is_none(
    server: SandboxServer,
    http: httpx.Client,
    application: Application,
    fields: dict[str, str],
    headers: dict[str, str],
    status: int,
) -> None:
    answer = http.post("/oauth/authorize/", data=fields, headers=headers)
    assert (answer.status_code, application.client_id) == (status, "local.app")
    assert "code id=" not in answer.text
    assert server.portal.dump()["oauth"]["codes"] == []


def test_removed_application_and_dismissed_user(
    server: SandboxServer, http: httpx.Client, application: Application
) -> None:
    server.portal.state.users[7].active = False
    page = http.get("/oauth/authorize", params={"client_id": application.client_id})
    assert "Ivo" not in page.text
    server.portal.act.remove_application(application.client_id)
    answer = http.get("/oauth/authorize/", params={"client_id": application.client_id})
    assert answer.status_code == 400
    assert "no such application" in answer.text


def test_names_are_text(server: SandboxServer, http: httpx.Client) -> None:
    evil = "<script>alert(1)</script>"
    server.portal.create("user", {"name": evil})
    server.portal.add_application(evil, "s", scopes=[evil])
    page = http.get("/oauth/authorize/", params={"client_id": evil, "state": evil})
    assert page.status_code == 200
    assert evil not in page.text
    assert page.text.count("&lt;script&gt;") == 5


# -- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/oauth/token/", "/oauth/token"])
def test_refresh(server: SandboxServer, http: httpx.Client, application: Application, path: str) -> None:
    pair = server.portal.grant(application)
    params = credentials(application, grant_type="refresh_token", refresh_token=pair.refresh_token)
    answer = http.get(path, params=params)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["client_endpoint"] == f"{server.url}/rest/"
    assert http.get(path, params=params).json() == {
        "error": "invalid_grant",
        "error_description": "Invalid authorization tokens",
    }


def test_token_endpoint_is_asked_by_get(server: SandboxServer, http: httpx.Client, application: Application) -> None:
    pair = server.portal.grant(application)
    params = credentials(application, grant_type="refresh_token", refresh_token=pair.refresh_token)
    assert http.post("/oauth/token/", data=params).status_code == 405
    assert refresh(http, application, pair.refresh_token).status_code == 200


def test_bearer_beats_auth_in_query_and_body(
    server: SandboxServer, http: httpx.Client, application: Application
) -> None:
    anna, ivo = server.portal.grant(application, 1), server.portal.grant(application, 7)
    headers = {"Authorization": f"Bearer {anna.access_token}"}
    query = http.post(f"/rest/profile.json?auth={ivo.access_token}", headers=headers)
    body = http.post("/rest/profile", json={"access_token": ivo.access_token}, headers=headers)
    assert [answer.json()["result"]["ID"] for answer in (query, body)] == ["1", "1"]
    assert http.get("/rest/profile", params={"auth": ivo.access_token}).json()["result"]["ID"] == "7"
    assert http.post("/rest/profile", data={"auth": ivo.access_token}).json()["result"]["ID"] == "7"


def test_webhooks_keep_working(server: SandboxServer, http: httpx.Client, application: Application) -> None:
    webhook = server.portal.webhook
    ivo = server.portal.grant(application, 7)
    headers = {"Authorization": f"Bearer {ivo.access_token}"}
    answer = http.post(f"/rest/1/{webhook.secret}/profile", headers=headers)
    assert answer.json()["result"]["ID"] == "1"


def test_of_many_refreshes_with_one_token_one_wins(server: SandboxServer, application: Application) -> None:
    pair = server.portal.grant(application)

    def go(_: int) -> int:
        with httpx.Client(base_url=server.url, timeout=TIMEOUT, trust_env=False) as client:
            return refresh(client, application, pair.refresh_token).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(go, range(8))) == [200] + [400] * 7
    events = [(entry["event"], entry["error"]) for entry in server.portal.tokens_log]
    assert events.count(("refreshed", None)) == 1
    assert events.count(("refused", "invalid_grant")) == 7


def test_answer_that_is_lost_after_rotating(
    server: SandboxServer, http: httpx.Client, application: Application
) -> None:
    pair = server.portal.grant(application)
    http.post("/_sandbox/faults", json={"kind": "drop_after", "method": "oauth.token", "occurrence": 1})
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        refresh(http, application, pair.refresh_token)
    assert refresh(http, application, pair.refresh_token).json()["error"] == "invalid_grant"
    log = http.get("/_sandbox/tokens").json()["tokens"]
    assert [(entry["event"], entry["fault"]) for entry in log] == [
        ("issued", None),
        ("refreshed", "drop_after"),
        ("refused", None),
    ]


def test_tls() -> None:
    with SandboxServer(Portal(require_https=True), tls=True) as server:
        made = server.portal.add_application()
        pair = server.portal.grant(made)
        context = ssl.create_default_context(cafile=server.ca_file)
        with httpx.Client(base_url=server.url, verify=context, timeout=TIMEOUT, trust_env=False) as http:
            assert refresh(http, made, pair.refresh_token).json()["client_endpoint"] == f"{server.url}/rest/"


# -- control plane ----------------------------------------------------------------------------------------------------


def test_everything_over_the_control_plane(http: httpx.Client) -> None:
    def post(path: str, **body: Any) -> Any:
        answer = http.post(f"/_sandbox/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    made = post("objects", kind="application", fields={"scopes": ["crm"], "access_token_lifetime": 5})
    assert http.get(made["authorize_url"]).status_code == 200
    assert made["redirect_uri"] is None
    pair = post("objects", kind="grant", fields={"client_id": made["client_id"], "user_id": 7})
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert http.post("/rest/scope", headers=headers).json()["result"] == ["crm"]
    post("clock", advance=5)
    assert http.post("/rest/scope", headers=headers).json()["error"] == "expired_token"

    pair = post("objects", kind="grant", fields={"client_id": made["client_id"]})
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    post("act", action="expire_access_tokens", client_id=made["client_id"])
    assert http.post("/rest/scope", headers=headers).json()["error"] == "expired_token"
    post("act", action="revoke_grants", user_id=1)
    assert http.post("/rest/scope", headers=headers).json()["error"] == "invalid_token"
    post("act", action="remove_application", client_id=made["client_id"])
    (shown,) = http.get("/_sandbox/state").json()["applications"]
    assert (shown["client_id"], shown["installed"], shown["users"]) == (made["client_id"], False, [7])
    assert [entry["event"] for entry in http.get("/_sandbox/tokens").json()["tokens"]] == [
        "issued",
        "expired",
        "issued",
        "expired",
        "revoked",
    ]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("objects", {"kind": "application", "fields": {"name": "x"}}, "fields.name: unknown"),
        ("objects", {"kind": "application", "fields": {"scopes": "crm"}}, "fields.scopes: must be"),
        ("objects", {"kind": "application", "fields": {"access_token_lifetime": 0}}, "access_token_lifetime: must be"),
        ("objects", {"kind": "application", "fields": {"client_id": "local.app"}}, "already"),
        ("objects", {"kind": "grant"}, "client_id of an application"),
        ("objects", {"kind": "grant", "fields": {"client_id": ["local.app"]}}, "client_id of an application"),
        ("objects", {"kind": "grant", "fields": {"client_id": "local.app", "user": 1}}, "client_id of an application"),
        ("objects", {"kind": "grant", "fields": {"client_id": "local.app", "user_id": 99}}, "no user 99"),
        ("act", {"action": "remove_application"}, "client_id: missing"),
        ("act", {"action": "remove_application", "client_id": "local.none"}, "local.none"),
        ("faults", {"kind": "lure", "method": "crm.deal.get"}, "lure means nothing to crm.deal.get"),
        ("faults", {"kind": "big_html", "megabytes": 0}, "megabytes must be a whole number from 1"),
        ("faults", {"kind": "deep_json", "depth": "deep"}, "depth: must be int"),
    ],
    ids=str,
)
def test_bad_input_is_named(
    http: httpx.Client, application: Application, path: str, body: dict[str, Any], message: str
) -> None:
    answer = http.post(f"/_sandbox/{path}", json=body)
    assert answer.status_code == 400, application
    assert message in answer.json()["error"]


# -- secrets ----------------------------------------------------------------------------------------------------------


def _wear_out(server: SandboxServer, http: httpx.Client, application: Application, pair: TokenPair) -> list[str]:
    """Use every door, rightly and wrongly; returns what must be found nowhere."""
    code = server.portal.sign_in(application)
    wrong = credentials(application, grant_type="authorization_code", code=code) | {"client_secret": "wrong"}
    http.get("/oauth/token/", params=wrong)
    http.get("/oauth/token/", params=wrong | {"client_secret": application.client_secret, "client_id": code})
    http.get("/oauth/token/", params=credentials(application, grant_type="authorization_code", code=code))
    fresh = refresh(http, application, pair.refresh_token).json()
    for token in (pair.access_token, fresh["access_token"], pair.refresh_token):
        http.post(
            "/rest/crm.deal.list", json={"filter": {"TITLE": token}}, headers={"Authorization": f"Bearer {token}"}
        )
        http.get(f"/rest/1/{token}/profile")
        http.get(f"/rest/{token}")
        http.get(f"/nowhere/{token}", params={"refresh_token": token})
        http.post("/_sandbox/act", json={"action": "pay_payment", "payment_id": 1001, "by": "customer"})
    for kind in ("drop_after", "html", "truncate", "error"):
        server.portal.faults.add(kind=kind, method="oauth.token", times=1)
        try:
            fresh = refresh(http, application, fresh["refresh_token"]).json()
        except (httpx.HTTPError, ValueError):
            fresh = {"refresh_token": server.portal.grant(application).refresh_token}
        fresh = {"refresh_token": fresh.get("refresh_token", pair.refresh_token)}
    oauth = server.portal.dump()["oauth"]
    tokens = [row[name] for row in oauth["pairs"] for name in ("access_token", "refresh_token")]
    return [*tokens, *(row["text"] for row in oauth["codes"]), application.client_secret]


def test_secrets_are_shown_nowhere(
    server: SandboxServer, http: httpx.Client, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = _wear_out(server, http, application, server.portal.grant(application))
    assert len(secrets) > 10
    paths = ("/", "/_sandbox/state", "/_sandbox/requests", "/_sandbox/tokens", "/_sandbox/ledger", "/_sandbox/faults")
    told = {path: http.get(path).text for path in paths}
    # the client of this test writes addresses to its own log, secrets and all; that is not the portal's
    told["log"] = "\n".join(r.getMessage() for r in caplog.records if r.name.split(".")[0] not in ("httpx", "httpcore"))
    for place, text in told.items():
        assert not [secret for secret in secrets if secret in text], place
    assert "oauth.token" in told["/_sandbox/requests"]
