"""Run a flow with requests, blocking.

A request leaves whole, in one write, and its deadline is checked right before that: the library would send the headers
first, and a process may be frozen in between.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final, TypeVar, assert_never

import requests  # noqa: TID253 - the drivers load when the hook first uses them
import urllib3
import urllib3.connection

from airflow_provider_bitrix24.api.io import Request, Reserve, Response, Sleep, Slot
from airflow_provider_bitrix24.drivers.body import Body, UnusableResponse
from airflow_provider_bitrix24.drivers.environment import proxy_for, socket_options, tls_context, trusted_certificates
from airflow_provider_bitrix24.drivers.in_flight import InFlightRequest
from airflow_provider_bitrix24.drivers.waiting import log_wait

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.io import Flow, Outcome
    from airflow_provider_bitrix24.api.settings import Settings
    from airflow_provider_bitrix24.drivers.waiting import Pacer

T = TypeVar("T")

_CHUNK: Final = 64 * 1024
"""Bytes that are read at once."""
_MAX_HEAD: Final = 1024 * 1024
"""Bytes that headers and what frames the chunks of a body may have."""

_in_flight: ContextVar[InFlightRequest] = ContextVar("bitrix24_in_flight_request")


def run(flow: Flow[T], session: requests.Session, pacer: Pacer | None = None) -> T:
    """Run a flow to its end, blocking.

    :param flow: what to do.
    :param session: from `make_session`.
    :param pacer: who keeps the slots; without one every slot is free.
    :return: what the flow returns; what it raises is raised.
    """
    outcome: Outcome | Slot | None = None
    while True:
        try:
            command = flow.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration is not generic
        if isinstance(command, Request):
            outcome = _post(session, command)
        elif isinstance(command, Sleep):
            log_wait(command)
            time.sleep(command.seconds)
            outcome = None
        elif isinstance(command, Reserve):
            outcome = Slot(0.0) if pacer is None else pacer.reserve(command)
        else:
            assert_never(command)


def make_session(settings: Settings) -> requests.Session:
    """A session for one portal.

    :raises Bitrix24ConfigError: the certificates or the proxy of the environment cannot be used.
    """
    session = _Session()
    session.trust_env = False  # it would read .netrc; what is wanted of the environment is read here
    session.headers.clear()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    proxy = proxy_for(settings)
    session.proxies = {} if proxy is None else {settings.scheme: proxy}
    session.verify = trusted_certificates(settings)
    if settings.scheme == "https":
        tls_context(session.verify)
    adapter = _Adapter(socket_options(settings))
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _post(session: requests.Session, request: Request) -> Outcome:
    in_flight = InFlightRequest(request)
    token = _in_flight.set(in_flight)
    try:
        with session.request(
            request.verb,
            request.url,
            data=request.body,
            headers={"Accept-Encoding": "gzip", **request.headers},
            timeout=(request.connect_timeout, request.read_timeout),
            allow_redirects=False,
            stream=True,
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            body = Body(headers, request.max_bytes)
            while chunk := response.raw.read(_CHUNK, decode_content=False):
                body.add(chunk)
            return Response(status=response.status_code, headers=headers, body=body.whole(), at=time.time())
    except Exception as error:  # noqa: BLE001 - whatever it is, it may print the address
        return in_flight.outcome_of(error)
    finally:
        _in_flight.reset(token)


class _DeadlineReader(io.RawIOBase):
    """What a socket receives, until it is due or too much: who sends without end cannot keep us, nor fill us up."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, in_flight: InFlightRequest) -> None:
        self._raw = raw
        self._sock = sock
        self._in_flight = in_flight
        self._budget = 2 * in_flight.request.max_bytes + _MAX_HEAD
        """Bytes on the wire: the library reads a chunk of the size -1 to the end of the connection."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._in_flight.seconds_left())
        read = self._raw.readinto(buffer)
        self._budget -= read or 0
        if self._budget < 0:
            raise UnusableResponse("the response does not end")
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """A response that must be whole in time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_DeadlineReader(raw, sock, _in_flight.get()))


class _Connection(urllib3.connection.HTTPConnection):
    """A connection that sends a whole request in one write, and checks its deadline right before."""

    response_class = _Answer
    debuglevel = 0
    """Always: `http.client` would print the address with the secret in it."""
    _held: bytearray | None = None
    """The request, as long as it is not complete."""

    def set_debuglevel(self, level: int) -> None:
        """Ignore the debug level: `http.client` would print the address with the secret in it."""

    def _new_conn(self) -> socket.socket:
        """Each address of the host in turn, as long as there is time left."""
        in_flight = _in_flight.get()
        failed: OSError | None = None
        for *_, address in socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM):
            try:
                sock = urllib3.util.connection.create_connection(
                    (str(address[0]), self.port),
                    min(in_flight.request.connect_timeout, in_flight.seconds_left()),
                    socket_options=self.socket_options,
                )
                sock.settimeout(in_flight.seconds_left())  # TLS, or what is said to a proxy, comes next
            except OSError as error:
                failed = error
            else:
                return sock
        raise failed or OSError("the host name has no address")

    def _tunnel(self) -> None:
        super()._tunnel()
        self.sock.settimeout(_in_flight.get().seconds_left())

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._held = bytearray()
        try:
            super().request(*args, **kwargs)
            request = bytes(self._held)
        finally:
            self._held = None
        if self.sock is None:
            self.connect()
        in_flight = _in_flight.get()
        in_flight.start_sending()
        self.sock.settimeout(in_flight.seconds_left())
        self.sock.sendall(request)

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)  # what is said to a proxy
        else:
            self._held += data


class _SafeConnection(_Connection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SafePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SafeConnection


class _Session(requests.Session):
    """Never looks at a redirect: requests would read its whole body, only to prepare a request that nobody makes."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """There is none."""


class _Adapter(requests.adapters.HTTPAdapter):
    """requests on our connections."""

    def __init__(self, socket_options: list[tuple[int, int, int]]) -> None:
        self._socket_options = socket_options
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, socket_options=self._socket_options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SafePool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs, socket_options=self._socket_options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SafePool}
        return manager
