"""A small real proxy: it takes CONNECT, joins two sockets, and remembers what it was told in the open."""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.drivers.raw_server import Peer


def connect_proxy(peer: Peer) -> None:
    """Play the proxy on one connection; what was asked is in ``peer.server.requests``."""
    head = peer.read_request()
    verb, _, rest = head.decode("latin-1").partition(" ")
    if verb != "CONNECT":
        peer.send(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
        return
    host, _, port = rest.split(" ", 1)[0].rpartition(":")
    with socket.create_connection((host, int(port)), 20) as target:
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _join(peer.sock, target)


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""
    with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select(20):
                data = _receive(key.fileobj)  # type: ignore[arg-type]
                if not data:
                    return
                key.data.sendall(data)


def _receive(sock: socket.socket) -> bytes:
    """What there is; TLS may keep more than one read takes."""
    data = sock.recv(65536)
    pending = getattr(sock, "pending", None)
    while data and pending is not None and pending():
        data += sock.recv(65536)
    return data
