"""One request on its way, and what its end means: the part of the drivers that does not depend on the library.

What happened is decided by one fact: had the request left? Both drivers call `Passage.leave` right before they write
it, headers and body at once, on a live connection (connected, through the proxy, TLS agreed): there, and nowhere else,
the lease is checked. What fails earlier is `NotSent`, what fails later is `Unknown`.
"""

from __future__ import annotations

import socket
import ssl
import time
import zlib
from typing import TYPE_CHECKING, Final

import httpx
import urllib3

from airflow_provider_bitrix24.api.effects import NotSent, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_bitrix24.api.effects import Outcome, Request


class LeaseOver(Exception):
    """The time in which the request might leave has passed."""


class Unusable(Exception):
    """There is an answer, but it cannot be used."""


class Passage:
    """One request on its way."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sent = False
        self.connect_limit = _STEPS * request.connect_timeout
        self.due = time.monotonic() + self.connect_limit
        """Until when there must be a live connection, and once it is sent the whole answer, by the monotonic clock."""

    def left(self) -> float:
        """Seconds until it is due.

        :raises TimeoutError: it was due before.
        """
        left = self.due - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def leave(self) -> None:
        """Check the lease right before the whole request is sent."""
        lease = self.request.not_after
        if lease is not None and (time.monotonic() > lease.monotonic or time.time() > lease.wall):
            raise LeaseOver
        self.sent = True
        self.due = time.monotonic() + self.request.read_timeout

    def failed(self, error: Exception) -> Outcome:
        """What an exception of a library means."""
        if isinstance(error, LeaseOver):
            return NotSent("the time in which it might be sent had passed", lease_over=True)
        if not self.sent:
            late = time.monotonic() >= self.due
            return NotSent(_why_not_sent(error, self.connect_limit if late else self.request.connect_timeout))
        if isinstance(error, Unusable):
            return Unknown(str(error))
        if any(isinstance(inner, _TIMEOUTS) for inner in _inner(error)):
            return Unknown(f"no complete answer within {self.request.read_timeout:g} s")
        return Unknown("the connection broke before the answer was complete")


_STEPS: Final = 3
"""How many times the timeout of one step all steps of connecting may take together."""
_TIMEOUTS: Final = (TimeoutError, urllib3.exceptions.TimeoutError, httpx.TimeoutException)
_PROXY_ERRORS: Final = (urllib3.exceptions.ProxyError, httpx.ProxyError)


def _why_not_sent(error: Exception, patience: float) -> str:
    """The reason in the same words for both libraries, from the innermost exceptions."""
    inner = list(_inner(error))
    for exception in inner:
        if isinstance(exception, ssl.SSLCertVerificationError):
            return f"TLS: {exception.verify_message}"
    for kinds, reason in (
        (_PROXY_ERRORS, "the proxy did not let it through"),
        (ssl.SSLError, "TLS could not be agreed"),
        (socket.gaierror, "the host name cannot be resolved"),
        (ConnectionRefusedError, "connection refused"),
        (_TIMEOUTS, f"no connection within {patience:g} s"),
    ):
        if any(isinstance(exception, kinds) for exception in inner):
            return reason
    errors = (exception.strerror for exception in inner if isinstance(exception, OSError) and exception.errno)
    return next((text.lower() for text in errors if text), "no connection could be made")


def _inner(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that it was made of."""
    todo, seen = [error], set()
    while todo:
        exception = todo.pop()
        if id(exception) in seen:
            continue
        seen.add(id(exception))
        yield exception
        parts = [exception.__cause__, exception.__context__, getattr(exception, "reason", None), *exception.args]
        todo += [part for part in (*parts, *getattr(exception, "exceptions", ())) if isinstance(part, BaseException)]


class Body:
    """The body of an answer as it comes in, never more of it than allowed."""

    def __init__(self, headers: Mapping[str, str], most: int) -> None:
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip"):
            raise Unusable("the answer is encoded in a way that was not asked for")
        length = headers.get("content-length", "")
        self._expected = int(length) if length.isascii() and length.isdigit() else None
        self._unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        self._most = most
        self._arrived = 0
        self._bytes = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take what came in."""
        self._arrived += len(chunk)
        self._bytes += chunk if self._unpack is None else self._unpacked(self._unpack, chunk)
        if max(self._arrived, len(self._bytes)) > self._most:
            raise Unusable(f"the answer is larger than {self._most} bytes")

    def _unpacked(self, unpack: zlib._Decompress, chunk: bytes) -> bytes:
        try:
            plain = unpack.decompress(chunk, self._most - len(self._bytes) + 1)
        except zlib.error:
            raise Unusable("the answer cannot be unpacked") from None
        if unpack.unused_data:  # zlib would keep it, however much it is
            raise Unusable("something follows the end of the packed answer")
        return plain

    def whole(self) -> bytes:
        """The unpacked body, once nothing more comes in."""
        if self._unpack is not None and not self._unpack.eof and self._arrived:
            raise Unusable("the answer is incomplete")
        if self._expected is not None and self._arrived != self._expected:
            raise Unusable("the answer is incomplete")
        return bytes(self._bytes)
