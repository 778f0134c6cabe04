"""A portal's reply on its way to the client: sent as it is, held, dribbled, cut in half, spoiled or never sent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from airflow_provider_bitrix24.sandbox.connection import Connection, connection_of
from airflow_provider_bitrix24.sandbox.hostile import spoiled
from airflow_provider_bitrix24.sandbox.parameters import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

    from airflow_provider_bitrix24.sandbox.portal import Portal, PortalReply

_LOOK_EVERY = 0.02  # seconds between two looks at whether a held request may go on
_PIECES = 20  # a slow body comes in so many pieces, or fewer


class Delivery:
    """The ASGI response of one REST request; it acts out what ``reply.transport`` asks for, on the socket."""

    def __init__(self, portal: Portal, reply: PortalReply) -> None:
        self._portal = portal
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Deliver, or fail to deliver as scripted."""
        connection = connection_of(scope)
        reply = await self._settled(connection)
        if reply is None:
            return  # the client has gone, or the server stops
        if reply.transport in ("drop", "close_idle"):
            await connection.abort()
            return
        if reply.transport == "hostile" and reply.fault is not None:
            status, headers, pieces = spoiled(reply, reply.fault)
            await _start(status, headers, send)
            await _pour(pieces, reply.fault.seconds or 0.0, connection, send)
            return
        body = (reply.body if isinstance(reply.body, str) else to_json(reply.body)).encode()
        await _start(reply.status, {**reply.headers, "Content-Length": str(len(body))}, send)
        if reply.transport == "truncate":
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            await connection.close()
            return
        if reply.transport == "slow":
            body = await _dribble(body, reply.seconds or 0.0, connection, send)
        await send({"type": "http.response.body", "body": body})

    async def _settled(self, connection: Connection) -> PortalReply | None:
        """Wait while the portal holds the request; every look lets the portal do what has become due."""
        reply = self._reply
        while reply.transport == "hold" and reply.held is not None:
            held = reply.held
            while not held.done.is_set():
                if connection.lost.is_set():
                    return None
                await asyncio.sleep(_LOOK_EVERY)
                self._portal.tick()
            reply = held.reply
        return reply


async def _start(status: int, headers: dict[str, str], send: Send) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _pour(pieces: Iterator[bytes], pause: float, connection: Connection, send: Send) -> None:
    """Send the pieces, each when the client has taken those before, with a pause after it; stop if nobody listens."""
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)  # others want to be served meanwhile
        if pause:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.lost.wait(), pause)
        if connection.lost.is_set():
            return
    await send({"type": "http.response.body", "body": b""})


async def _dribble(body: bytes, seconds: float, connection: Connection, send: Send) -> bytes:
    """Send all but the last piece of ``body`` over ``seconds`` and return that last piece; stop if nobody listens."""
    size = max(1, -(-len(body) // _PIECES))
    pieces = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        try:
            await asyncio.wait_for(connection.lost.wait(), seconds / len(pieces))
        except TimeoutError:
            continue
        break
    return pieces[-1]
