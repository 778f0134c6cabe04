"""Airflow connections, found or missed in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.exceptions import Bitrix24ConnectionNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Connection


def find(conn_id: str, named_by: str, get: Callable[[str], Connection] | None = None) -> Connection:
    """Return an Airflow connection.

    :param named_by: where it was named, for the message.
    :param get: reads it; by default Airflow's own way.
    :raises Bitrix24ConnectionNotFound: there is none.
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException
    from airflow.sdk import BaseHook

    try:
        return (get or BaseHook.get_connection)(conn_id)
    except AirflowNotFoundException:
        missing = _not_found(conn_id, named_by)
    raise missing


async def afind(conn_id: str, named_by: str) -> Connection:
    """Return the same in a coroutine."""
    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    try:
        return await get_async_connection(conn_id)
    except AirflowNotFoundException:
        missing = _not_found(conn_id, named_by)
    raise missing


def _not_found(conn_id: str, named_by: str) -> Bitrix24ConnectionNotFound:
    return Bitrix24ConnectionNotFound(
        f"{named_by} names the Airflow connection {conn_id!r}, which does not exist here, or which Airflow cannot get "
        "now from where it is kept. Nothing was sent."
    )
