"""The raw server and the two drivers as fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.drivers.raw_server import Httpx, RawServer, Requests, Script

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from airflow_provider_bitrix24.api.settings import Settings


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
