"""Tokens in a SQL database, under a lock that holds for all workers; encrypted, since a database has many readers.

The lock is the row's (Postgres, MySQL) or the whole database's (SQLite), held while the portal is asked.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

import sqlalchemy as sa  # noqa: TID253 - loaded only where a database is used

from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24StoreError
from airflow_provider_bitrix24.hooks.token_cipher import TokenCipher
from airflow_provider_bitrix24.hooks.token_store import Note
from airflow_provider_bitrix24.sql import Schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bitrix24.api.tokens import Tokens
    from airflow_provider_bitrix24.hooks.token_store import Held
    from airflow_provider_bitrix24.sql import Database

_LOCK_TIMEOUT: Final = 120
"""Seconds to wait for somebody else's refresh: longer than all its repeats take."""
_METADATA = sa.MetaData()
_TABLE = sa.Table(
    "bitrix24_tokens",
    _METADATA,
    sa.Column("portal", sa.String(255), primary_key=True),
    sa.Column("client_id", sa.String(100), primary_key=True),
    sa.Column("encrypted", sa.Text, nullable=False),
    sa.Column("stored_at", sa.Float(53)),
    sa.Column("refresh_mark", sa.String(16)),
    sa.Column("refresh_since", sa.Float(53)),
    sa.Column("refresh_by", sa.String(255)),
)
SCHEMA: Final = Schema("tokens", [_METADATA.create_all], by_command=False)


class SqlTokenStore:
    """A row of the table ``bitrix24_tokens``, which is made on first use.

    :param database: where it is.
    :param portal: the portal's name.
    :param client_id: of the application.
    :param key: secret that the tokens are encrypted with.
    """

    locks: ClassVar[bool] = True
    reliable: ClassVar[bool] = True

    def __init__(self, database: Database, portal: str, client_id: str, key: str) -> None:
        self._database = database
        self._here = (_TABLE.c.portal == portal) & (_TABLE.c.client_id == client_id)
        self._row = {"portal": portal, "client_id": client_id}
        self._cipher = TokenCipher(key, salt=f"{portal} {client_id}")
        self._prepared = False
        self.place = database.name

    def read(self) -> Tokens | None:
        """Return the pair that is stored."""
        self._prepare()
        with self._database.begin(reads=True) as connection:
            return self.tokens(connection.execute(sa.select(_TABLE).where(self._here)).one_or_none())

    def note(self, tokens: Tokens) -> Note | None:
        """Write down that a refresh begins, unless an earlier one of the same pair did not end."""
        with self._begin() as connection:
            row = self._locked(connection)
            stored = self.tokens(row)
            if stored is not None and stored.mark != tokens.mark:
                return None  # somebody else has just refreshed
            if row.refresh_mark == tokens.mark:
                return Note(row.refresh_mark, row.refresh_since, row.refresh_by)
            note = Note.now(tokens)
            values = {"refresh_mark": note.mark, "refresh_since": note.since, "refresh_by": note.by[:255]}
            connection.execute(_TABLE.update().where(self._here).values(**values))
        return None

    @contextmanager
    def exclusive(self) -> Iterator[Held]:
        """Hold the row."""
        with self._begin() as connection:
            yield _HeldRow(self, connection, self._locked(connection))

    def write(self, connection: sa.Connection, tokens: Tokens) -> None:
        """Put a pair into the row, in an open transaction."""
        values = {"encrypted": self._cipher.encrypt(tokens), "stored_at": self._database.now}
        connection.execute(_TABLE.update().where(self._here).values(**values))

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        """One transaction, in which the row is there."""
        self._prepare()
        # rule: one refresh for all workers: the lock
        with self._database.begin() as connection:  # rule: a sign-in waits for a refresh
            if self._database.dialect == "postgresql":
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}s'"))
            yield connection

    def _prepare(self) -> None:
        """Make table and row, so that there is something to lock."""
        if self._prepared:
            return
        self._database.require(SCHEMA)
        missing = None
        try:
            with self._database.begin() as connection:
                if connection.execute(sa.select(_TABLE.c.portal).where(self._here)).one_or_none() is None:
                    connection.execute(_TABLE.insert().values(**self._row, encrypted=""))
        except Bitrix24StoreError as error:
            missing = error  # somebody else may have made it at the same moment
        if missing is not None:
            with self._database.begin() as connection:
                if connection.execute(sa.select(_TABLE.c.portal).where(self._here)).one_or_none() is None:
                    raise missing
        self._prepared = True

    def _locked(self, connection: sa.Connection) -> Any:
        return connection.execute(sa.select(_TABLE).where(self._here).with_for_update()).one()

    def tokens(self, row: Any) -> Tokens | None:
        """Return the pair in a row."""
        if row is None or not row.encrypted:
            return None
        try:
            return self._cipher.decrypt(row.encrypted)
        except ValueError:
            pass
        raise Bitrix24ConfigError(
            f"The tokens in {self.place} cannot be read with this connection's token_key (or, without one, its client "
            "secret).",
            "Give it the one they were stored with, or sign in again.",
            NOT_SENT,
        )


class _HeldRow:
    """The row, in the transaction that has locked it."""

    def __init__(self, store: SqlTokenStore, connection: sa.Connection, row: Any) -> None:
        self._store = store
        self._connection = connection
        self._row = row

    def read(self) -> Tokens | None:
        """Return the pair that was there when the row was locked."""
        return self._store.tokens(self._row)

    def save(self, tokens: Tokens) -> None:
        """Put a pair in its place; certain once the transaction has ended."""
        self._store.write(self._connection, tokens)
