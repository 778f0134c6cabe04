"""Replies made to hurt, as they come over HTTP; and the portal that sends them stays small and goes on serving."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_provider_bitrix24.sandbox.faults import HOSTILE
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "abc123secret"
TIMEOUT = 300  # seconds; a safety net, never what a test measures
MEGABYTE = 1_048_576
ADD = "crm.item.payment.add"


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Portal(secret=SECRET)) as server:
        yield server


@pytest.fixture
def http(server: SandboxServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/rest/1/{SECRET}/", timeout=TIMEOUT, trust_env=False) as client:
        yield client


def raw(http: httpx.Client, method: str = "profile", **params: Any) -> tuple[httpx.Response, bytes]:
    """The response and its body as it came over the wire: nothing unpacked."""
    with http.stream("POST", method, json=params) as answer:
        return answer, b"".join(answer.iter_raw())


def payments_added(server: SandboxServer) -> int:
    return sum(entry["event"] == "payment_added" for entry in server.portal.ledger)


def test_flood_has_no_end_and_blocks_nobody(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.faults.add(kind="flood", method=ADD)
    with http.stream("POST", ADD, json={"entityId": 1, "entityTypeId": 2}) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json; charset=utf-8")
        assert "content-length" not in answer.headers
        pieces = answer.iter_raw(MEGABYTE)
        assert next(pieces).startswith(b'{"result":"xxx')
        for _ in range(5):
            assert http.post("profile").status_code == 200
            assert next(pieces) == b"x" * MEGABYTE
    assert payments_added(server) == 1
    assert http.post("profile").status_code == 200


def test_flood_by_drops(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.faults.add(kind="flood", seconds=0.001)
    with http.stream("POST", "profile") as answer:
        drops = itertools.chain.from_iterable(answer.iter_raw(1))
        assert bytes(itertools.islice(drops, 20)) == b'{"result":"xxxxxxxxx'


def test_stop_ends_a_flood(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.faults.add(kind="flood", seconds=3600)
    with http.stream("POST", "profile") as answer:
        pieces = answer.iter_raw()
        assert next(pieces)
        server.stop()
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            list(pieces)


def test_big_html(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.faults.add(kind="big_html", megabytes=3, status=504)
    answer, body = raw(http)
    assert (answer.status_code, answer.headers["content-type"]) == (504, "text/html; charset=utf-8")
    assert body.startswith(b"<html>")
    assert body.endswith(b"</html>\n")
    assert 3 * MEGABYTE <= len(body) < 4 * MEGABYTE


@pytest.mark.parametrize("depth", [1, 65_536, 200_001])
def test_deep_json(server: SandboxServer, http: httpx.Client, depth: int) -> None:
    server.portal.faults.add(kind="deep_json", depth=depth)
    _, body = raw(http)
    assert body == b'{"result":' + b"[" * depth + b"]" * depth + b"}"


def test_deep_json_is_too_deep_by_default(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.faults.add(kind="deep_json")
    with pytest.raises(RecursionError):
        json.loads(raw(http)[1])


def test_huge_numbers_by_default(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.faults.add(kind="huge_numbers")
    answer, body = raw(http, ADD, entityId=1, entityTypeId=2)
    assert answer.status_code == 200
    assert body.startswith(b'{"result":' + b"9" * 5_000 + b",")
    with pytest.raises(ValueError, match="integer string conversion"):
        json.loads(body)
    assert payments_added(server) == 1


@pytest.mark.parametrize("literal", ["NaN", '"NaN"', '"a lot"', "-1", "1e999999999", '""', "null", "[]"])
def test_any_literal_where_numbers_belong(server: SandboxServer, http: httpx.Client, literal: str) -> None:
    server.portal.faults.add(kind="huge_numbers", literal=literal)
    payment = raw(http, "crm.item.payment.get", id=1001)[1].decode()
    for name in ("id", "sum", "paySystemId", "start", "finish"):
        assert f'"{name}":{literal}' in payment
    assert '"paid":"N"' in payment
    assert '"paySystemName":"Cash"' in payment
    invoice = raw(http, "crm.invoice.get", id=2)[1].decode()  # its numbers are strings
    assert f'"ID":{literal}' in invoice
    assert f'"PRICE":{literal}' in invoice
    batch = raw(http, "batch", cmd={"a": "crm.item.payment.get?id=1001"})[1].decode()
    assert f'"sum":{literal}' in batch


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "no-such-charset"])
def test_wrong_encoding(server: SandboxServer, http: httpx.Client, charset: str) -> None:
    server.portal.faults.add(kind="wrong_encoding", charset=charset)
    answer, body = raw(http, ADD, entityId=1, entityTypeId=2)
    assert answer.headers["content-type"] == f"application/json; charset={charset}"
    with pytest.raises(UnicodeDecodeError):
        body.decode("utf-8")
    assert json.loads(body.decode("utf-8", errors="replace"))["result"] == 1033
    assert payments_added(server) == 1


def test_wrong_encoding_of_an_error(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.faults.add(kind="wrong_encoding")
    answer, body = raw(http, "crm.item.payment.get", id=99)
    assert answer.status_code == 400
    assert json.loads(body.decode("utf-8", errors="replace"))["error"] == "0"


def test_gzip_bomb(server: SandboxServer, http: httpx.Client) -> None:
    server.portal.faults.add(kind="gzip_bomb", megabytes=8)
    http.headers["Accept-Encoding"] = "identity"  # it does not ask
    answer, body = raw(http)
    assert answer.headers["content-encoding"] == "gzip"
    assert len(body) < 8 * MEGABYTE / 100
    unpacked = gzip.decompress(body)
    assert unpacked[:12] == b'{"result":"0'
    assert unpacked[-3:] == b'0"}'
    assert len(unpacked) == 8 * MEGABYTE + len('{"result":""}')


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_before_executing(server: SandboxServer, http: httpx.Client, kind: str) -> None:
    server.portal.faults.add(kind=kind, method=ADD, when="before", megabytes=1, times=1)
    with http.stream("POST", ADD, json={"entityId": 1, "entityTypeId": 2}) as answer:
        assert next(answer.iter_raw())
    assert payments_added(server) == 0
    assert http.post(ADD, json={"entityId": 1, "entityTypeId": 2}).json()["result"] == 1033


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_at_the_token_endpoint(server: SandboxServer, kind: str) -> None:
    application = server.portal.add_application()
    pair = server.portal.grant(application)
    server.portal.faults.add(kind=kind, method="oauth.token", megabytes=1)
    params = {
        "grant_type": "refresh_token",
        "client_id": application.client_id,
        "client_secret": application.client_secret,
        "refresh_token": pair.refresh_token,
    }
    with (
        httpx.Client(timeout=TIMEOUT, trust_env=False) as client,
        client.stream("GET", f"{server.url}/oauth/token/", params=params) as answer,
    ):
        assert next(answer.iter_raw())
    assert [(entry["event"], entry["fault"]) for entry in server.portal.tokens_log][-1] == ("refreshed", kind)


@pytest.mark.parametrize("kind", ["big_html", "gzip_bomb"])
def test_portal_needs_little_memory(server: SandboxServer, http: httpx.Client, kind: str) -> None:
    server.portal.faults.add(kind=kind, megabytes=64)
    tracemalloc.start()
    try:
        with http.stream("POST", "profile") as answer:
            for _ in answer.iter_raw():
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MEGABYTE
