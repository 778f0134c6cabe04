"""Replies made to hurt their reader: endless, gigantic, deeply nested, wrongly encoded. Made piece by piece."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.parameters import to_json
from airflow_provider_bitrix24.sandbox.portal.php import is_numeric

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.faults import Fault
    from airflow_provider_bitrix24.sandbox.portal import PortalReply

_PIECE = 65_536
_MEGABYTE = 1_048_576
#: More digits than Python turns into an int.
_LONG = "9" * 5_000
_NOT_UTF_8 = b"\xc3\x28 \xff\xfe \xed\xa0\x80 \xd0"


def spoiled(reply: PortalReply, fault: Fault) -> tuple[int, dict[str, str], Iterator[bytes]]:
    """Return status, headers and body of the reply as this fault makes it."""
    text = reply.body if isinstance(reply.body, str) else to_json(reply.body)
    match fault.kind:
        case "flood":
            return reply.status, reply.headers, _flood(b"x" * (_PIECE if fault.seconds is None else 1))
        case "big_html":
            headers = {**reply.headers, "Content-Type": "text/html; charset=utf-8"}
            return fault.status or 502, headers, _big_html(fault.megabytes)
        case "deep_json":
            return reply.status, reply.headers, _deep_json(fault.depth)
        case "gzip_bomb":
            return reply.status, {**reply.headers, "Content-Encoding": "gzip"}, _gzip_bomb(fault.megabytes)
        case "wrong_encoding":
            headers = {**reply.headers, "Content-Type": f"application/json; charset={fault.charset}"}
            return reply.status, headers, _broken(text)
    literal = _LONG if fault.literal is None else fault.literal
    return reply.status, reply.headers, iter([_renumbered(reply.body, literal).encode()])


def _flood(piece: bytes) -> Iterator[bytes]:
    return itertools.chain([b'{"result":"'], itertools.repeat(piece))


def _big_html(megabytes: int) -> Iterator[bytes]:
    piece = b"<p>Sorry. Sorry. Sorry. Sorry.</p>\n" * 2_000
    yield b"<html>\n<body>\n"
    yield from itertools.repeat(piece, megabytes * _MEGABYTE // len(piece) + 1)
    yield b"</body>\n</html>\n"


def _deep_json(depth: int) -> Iterator[bytes]:
    yield b'{"result":'
    for bracket in (b"[", b"]"):
        for start in range(0, depth, _PIECE):
            yield bracket * min(_PIECE, depth - start)
    yield b"}"


def _gzip_bomb(megabytes: int) -> Iterator[bytes]:
    packer = zlib.compressobj(level=1, wbits=31)  # 31: with a gzip header
    plain = itertools.chain([b'{"result":"'], itertools.repeat(b"0" * _MEGABYTE, megabytes), [b'"}'])
    yield from filter(None, map(packer.compress, plain))
    yield packer.flush()


def _broken(text: str) -> Iterator[bytes]:
    """JSON but for its bytes: one field more, which is no UTF-8."""
    start, brace, end = text.rpartition("}")
    yield start.encode() + b',"note":"' + _NOT_UTF_8 + b'"' + (brace + end).encode()


def _renumbered(value: Any, literal: str) -> str:
    """JSON text in which ``literal`` stands for every number, also for those that Bitrix24 writes as strings."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(name))}:{_renumbered(v, literal)}" for name, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_renumbered(item, literal) for item in value) + "]"
    return literal if is_numeric(value) else to_json(value)
