"""An OAuth application at the sandbox, and Airflow connections of it with each kind of token store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.hooks.token_table import SqlTokenStore
from airflow_provider_bitrix24.sql import Database, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECTION = "AIRFLOW_CONN_BITRIX24_DEFAULT"


class Application:
    """An application that somebody has signed in to, and the connection of it."""

    def __init__(self, sandbox: Any, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.sandbox = sandbox
        self.file = folder / "tokens.db"
        self._monkeypatch = monkeypatch
        self.made = sandbox.add_application()
        self.pair = sandbox.grant(self.made)
        monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps({"conn_type": "sqlite", "host": str(self.file)}))
        self.connect(token_conn_id="tokens")

    def connect(self, **extra: Any) -> None:
        """Let the default connection be this application's; None takes an extra away."""
        fields = json.loads(self.sandbox.oauth_connection_of(self.made, self.pair))
        fields["extra"] = {name: value for name, value in {**fields["extra"], **extra}.items() if value is not None}
        self._monkeypatch.setenv(CONNECTION, json.dumps(fields))

    def expire(self) -> None:
        """Let all access tokens die."""
        self.sandbox.portal.expire_access_tokens()

    def store(self, key: str | None = None) -> SqlTokenStore:
        """The SQL store, as the connection uses it."""
        database = Database(url_of(conn_type="sqlite", host=str(self.file)), "the token database")
        portal = self.sandbox.url.partition("://")[2]
        return SqlTokenStore(database, portal, self.made.client_id, key or self.made.client_secret)

    def log(self, event: str) -> list[dict[str, Any]]:
        """What the token endpoint did."""
        return [entry for entry in self.sandbox.token_log if entry["event"] == event]


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
def application(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Application:
    return Application(bitrix24_sandbox, monkeypatch, tmp_path)
