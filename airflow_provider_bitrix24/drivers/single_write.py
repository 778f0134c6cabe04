"""Send a request through httpx in one write, headers and body together, and check its deadline right before.

httpcore writes the headers first and the body after them. A process that is frozen between the two would finish the
request when its deadline has passed.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    import asyncio

    from airflow_provider_bitrix24.drivers.in_flight import InFlightRequest


class PendingWrite:
    """One request that must be sent in one write.

    :param in_flight: the request; its deadline is checked when it is complete.
    :param limit: the time limit of the request, which starts again when the request is sent.
    """

    def __init__(self, in_flight: InFlightRequest, limit: asyncio.Timeout) -> None:
        self._in_flight = in_flight
        self._limit = limit
        self._held = bytearray()

    def take(self, data: bytes) -> bytes:
        """Collect what the library writes, and return the whole request when it is complete."""
        if self._in_flight.sent or data.startswith(b"CONNECT "):  # a proxy gets a request of its own before ours
            return data
        self._held += data
        if not self._held.endswith(b"\r\n\r\n" + self._in_flight.request.body):
            return b""
        self._in_flight.start_sending()
        self._limit.reschedule(self._in_flight.due)
        return bytes(self._held)


pending_write: ContextVar[PendingWrite] = ContextVar("bitrix24_pending_write")
"""The request of this task."""


class WholeWrites(httpcore.AnyIOBackend):
    """A network backend whose connections send each request in one write."""

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        """Connect."""
        return _Stream(await super().connect_tcp(*args, **options))


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, *args: Any, **options: Any) -> bytes:
        return await self._stream.read(max_bytes, *args, **options)

    async def write(self, buffer: bytes, *args: Any, **options: Any) -> None:
        if buffer and (now := pending_write.get().take(buffer)):
            await self._stream.write(now, *args, **options)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(*args, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
