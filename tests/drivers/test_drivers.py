"""Both drivers over real sockets: the same outcome for whatever a network and a server can do."""

from __future__ import annotations

import datetime
import http.client
import socket
import ssl
import time
import traceback
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Effect, SendDeadline
from airflow_provider_bitrix24.drivers.in_flight import InFlightRequest
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ApiError,
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24NotFound,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24PermissionError,
    Bitrix24RateLimited,
    Bitrix24ServerError,
    TlsTrouble,
)
from tests.drivers.raw_server import OK, SECRET, Peer, Requests, gzipped, http_response, settings_for, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

METHOD = "crm.item.payment.get"
BROKE = "the connection broke before the response was complete"
LATE = "no complete response within 1 s"
HTML = b"<html>https://acme.bitrix24.com/rest/1/" + SECRET.encode() + b"/x</html>"


def sends(data: bytes):
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(data)

    return script


def sends_and_closes(data: bytes):
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)

    return script


def drops_unread(peer: Peer) -> None:
    peer.sock.recv(1)


def drops(peer: Peer) -> None:
    peer.read_request()


def resets(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def holds(peer: Peer) -> None:
    peer.read_request()
    peer.server.stopped.wait(20)


def dribbles_head(peer: Peer) -> None:
    peer.read_request()
    peer.dribble(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 90 + b"\r\n")


def dribbles_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
    peer.dribble(b" " * 99999)


def dribbles_chunks(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.dribble(b"1\r\n \r\n" * 1000)


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" if end else b"")


def coded(body: bytes, encoding: str) -> bytes:
    return http_response(body, headers=f"Content-Encoding: {encoding}\r\n")


def error(code: Any, text: str = "", status: str = "400 Bad Request", headers: str = "") -> Any:
    return sends(http_response({"error": code, "error_description": text}, status=status, headers=headers))


GOOD = {"result": True, "time": {"start": 1}}

# what happens -> what a read is told, what a write is told; an exception with its arguments
FAULTS: dict[str, tuple[Any, Bitrix24Error | None, Bitrix24Error | None]] = {
    "fine": (sends(OK), None, None),
    "fine, chunked": (sends(chunked(b'{"result":', b"true}")), None, None),
    "fine, until the end of the connection": (sends_and_closes(b'HTTP/1.1 200 OK\r\n\r\n{"result": 1}'), None, None),
    "fine, packed": (sends(coded(gzipped(GOOD), "gzip")), None, None),
    "fine, with a mark of the byte order": (sends(http_response(b'\xef\xbb\xbf{"result": 1}')), None, None),
    "closed while it was being sent": (
        drops_unread,
        Bitrix24NoAnswer(METHOD, BROKE),
        Bitrix24OutcomeUnknown(METHOD, False, None, BROKE),
    ),
    "closed without a response": (
        drops,
        Bitrix24NoAnswer(METHOD, BROKE),
        Bitrix24OutcomeUnknown(METHOD, False, None, BROKE),
    ),
    "reset": (resets, Bitrix24NoAnswer(METHOD, BROKE), Bitrix24OutcomeUnknown(METHOD, False, None, BROKE)),
    "silence": (holds, Bitrix24NoAnswer(METHOD, LATE), Bitrix24OutcomeUnknown(METHOD, False, None, LATE)),
    "a head, byte by byte": (
        dribbles_head,
        Bitrix24NoAnswer(METHOD, LATE),
        Bitrix24OutcomeUnknown(METHOD, False, None, LATE),
    ),
    "a body, byte by byte": (
        dribbles_body,
        Bitrix24NoAnswer(METHOD, LATE),
        Bitrix24OutcomeUnknown(METHOD, False, None, LATE),
    ),
    "chunks, byte by byte": (
        dribbles_chunks,
        Bitrix24NoAnswer(METHOD, LATE),
        Bitrix24OutcomeUnknown(METHOD, False, None, LATE),
    ),
    "half a body": (
        sends_and_closes(OK[:-20]),
        Bitrix24NoAnswer(METHOD, BROKE),
        Bitrix24OutcomeUnknown(METHOD, False, None, BROKE),
    ),
    "half the chunks": (
        sends_and_closes(chunked(b'{"result":', end=False)),
        Bitrix24NoAnswer(METHOD, BROKE),
        Bitrix24OutcomeUnknown(METHOD, False, None, BROKE),
    ),
    "half of a packed body": (
        sends(coded(gzipped(GOOD)[:-9], "gzip")),
        Bitrix24NoAnswer(METHOD, "the response is incomplete"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "the response is incomplete"),
    ),
    "called packed and is not": (
        sends(coded(b'{"result": 1}', "gzip")),
        Bitrix24NoAnswer(METHOD, "the response cannot be unpacked"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "the response cannot be unpacked"),
    ),
    "packed in a way nobody asked for": (
        sends(coded(b"x", "br")),
        Bitrix24NoAnswer(METHOD, "the response is encoded in a way that was not asked for"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "the response is encoded in a way that was not asked for"),
    ),
    "too large": (
        sends(http_response(b"x" * 5000)),
        Bitrix24NoAnswer(METHOD, "the response is larger than 4000 bytes"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "the response is larger than 4000 bytes"),
    ),
    "too large once unpacked": (
        sends(coded(gzipped({"result": "x" * 5000}), "gzip")),
        Bitrix24NoAnswer(METHOD, "the response is larger than 4000 bytes"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "the response is larger than 4000 bytes"),
    ),
    "no HTTP": (
        sends_and_closes(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        Bitrix24NoAnswer(METHOD, BROKE),
        Bitrix24OutcomeUnknown(METHOD, False, None, BROKE),
    ),
    "HTML under 200": (
        sends(http_response(HTML)),
        Bitrix24NoAnswer(METHOD, "HTTP 200 with an HTML page"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "HTTP 200 with an HTML page"),
    ),
    "HTML under 502": (
        sends(http_response(HTML, status="502 Bad Gateway")),
        Bitrix24NoAnswer(METHOD, "HTTP 502 with an HTML page"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "HTTP 502 with an HTML page"),
    ),
    "an empty body": (
        sends(http_response(b"")),
        Bitrix24NoAnswer(METHOD, "HTTP 200 without a body"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "HTTP 200 without a body"),
    ),
    "no JSON": (
        sends(http_response(b'{"result": 1')),
        Bitrix24NoAnswer(METHOD, "HTTP 200 with a body that is not the JSON of the method"),
        Bitrix24OutcomeUnknown(METHOD, False, None, "HTTP 200 with a body that is not the JSON of the method"),
    ),
    "a redirect": (
        sends(
            http_response(HTML, status="302 Found", headers=f"Location: https://new.bitrix24.com/rest/1/{SECRET}/x\r\n")
        ),
        Bitrix24ConfigError(..., ..., ...),
        Bitrix24OutcomeUnknown(METHOD, False, None, ...),
    ),
    "not found under 200, as a number": (
        error(0, "Payment has not been found", "200 OK"),
        Bitrix24NotFound("0", 200, METHOD, "Payment has not been found"),
        Bitrix24OutcomeUnknown(METHOD, True, "0", "Payment has not been found"),
    ),
    "no words at all": (
        error("", ""),
        Bitrix24ApiError("", 400, METHOD, ""),
        Bitrix24OutcomeUnknown(METHOD, True, "", ""),
    ),
    "no right, under 403": (
        error("access_denied", "Access denied", "403 Forbidden"),
        Bitrix24PermissionError("access_denied", 403, METHOD, "Access denied"),
        Bitrix24PermissionError("access_denied", 403, METHOD, "Access denied"),
    ),
    "the handler's own refusal": (
        error("ERROR_PROCESS_REQUEST_RESULT", "Bezahlt?"),
        Bitrix24ApiError("ERROR_PROCESS_REQUEST_RESULT", 400, METHOD, "Bezahlt?"),
        Bitrix24OutcomeUnknown(METHOD, True, "ERROR_PROCESS_REQUEST_RESULT", "Bezahlt?"),
    ),
    "something broke inside": (
        error("INTERNAL_SERVER_ERROR", "", "500 Internal Server Error"),
        Bitrix24ServerError("INTERNAL_SERVER_ERROR", 500, METHOD, ""),
        Bitrix24OutcomeUnknown(METHOD, False, "INTERNAL_SERVER_ERROR", ""),
    ),
    "too much working time": (
        error("OPERATION_TIME_LIMIT", "blocked", "429 Too Many Requests", "Retry-After: 7\r\nDate: x\r\n"),
        Bitrix24RateLimited("OPERATION_TIME_LIMIT", 429, METHOD, "blocked", 7.0, ...),
        Bitrix24RateLimited("OPERATION_TIME_LIMIT", 429, METHOD, "blocked", 7.0, ...),
    ),
    "too many requests": (
        error("QUERY_LIMIT_EXCEEDED", "Too many requests", "503 Service Unavailable"),
        Bitrix24RateLimited("QUERY_LIMIT_EXCEEDED", 503, METHOD, "Too many requests", None, None),
        Bitrix24RateLimited("QUERY_LIMIT_EXCEEDED", 503, METHOD, "Too many requests", None, None),
    ),
}


def outcome(driver: Any, settings: Any, effect: Effect, **options: Any) -> Any:
    """The reply, or the exception."""
    try:
        return driver(ApiClient(settings, tries=1).call(METHOD, {"id": 1}, effect=effect, **options))
    except Bitrix24Error as error:
        return error


def not_sent(obstacle: str, tls: TlsTrouble | None = None) -> Bitrix24NotSent:
    """What is raised where there is no connection, to wherever that is."""
    return Bitrix24NotSent(METHOD, obstacle, False, ..., tls)  # type: ignore[arg-type]


def assert_same(got: Any, expected: Bitrix24Error) -> None:
    """The same class with the same fields, and nothing secret about it."""
    assert type(got) is type(expected), repr(got)
    for mine, wanted in zip(got.args, expected.args, strict=True):
        page = (
            isinstance(wanted, str) and wanted.endswith("an HTML page") and str(mine).startswith(f"{wanted}: is http")
        )
        assert wanted is ... or mine == wanted or page
    assert SECRET not in "".join(traceback.format_exception(got)) + repr(got) + str(got.args)
    assert got.__cause__ is None
    assert got.__context__ is None


@pytest.mark.parametrize("effect", [Effect.READ, Effect.IDEMPOTENT, Effect.NON_IDEMPOTENT])
@pytest.mark.parametrize("fault", FAULTS)
def test_both_drivers_see_the_same(serve: Any, driver: Any, fault: str, effect: Effect) -> None:
    script, for_a_read, for_a_write = FAULTS[fault]
    server = serve(script)
    settings = settings_for(server.port, read_timeout=1, rate_limit_wait=0, max_response_bytes=4000)
    expected = for_a_read if effect is Effect.READ else for_a_write
    got = outcome(driver(settings), settings, effect)
    if expected is None:
        assert got.result is not None
    else:
        assert_same(got, expected)
    assert server.connections == 1  # nothing was sent a second time


def test_a_fraction_stays_exact_and_the_body_is_json(serve: Any, driver: Any) -> None:
    server = serve(sends(OK))
    settings = settings_for(server.port, network_delay=0)
    call = ApiClient(settings).call(METHOD, {"filter": {">id": 5}, "sum": Decimal("10.10")}, effect=Effect.READ)
    reply = driver(settings)(call)
    assert reply.result["sum"] == Decimal("10.1")
    assert reply.at.timestamp() == 1763800000
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(f"POST /rest/1/{SECRET}/{METHOD} HTTP/1.1".encode())
    assert b"application/json" in head
    assert body == b'{"filter":{">id":5},"sum":"10.10"}'


def test_redirects_name_the_new_host_only(serve: Any, driver: Any) -> None:
    server = serve(FAULTS["a redirect"][0])
    settings = settings_for(server.port)
    message = str(outcome(driver(settings), settings, Effect.IDEMPOTENT))
    assert "new.bitrix24.com" in message
    assert f"portal_id to '127.0.0.1:{server.port}'" in message


@pytest.mark.parametrize("effect", [Effect.READ, Effect.NON_IDEMPOTENT])
def test_refused_and_unknown_hosts_are_not_sent(driver: Any, effect: Effect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings = settings_for(port)
    got = outcome(driver(settings), settings, effect)
    assert_same(got, not_sent("connection refused"))
    assert got.place == f"http://127.0.0.1:{port}"
    settings = settings_for(port, host="portal.invalid")
    expected = not_sent("the host name cannot be resolved")
    assert_same(outcome(driver(settings), settings, effect), expected)


def test_a_connection_that_nobody_accepts_is_not_sent(driver: Any) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]  # fill the queue, so that the system drops what comes then
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        settings = settings_for(listener.getsockname()[1], connect_timeout=0.2)
        got = outcome(driver(settings), settings, Effect.NON_IDEMPOTENT)
        for one in waiting:
            one.close()
    assert_same(got, not_sent("no connection within 0.2 s"))


def test_each_address_of_a_host_is_tried(serve: Any, driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(sends(OK))
    found = socket.getaddrinfo

    def two(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host not in ("portal.example", b"portal.example"):
            return found(host, port, *args, **options)
        return found("127.0.0.2", port, *args, **options) + found("127.0.0.1", port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", two)  # nothing listens at the first of them
    settings = settings_for(server.port, host="portal.example")
    assert outcome(driver(settings), settings, Effect.NON_IDEMPOTENT).result["id"] == 7
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: [])
    settings = settings_for(server.port, host="portal.example")
    assert isinstance(outcome(driver(settings), settings, Effect.NON_IDEMPOTENT), Bitrix24NotSent)


@pytest.mark.parametrize("clock", ["monotonic", "wall"])
def test_the_deadline_is_checked_on_the_live_connection(serve: Any, driver: Any, clock: str) -> None:
    server = serve(sends(OK))
    settings = settings_for(server.port)
    over = {"monotonic": time.monotonic() + 60, "wall": time.time() + 60}
    over[clock] -= 61
    drive = driver(settings)
    got = outcome(drive, settings, Effect.NON_IDEMPOTENT, deadline=SendDeadline(**over))
    assert_same(got, Bitrix24NotSent(METHOD, "the time in which it might be sent had passed", True))
    wait_for(lambda: server.connections == 1)  # it was connected, and only then held back
    assert server.requests == []
    deadline = SendDeadline(monotonic=time.monotonic() + 60, wall=time.time() + 60)
    assert outcome(drive, settings, Effect.NON_IDEMPOTENT, deadline=deadline).result["id"] == 7


@pytest.fixture
def blocking() -> Iterator[Callable[[Any], Requests]]:
    """The driver that keeps connections; the other one makes a new one for each request."""
    opened: list[Requests] = []

    def make(settings: Any) -> Requests:
        opened.append(Requests(settings))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize("effect", [Effect.READ, Effect.IDEMPOTENT, Effect.NON_IDEMPOTENT])
def test_a_kept_connection_that_closes_under_a_request(serve: Any, blocking: Any, effect: Effect) -> None:
    def once(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        if peer.number == 0:
            peer.sock.recv(1)  # the second request arrives, and is not read
            peer.reset()

    server = serve(once)
    settings = settings_for(server.port)
    drive = blocking(settings)
    assert outcome(drive, settings, Effect.READ).result["id"] == 7
    got = outcome(drive, settings, effect)
    if effect is Effect.READ:
        assert_same(got, Bitrix24NoAnswer(METHOD, BROKE))
    else:
        assert_same(got, Bitrix24OutcomeUnknown(METHOD, False, None, BROKE))
    assert server.connections == 1  # not repeated on a new connection


def test_a_kept_connection_that_closed_before_is_replaced(serve: Any, blocking: Any) -> None:
    closed = []

    def once(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        peer.sock.shutdown(socket.SHUT_RDWR)
        closed.append(peer)

    server = serve(once)
    settings = settings_for(server.port)
    drive = blocking(settings)
    for number in (1, 2):
        assert outcome(drive, settings, Effect.NON_IDEMPOTENT).result["id"] == 7
        wait_for(lambda number=number: len(closed) == number)
    assert server.connections == 2


def test_a_read_is_repeated_and_a_write_is_not(serve: Any, driver: Any) -> None:
    def stumbles(peer: Peer) -> None:
        peer.read_request()
        if peer.number > 1:
            peer.send(OK)

    server = serve(stumbles)
    settings = settings_for(server.port)
    drive = driver(settings)
    assert drive(ApiClient(settings).call(METHOD, effect=Effect.READ)).result["id"] == 7
    assert len(server.requests) == 3
    server = serve(drops)
    settings = settings_for(server.port)
    with pytest.raises(Bitrix24OutcomeUnknown):
        driver(settings)(ApiClient(settings).call(METHOD, effect=Effect.IDEMPOTENT))
    assert len(server.requests) == 1


def test_each_wait_is_logged_once(serve: Any, driver: Any, caplog: pytest.LogCaptureFixture) -> None:
    def busy(peer: Peer) -> None:
        while peer.read_request():
            number = len(peer.server.requests)
            peer.send(OK if number > 2 else http_response({"error": "QUERY_LIMIT_EXCEEDED"}, status="503 Busy"))

    caplog.set_level("INFO", "airflow_provider_bitrix24")
    server = serve(busy)
    settings = settings_for(server.port)
    assert outcome(driver(settings), settings, Effect.NON_IDEMPOTENT).result["id"] == 7
    words = f"Bitrix24 says that there are too many requests: {METHOD} will be repeated in "
    assert [record.getMessage().startswith(words) for record in caplog.records] == [True, True]
    assert len(server.requests) == 3


def test_netrc_and_cookies_are_not_used(
    serve: Any, driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(sends(http_response({"result": 1}, headers="Set-Cookie: PHPSESSID=abc; path=/\r\n")))
    settings = settings_for(server.port)
    drive = driver(settings)
    for _ in range(2):
        assert outcome(drive, settings, Effect.READ).result == 1
    for request in server.requests:
        assert b"authorization:" not in request.lower()
        assert b"cookie:" not in request.lower()


# -- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signs itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(encoding))
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_trusted_certificate_is_fine(serve: Any, driver: Any, tls: ssl.SSLContext, certificate: Path) -> None:
    server = serve(sends(OK), tls)
    settings = settings_for(server.port, host="localhost", schema="https", ca_bundle=str(certificate))
    drive = driver(settings)
    for _ in range(2):
        assert outcome(drive, settings, Effect.NON_IDEMPOTENT).result["id"] == 7
    assert server.connections == (1 if isinstance(drive, Requests) else 2)


def test_the_environments_certificates_are_trusted(
    serve: Any, driver: Any, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(sends(OK), tls)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    settings = settings_for(server.port, host="localhost", schema="https")
    assert outcome(driver(settings), settings, Effect.READ).result["id"] == 7


def test_tls_failures_are_not_sent(serve: Any, driver: Any, tls: ssl.SSLContext, certificate: Path) -> None:
    server = serve(sends(OK), tls)
    settings = settings_for(server.port, host="localhost", schema="https")
    got = outcome(driver(settings), settings, Effect.NON_IDEMPOTENT)
    assert_same(got, not_sent("TLS: self-signed certificate", "certificate"))
    settings = settings_for(server.port, schema="https", ca_bundle=str(certificate))
    got = outcome(driver(settings), settings, Effect.NON_IDEMPOTENT)
    wrong = "TLS: IP address mismatch, certificate is not valid for '127.0.0.1'."
    assert_same(got, not_sent(wrong, "certificate"))
    plain = serve(lambda peer: peer.send(http_response(b"")))
    settings = settings_for(plain.port, schema="https")
    got = outcome(driver(settings), settings, Effect.NON_IDEMPOTENT)
    assert_same(got, not_sent("TLS could not be agreed", "handshake"))
    assert server.requests == []


def test_certificates_that_cannot_be_read_are_a_config_error(driver: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for path in (broken, tmp_path / "missing.pem"):
        with pytest.raises(Bitrix24ConfigError, match="ca_bundle"):
            driver(settings_for(443, schema="https", ca_bundle=str(path)))
    driver(settings_for(443, schema="https", ca_bundle=str(tmp_path)))  # a folder


# -- proxies ------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(serve: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a server the proxy of the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def use(script: Any) -> Any:
        server = serve(script)
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{server.port}")  # people leave the scheme out
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        return server

    return use


def test_a_proxy_of_the_environment_is_used(serve: Any, driver: Any, proxy: Any) -> None:
    server = proxy(sends(OK))
    settings = settings_for(8080, host="portal.invalid")
    assert outcome(driver(settings), settings, Effect.NON_IDEMPOTENT).result["id"] == 7
    assert server.requests[0].startswith(b"POST http://portal.invalid:8080/rest/1/")


def test_a_tunnel_through_a_proxy(serve: Any, driver: Any, proxy: Any, tls: ssl.SSLContext, certificate: Path) -> None:
    def tunnel(peer: Peer) -> None:
        assert peer.read_request().startswith(b"CONNECT localhost:443")
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with tls.wrap_socket(peer.sock, server_side=True) as inner:
            peer.sock = inner
            while peer.read_request():
                peer.send(OK)

    server = proxy(tunnel)
    settings = settings_for(443, host="localhost", schema="https", ca_bundle=str(certificate))
    drive = driver(settings)
    for _ in range(2):
        assert outcome(drive, settings, Effect.NON_IDEMPOTENT).result["id"] == 7
    assert len(server.requests) == (3 if isinstance(drive, Requests) else 4)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            sends_and_closes(http_response(b"", status="407 Proxy Authentication Required")),
            "the proxy did not let it through",
        ),
        (drops, "no connection could be made"),
    ],
    ids=["refuses", "closes"],
)
def test_a_proxy_that_does_not_let_through_is_not_sent(driver: Any, proxy: Any, script: Any, reason: str) -> None:
    proxy(script)
    settings = settings_for(443, host="portal.invalid", schema="https")
    got = outcome(driver(settings), settings, Effect.NON_IDEMPOTENT)
    assert_same(got, not_sent(reason))


def test_a_deadline_is_not_spent_on_the_proxy(driver: Any, proxy: Any) -> None:
    server = proxy(holds)
    settings = settings_for(443, host="portal.invalid", schema="https", connect_timeout=0.2, read_timeout=0.2)
    got = outcome(driver(settings), settings, Effect.NON_IDEMPOTENT)
    assert isinstance(got, Bitrix24NotSent)
    assert server.requests[0].startswith(b"CONNECT")


def test_a_proxy_that_answers_byte_by_byte_is_not_waited_for(driver: Any, proxy: Any) -> None:
    def dribbles(peer: Peer) -> None:
        peer.read_request()
        peer.dribble(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 500)

    server = proxy(dribbles)
    settings = settings_for(443, host="portal.invalid", schema="https", connect_timeout=0.2)
    got = outcome(driver(settings), settings, Effect.NON_IDEMPOTENT)
    assert_same(got, not_sent("no connection within 0.6 s"))
    assert len(server.requests) == 1


def test_a_slow_connection_leaves_the_request_its_whole_time(
    driver: Any, proxy: Any, tls: ssl.SSLContext, certificate: Path
) -> None:
    def slow(peer: Peer) -> None:
        peer.read_request()
        peer.dribble(b"HTTP/1.1 200 OK\r\n\r\n")
        with tls.wrap_socket(peer.sock, server_side=True) as inner:
            peer.sock = inner
            peer.read_request()
            time.sleep(3)  # more than is left for connecting
            peer.send(OK)

    proxy(slow)
    settings = settings_for(
        443, host="localhost", schema="https", ca_bundle=str(certificate), connect_timeout=1, read_timeout=20
    )
    assert outcome(driver(settings), settings, Effect.NON_IDEMPOTENT).result["id"] == 7


def test_other_proxies_are_a_config_error(driver: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy(drops)
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(Bitrix24ConfigError, match="no http proxy"):
        driver(settings_for(80, host="portal.invalid"))


# -- a request leaves at once ---------------------------------------------------------------------------------------


class Sends:
    """What sockets are given after the deadline was checked, and what has arrived when each call returns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
        self.after_the_check: list[int] = []
        self.whole_when_frozen: list[bool] = []
        self._server = server
        self._left = False
        leave = InFlightRequest.start_sending

        def leaves(in_flight: InFlightRequest) -> None:
            leave(in_flight)
            self._left = True

        monkeypatch.setattr(InFlightRequest, "start_sending", leaves)
        for name in ("send", "sendall"):
            monkeypatch.setattr(socket.socket, name, self._watched(getattr(socket.socket, name)), raising=False)
        monkeypatch.setattr(ssl.SSLSocket, "sendall", self._watched(ssl.SSLSocket.sendall))

    def _watched(self, original: Any) -> Any:
        def send(sock: Any, data: Any, *args: Any) -> Any:
            mine = self._left and sock.getpeername()[1] in self._server.ports
            if not mine:
                return original(sock, data, *args)
            self._left = False  # an SSL socket sends by itself
            sent = original(sock, data, *args)
            self._left = True
            self.after_the_check.append(len(data))
            # The process is frozen here: a request of which a part is still to come would have to wait for it.
            before = self._server.expected
            self.whole_when_frozen.append(arrives(lambda: len(self._server.requests) >= before))
            return sent

        return send


def arrives(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true while the client stands still."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("way", ["plain", "TLS", "proxy", "tunnel"])
@pytest.mark.parametrize("params", [{"id": 1}, {"text": "x" * 40_000}], ids=["small", "large"])
def test_headers_and_body_leave_in_one_send(
    serve: Any,
    driver: Any,
    proxy: Any,
    tls: ssl.SSLContext,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    params: dict[str, Any],
) -> None:
    """A process that is frozen between the two would finish the write when its deadline has passed."""

    def tunnel(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with tls.wrap_socket(peer.sock, server_side=True) as inner:
            peer.sock = inner
            peer.read_request()
            peer.send(OK)

    safe = way in ("TLS", "tunnel")
    if way in ("proxy", "tunnel"):
        server = proxy(tunnel if way == "tunnel" else sends(OK))
    else:
        server = serve(sends(OK), tls if safe else None)
    host = "localhost" if safe else "portal.invalid" if way == "proxy" else "127.0.0.1"
    port = 443 if way == "tunnel" else 80 if way == "proxy" else server.port
    extra = {"ca_bundle": str(certificate)} if safe else {}
    settings = settings_for(port, host=host, schema="https" if safe else "http", **extra)
    server.ports, server.expected = {server.port}, 2 if way == "tunnel" else 1
    drive = driver(settings)
    watched = Sends(monkeypatch, server)
    deadline = SendDeadline(monotonic=time.monotonic() + 60, wall=time.time() + 60)
    assert (
        drive(ApiClient(settings).call(METHOD, params, effect=Effect.NON_IDEMPOTENT, deadline=deadline)).result["id"]
        == 7
    )
    assert len(watched.after_the_check) == 1
    assert watched.whole_when_frozen == [True]


def test_http_client_prints_nothing(
    serve: Any, blocking: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    server = serve(sends(http_response({"result": 1}, headers=f"X-Echo: /rest/1/{SECRET}/x\r\n")))
    settings = settings_for(server.port)
    assert outcome(blocking(settings), settings, Effect.READ).result == 1
    told = capsys.readouterr()
    assert told.out + told.err == ""
