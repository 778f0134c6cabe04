"""Run a flow over real sockets: `run` on requests, `arun` on httpx, side by side.

Neither library repeats, follows redirects, reads ``.netrc`` or keeps cookies, and none of their exceptions, which print
addresses, gets out of here: outcomes are values. `passage` decides which. A request leaves whole, in one write, and its
lease is checked right before that: both libraries would send the headers first, and a process may be frozen in between.

This module is imported by the hook when it is first used, not when a DAG file is parsed.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import os
import re
import socket
import ssl
import time
from contextvars import ContextVar
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, assert_never

import httpx
import requests  # noqa: TID253 - see above
import urllib3
import urllib3.connection

from airflow_provider_bitrix24.api.effects import Request, Reserve, Response, Sleep, Slot
from airflow_provider_bitrix24.departure import Departure, WholeWrites, departing
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.passage import Body, Passage, Unusable

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.effects import Flow, Outcome
    from airflow_provider_bitrix24.api.settings import Settings

T = TypeVar("T")
log = logging.getLogger(__name__)

_CHUNK: Final = 64 * 1024
_MOST_HEAD: Final = 1024 * 1024
"""Bytes that headers and what frames the chunks of a body may have."""


class Pacer(Protocol):
    """Books the slots of a portal's rate limit; never waits for one."""

    def reserve(self, command: Reserve) -> Slot:
        """Book a slot; may wait for a file or a database, but not long, and raises nothing."""


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
            _announce(command)
            time.sleep(command.seconds)
            outcome = None
        elif isinstance(command, Reserve):
            outcome = Slot(0.0) if pacer is None else pacer.reserve(command)
        else:
            assert_never(command)


async def arun(flow: Flow[T], client: httpx.AsyncClient, pacer: Pacer | None = None) -> T:
    """Run a flow to its end without blocking the event loop.

    :param flow: what to do.
    :param client: from `make_client`.
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
            outcome = await _apost(client, command)
        elif isinstance(command, Sleep):
            _announce(command)
            await asyncio.sleep(command.seconds)
            outcome = None
        elif isinstance(command, Reserve):
            outcome = Slot(0.0) if pacer is None else await asyncio.to_thread(pacer.reserve, command)
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
    proxy = _proxy(settings)
    session.proxies = {} if proxy is None else {settings.scheme: proxy}
    session.verify = _certificates(settings)
    if settings.scheme == "https":
        _tls(session.verify)
    adapter = _Adapter(_socket_options(settings))
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def make_client(settings: Settings) -> httpx.AsyncClient:
    """An asynchronous client for one portal.

    :raises Bitrix24ConfigError: the certificates or the proxy of the environment cannot be used.
    """
    proxy = _proxy(settings)
    tls = _tls(_certificates(settings))
    transport = httpx.AsyncHTTPTransport(
        verify=tls,
        trust_env=False,
        proxy=proxy and httpx.Proxy(proxy, ssl_context=tls if proxy.startswith("https:") else None),
        socket_options=_socket_options(settings),
        limits=httpx.Limits(max_keepalive_connections=0),  # it would take what came early for the next answer
    )
    transport._pool._network_backend = WholeWrites()
    client = httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


def _announce(sleep: Sleep) -> None:
    log.info("%s in %.1f s.", sleep.reason, sleep.seconds)


_passage: ContextVar[Passage] = ContextVar("bitrix24_passage")


# ---------------------------------------------------------------------------------------------------------- requests


def _post(session: requests.Session, request: Request) -> Outcome:
    passage = Passage(request)
    token = _passage.set(passage)
    try:
        with session.request(
            request.verb,
            request.url,
            data=request.body,
            headers={"Accept-Encoding": "gzip", **request.headers},
            timeout=(request.connect_timeout, request.read_timeout),
            allow_redirects=False,
            stream=True,
        ) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            body = Body(headers, request.max_bytes)
            while chunk := answer.raw.read(_CHUNK, decode_content=False):
                body.add(chunk)
            return Response(status=answer.status_code, headers=headers, body=body.whole(), at=time.time())
    except Exception as error:  # noqa: BLE001 - whatever it is, it may print the address
        return passage.failed(error)
    finally:
        _passage.reset(token)


class _Due(io.RawIOBase):
    """What a socket receives, until it is due or too much: who sends without end cannot keep us, nor fill us up."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, passage: Passage) -> None:
        self._raw = raw
        self._sock = sock
        self._passage = passage
        self._budget = 2 * passage.request.max_bytes + _MOST_HEAD
        """Bytes on the wire: the library reads a chunk of the size -1 to the end of the connection."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._passage.left())
        read = self._raw.readinto(buffer)
        self._budget -= read or 0
        if self._budget < 0:
            raise Unusable("the answer does not end")
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that must be whole in time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_Due(raw, sock, _passage.get()))


class _Connection(urllib3.connection.HTTPConnection):
    """A connection that sends a whole request in one write, and checks its lease right before."""

    response_class = _Answer
    debuglevel = 0
    """Always: `http.client` would print the address with the secret in it."""
    _held: bytearray | None = None
    """The request, as long as it is not complete."""

    def set_debuglevel(self, level: int) -> None:
        """Ignore the debug level: `http.client` would print the address with the secret in it."""

    def _new_conn(self) -> socket.socket:
        """Each address of the host in turn, as long as there is time left."""
        passage = _passage.get()
        failed: OSError | None = None
        for *_, address in socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM):
            try:
                sock = urllib3.util.connection.create_connection(
                    (str(address[0]), self.port),
                    min(passage.request.connect_timeout, passage.left()),
                    socket_options=self.socket_options,
                )
                sock.settimeout(passage.left())  # TLS, or what is said to a proxy, comes next
            except OSError as error:
                failed = error
            else:
                return sock
        raise failed or OSError("the host name has no address")

    def _tunnel(self) -> None:
        super()._tunnel()
        self.sock.settimeout(_passage.get().left())

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._held = bytearray()
        try:
            super().request(*args, **kwargs)
            request = bytes(self._held)
        finally:
            self._held = None
        if self.sock is None:
            self.connect()
        passage = _passage.get()
        passage.leave()
        self.sock.settimeout(passage.left())
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


# ------------------------------------------------------------------------------------------------------------- httpx


async def _apost(client: httpx.AsyncClient, request: Request) -> Outcome:
    passage = Passage(request)
    try:
        async with asyncio.timeout(passage.left()) as limit:
            departing.set(Departure(passage, limit))
            async with client.stream(
                request.verb,
                request.url,
                content=request.body,
                headers={"Accept-Encoding": "gzip", **request.headers},
                timeout=httpx.Timeout(request.read_timeout, connect=request.connect_timeout),
            ) as answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                body = Body(headers, request.max_bytes)
                async for chunk in answer.aiter_raw(_CHUNK):
                    body.add(chunk)
                return Response(status=answer.status_code, headers=headers, body=body.whole(), at=time.time())
    except Exception as error:  # noqa: BLE001 - whatever it is, it may print the address
        return passage.failed(error)


# ------------------------------------------------------------------------------------------------------- environment


def _socket_options(settings: Settings) -> list[tuple[int, int, int]]:
    """Bytes that nobody acknowledges are given up, where the system can do that."""
    options = list(urllib3.connection.HTTPConnection.default_socket_options)
    if hasattr(socket, "TCP_USER_TIMEOUT") and settings.delivery:
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.delivery * 1000)))
    return options


def _proxy(settings: Settings) -> str | None:
    """The proxy that the environment names for the portal."""
    proxies = requests.utils.get_environ_proxies(settings.origin)
    proxy: str | None = requests.utils.select_proxy(settings.origin, proxies)
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    scheme, _, rest = proxy.partition("://")
    proxy = f"{scheme.lower()}://{rest}"
    if not proxy.startswith(("http://", "https://")) or not _has_host(proxy):
        raise Bitrix24ConfigError(
            "The environment names a proxy for this portal that is no http proxy; set NO_PROXY or another HTTPS_PROXY. "
            "Nothing was sent."
        )
    return proxy


def _has_host(address: str) -> bool:
    """Whether both libraries can read an address."""
    try:
        return bool(urllib3.util.parse_url(address).host and httpx.URL(address).host)
    except (urllib3.exceptions.LocationParseError, httpx.InvalidURL):
        return False


def _certificates(settings: Settings) -> str:
    """File or folder of trusted certificates: the connection's, else the environment's, else the usual ones."""
    variables = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    chosen = settings.ca_bundle or next((os.environ[name] for name in variables if os.environ.get(name)), None)
    return chosen or requests.utils.DEFAULT_CA_BUNDLE_PATH


@lru_cache(maxsize=8)
def _tls(certificates: str) -> ssl.SSLContext:
    try:
        if os.path.isdir(certificates):
            return ssl.create_default_context(capath=certificates)
        return ssl.create_default_context(cafile=certificates)
    except OSError:
        pass
    raise Bitrix24ConfigError(f"ca_bundle: {certificates!r} is no file or folder of certificates that can be read.")


class _WithoutSecrets(logging.Filter):
    """Takes secrets out of what the HTTP libraries log: requests at INFO and DEBUG, with their path and query."""

    _PATH = re.compile(r"/rest/(?:api/)?[^/\s]+/[^/\s\"']+", re.IGNORECASE)
    _QUERY = re.compile(r"/oauth/token/?\?[^\s\"']+", re.IGNORECASE)

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "/rest/" in text.lower() or "/oauth/" in text.lower():
            text = self._QUERY.sub("/oauth/token/?***", text)
            record.msg, record.args = self._PATH.sub("/rest/***/***", text), None
        return True


for _name in (
    "urllib3.connectionpool",
    "urllib3.connection",
    "urllib3.util.retry",
    "httpx",
    "httpcore.http11",
    "httpcore.proxy",
    # The same library under the name that Airflow 3.4 uses it by; code of a DAG may call a webhook with it.
    "httpx2",
    "httpcore2.http11",
    "httpcore2.proxy",
):
    logging.getLogger(_name).addFilter(_WithoutSecrets())
