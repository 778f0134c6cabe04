"""Replies made to hurt, over real sockets and through both drivers: little memory, and an error that says what to do.

A read is told that there is no usable response, a write that it may have been executed. Never is one a success.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import traceback
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ApiError,
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24OutcomeUnknown,
)
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from tests.drivers.raw_server import OK, SECRET, Peer, http_response, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

METHOD = "crm.item.payment.add"
MEBIBYTE = 1024 * 1024
LARGEST = MEBIBYTE
"""The largest response that is accepted in these tests."""
MEMORY = 48 * MEBIBYTE
"""What one answer may cost, of whatever kind, together with what the server of the test needs."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PACKED = HEAD + b"Content-Encoding: gzip\r\n\r\n"
SUCCESS = b'{"result": {"id": 7}}'
PIECE = b" " * 65536
ENDLESS = 4096
"""Pieces: 256 MiB. Nobody reads that far."""


def flood(head: bytes, pieces: Iterable[bytes]) -> Callable[[Peer], None]:
    """Answer with all of this, as long as the client takes it."""

    def script(peer: Peer) -> None:
        peer.read_request()
        with contextlib.suppress(OSError):
            peer.send(head)
            for piece in pieces:
                peer.send(piece)

    return script


def says(body: bytes, headers: bytes = b"") -> Callable[[Peer], None]:
    return flood(HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body), [body])


def bomb(mebibytes: int) -> Iterator[bytes]:
    """A small packed body that is large unpacked."""
    packer = zlib.compressobj(wbits=31)
    for _ in range(mebibytes):
        yield packer.compress(b" " * MEBIBYTE)
    yield packer.flush()


def packed_nothing() -> Iterator[bytes]:
    """A packed body that never ends, and never unpacks to anything."""
    packer = zlib.compressobj(wbits=31)
    yield packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(ENDLESS):
        yield b"\x00\x00\x00\xff\xff" * 13107


def again(piece: bytes) -> Iterator[bytes]:
    return (piece for _ in range(ENDLESS))


REPLIES: dict[str, Callable[[], Callable[[Peer], None]]] = {
    "HTML, twenty megabytes of it": lambda: flood(
        HEAD + b"Content-Length: %d\r\n\r\n<html>" % (320 * 65536 + 6), (PIECE for _ in range(320))
    ),
    "a body without an end": lambda: flood(HEAD + b"\r\n", again(PIECE)),
    "a success with blanks behind it, without an end": lambda: flood(HEAD + b"\r\n" + SUCCESS, again(PIECE)),
    "chunks without an end": lambda: flood(CHUNKED, again(b"10000\r\n" + PIECE + b"\r\n")),
    "a chunk of a size below zero": lambda: flood(CHUNKED + b"-1\r\n", again(PIECE)),
    "a chunk of a terabyte": lambda: flood(CHUNKED + b"ffffffffff\r\n", again(PIECE)),
    "a chunk with an endless extension": lambda: flood(CHUNKED + b"15;", again(b"x" * 65536)),
    "a length of an exabyte": lambda: flood(HEAD + b"Content-Length: 1000000000000000000\r\n\r\n", again(PIECE)),
    "a length of a thousand digits": lambda: flood(
        HEAD + b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n", again(PIECE)
    ),
    "a gzip bomb": lambda: flood(PACKED, bomb(256)),
    "a packed body with something behind its end": lambda: flood(PACKED + gzip.compress(SUCCESS), again(PIECE)),
    "a packed body with another one behind it": lambda: says(
        gzip.compress(SUCCESS) + gzip.compress(b" "), b"Content-Encoding: gzip\r\n"
    ),
    "a packed body that is never anything": lambda: flood(PACKED, packed_nothing()),
    "packed twice": lambda: says(gzip.compress(gzip.compress(SUCCESS)), b"Content-Encoding: gzip, gzip\r\n"),
    "headers without an end": lambda: flood(HEAD, again(b"X-Padding: yyyyyyyyyyyy\r\n" * 2000)),
    "a header line without an end": lambda: flood(HEAD + b"X-Padding: ", again(b"x" * 65536)),
    "not yet, without an end": lambda: flood(b"", again(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)),
    "lists, deep": lambda: says(b'{"result": ' + b"[" * 400_000 + b"]" * 400_000 + b"}"),
    "lists, just too deep": lambda: says(b'{"result": ' + b"[" * 101 + b"]" * 101 + b"}"),
    "objects, deep": lambda: says(b'{"result": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"),
    "objects, deep and without an end": lambda: says(b'{"a":' * 200_000),
    "a number of a hundred thousand digits": lambda: says(b'{"result": ' + b"1" * 100_000 + b"}"),
    "a fraction of a hundred thousand digits": lambda: says(b'{"result": 0.' + b"1" * 100_000 + b"}"),
    "an exponent of ninety digits": lambda: says(b'{"result": 1e' + b"9" * 90 + b"}"),
    "NaN": lambda: says(b'{"result": NaN}'),
    "Infinity": lambda: says(b'{"result": {"id": -Infinity}}'),
    "cp1251": lambda: says('{"result": "Счёт оплачен"}'.encode("cp1251")),
    "UTF-8, broken": lambda: says(b'{"result": "\xc3\x28\xff"}'),
    "a status that there is none of": lambda: flood(b"HTTP/1.1 2000 OK\r\nContent-Length: 21\r\n\r\n" + SUCCESS, []),
    "a status below zero": lambda: flood(b"HTTP/1.1 -20 OK\r\nContent-Length: 21\r\n\r\n" + SUCCESS, []),
    "no content": lambda: flood(b"HTTP/1.1 204 No Content\r\n\r\n" + SUCCESS, []),
    "another protocol": lambda: flood(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + SUCCESS, []),
    "a list": lambda: says(b'[{"result": true}]'),
    "zeros": lambda: says(bytes(100_000)),
}


ONLY_TIME_ENDS = ["not yet, without an end"]
"""For one of the libraries at least."""


async def add_payment(hook: Bitrix24Hook, how: str) -> int:
    """Add a payment by the blocking or the async call."""
    if how == "async":
        return await hook.arest.crm_item_payment_add(entity_id=1, entity_type_id=2)
    return hook.rest.crm_item_payment_add(entity_id=1, entity_type_id=2)


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """Most bytes that Python has held at one time since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def told(driver: Any, settings: Any, effect: Effect) -> Any:
    """The reply, or the error of this provider; any other exception fails the test."""
    try:
        return driver(ApiClient(settings, tries=1).call(METHOD, {"entityId": 1}, effect=effect))
    except Bitrix24Error as error:
        return error


@pytest.mark.parametrize("effect", [Effect.READ, Effect.NON_IDEMPOTENT])
@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_that_is_made_to_hurt(
    serve: Any, driver: Any, memory: Callable[[], int], reply: str, effect: Effect
) -> None:
    server = serve(REPLIES[reply]())
    patience = 0.5 if reply in ONLY_TIME_ENDS else 60
    settings = settings_for(server.port, max_response_bytes=LARGEST, read_timeout=patience)
    got = told(driver(settings), settings, effect)
    assert memory() < MEMORY
    if effect is Effect.READ:
        assert type(got) is Bitrix24NoAnswer
        assert "It only reads, so nothing was changed." in str(got)
    else:
        assert type(got) is Bitrix24OutcomeUnknown
        assert not got.answered
        assert "It may have been executed: look at the object on the portal" in str(got)
    assert len(str(got)) < 400
    assert server.connections == 1


GIGANTIC = {
    "lists": b"[],",
    "objects": b"{},",
    "names": b'{"a":{}},',
    "numbers": b"1,",
}


@pytest.mark.parametrize("kind", GIGANTIC)
def test_gigantic_json_is_not_unfolded(serve: Any, driver: Any, memory: Callable[[], int], kind: str) -> None:
    """As large as the default allows; unfolded it would take a gibibyte."""
    unit = GIGANTIC[kind]
    times = 24 * MEBIBYTE // len(unit)
    size = times * len(unit) + 14
    piece = unit * 10_000
    pieces = [piece] * (times // 10_000) + [unit * (times % 10_000), b"0]}"]
    server = serve(flood(HEAD + b"Content-Length: %d\r\n\r\n" % size + b'{"result":[', pieces))
    settings = settings_for(server.port)
    got = told(driver(settings), settings, Effect.NON_IDEMPOTENT)
    assert type(got) is Bitrix24OutcomeUnknown
    assert got.text == "HTTP 200 with a body that is not the JSON of the method"
    assert memory() < 4 * 24 * MEBIBYTE


def test_as_many_values_as_a_portal_can_have_are_fine(serve: Any, driver: Any) -> None:
    rows = b",".join([b'{"id": "1"' + b',"f": ""' * 199 + b"}"] * 2500)
    server = serve(says(b'{"result": [' + rows + b"]}"))
    settings = settings_for(server.port)
    assert len(told(driver(settings), settings, Effect.READ).result) == 2500


def test_as_deep_as_a_portal_can_be_is_fine(serve: Any, driver: Any) -> None:
    server = serve(says(b'{"result": ' + b"[" * 90 + b"]" * 90 + b"}"))
    settings = settings_for(server.port)
    assert isinstance(told(driver(settings), settings, Effect.READ).result, list)


def test_an_answer_that_came_before_its_question_is_not_believed(serve: Any, driver: Any) -> None:
    """Somebody on the way mixes up answers: this is how one payment's success becomes another's."""
    stale = http_response({"result": {"id": 666}})

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK + stale if peer.number == 0 else OK)
        while peer.read_request():
            peer.reset()
            return

    server = serve(script)
    settings = settings_for(server.port)
    drive = driver(settings)
    assert told(drive, settings, Effect.READ).result["id"] == 7
    got = told(drive, settings, Effect.NON_IDEMPOTENT)
    assert isinstance(got, Bitrix24OutcomeUnknown) or got.result["id"] == 7


@pytest.mark.parametrize(
    ("time", "readable"),
    [
        ('"1763800000"', True),
        ('"soon"', False),
        ('"NaN"', False),
        ("1e400", False),
        ("-5", False),
        ("true", False),
        ("[]", False),
    ],
)
def test_texts_where_times_belong(serve: Any, driver: Any, time: str, readable: bool) -> None:
    """The response counts; only the portal's clock is unknown."""
    body = f'{{"result": {{"id": 7}}, "time": {{"finish": {time}, "operating_reset_at": {time}}}}}'
    server = serve(says(body.encode()))
    settings = settings_for(server.port)
    reply = told(driver(settings), settings, Effect.NON_IDEMPOTENT)
    assert (reply.at is not None, reply.operating_reset_at is not None) == (readable, readable)


@pytest.mark.parametrize(
    "words",
    [r"\u001b[2J\u001b[31mPaid", r"\ud800Paid\udfff", r"Pa\u0000id", r"\u202ediaP", "Paid\r\nINFO - task succeeded"],
)
def test_the_portals_words_cannot_write_over_a_log(serve: Any, driver: Any, words: str) -> None:
    body = f'{{"error": "{words}", "error_description": "{words}"}}'.replace("\r\n", r"\r\n")
    server = serve(says(body.encode()))
    settings = settings_for(server.port)
    for effect in (Effect.READ, Effect.NON_IDEMPOTENT):
        got = told(driver(settings), settings, effect)
        assert isinstance(got, Bitrix24ApiError if effect is Effect.READ else Bitrix24OutcomeUnknown)
        assert str(got).isprintable()
        str(got).encode()


@pytest.mark.parametrize(
    "location", ["https://" + "a" * 5000, "https://new\x1b[2J.example/", "//", "https://[", "\xff\xfe"]
)
def test_where_a_redirect_leads_is_shown_within_limits(serve: Any, driver: Any, location: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    server = serve(flood(head.encode("latin-1"), []))
    settings = settings_for(server.port)
    got = told(driver(settings), settings, Effect.NON_IDEMPOTENT)
    assert isinstance(got, Bitrix24ConfigError | Bitrix24OutcomeUnknown)  # one library refuses odd headers
    assert str(got).isprintable()
    assert len(str(got)) < 900


# fault of the sandbox and its options, and whether the portal has executed the call all the same
HOSTILE: list[tuple[str, dict[str, Any], bool]] = [
    ("flood", {}, True),
    ("flood", {"when": "before"}, False),
    ("big_html", {"megabytes": 8}, True),
    ("deep_json", {}, True),
    ("huge_numbers", {}, True),
    ("huge_numbers", {"literal": '"1e3"'}, True),
    ("huge_numbers", {"literal": "NaN"}, True),
    ("wrong_encoding", {}, True),
    ("gzip_bomb", {"megabytes": 200}, True),
]


@pytest.mark.parametrize(
    ("fault", "options", "executed"), HOSTILE, ids=[f"{number} {kind}" for number, (kind, *_) in enumerate(HOSTILE)]
)
async def test_a_write_that_gets_a_hostile_reply_may_have_been_executed(
    bitrix24_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    memory: Callable[[], int],
    fault: str,
    options: dict[str, Any],
    executed: bool,
) -> None:
    connection = json.loads(bitrix24_sandbox.connection)
    connection["extra"] = {"allow_http": True, "max_response_bytes": LARGEST, "read_timeout": 60}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    bitrix24_sandbox.fault(fault, METHOD, **options)
    for add in ("blocking", "async"):
        hook = Bitrix24Hook()
        with pytest.raises(Bitrix24OutcomeUnknown, match="It may have been executed"):
            await add_payment(hook, add)
    assert memory() < MEMORY
    sent = [request for request in bitrix24_sandbox.requests if request["method"] == METHOD]
    assert len(sent) == 2
    added = [entry for entry in bitrix24_sandbox.ledger if entry["event"] == "payment_added"]
    assert len(added) == 2 * executed


@pytest.mark.parametrize("fault", ["flood", "big_html", "deep_json", "wrong_encoding", "gzip_bomb"])
@pytest.mark.parametrize("call", ["blocking", "async"])
async def test_a_token_endpoint_that_answers_with_nonsense(
    bitrix24_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    memory: Callable[[], int],
    tmp_path: Path,
    fault: str,
    call: str,
) -> None:
    application = bitrix24_sandbox.add_application()
    pair = bitrix24_sandbox.grant(application)
    connection = json.loads(bitrix24_sandbox.oauth_connection_of(application, pair))
    connection["extra"] |= {"token_conn_id": "tokens", "max_response_bytes": LARGEST, "read_timeout": 60}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "tokens.db")}))
    bitrix24_sandbox.portal.expire_access_tokens()
    bitrix24_sandbox.fault(fault, "oauth.token")
    hook = Bitrix24Hook()
    with pytest.raises(Bitrix24Error) as caught:
        await add_payment(hook, call)
    assert not isinstance(caught.value, Bitrix24OutcomeUnknown)  # the payment certainly was not added
    assert any(words in str(caught.value) for words in ("Nothing was", "was not sent")), caught.value
    assert memory() < MEMORY
    assert [entry for entry in bitrix24_sandbox.ledger if entry["event"] == "payment_added"] == []


@pytest.mark.parametrize("effect", [Effect.READ, Effect.NON_IDEMPOTENT])
def test_local_variables_do_not_show_what_the_portal_repeats(serve: Any, driver: Any, effect: Effect) -> None:
    """Some tools record the local variables of every frame of a traceback."""

    def script(peer: Peer) -> None:
        while peer.read_request():
            body = {"error": "0", "error_description": f"who is /rest/1/{SECRET}/?"}
            peer.send(http_response(body, status="400 Bad", headers=f"X-Echo: {SECRET}\r\n"))

    server = serve(script)
    settings = settings_for(server.port)
    caught: BaseException | None = None
    try:
        driver(settings)(ApiClient(settings, tries=1).call("crm.item.payment.add", {"entityId": 1}, effect=effect))
    except Bitrix24Error as error:
        caught = error
    assert caught is not None
    frames = [frame for frame, _ in traceback.walk_tb(caught.__traceback__)][1:]  # the first is this test's
    assert len(frames) >= 3
    for frame in frames:
        if "airflow_provider_bitrix24" in frame.f_code.co_filename:
            assert SECRET not in repr(frame.f_locals), frame.f_code.co_qualname
