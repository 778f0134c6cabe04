"""Faults of the transport as clients meet them: on a raw socket, through requests and through httpx."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.libraries

SECRET = "abc123secret"
TIMEOUT = 300  # seconds; a safety net, never what a test measures
ADD = "crm.item.payment.add"
DEAL = {"entityId": 1, "entityTypeId": 2}


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Iterator[SandboxServer]:
    with SandboxServer(Portal(secret=SECRET), tls=request.param == "https") as server:
        yield server


@pytest.fixture
def plain() -> Iterator[SandboxServer]:
    with SandboxServer(Portal(secret=SECRET)) as server:
        yield server


def url(server: SandboxServer, method: str) -> str:
    return f"{server.url}/rest/1/{SECRET}/{method}"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def requests_session(server: SandboxServer) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a CA bundle or a proxy of the environment is not for this portal
    session.verify = str(server.ca_file) if server.ca_file else True
    return session


def with_requests(server: SandboxServer, method: str = ADD, params: Any = None) -> requests.Response:
    with requests_session(server) as session:
        return session.post(url(server, method), json=params or DEAL, timeout=TIMEOUT, allow_redirects=False)


def httpx_client(server: SandboxServer) -> httpx.Client:
    return httpx.Client(verify=ssl.create_default_context(cafile=server.ca_file), timeout=TIMEOUT, trust_env=False)


def with_httpx(server: SandboxServer, method: str = ADD, params: Any = None) -> httpx.Response:
    with httpx_client(server) as client:
        return client.post(url(server, method), json=params or DEAL)


def raw(server: SandboxServer, method: str = ADD, params: Any = None) -> bytes:
    """Everything that the server says to one request until it closes the connection."""
    body = json.dumps(params or DEAL)
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
        sock.sendall(
            f"POST /rest/1/{SECRET}/{method} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        return b"".join(iter(lambda: sock.recv(65536), b""))


def payments_added(server: SandboxServer) -> int:
    return sum(entry["event"] == "payment_added" for entry in server.portal.ledger)


BREAKS = (requests.ConnectionError, httpx.RemoteProtocolError, httpx.ReadError)


@pytest.mark.parametrize("send", [with_requests, with_httpx])
@pytest.mark.parametrize(("kind", "executed"), [("drop_before", 0), ("drop_after", 1)])
def test_drop(server: SandboxServer, send: Callable[..., Any], kind: str, executed: int) -> None:
    server.portal.faults.add(kind=kind, method=ADD, occurrence=1)
    with pytest.raises(BREAKS):
        send(server)
    assert payments_added(server) == executed
    assert send(server).status_code == 200
    assert payments_added(server) == executed + 1


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_drop_says_not_a_byte(plain: SandboxServer, kind: str) -> None:
    plain.portal.faults.add(kind=kind)
    assert raw(plain) == b""


def test_truncate_sends_half_of_what_it_announced(plain: SandboxServer) -> None:
    plain.portal.faults.add(kind="truncate")
    head, _, body = raw(plain).partition(b"\r\n\r\n")
    announced = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert len(body) == announced // 2
    assert payments_added(plain) == 1


def test_truncate_breaks_clients(server: SandboxServer) -> None:
    server.portal.faults.add(kind="truncate")
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        with_requests(server)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        with_httpx(server)
    assert payments_added(server) == 2


def test_slow_comes_in_pieces_and_complete(plain: SandboxServer) -> None:
    plain.portal.faults.add(kind="slow", seconds=0.2)
    with httpx_client(plain) as client, client.stream("POST", url(plain, ADD), json=DEAL) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 1
    assert json.loads(b"".join(pieces))["result"] == 1033
    assert with_requests(plain).json()["result"] == 1034


def test_slow_client_that_leaves_does_not_keep_the_server(plain: SandboxServer) -> None:
    plain.portal.faults.add(kind="slow", seconds=3600)
    with httpx_client(plain) as client, client.stream("POST", url(plain, ADD), json=DEAL) as answer:
        assert answer.status_code == 200
    plain.stop()
    assert payments_added(plain) == 1


@pytest.mark.parametrize("send", [with_requests, with_httpx])
@pytest.mark.parametrize(("when", "meanwhile"), [("before", 0), ("after", 1)])
def test_hold_until_released(server: SandboxServer, send: Callable[..., Any], when: str, meanwhile: int) -> None:
    fault = server.portal.faults.add(kind="hold", method=ADD, when=when, occurrence=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, server)
        wait_until(lambda: server.portal.faults.describe()[0]["holding"] == 1)
        assert payments_added(server) == meanwhile
        assert not waiting.done()
        assert server.portal.faults.release(fault) == 1
        assert waiting.result(TIMEOUT).json()["result"] == 1033
    assert payments_added(server) == 1


def test_held_client_gives_up_and_the_portal_commits_later(plain: SandboxServer) -> None:
    fault = plain.portal.faults.add(kind="hold", method=ADD, when="before")
    with pytest.raises(requests.ReadTimeout):
        requests.post(url(plain, ADD), json=DEAL, timeout=0.2)
    assert payments_added(plain) == 0
    plain.portal.faults.release(fault)
    assert payments_added(plain) == 1


def test_hold_for_seconds_of_the_portals_clock() -> None:
    clock = ManualClock()
    with SandboxServer(Portal(clock, secret=SECRET)) as server, ThreadPoolExecutor(1) as pool:
        server.portal.faults.add(kind="hold", method=ADD, seconds=3600)
        waiting = pool.submit(with_requests, server)
        wait_until(lambda: server.portal.faults.describe()[0]["holding"] == 1)
        clock.advance(3599)
        requests.get(url(server, "profile"), timeout=TIMEOUT)
        assert not waiting.done()
        clock.advance(1)
        assert waiting.result(TIMEOUT).json()["result"] == 1033


def test_held_answer_may_be_lost_after_all(plain: SandboxServer) -> None:
    fault = plain.portal.faults.add(kind="hold", method=ADD, when="after")
    plain.portal.faults.add(kind="drop_after", method=ADD)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(with_requests, plain)
        wait_until(lambda: plain.portal.faults.describe()[0]["holding"] == 1)
        plain.portal.faults.release(fault)
        with pytest.raises(requests.ConnectionError):
            waiting.result(TIMEOUT)
    assert payments_added(plain) == 1


def test_commit_later(plain: SandboxServer) -> None:
    fault = plain.portal.faults.add(kind="commit_later", method=ADD, occurrence=1)
    assert raw(plain) == b""
    assert payments_added(plain) == 0
    plain.portal.faults.release(fault)
    assert payments_added(plain) == 1


def test_commit_later_by_itself_without_any_further_request(plain: SandboxServer) -> None:
    plain.portal.faults.add(kind="commit_later", method=ADD, seconds=0.05)
    assert raw(plain) == b""
    wait_until(lambda: payments_added(plain) == 1)


def test_close_idle_spares_a_new_connection(server: SandboxServer) -> None:
    server.portal.faults.add(kind="close_idle", times=1)
    assert with_requests(server).status_code == 200
    assert with_httpx(server).status_code == 200


def test_close_idle_with_requests(server: SandboxServer) -> None:
    with requests_session(server) as session:
        session.post(url(server, "profile"), timeout=TIMEOUT)
        server.portal.faults.add(kind="close_idle")
        with pytest.raises(requests.ConnectionError):
            session.post(url(server, ADD), json=DEAL, timeout=TIMEOUT)
        assert payments_added(server) == 0
        assert session.post(url(server, ADD), json=DEAL, timeout=TIMEOUT).status_code == 200  # on a new connection
    assert payments_added(server) == 1


def test_close_idle_with_httpx(server: SandboxServer) -> None:
    with httpx_client(server) as client:
        client.post(url(server, "profile"))
        server.portal.faults.add(kind="close_idle")
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)):
            client.post(url(server, ADD), json=DEAL)
        assert payments_added(server) == 0
        assert client.post(url(server, ADD), json=DEAL).status_code == 200
    assert payments_added(server) == 1


async def test_close_idle_with_an_async_client(plain: SandboxServer) -> None:
    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
        await client.post(url(plain, "profile"))
        plain.portal.faults.add(kind="close_idle")
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)):
            await client.post(url(plain, ADD), json=DEAL)
        answers = await asyncio.gather(*(client.post(url(plain, ADD), json=DEAL) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert payments_added(plain) == 3


def test_close_idle_says_not_a_byte(plain: SandboxServer) -> None:
    with socket.create_connection(("127.0.0.1", plain.port), timeout=TIMEOUT) as sock:
        request = f"GET /rest/1/{SECRET}/server.time HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        sock.sendall(request)
        first = b""
        while not first.endswith(b"}"):
            first += sock.recv(65536)
        plain.portal.faults.add(kind="close_idle")
        sock.sendall(request)
        assert sock.recv(1) == b""


@pytest.mark.parametrize("send", [with_requests, with_httpx])
@pytest.mark.parametrize(
    ("options", "status", "content_type", "body"),
    [
        ({"kind": "html", "status": 502}, 502, "text/html", "<html>"),
        ({"kind": "html", "status": 200}, 200, "text/html", "<html>"),
        ({"kind": "empty_body"}, 200, "application/json", ""),
        ({"kind": "invalid_json"}, 200, "application/json", "{"),
        ({"kind": "query_limit_exceeded"}, 503, "application/json", '{"error":"QUERY_LIMIT_EXCEEDED"'),
        ({"kind": "operation_time_limit"}, 429, "application/json", '{"error":"OPERATION_TIME_LIMIT"'),
        ({"kind": "redirect", "location": "https://new.example/rest/"}, 302, "text/html", "<html>"),
    ],
)
def test_answers_that_are_none(
    plain: SandboxServer,
    send: Callable[..., Any],
    options: dict[str, Any],
    status: int,
    content_type: str,
    body: str,
) -> None:
    plain.portal.faults.add(method=ADD, **options)
    answer = send(plain)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.text.startswith(body)
    assert (answer.text == "") == (body == "")
    assert answer.headers.get("location") == options.get("location")


def test_a_fault_inside_a_batch_strikes_the_whole_connection(plain: SandboxServer) -> None:
    plain.portal.faults.add(kind="drop_after", method=ADD)
    command = f"{ADD}?entityId=1&entityTypeId=2"
    assert raw(plain, "batch", {"halt": 1, "cmd": {"a": command, "b": command}}) == b""
    assert payments_added(plain) >= 1
