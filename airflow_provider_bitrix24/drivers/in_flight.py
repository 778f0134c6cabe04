"""One request on its way, and what its end means: the part of the drivers that does not depend on the library.

What happened is decided by one fact: had the request left? Both drivers call `InFlightRequest.start_sending` right
before they write it, headers and body at once, on a live connection (connected, through the proxy, TLS agreed): there,
and nowhere else, the deadline is checked. What fails earlier is `NotSent`, what fails later is `Unknown`.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

import httpx
import urllib3

from airflow_provider_bitrix24.api.io import NotSent, Unknown
from airflow_provider_bitrix24.drivers.body import UnusableResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bitrix24.api.io import Outcome, Request


class DeadlinePassed(Exception):
    """The time in which the request might leave has passed."""


class InFlightRequest:
    """One request on its way."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sent = False
        self.connect_limit = _STEPS * request.connect_timeout
        self.due = time.monotonic() + self.connect_limit
        """Until when there must be a live connection, or once it is sent the whole response; monotonic clock."""

    def seconds_left(self) -> float:
        """Seconds until it is due.

        :raises TimeoutError: it was due before.
        """
        left = self.due - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def start_sending(self) -> None:
        """Check the deadline right before the whole request is sent."""
        deadline = self.request.not_after
        if deadline is not None and (time.monotonic() > deadline.monotonic or time.time() > deadline.wall):
            raise DeadlinePassed
        self.sent = True
        self.due = time.monotonic() + self.request.read_timeout

    def outcome_of(self, error: Exception) -> Outcome:
        """What an exception of a library means."""
        if isinstance(error, DeadlinePassed):
            return NotSent("the time in which it might be sent had passed", deadline_passed=True)
        if not self.sent:
            late = time.monotonic() >= self.due
            return _not_sent(error, self.connect_limit if late else self.request.connect_timeout)
        if isinstance(error, UnusableResponse):
            return Unknown(str(error))
        if any(isinstance(inner, _TIMEOUTS) for inner in _inner(error)):
            return Unknown(f"no complete response within {self.request.read_timeout:g} s")
        return Unknown("the connection broke before the response was complete")


_STEPS: Final = 3
"""How many times the timeout of one step all steps of connecting may take together."""
_TIMEOUTS: Final = (TimeoutError, urllib3.exceptions.TimeoutError, httpx.TimeoutException)
_PROXY_ERRORS: Final = (urllib3.exceptions.ProxyError, httpx.ProxyError)


def _not_sent(error: Exception, limit: float) -> NotSent:
    """The outcome and its reason in the same words for both libraries, from the innermost exceptions."""
    inner = list(_inner(error))
    for exception in inner:
        if isinstance(exception, ssl.SSLCertVerificationError):
            return NotSent(f"TLS: {exception.verify_message}", tls="certificate")
    for kinds, reason in (
        (_PROXY_ERRORS, "the proxy did not let it through"),
        (ssl.SSLError, "TLS could not be agreed"),
        (socket.gaierror, "the host name cannot be resolved"),
        (ConnectionRefusedError, "connection refused"),
        (_TIMEOUTS, f"no connection within {limit:g} s"),
    ):
        if any(isinstance(exception, kinds) for exception in inner):
            return NotSent(reason, tls="handshake" if kinds is ssl.SSLError else None)
    errors = (exception.strerror for exception in inner if isinstance(exception, OSError) and exception.errno)
    return NotSent(next((text.lower() for text in errors if text), "no connection could be made"))


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
