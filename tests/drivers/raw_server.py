"""A server that does on a socket exactly what a test says, and two drivers that must see the same in it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.drivers import arun, make_client, make_session, run

if TYPE_CHECKING:
    import ssl

SECRET = "c4n4rys3cr3tc0de"


def http_response(body: bytes | dict, *, status: str = "200 OK", headers: str = "") -> bytes:
    """A complete HTTP response."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{headers}\r\n".encode() + raw


OK = http_response(
    {"result": {"id": 7, "sum": 10.10}, "time": {"finish": 1763800000, "operating_reset_at": 1763800600}}
)


@dataclass
class Peer:
    """One accepted connection, as a script sees it."""

    sock: socket.socket
    server: RawServer
    number: int
    """How many requests were read before on the whole server."""

    def read_request(self) -> bytes:
        """One whole request; empty if the client has closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.sock.recv(65536)
            if not chunk:
                return b""
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += self.sock.recv(65536)
        self.server.requests.append(head + b"\r\n\r\n" + body)
        return self.server.requests[-1]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def dribble(self, data: bytes) -> None:
        """Send byte by byte until the client has enough of it."""
        with contextlib.suppress(OSError):
            for byte in data:
                self.sock.sendall(bytes([byte]))
                if self.server.stopped.wait(0.02):
                    return

    def reset(self) -> None:
        """Close so that the client gets a reset instead of an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Script = Callable[[Peer], None]


@dataclass
class RawServer:
    """Accepts connections and plays the script on each."""

    script: Script
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            sock.settimeout(20)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
            with sock:
                self._open.add(sock)
                try:
                    self.script(Peer(sock, self, len(self.requests)))
                finally:
                    self._open.discard(sock)

    def stop(self) -> None:
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):  # a client may keep its connection for as long as it lives
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


def settings_for(port: int, **extra: Any) -> Settings:
    """Settings of a portal on this machine."""
    host = extra.pop("host", "127.0.0.1")
    schema = extra.pop("schema", "http")
    return Settings.from_connection_values(
        host=host, port=port, schema=schema, login="1", password=SECRET, extra={"allow_http": True, **extra}
    )


class Requests:
    """The blocking driver; keeps its session, so that connections live on."""

    def __init__(self, settings: Settings) -> None:
        self._session = make_session(settings)
        self.pacer: Any = None

    def __call__(self, flow: Any) -> Any:
        return run(flow, self._session, self.pacer)

    def close(self) -> None:
        self._session.close()


class Httpx:
    """The asynchronous driver; keeps its client and its event loop."""

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._client = make_client(settings)
        self.pacer: Any = None

    def __call__(self, flow: Any) -> Any:
        return self._runner.run(arun(flow, self._client, self.pacer))

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


def gzipped(body: dict) -> bytes:
    return gzip.compress(json.dumps(body).encode())


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until a server thread has got there."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
