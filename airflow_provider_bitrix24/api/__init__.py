"""Bitrix24 as a protocol: no Airflow, no sockets, no clock, no sleep.

The modules in here load when they are first used, as in ``api.payments.get_invoice``: DAG files are parsed all day.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api import account_numbers as account_numbers
    from airflow_provider_bitrix24.api import authorised as authorised
    from airflow_provider_bitrix24.api import client as client
    from airflow_provider_bitrix24.api import connection_test as connection_test
    from airflow_provider_bitrix24.api import io as io
    from airflow_provider_bitrix24.api import methods as methods
    from airflow_provider_bitrix24.api import offline_events as offline_events
    from airflow_provider_bitrix24.api import paid_since as paid_since
    from airflow_provider_bitrix24.api import payments as payments
    from airflow_provider_bitrix24.api import reading as reading
    from airflow_provider_bitrix24.api import settings as settings
    from airflow_provider_bitrix24.api import states as states
    from airflow_provider_bitrix24.api import tokens as tokens

_MODULES = (
    "account_numbers",
    "authorised",
    "client",
    "connection_test",
    "io",
    "methods",
    "offline_events",
    "paid_since",
    "payments",
    "reading",
    "settings",
    "states",
    "tokens",
)


def __getattr__(name: str) -> Any:
    """Load a module when somebody asks for it."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
