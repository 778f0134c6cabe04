"""A real portal, and Airflow connections as people write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.drivers.raw_server import RawServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def patient_connection_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of a connection gives up after seconds; a busy machine may need more."""
    patient = {"connect_timeout": 60.0, "read_timeout": 120.0, "rate_limit_wait": 0.0}
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.connection_test.TIMES", patient)
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.connection_test.LIMIT", 300)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine talks to itself directly."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    return


@pytest.fixture
def serve() -> Iterator[Callable[[Script], RawServer]]:
    """Start servers that play a script; stopped at the end of the test."""
    servers: list[RawServer] = []

    def start(script: Script) -> RawServer:
        servers.append(RawServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
