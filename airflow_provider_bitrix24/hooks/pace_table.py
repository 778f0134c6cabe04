"""Share a portal's rate limit among all hosts, by a bucket in a row of a SQL database, with the database's clock.

The same arithmetic as in `api.pacing`, as one UPDATE that the server commits at once: no lock outlives the statement,
so a process that is stopped blocks no other one.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa  # noqa: TID253 - loaded only where a database is used
from sqlalchemy.dialects import mysql  # noqa: TID253 - loaded only where a database is used

from airflow_provider_bitrix24.api.io import Slot
from airflow_provider_bitrix24.api.pacing import LONGEST_QUEUE
from airflow_provider_bitrix24.exceptions import Bitrix24StoreError
from airflow_provider_bitrix24.sql import Schema

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from airflow_provider_bitrix24.api.io import Reserve
    from airflow_provider_bitrix24.api.pacing import Limits
    from airflow_provider_bitrix24.sql import Database

_METADATA = sa.MetaData()
_TABLE = sa.Table(
    "bitrix24_pace",
    _METADATA,
    sa.Column("portal", sa.String(255), primary_key=True),
    sa.Column("backlog", sa.Float(53), nullable=False),
    sa.Column("booked_at", sa.Float(53), nullable=False),
)
_MICROSECONDS: Final = 1_000_000
SCHEMA: Final = Schema("pace", [_METADATA.create_all], by_command=False)


class RowPacer:
    """A row of the table ``bitrix24_pace``, which is created on first use.

    :param database: where it is.
    :param portal: the portal's name.
    :param limits: of the portal.
    """

    def __init__(self, database: Database, portal: str, limits: Limits) -> None:
        self._database = database
        self._portal = portal
        self._here = _TABLE.c.portal == portal
        self._limits = limits
        self._prepared = False

    def reserve(self, command: Reserve) -> Slot:
        """Book a slot in the row.

        :raises Bitrix24StoreError: the database is away or refuses.
        """
        self._prepare()
        limits, left = self._limits, self._left(drained=command.drained)
        update = (
            _TABLE.update()
            .where(self._here, left - limits.tolerance <= min(command.within, LONGEST_QUEUE))
            # In this order: MySQL computes the second with the new value of the first.
            .ordered_values(
                (_TABLE.c.backlog, self._stored(left + limits.interval)), (_TABLE.c.booked_at, self._database.now)
            )
        )
        booked = self._booked(update)
        if booked is not None:
            return Slot(max(0.0, booked - limits.interval - limits.tolerance))
        with self._begin() as connection:
            wait = connection.execute(sa.select(left - limits.tolerance).where(self._here)).scalar_one()
            # After the database's clock was set back, time goes on from there.
            ahead = _TABLE.c.booked_at > self._database.now
            connection.execute(_TABLE.update().where(self._here, ahead).values(booked_at=self._database.now))
        return Slot(max(0.0, float(wait)), granted=False)

    def _left(self, *, drained: bool) -> sa.ColumnElement[float]:
        """Return the seconds that are booked now, as `Bucket.left` does."""
        empty = self._limits.tolerance + self._limits.interval
        left = self._larger(0.0, _TABLE.c.backlog - self._larger(0.0, self._database.now - _TABLE.c.booked_at))
        if drained:
            left = self._larger(empty, left)
        return sa.case((left > empty + LONGEST_QUEUE, empty), else_=left)

    def _larger(self, least: float, value: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
        larger = sa.func.max if self._database.dialect == "sqlite" else sa.func.greatest
        return larger(least, value, type_=sa.Float(53))

    def _booked(self, update: sa.Update) -> float | None:
        """Run the update, and return the new backlog; None if it changed no row."""
        with self._begin() as connection:
            if self._database.dialect == "postgresql":
                backlog: float | None = connection.execute(update.returning(_TABLE.c.backlog)).scalar_one_or_none()
                return backlog
            done = connection.execute(update)
            if done.rowcount == 0:
                return None
            if self._database.dialect == "mysql":  # it has no RETURNING, and this is of the same statement
                return float(done.lastrowid) / _MICROSECONDS
            return float(connection.execute(sa.select(_TABLE.c.backlog).where(self._here)).scalar_one())

    def _stored(self, backlog: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
        """Return the new backlog; on MySQL in a form that the client can read back."""
        if self._database.dialect != "mysql":
            return backlog
        whole = sa.cast(sa.func.round(backlog * _MICROSECONDS), mysql.INTEGER(unsigned=True))
        told: sa.ColumnElement[float] = sa.func.last_insert_id(whole, type_=sa.Float(53)) / float(_MICROSECONDS)
        return told

    def _begin(self) -> AbstractContextManager[sa.Connection]:
        return self._database.begin(autocommit=self._database.dialect != "sqlite")

    def _prepare(self) -> None:
        """Create table and row."""
        if self._prepared:
            return
        if self._database.version(SCHEMA) is None:
            self._database.migrate(SCHEMA)
        with self._database.begin(reads=True) as connection:
            found = connection.execute(sa.select(_TABLE.c.portal).where(self._here)).one_or_none()
        if found is None:
            # Another process may make it at the same moment.
            with contextlib.suppress(Bitrix24StoreError), self._database.begin() as connection:
                connection.execute(_TABLE.insert().values(portal=self._portal, backlog=0.0, booked_at=0.0))
        self._prepared = True
