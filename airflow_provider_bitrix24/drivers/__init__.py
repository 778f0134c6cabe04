"""Run a flow over real sockets: `run` on requests, `arun` on httpx, side by side.

Neither library repeats, follows redirects, reads ``.netrc`` or keeps cookies, and none of their exceptions, which print
addresses, gets out of here: outcomes are values. `in_flight` decides which.

This package is imported by the hook when it is first used, not when a DAG file is parsed.
"""

from __future__ import annotations

from airflow_provider_bitrix24.drivers import log_filter as log_filter
from airflow_provider_bitrix24.drivers.waiting import Pacer
from airflow_provider_bitrix24.drivers.with_httpx import arun, make_client
from airflow_provider_bitrix24.drivers.with_requests import make_session, run

__all__ = ["Pacer", "arun", "make_client", "make_session", "run"]
