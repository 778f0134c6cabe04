"""The HTTP face: every way to write a request, kept-alive connections, many clients at once, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
import uvicorn

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer, _Uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.libraries

SECRET = "abc123secret"
TIMEOUT = 300  # seconds; a safety net, never what a test measures


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Portal(secret=SECRET)) as server:
        yield server


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=TIMEOUT) as client:
        yield client


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def url(server: SandboxServer, method: str, user_id: int = 1, secret: str = SECRET) -> str:
    return f"{server.url}/rest/{user_id}/{secret}/{method}"


def test_listens_on_loopback_only(server: SandboxServer) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server.port > 0
    with pytest.raises(ConnectionRefusedError):  # another address of this machine, though also a loopback one
        socket.create_connection(("127.0.0.2", server.port), timeout=TIMEOUT)


@pytest.mark.parametrize("suffix", ["", "/", ".json", ".json/"])
@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_method_names_and_verbs(server: SandboxServer, http: httpx.Client, suffix: str, verb: str) -> None:
    answer = http.request(verb, url(server, f"crm.deal.get{suffix}"), params={"id": 1})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["result"]["ID"] == "1"


def test_method_name_in_any_case(server: SandboxServer, http: httpx.Client) -> None:
    assert http.get(url(server, "CRM.Deal.GET"), params={"id": 1}).json()["result"]["ID"] == "1"


def test_three_ways_to_write_parameters(server: SandboxServer, http: httpx.Client) -> None:
    by_json = http.post(
        url(server, "crm.item.payment.list"), json={"entityId": 4, "entityTypeId": 2, "filter": {">id": 1000}}
    )
    by_form = http.post(
        url(server, "crm.item.payment.list"), data={"entityId": "4", "entityTypeId": "2", "filter[>id]": "1000"}
    )
    by_query = http.get(url(server, "crm.item.payment.list?entityId=4&entityTypeId=2&filter[>id]=1000"))
    for answer in (by_json, by_form, by_query):
        assert [payment["id"] for payment in answer.json()["result"]] == [1001]


def test_body_overrides_query_and_path_overrides_both(server: SandboxServer, http: httpx.Client) -> None:
    assert http.post(url(server, "crm.deal.get?id=1"), json={"id": 2}).json()["result"]["ID"] == "2"
    assert http.get(url(server, "profile?ap=wrong&aplogin=7")).json()["result"]["ID"] in ("1", 1)


def test_broken_json_is_silently_dropped(server: SandboxServer, http: httpx.Client) -> None:
    broken = http.post(
        url(server, "crm.deal.get?id=1"), content=b'{"id": 2', headers={"Content-Type": "application/json"}
    )
    assert broken.json()["result"]["ID"] == "1"
    alone = http.post(
        url(server, "crm.item.payment.add"), content=b'{"entityId": 1,', headers={"Content-Type": "application/json"}
    )
    assert alone.status_code == 400
    assert alone.json()["error"] == "100"
    assert server.portal.ledger == []


def test_json_without_its_content_type_is_no_json(server: SandboxServer, http: httpx.Client) -> None:
    answer = http.post(url(server, "crm.deal.get?id=1"), content=b'{"id": 2}', headers={"Content-Type": "text/plain"})
    assert answer.json()["result"]["ID"] == "1"


def test_money_arrives_with_its_own_digits(server: SandboxServer, http: httpx.Client) -> None:
    answer = http.post(url(server, "crm.item.payment.list"), json={"entityId": 4, "entityTypeId": 2})
    assert '"sum":350' in answer.text.replace(" ", "").replace("350.0,", "350,")
    assert http.get(url(server, "crm.invoice.get?id=9")).json()["result"]["PRICE"] == "1999.99"


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/rest/crm.deal.get", 401, "NO_AUTH_FOUND"),
        (f"/rest/1/{SECRET}x/crm.deal.get", 401, "INVALID_CREDENTIALS"),
        (f"/rest/7/{SECRET}/crm.deal.get", 401, "INVALID_CREDENTIALS"),
        (f"/rest/1/{SECRET}/no.such.method", 404, "ERROR_METHOD_NOT_FOUND"),
    ],
)
def test_wrong_doors(server: SandboxServer, http: httpx.Client, path: str, status: int, error: str) -> None:
    answer = http.get(server.url + path)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "time" not in answer.json()


def test_https_is_required_only_if_asked_for(http: httpx.Client) -> None:
    with SandboxServer(Portal(secret=SECRET, require_https=True)) as strict:
        answer = http.get(url(strict, "profile"))
        assert answer.json() == {"error": "INVALID_REQUEST", "error_description": "Https required."}


def test_date_header_is_the_portals_time(http: httpx.Client) -> None:
    with SandboxServer(Portal(ManualClock(1_763_800_000.0), secret=SECRET)) as server:
        answer = http.get(url(server, "profile"))
        assert answer.headers.get_list("date") == ["Sat, 22 Nov 2025 08:26:40 GMT"]


def test_idempotency_key_reaches_the_ledger(server: SandboxServer, http: httpx.Client) -> None:
    http.post(
        url(server, "crm.item.payment.add"),
        json={"entityId": 1, "entityTypeId": 2},
        headers={"Idempotency-Key": "key-1"},
    )
    assert [entry["idempotency_key"] for entry in server.portal.ledger if entry["event"] == "payment_added"] == [
        "key-1"
    ]


def test_connection_is_kept_alive(server: SandboxServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
        stream = sock.makefile("rb")
        for _ in range(3):
            sock.sendall(f"GET /rest/1/{SECRET}/profile HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = dict(line.split(b": ", 1) for line in iter(stream.readline, b"\r\n"))
            json.loads(stream.read(int({k.lower(): v for k, v in headers.items()}[b"content-length"])))
        stream.close()


def test_client_that_leaves_in_the_middle_of_its_request(server: SandboxServer, http: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
        sock.sendall(
            f"POST /rest/1/{SECRET}/crm.item.payment.add HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
    assert http.get(url(server, "profile")).status_code == 200
    assert server.portal.ledger == []


def test_many_clients_at_once_lose_nothing(server: SandboxServer) -> None:
    def add(_: int) -> Any:
        with httpx.Client(timeout=TIMEOUT) as client:
            return client.post(url(server, "crm.item.payment.add"), json={"entityId": 4, "entityTypeId": 2}).json()[
                "result"
            ]

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(add, range(40)))
    assert sorted(ids) == list(range(1033, 1073))


def test_a_held_request_blocks_nobody(server: SandboxServer, http: httpx.Client) -> None:
    fault = server.portal.faults.add(kind="hold", method="crm.item.payment.add", when="before")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            requests.post, url(server, "crm.item.payment.add"), json={"entityId": 1, "entityTypeId": 2}, timeout=TIMEOUT
        )
        wait_until(lambda: http.get(f"{server.url}/_sandbox/faults").json()["faults"][0]["holding"] == 1)
        assert not waiting.done()
        assert http.get(url(server, "crm.deal.get?id=1")).status_code == 200
        assert server.portal.ledger == []
        server.portal.faults.release(fault)
        assert waiting.result(TIMEOUT).json()["result"] == 1033


def test_stop_ends_held_requests_slow_replies_and_idle_connections(caplog: pytest.LogCaptureFixture) -> None:
    server = SandboxServer(Portal(secret=SECRET)).start()
    address = ("127.0.0.1", server.port)
    server.portal.faults.add(kind="hold", method="crm.deal.get")
    server.portal.faults.add(kind="slow", method="crm.deal.fields", seconds=3600)
    with (
        socket.create_connection(address, timeout=TIMEOUT) as idle,
        socket.create_connection(address, timeout=TIMEOUT) as held,
        socket.create_connection(address, timeout=TIMEOUT) as slow,
    ):
        slow.sendall(f"GET /rest/1/{SECRET}/crm.deal.fields HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        idle.sendall(f"GET /rest/1/{SECRET}/profile HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        held.sendall(f"GET /rest/1/{SECRET}/crm.deal.get?id=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until(lambda: server.portal.faults.describe()[0]["holding"] == 1)
        server.stop()
        assert held.recv(1) == b""
        for client in (idle, slow):
            while client.recv(65536):
                pass
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=TIMEOUT)
    assert not [thread for thread in threading.enumerate() if thread.name == "bitrix24-sandbox"]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_stop_ends_clients_that_connect_at_the_last_moment(*, tls: bool) -> None:
    server = SandboxServer(Portal(), tls=tls)
    for _ in range(5):
        stop_while_clients_connect(server.start())
    gc.collect()  # a connection that was left open is a warning now


def stop_while_clients_connect(server: SandboxServer) -> None:
    clients: list[socket.socket] = []

    def connect() -> None:
        with contextlib.suppress(OSError):
            while len(clients) < 200:
                clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT))

    connecting = threading.Thread(target=connect, daemon=True)
    stopping = threading.Thread(target=server.stop, daemon=True)
    connecting.start()
    wait_until(lambda: bool(clients))
    stopping.start()
    for thread in (stopping, connecting):
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_start_that_is_interrupted_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while uvicorn is not listening yet."""
    begin = uvicorn.Server.startup

    async def slow(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        while not server.should_exit:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        await begin(server, sockets=sockets)

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    def start() -> None:
        with pytest.raises(KeyboardInterrupt):
            SandboxServer(Portal()).start()

    monkeypatch.setattr(uvicorn.Server, "startup", slow)
    monkeypatch.setattr(_Uvicorn, "listening", property(lambda _: Interrupted(), lambda *_: None), raising=False)
    starting = threading.Thread(target=start, daemon=True)
    starting.start()
    starting.join(300)
    assert not starting.is_alive()


def test_stop_is_repeatable_and_start_is_not() -> None:
    server = SandboxServer(Portal())
    server.stop()
    server.start()
    with pytest.raises(RuntimeError, match="started already"):
        server.start()
    port = server.port
    server.stop()
    server.stop()
    with server:  # the same port again, at once
        assert server.port == port


def test_port_that_is_taken(server: SandboxServer) -> None:
    with pytest.raises(OSError, match=f"Port {server.port} is taken"):
        SandboxServer(Portal(), port=server.port).start()


def test_tls_with_the_authority_of_this_start() -> None:
    with SandboxServer(Portal(secret=SECRET, require_https=True), tls=True) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert server.ca_file is not None
        assert server.ca_file.exists()
        session = requests.Session()  # its idle connection must not keep the server from stopping
        answer = session.get(url(server, "profile"), verify=str(server.ca_file), timeout=TIMEOUT)
        assert answer.status_code == 200
        localhost = url(server, "profile").replace("127.0.0.1", "localhost")
        assert requests.get(localhost, verify=str(server.ca_file), timeout=TIMEOUT).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url(server, "profile"), timeout=TIMEOUT)
    assert not server.ca_file.exists()
    session.close()
