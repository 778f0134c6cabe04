"""The Airflow connection of a sandbox portal, with the extra of a test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.server import SandboxServer


def connection_to(server: SandboxServer, extra: dict[str, Any]) -> str:
    """Return the connection of the portal's first webhook, as JSON."""
    return json.dumps(json.loads(Sandbox(server).connection) | {"extra": extra})
