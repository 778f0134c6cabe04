"""The body of a response as it comes in: unpacked, and never more of it than allowed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnusableResponse(Exception):
    """There is a response, but it cannot be used."""


class Body:
    """The body of a response as it comes in, never more of it than allowed."""

    def __init__(self, headers: Mapping[str, str], most: int) -> None:
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip"):
            raise UnusableResponse("the response is encoded in a way that was not asked for")
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
            raise UnusableResponse(f"the response is larger than {self._most} bytes")

    def _unpacked(self, unpack: zlib._Decompress, chunk: bytes) -> bytes:
        try:
            plain = unpack.decompress(chunk, self._most - len(self._bytes) + 1)
        except zlib.error:
            raise UnusableResponse("the response cannot be unpacked") from None
        if unpack.unused_data:  # zlib would keep it, however much it is
            raise UnusableResponse("something follows the end of the packed response")
        return plain

    def whole(self) -> bytes:
        """The unpacked body, once nothing more comes in."""
        if self._unpack is not None and not self._unpack.eof and self._arrived:
            raise UnusableResponse("the response is incomplete")
        if self._expected is not None and self._arrived != self._expected:
            raise UnusableResponse("the response is incomplete")
        return bytes(self._bytes)
