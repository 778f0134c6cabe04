"""Only the configured portal is ever talked to, and only as safely as the connection says.

Beside each portal a second server listens: a bait, to which everything points and on which nobody may ever call.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api import calls
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
)
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.sandbox.tls import make_certificates
from tests.drivers.raw_server import OK, SECRET, Peer, RawServer, http_response, settings_for
from tests.e2e.security.bait import Bait
from tests.e2e.security.proxies import connect_proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

METHOD = "crm.item.payment.add"
MOVED = (Bitrix24ConfigError, Bitrix24OutcomeUnknown)
"""What a read and a write raise at a redirect."""


def test_the_bait_notices() -> None:
    bait = Bait()
    host, _, port = bait.host.partition(":")
    socket.create_connection((host, int(port))).close()
    assert bait.calls() == 1
    bait.close()


def told(driver: Any, settings: Any, effect: Effect = Effect.NON_IDEMPOTENT) -> Any:
    try:
        return driver(settings)(ApiClient(settings, tries=1).call(METHOD, {"entityId": 1}, effect=effect))
    except Bitrix24Error as error:
        return error


# -- redirects and other lures in answers -------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [Effect.READ, Effect.NON_IDEMPOTENT])
@pytest.mark.parametrize("status", ["300", "301", "302", "303", "304", "305", "307", "308"])
def test_no_redirect_is_followed(serve: Any, driver: Any, bait: Bait, status: str, effect: Effect) -> None:
    body = f'<meta http-equiv="refresh" content="0; url={bait.url}/">'.encode()
    location = f"Location: {bait.url}/rest/1/{SECRET}/{METHOD}\r\nRefresh: 0; url={bait.url}\r\n"

    def script(peer: Peer) -> None:
        while peer.read_request():
            empty = status == "304"  # has no body
            peer.send(http_response(b"" if empty else body, status=f"{status} Elsewhere", headers=location))

    server = serve(script)
    settings = settings_for(server.port)
    got = told(driver, settings, effect)
    assert type(got) is (Bitrix24ConfigError if effect is Effect.READ else Bitrix24OutcomeUnknown)
    assert "responded with a redirect to 127.0.0.1, which is not followed" in str(got)
    assert ("The call was not executed." in str(got)) == (effect is Effect.READ)
    assert SECRET not in str(got)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", 'Content-Location: {url}\r\nRefresh: 0; url={url}\r\nAlt-Svc: h2="{host}"; ma=86400\r\n'),
        ("200 OK", "Link: <{url}>; rel=preload\r\nSet-Cookie: a=b; Domain=evil.example\r\n"),
        ("401 Unauthorized", 'WWW-Authenticate: Negotiate\r\nWWW-Authenticate: Basic realm="{url}"\r\n'),
        ("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="{url}"\r\n'),
        ("503 Busy", "Retry-After: 0\r\nLocation: {url}\r\n"),
    ],
)
def test_no_header_leads_elsewhere(serve: Any, driver: Any, bait: Bait, status: str, headers: str) -> None:
    body = {"result": {"next": bait.url, "url": bait.url}, "next": bait.url, "client_endpoint": f"{bait.url}/rest/"}

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(http_response(body, status=status, headers=headers.format(url=bait.url, host=bait.host)))

    server = serve(script)
    settings = settings_for(server.port)
    drive = driver(settings)
    for _ in range(2):
        told(lambda _: drive, settings)
    assert len(server.requests) == 2


def _raise(states: dict[int, Any]) -> None:
    """Raise the error that these methods return for what they could not read."""
    for state in states.values():
        if isinstance(state, Exception):
            raise state


async def _araise(states: Awaitable[dict[int, Any]]) -> None:
    _raise(await states)


HOOK_CALLS: dict[str, Callable[[Bitrix24Hook], Any]] = {
    "call": lambda hook: hook.call("profile"),
    "call_raw": lambda hook: hook.call_raw("profile"),
    "send": lambda hook: hook.send(calls.crm_item_payment_get(id=1001)),
    "rest": lambda hook: hook.rest.crm_item_payment_get(id=1001),
    "batch": lambda hook: hook.batch({"a": ("profile", {})}),
    "iterate": lambda hook: list(hook.iterate("crm.invoice.list")),
    "rest: set": lambda hook: hook.rest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31),
    "get_invoice": lambda hook: hook.get_invoice(invoice_id=2),
    "get_invoices": lambda hook: hook.get_invoices(invoice_ids=[2]),
    "find_invoices": lambda hook: hook.find_invoices(account_numbers=["2"]),
    "find_crm_payments": lambda hook: hook.find_crm_payments(account_numbers=["1/1"]),
    "rest: create": lambda hook: hook.rest.crm_item_payment_add(entity_id=1, entity_type_id=2),
    "get_crm_payment": lambda hook: hook.get_crm_payment(payment_id=1001),
    "get_crm_payments": lambda hook: hook.get_crm_payments(payment_ids=[1001]),
    "read_invoice_states": lambda hook: _raise(hook.read_invoice_states([2])),
    "read_payment_states": lambda hook: _raise(hook.read_payment_states({1001: None})),
    "read_paid_since": lambda hook: hook.read_paid_since("payment", datetime(2026, 1, 1, tzinfo=UTC)),
    "read_paid_hint": lambda hook: hook.read_paid_hint("payment", datetime(2026, 1, 1, tzinfo=UTC)),
    "bind_paid_events": lambda hook: hook.bind_paid_events("payment"),
    "list_crm_payments": lambda hook: hook.list_crm_payments(entity_id=4),
    "update_crm_payment": lambda hook: hook.update_crm_payment(payment_id=1001, pay_system_id=8),
}
ASYNC_CALLS: dict[str, Callable[[Bitrix24Hook], Any]] = {
    "acall": lambda hook: hook.acall("profile"),
    "acall_raw": lambda hook: hook.acall_raw("profile"),
    "asend": lambda hook: hook.asend(calls.crm_item_payment_get(id=1001)),
    "arest": lambda hook: hook.arest.crm_item_payment_get(id=1001),
    "abatch": lambda hook: hook.abatch({"a": ("profile", {})}),
    "arest: set": lambda hook: hook.arest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31),
    "aget_invoice": lambda hook: hook.aget_invoice(invoice_id=2),
    "aget_invoices": lambda hook: hook.aget_invoices(invoice_ids=[2]),
    "afind_invoices": lambda hook: hook.afind_invoices(account_numbers=["2"]),
    "afind_crm_payments": lambda hook: hook.afind_crm_payments(account_numbers=["1/1"]),
    "arest: create": lambda hook: hook.arest.crm_item_payment_add(entity_id=1, entity_type_id=2),
    "aget_crm_payment": lambda hook: hook.aget_crm_payment(payment_id=1001),
    "aget_crm_payments": lambda hook: hook.aget_crm_payments(payment_ids=[1001]),
    "aread_invoice_states": lambda hook: _araise(hook.aread_invoice_states([2])),
    "aread_payment_states": lambda hook: _araise(hook.aread_payment_states({1001: None})),
    "aread_paid_since": lambda hook: hook.aread_paid_since("payment", datetime(2026, 1, 1, tzinfo=UTC)),
    "aread_paid_hint": lambda hook: hook.aread_paid_hint("payment", datetime(2026, 1, 1, tzinfo=UTC)),
    "abind_paid_events": lambda hook: hook.abind_paid_events("payment"),
    "alist_crm_payments": lambda hook: hook.alist_crm_payments(entity_id=4),
    "aupdate_crm_payment": lambda hook: hook.aupdate_crm_payment(payment_id=1001, pay_system_id=8),
}


async def test_no_method_of_the_hook_follows_a_portal_that_moved(bitrix24_sandbox: Any, bait: Bait) -> None:
    bitrix24_sandbox.fault("redirect", location=f"{bait.url}/rest/")
    before = len(bitrix24_sandbox.ledger)
    for call in HOOK_CALLS.values():
        with pytest.raises(MOVED, match=r"redirect to 127\.0\.0\.1, which is not followed"):
            call(Bitrix24Hook())
    for acall in ASYNC_CALLS.values():
        with pytest.raises(MOVED, match=r"redirect to 127\.0\.0\.1, which is not followed"):
            await acall(Bitrix24Hook())
    works, text = Bitrix24Hook().test_connection()
    assert not works
    assert "which is not followed" in text
    assert len(bitrix24_sandbox.requests) == len(HOOK_CALLS) + len(ASYNC_CALLS) + 1
    assert len(bitrix24_sandbox.ledger) == before


def test_every_method_of_the_hook_was_tried() -> None:
    """So that a new one is not forgotten above."""
    no_calls = {"run", "test_connection", "refresh_token"}  # the last one never asks the portal, see below
    ours = [kind for kind in Bitrix24Hook.__mro__ if kind.__module__.startswith("airflow_provider_bitrix24.")]
    own = {name for kind in ours for name, value in vars(kind).items() if callable(value)}
    public = {name for name in own if not name.startswith("_")} - no_calls
    twins = {name for name in public if name.startswith("a") and name[1:] in public | no_calls | {"client"}}
    tried = [{name.partition(":")[0] for name in calls} for calls in (HOOK_CALLS, ASYNC_CALLS)]
    assert (public - twins) | {"rest"} == tried[0]  # whose calls are made by `send`
    assert (twins - {"aclient", "arun", "aiterate", "arefresh_token"}) | {"arest"} == tried[1]


@pytest.mark.parametrize(
    "method",
    [
        "http://{host}/",
        "//{host}/x",
        "../../{host}",
        "x@{host}/",
        "profile?u=http://{host}",
        "profile#",
        "p\r\nHost: x",
    ],
)
def test_a_method_is_no_address(bitrix24_sandbox: Any, bait: Bait, method: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match="is no REST method"):
        Bitrix24Hook().call(method.format(host=bait.host))
    assert bitrix24_sandbox.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "user@{host}",
        "acme.bitrix24.com@{host}",
        "acme.bitrix24.com\\@{host}",
        "acme.bitrix24.com {host}",
        "acme.bitrix24.com\t.{host}",
        "http://{host}/redirect",
        "http://{host}/x?acme.bitrix24.com",
        "acme.bitrix24.com/../{host}",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "acme.bitrix24.com%00.{host}",
        "http:{host}",
    ],
)
async def test_a_host_that_is_no_plausible_portal_is_refused(
    monkeypatch: pytest.MonkeyPatch, bait: Bait, host: str
) -> None:
    connection = {"conn_type": "bitrix24", "host": host.format(host=bait.host), "login": "1", "password": SECRET}
    connection["extra"] = json.dumps({"connect_timeout": 0.2, "read_timeout": 0.2, "allow_http": True})
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    with pytest.raises(Bitrix24ConfigError, match="bitrix24_default") as caught:
        Bitrix24Hook().call("profile")
    assert SECRET not in str(caught.value)
    with pytest.raises(Bitrix24ConfigError):
        await Bitrix24Hook().acall("profile")


# -- https ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "HTTP", "ftp", "file", "ws"])
def test_nothing_but_https_to_other_machines(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    connection = {"conn_type": "bitrix24", "host": f"{scheme}://portal.invalid", "login": "1", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    with pytest.raises(Bitrix24ConfigError, match="schema"):
        Bitrix24Hook().call("profile")


@pytest.mark.bitrix24_sandbox(tls=True)
async def test_the_sandbox_is_trusted_with_its_own_authority_only(
    bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert bitrix24_sandbox.url.startswith("https://")
    assert Bitrix24Hook().call("profile")["ID"]
    assert (await Bitrix24Hook().acall("profile"))["ID"]
    connection = json.loads(bitrix24_sandbox.connection)
    other = make_certificates(tmp_path).authority
    for authority in (None, str(other)):
        extra = {name: value for name, value in connection["extra"].items() if name != "ca_bundle"}
        extra |= {"ca_bundle": authority} if authority else {}
        monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps({**connection, "extra": extra}))
        with pytest.raises(Bitrix24NotSent, match="TLS: unable to get local issuer certificate"):
            Bitrix24Hook().rest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)
        with pytest.raises(Bitrix24NotSent, match="TLS: unable to get local issuer certificate"):
            await Bitrix24Hook().arest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)
    assert len(bitrix24_sandbox.requests) == 2


@pytest.mark.parametrize("extra", [{"verify": False}, {"ca_bundle": False}, {"ssl_verify": "false"}, {"insecure": 1}])
def test_no_extra_turns_the_check_off(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]) -> None:
    connection = {"conn_type": "bitrix24", "host": "portal.invalid", "login": "1", "password": SECRET, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    with pytest.raises(Bitrix24ConfigError, match="extra"):
        Bitrix24Hook().call("profile")


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for this machine, and the file of the authority that signed it."""
    files = make_certificates(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context, files.authority


def test_no_environment_turns_the_check_off(
    serve: Any, driver: Any, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda peer: peer.read_request(), tls[0])
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    got = told(driver, settings_for(server.port, schema="https"))
    assert isinstance(got, Bitrix24NotSent)
    assert "TLS: " in str(got)
    assert server.requests == []


# -- proxies --------------------------------------------------------------------------------------------------------


@pytest.mark.bitrix24_sandbox(tls=True)
@pytest.mark.parametrize("proxy_tls", [False, True], ids=["proxy", "proxy over TLS"])
async def test_through_a_proxy_that_learns_only_the_host(
    bitrix24_sandbox: Any, serve: Any, tls: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxy_tls: bool
) -> None:
    proxy: RawServer = serve(connect_proxy, tls[0] if proxy_tls else None)
    credentials = "worker:pr0xyp4ssw0rd"
    scheme = "https" if proxy_tls else "http"
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{credentials}@127.0.0.1:{proxy.port}")
    authorities = tmp_path / "both.pem"
    own = bitrix24_sandbox.server.ca_file.read_text()
    authorities.write_text(own + tls[1].read_text())
    connection = json.loads(bitrix24_sandbox.connection)
    connection["extra"]["ca_bundle"] = str(authorities)
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))

    Bitrix24Hook().rest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)
    await Bitrix24Hook().arest.sale_paysystem_pay_invoice(invoice_id=3, pay_system_id=31)
    assert [entry["invoice_id"] for entry in bitrix24_sandbox.ledger if entry["event"] == "invoice_paid"] == [2, 3]
    seen = b"".join(proxy.requests)
    assert [request.split(b" ")[:2] for request in proxy.requests] == [
        [b"CONNECT", f"127.0.0.1:{bitrix24_sandbox.server.port}".encode()]
    ] * 2
    assert seen.count(base64.b64encode(credentials.encode())) == 2
    assert bitrix24_sandbox.secret.encode() not in seen
    assert b"rest" not in seen


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTPS_PROXY": "{url}", "https_proxy": "{url}", "ftp_proxy": "{url}"},
        {"http_proxy": "{url}", "no_proxy": "127.0.0.1,localhost"},
        {"ALL_PROXY": "{url}", "all_proxy": "{url}", "NO_PROXY": "*"},
        {"http_proxy": "{url}", "NO_PROXY": "127.0.0.0/8"},
    ],
    ids=["for others", "but not here", "for nobody", "but not for these networks"],
)
def test_a_proxy_for_others_is_not_used(
    serve: Any, driver: Any, bait: Bait, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(url=bait.url))
    server = serve(lambda peer: peer.read_request() and peer.send(OK))
    assert told(driver, settings_for(server.port)).result["id"] == 7


@pytest.mark.parametrize(
    "proxy",
    [
        "http://",
        "http://user:pr0xyp4ssw0rd@proxy.invalid:port",
        "http://user:pr0xyp4ssw0rd@[::1",
        "http://user:pr0xyp4ssw0rd@proxy.invalid:99999",
        "socks5://user:pr0xyp4ssw0rd@proxy.invalid",
        "file:///pr0xyp4ssw0rd",
    ],
)
def test_a_proxy_that_cannot_be_one_is_named_without_its_password(
    driver: Any, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(Bitrix24ConfigError, match="The environment names a proxy") as caught:
        driver(settings_for(443, host="portal.invalid", schema="https"))
    assert "pr0xyp4ssw0rd" not in f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"


def test_a_proxy_in_capital_letters(driver: Any, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(lambda peer: peer.read_request() and peer.send(OK))
    monkeypatch.setenv("http_proxy", f"HTTP://127.0.0.1:{server.port}")
    assert told(driver, settings_for(8080, host="portal.invalid")).result["id"] == 7


def test_a_proxy_cannot_redirect(driver: Any, serve: Any, bait: Bait, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = http_response(b"", status="302 Found", headers=f"Location: {bait.url}/\r\n")
    server = serve(lambda peer: peer.read_request() and peer.send(reply))
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
    got = told(driver, settings_for(443, host="portal.invalid", schema="https"))
    assert isinstance(got, Bitrix24NotSent)
    assert SECRET.encode() not in b"".join(server.requests)
