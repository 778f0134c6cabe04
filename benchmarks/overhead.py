"""How long a call through the hook takes, compared with a bare `requests.Session.post` of the same: on loopback."""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING

import requests

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.sandbox.address import connection_json, webhook_url
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

CALLS = 400


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Take turns, so that whatever else the machine does hits both alike; compare the medians."""
    portal = Portal()
    with SandboxServer(portal) as server, requests.Session() as session:
        os.environ["AIRFLOW__BITRIX24__RATE_LIMIT"] = "off"
        os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = connection_json(server.url, portal.webhook)
        session.trust_env = False
        hook = Bitrix24Hook()
        url = f"{webhook_url(server.url, portal.webhook)}crm.deal.get"

        def bare() -> object:
            return session.post(url, json={"id": 1}, timeout=10).json()["result"]

        def ours() -> object:
            return hook.call("crm.deal.get", {"id": 1})

        for call in (bare, ours):
            call()
        pairs = [(seconds_of(bare), seconds_of(ours)) for _ in range(CALLS)]
    plain, through_hook = (statistics.median(column) for column in zip(*pairs, strict=True))
    return [("a call through the hook, compared with bare requests", f"{through_hook / plain:.2f} times", "")]
