"""The HTTP face of the portal: Starlette routes over ``portal.handle``, and uvicorn in a thread to serve them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from airflow_provider_bitrix24.sandbox.authorize import authorize_routes
from airflow_provider_bitrix24.sandbox.connection import SandboxProtocol, connection_of
from airflow_provider_bitrix24.sandbox.control import control_routes, origin_of
from airflow_provider_bitrix24.sandbox.delivery import Delivery
from airflow_provider_bitrix24.sandbox.page import page_routes
from airflow_provider_bitrix24.sandbox.page.objects import object_routes
from airflow_provider_bitrix24.sandbox.parameters import merged
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal, parse_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from airflow_provider_bitrix24.sandbox.storage import Storage
    from airflow_provider_bitrix24.sandbox.tls import Certificates

HOST = "127.0.0.1"


def create_app(portal: Portal, save: Callable[[], None]) -> Starlette:
    """Return the application; ``save`` is called after each request, before its response goes out."""

    async def rest(request: Request) -> ASGIApp:
        try:
            body = await request.body()
        except ClientDisconnect:
            return _nothing
        if request.method not in ("GET", "POST") and not portal.state.options["any_http_method"]:
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": "GET, POST"})
        path, third = _of_version_3(request.path_params["path"])
        user_id, secret, method = _path_variables(path)
        if not method.strip() and portal.state.options["webhook_without_method"] == "NO_AUTH_FOUND":
            user_id = secret = None
        auth = Auth(
            user_id=user_id,
            secret=secret,
            source_ip=request.client.host if request.client else HOST,
            secure=request.url.scheme == "https",
            kept_alive=connection_of(request.scope).answered > 0,
        )
        params = merged(request.url.query, request.headers.get("content-type", ""), body)
        serve = portal.handle_version_3 if third else portal.handle
        reply = serve(method, params, auth=auth, headers=dict(request.headers))
        save()
        return Delivery(portal, reply)

    async def token(request: Request) -> ASGIApp:
        auth = Auth(secure=request.url.scheme == "https", kept_alive=connection_of(request.scope).answered > 0)
        reply = portal.handle_token(parse_query(request.url.query), url=origin_of(request), auth=auth)
        save()
        return Delivery(portal, reply)

    rest_route = Route("/rest/{path:path}", rest, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    token_routes = [Route(path, token, methods=["GET"]) for path in ("/oauth/token", "/oauth/token/")]
    others = [*authorize_routes(portal, save), *control_routes(portal, save), *page_routes(), *object_routes(portal)]
    return Starlette(routes=[rest_route, *token_routes, *others])


def _path_variables(path: str) -> tuple[str | None, str | None, str]:
    """``1/secret/crm.deal.get.json/`` -> its user, secret and method; without the first two it is OAuth's form."""
    parts = path.rstrip("/").split("/")
    method = parts[-1].removesuffix(".json")
    if len(parts) == 3:
        return parts[0], parts[1], method
    if len(parts) == 2 and parts[0].isdigit():  # a webhook's address without a method
        return parts[0], parts[1], ""
    return None, None, method


def _of_version_3(path: str) -> tuple[str, bool]:
    """The path without the ``api/`` of REST 3.0, and whether it had one."""
    return path.removeprefix("api/"), path.startswith("api/")


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer nothing: the client went away before it had sent its request."""


class _Uvicorn(uvicorn.Server):
    """uvicorn that says when it listens, does the portal's chores ten times a second, and stops at once.

    uvicorn itself looks ten times a second whether it is to stop, and then waits as long for its connections: two
    tenths of a second, which a test suite would wait for in every test.
    """

    def __init__(self, config: uvicorn.Config, chores: Callable[[], None]) -> None:
        super().__init__(config)
        self.listening = threading.Event()
        self._chores = chores
        self._wake = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._loop = asyncio.get_running_loop()
        self.listening.set()

    async def main_loop(self) -> None:
        while not self.should_exit:
            self._chores()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            for listener in server.sockets:
                self._loop.remove_reader(listener)
        # Accepted clients become connections first: after `close`, asyncio would leave their sockets open.
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        # A client that came at the last moment is a task first, and then a connection; both would outlive the loop.
        while (tasks := asyncio.all_tasks() - {asyncio.current_task()}) or self.server_state.connections:
            for connection in list(self.server_state.connections):
                connection.shutdown()
            await asyncio.sleep(0.001)  # uvicorn has no event for it
            if not (self.server_state.connections or self.server_state.tasks):
                for task in tasks:  # such as a TLS handshake that the client does not finish
                    task.cancel()

    def stop(self) -> None:
        """End it, from another thread; also while it starts."""
        self.should_exit = True
        if self.listening.is_set():
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._wake.set)


class SandboxServer:
    """
    Serves a portal on 127.0.0.1, in a thread of its own, between ``start()`` and ``stop()`` or inside a ``with``.

    :param portal: the portal; it stays usable directly, from any thread.
    :param port: TCP port; 0 (default) takes a free one, which ``port`` and ``url`` tell after the start.
    :param tls: serve https with a CA made on the spot, whose certificate is in ``ca_file`` as long as the server runs.
    :param storage: a file that holds the portal's state after every change.
    """

    def __init__(self, portal: Portal, *, port: int = 0, tls: bool = False, storage: Storage | None = None) -> None:
        self.portal = portal
        self.port = port
        self.ca_file: Path | None = None
        self._tls = tls
        self._storage = storage
        self._saved_revision = -1
        self._running: contextlib.ExitStack | None = None

    @property
    def url(self) -> str:
        """The portal's address without a trailing slash, ``http://127.0.0.1:PORT``."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    def start(self) -> Self:
        """Listen; returns when requests are served. Raises ``OSError`` with the port in its text if it is taken."""
        if self._running is not None:
            raise RuntimeError("The sandbox server has been started already.")
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(_listener(self.port))
            certificates = self._certificates(stack) if self._tls else None
            config = uvicorn.Config(
                create_app(self.portal, self.save),
                http=SandboxProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                proxy_headers=False,
                server_header=False,
                date_header=False,  # replies carry the portal's time
                timeout_keep_alive=75,
                ssl_certfile=certificates.certificate if certificates else None,
                ssl_keyfile=certificates.key if certificates else None,
            )
            server = _Uvicorn(config, self._chores)
            thread = threading.Thread(target=server.run, args=([listener],), name="bitrix24-sandbox", daemon=True)
            thread.start()
            stack.callback(_end, server, thread)
            while not server.listening.wait(0.1):
                if not thread.is_alive():
                    raise RuntimeError("The sandbox server could not start; the reason is in the log above.")
            self.port = listener.getsockname()[1]
            self.ca_file = certificates.authority if certificates else None
            self._running = stack.pop_all()
        return self

    def stop(self) -> None:
        """End every connection, the held ones too, and return when the port is free. Does nothing if not running."""
        if self._running is not None:
            running, self._running = self._running, None
            running.close()
            self.save()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def save(self) -> None:
        """Write the portal's state to the storage if it has changed since the last time."""
        if self._storage is None:
            return
        with self.portal.lock:
            if self.portal.revision != self._saved_revision:
                self._storage.save(self.portal)
                self._saved_revision = self.portal.revision

    def _chores(self) -> None:
        self.portal.tick()
        self.save()

    def _certificates(self, stack: contextlib.ExitStack) -> Certificates:
        from airflow_provider_bitrix24.sandbox.tls import make_certificates

        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bitrix24-sandbox-"))
        return make_certificates(Path(directory))


def _listener(port: int) -> socket.socket:
    # With the protocol named, asyncio sets TCP_NODELAY; without, a response would wait 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                errno.EADDRINUSE, f"Port {port} is taken by another program; choose one, or 0 for any."
            ) from None
        raise
    return listener


def _end(server: _Uvicorn, thread: threading.Thread) -> None:
    server.stop()
    thread.join()
