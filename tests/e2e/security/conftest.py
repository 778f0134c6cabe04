"""Both drivers, servers that play a script, and no proxy unless a test names one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.drivers.raw_server import Httpx, RawServer, Requests, Script
from tests.e2e.security.bait import Bait

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from airflow_provider_bitrix24.api.settings import Settings


@pytest.fixture(autouse=True)
def patient_connection_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of a connection gives up after seconds; a busy machine may need more."""
    patient = {"connect_timeout": 60.0, "read_timeout": 120.0, "rate_limit_wait": 0.0}
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.connection_test.TIMES", patient)
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.connection_test.LIMIT", 300)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine talks to itself directly, unless a test names a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Start servers that play a script; stopped at the end of the test."""
    servers: list[RawServer] = []

    def start(script: Script, tls: ssl.SSLContext | None = None) -> RawServer:
        servers.append(RawServer(script, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=[Requests, Httpx])
def driver(request: pytest.FixtureRequest) -> Iterator[Callable[[Settings], Any]]:
    """Either driver, made for some settings."""
    opened: list[Any] = []

    def make(settings: Settings) -> Any:
        opened.append(request.param(settings))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def bait() -> Iterator[Bait]:
    """Fails the test at its end if somebody has taken it."""
    one = Bait()
    yield one
    calls = one.calls()
    one.close()
    assert calls == 0, "somebody followed the lure"
