"""The client's connection in the hands of a request handler: answered through uvicorn, or ended the hard way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SCOPE_KEY = "bitrix24.connection"


class Connection:
    """What a handler may know of, and do to, the connection that its request came in on."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.answered = 0
        self.lost = asyncio.Event()

    async def close(self) -> None:
        """Send what was written so far, then close; returns when the connection is gone."""
        self._transport.close()
        await self.lost.wait()

    async def abort(self) -> None:
        """Close at once, throwing away what was not sent; returns when the connection is gone."""
        self._transport.abort()
        await self.lost.wait()


def connection_of(scope: Scope) -> Connection:
    """Return the connection of an ASGI request that came in through ``SandboxProtocol``."""
    connection: Connection = scope[_SCOPE_KEY]
    return connection


class SandboxProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol that lends its connection to the application and keeps no access log."""

    connection: Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it
        """Wrap the application, so that each of this connection's requests knows it."""
        super().connection_made(transport)
        self.access_log = False  # a request line holds the webhook's secret
        self.connection = Connection(transport)
        self.app = _lending(self.app, self.connection)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the handler that waits for the end of the connection."""
        self.connection.lost.set()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Count the responses: from the first on, the connection is a kept-alive one."""
        self.connection.answered += 1
        super().on_response_complete()

    def shutdown(self) -> None:
        """End at once when the server stops: a held request or an idle client must not keep it waiting."""
        self.transport.abort()


def _lending(app: ASGIApp, connection: Connection) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope[_SCOPE_KEY] = connection
        await app(scope, receive, send)

    return call
