"""A connection to the sandbox whose waits are short."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
def portal(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    connection = json.loads(bitrix24_sandbox.connection)
    connection["extra"] = {"allow_http": True, "connect_timeout": 5, "read_timeout": 10, "rate_limit_wait": 1}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    return bitrix24_sandbox
