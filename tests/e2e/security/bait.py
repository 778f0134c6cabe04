"""A server to which everything points, and on which nobody may ever call."""

from __future__ import annotations

import socket


class Bait:
    """A server that nobody may connect to. What sits in its queue is a connection too."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.host}"

    def calls(self) -> int:
        """How many have connected since the last time."""
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return number
            sock.close()
            number += 1

    def close(self) -> None:
        self._listener.close()
