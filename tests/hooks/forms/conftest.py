"""A running API server and scheduler of the installed Airflow, whatever its version, beside a sandbox portal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.tools.local_airflow import LocalAirflow, Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

READY_WITHIN = 1200
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Forms:
    """What the connection form talks to, and a portal that its connections lead to."""

    airflow: LocalAirflow
    portal: Portal
    url: str
    """The sandbox's address."""

    def meta(self) -> dict[str, Any]:
        """What the form is made of."""
        answer = self.airflow.api.get(f"{self.airflow.url}/ui/connections/hook_meta").raise_for_status()
        (ours,) = [kind for kind in answer.json() if kind["connection_type"] == "bitrix24"]
        return dict(ours)

    def send(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Post what the form sends."""
        return self.airflow.api.post(f"/connections{path}", json=dict(body)).raise_for_status()

    def asked(self) -> list[str]:
        """The methods that the portal was asked for, batches as a whole; forgets them."""
        methods = [request["method"] for request in self.portal.requests if not request["inside_batch"]]
        self.portal.requests.clear()
        return methods


@pytest.fixture(scope="module")
def forms(new_airflow_home: Callable[[], Path]) -> Iterator[Forms]:
    """Start it once: it takes Airflow most of its time to start."""
    home = new_airflow_home()
    for name in ("dags", "logs"):
        (home / name).mkdir()
    processes = Processes(home / "logs")
    env = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    airflow = LocalAirflow(home, home / "dags", processes, env=env)
    portal = Portal()
    with SandboxServer(portal) as server:
        try:
            for part in ("api-server", "scheduler"):
                airflow.start_part(part)
            _wait_until_healthy(airflow)
            token = airflow.api.get(f"{airflow.url}/auth/token").raise_for_status().json()["access_token"]
            airflow.api.headers["Authorization"] = f"Bearer {token}"  # Airflow 3.1 asks even administrators for it
            yield Forms(airflow, portal, server.url)
        finally:
            airflow.api.close()
            processes.stop()


def _wait_until_healthy(airflow: LocalAirflow) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        airflow.processes.check()
        try:
            if airflow.get("monitor/health")["scheduler"]["status"] == "healthy":
                return
        except httpx.TransportError:
            pass  # not yet
        time.sleep(0.5)
    raise TimeoutError(f"Airflow was not ready after {READY_WITHIN} s: see {airflow.processes.logs}")
