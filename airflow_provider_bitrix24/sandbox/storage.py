"""The portal's state in a SQLite file, so that a sandbox can be stopped and started again."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.parameters import to_json

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from airflow_provider_bitrix24.sandbox.portal import Portal

_SCHEMA = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS portal (id INTEGER PRIMARY KEY CHECK (id = 1), dump TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (position INTEGER PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (position INTEGER PRIMARY KEY, entry TEXT NOT NULL);
"""


class Storage:
    """One SQLite file: the state as one row; ledger and request log, which only grow, as a row per entry."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; raises ``ValueError`` if it is no file of the sandbox."""
        self._unfinished: set[int] = set()
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except sqlite3.Error as error:
            raise ValueError(f"The sandbox cannot use {path} as its file: {error}.") from None
        try:
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            self._connection.close()
            raise ValueError(f"The sandbox cannot use {path} as its file: {error}.") from None

    def load(self, portal: Portal) -> bool:
        """Give the portal the state that was saved last; returns whether there was one."""
        row = self._connection.execute("SELECT dump FROM portal").fetchone()
        if row is None:
            return False
        dump = json.loads(row[0])
        dump["state"]["ledger"] = self._entries("ledger")
        dump["requests"] = self._entries("requests")
        portal.load(dump)
        return True

    def save(self, portal: Portal) -> None:
        """Make the file hold the portal's state, in one transaction."""
        dump = portal.dump()
        ledger, requests = dump["state"].pop("ledger"), dump.pop("requests")
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO portal VALUES (1, ?)", (to_json(dump),))
            self._append("ledger", ledger)
            self._append("requests", requests, again=self._unfinished)
        self._unfinished = {position for position, entry in enumerate(requests) if entry["status"] is None}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _entries(self, log: str) -> list[Any]:
        rows = self._connection.execute(f"SELECT entry FROM {log} ORDER BY position")  # noqa: S608 - not from outside
        return [json.loads(entry) for (entry,) in rows]

    def _append(self, log: str, entries: list[Any], again: Collection[int] = ()) -> None:
        (known,) = self._connection.execute(f"SELECT count(*) FROM {log}").fetchone()  # noqa: S608
        if known > len(entries):  # the portal was reset
            self._connection.execute(f"DELETE FROM {log}")  # noqa: S608
            known = 0
        positions = [*sorted(position for position in again if position < known), *range(known, len(entries))]
        fresh = [(position, to_json(entries[position])) for position in positions]
        self._connection.executemany(f"INSERT OR REPLACE INTO {log} VALUES (?, ?)", fresh)  # noqa: S608
