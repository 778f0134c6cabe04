"""A SQL database for the journal: a file of its own for each test, or the one that the environment names.

``BITRIX24_TEST_DATABASE`` holds an Airflow connection as a URI (``postgres://user@127.0.0.1:5432/name``). Its tables of
the journal are dropped before each test.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.sql import Database, url_of

if TYPE_CHECKING:
    from pathlib import Path

TABLES = (
    "bitrix24_journal",
    "bitrix24_claim",
    "bitrix24_late_reply",
    "bitrix24_pace",
    "bitrix24_portal",
    "bitrix24_working_time",
    "bitrix24_schema",
)


def database_of(uri: str) -> Database:
    """The database of a connection that is written as a URI."""
    from airflow.sdk import Connection

    found = Connection.from_uri(uri, conn_id="test")
    url = url_of(
        conn_type=found.conn_type,
        host=found.host,
        login=found.login,
        password=found.password,
        port=found.port,
        schema=found.schema,
        extra=found.extra_dejson,
    )
    return Database(url, "the test database")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    uri = os.environ.get("BITRIX24_TEST_DATABASE")
    if uri is None:
        return Database(sa.engine.URL.create("sqlite", database=str(tmp_path / "journal.db")), "the test database")
    found = database_of(uri)
    with found.begin() as connection:
        for table in TABLES:
            connection.execute(sa.text(f"drop table if exists {table}"))
    return found
