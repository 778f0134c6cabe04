"""Read a portal's settings from an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24 import api
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

    from airflow_provider_bitrix24.api.settings import Settings


def read_settings(connection: Connection, extra: Mapping[str, Any], conn_id: str) -> Settings:
    """Return what an Airflow connection says about a portal.

    :raises Bitrix24ConfigError: names connection and field.
    """
    from airflow_provider_bitrix24.hooks import pacing

    try:
        extra = pacing.with_rate_limit(extra)
        settings = api.settings.Settings.from_connection_values(
            host=connection.host,
            login=connection.login,
            password=connection.password,
            port=connection.port,
            schema=connection.schema,
            extra=extra,
            conn_type=connection.conn_type,
        )
        return settings.model_copy(update={"conn_id": conn_id})
    except Bitrix24ConfigError as error:
        reason, *more = error.args
    raise Bitrix24ConfigError(f"The Airflow connection {conn_id!r} cannot be used: {reason}", *more)
