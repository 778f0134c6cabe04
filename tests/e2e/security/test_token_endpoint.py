"""The token endpoint and the bearer token: each secret goes where it belongs, whatever anybody answers."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24 import drivers
from airflow_provider_bitrix24.api import tokens
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24Error
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from tests.drivers.raw_server import OK, Peer, RawServer, http_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.security.bait import Bait


@pytest.fixture
def oauth(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Let the default connection be an OAuth application's, whose access token has expired; returns its first pair."""
    tokens = {"conn_type": "sqlite", "host": str(tmp_path / "tokens.db")}
    monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps(tokens))

    def connect(**fields: Any) -> Any:
        application = bitrix24_sandbox.add_application()
        pair = bitrix24_sandbox.grant(application)
        connection = json.loads(bitrix24_sandbox.oauth_connection_of(application, pair))
        extra = connection["extra"] | {"token_conn_id": "tokens", "allow_http": True} | fields.pop("extra", {})
        monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection | fields | {"extra": extra}))
        bitrix24_sandbox.portal.expire_access_tokens()
        return application, pair

    return connect


PROFILES: dict[str, Callable[[Bitrix24Hook], Any]] = {
    "blocking": lambda hook: hook.call("profile"),
    "async": lambda hook: asyncio.run(hook.acall("profile")),
}


@pytest.mark.parametrize("call", PROFILES)
def test_a_token_answer_cannot_lure_to_another_portal(
    bitrix24_sandbox: Any, oauth: Any, bait: Bait, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    oauth()
    lure = bait.url.replace("127.0.0.1", "localhost")  # the portal has another name
    bitrix24_sandbox.fault("lure", location=f"{lure}/rest/")
    assert PROFILES[call](Bitrix24Hook())["ID"]  # the same portal as before
    assert [entry["event"] for entry in bitrix24_sandbox.token_log].count("refreshed") == 1
    assert "The token endpoint says that the new tokens are for the portal" in caplog.text


@pytest.mark.parametrize("call", [*PROFILES, "refresh"])
def test_the_token_endpoint_cannot_redirect(bitrix24_sandbox: Any, oauth: Any, bait: Bait, call: str) -> None:
    application, pair = oauth()
    bitrix24_sandbox.fault("redirect", "oauth.token", location=f"{bait.url}/oauth/token/")
    with pytest.raises(Bitrix24Error, match="redirect") as caught:
        PROFILES.get(call, lambda hook: hook.refresh_token(min_lifetime=60))(Bitrix24Hook())
    for secret in (application.client_secret, pair.access_token, pair.refresh_token):
        assert secret not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize("call", PROFILES)
def test_a_portal_cannot_redirect_the_bearer(bitrix24_sandbox: Any, oauth: Any, bait: Bait, call: str) -> None:
    oauth()
    bitrix24_sandbox.fault("redirect", location=f"{bait.url}/rest/")
    with pytest.raises(Bitrix24ConfigError, match="which is not followed"):
        PROFILES[call](Bitrix24Hook())


@pytest.mark.parametrize("driver", ["requests", "httpx"])
@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_no_library_logs_the_address_of_a_refresh(
    bitrix24_sandbox: Any, oauth: Any, driver: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Client secret and refresh token are in its query; httpx logs whole addresses at INFO."""
    application, pair = oauth()
    settings = Bitrix24Hook().settings
    for name in ("", "httpx", "httpcore", "urllib3"):  # Airflow has its own ideas of some
        caplog.set_level(level, name)
    flow = tokens.refresh(settings, settings.application, pair.refresh_token)  # type: ignore[arg-type]

    async def arun() -> tokens.Issued:
        async with drivers.make_client(settings) as client:
            return await drivers.arun(flow, client)

    if driver == "requests":
        with drivers.make_session(settings) as session:
            issued = drivers.run(flow, session).tokens
    else:
        issued = asyncio.run(arun()).tokens
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for secret in (application.client_secret, pair.refresh_token, issued.refresh_token, issued.access_token):
        assert secret not in logged
    if driver == "httpx" or level == logging.DEBUG:
        assert "/oauth/token/?***" in logged  # it was logged


@pytest.mark.parametrize("call", PROFILES)
def test_netrc_does_not_replace_the_bearer(
    bitrix24_sandbox: Any, oauth: Any, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    oauth()
    assert PROFILES[call](Bitrix24Hook())["ID"]


@pytest.mark.parametrize("call", PROFILES)
def test_each_secret_goes_to_one_place_only(bitrix24_sandbox: Any, oauth: Any, serve: Any, call: str) -> None:
    """The portal never sees client secret and refresh token, the token endpoint never an access token."""
    expired = http_response({"error": "expired_token", "error_description": "expired"}, status="401 Unauthorized")

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(OK if len(peer.server.requests) > 1 else expired)

    portal: RawServer = serve(script)
    application, first = oauth(port=portal.port)
    assert PROFILES[call](Bitrix24Hook())["id"] == 7
    secrets = {*bitrix24_sandbox.portal.oauth.secrets()} - {first.access_token}
    heads = [request.partition(b"\r\n\r\n")[0] for request in portal.requests]
    sent = {secret for secret in secrets if any(secret.encode() in request for request in portal.requests)}
    assert len(sent) == 1  # the new access token
    assert application.client_secret not in sent
    assert f"Authorization: Bearer {first.access_token}".encode() in heads[0]
    assert f"Authorization: Bearer {sent.pop()}".encode() in heads[1]
    assert [request["method"] for request in bitrix24_sandbox.requests] == ["oauth.token"]


def test_the_token_endpoint_has_a_proxy_of_its_own(
    bitrix24_sandbox: Any, oauth: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment says about the portal's host does not count for the other one."""
    proxy: RawServer = serve(lambda peer: peer.read_request() and None)
    oauth(extra={"oauth_url": f"http://localhost:{bitrix24_sandbox.server.port}"})
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(Bitrix24Error):
        Bitrix24Hook().refresh_token(min_lifetime=60)
    assert proxy.requests
    assert all(request.startswith(b"GET http://localhost:") for request in proxy.requests)
