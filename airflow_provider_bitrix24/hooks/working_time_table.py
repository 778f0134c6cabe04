"""Share the working time of a credential among all hosts, in a row of a SQL database, with the database's clock."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa  # noqa: TID253 - loaded only where a database is used
from sqlalchemy.dialects import mysql  # noqa: TID253 - loaded only where a database is used

from airflow_provider_bitrix24.api.working_time import from_text, learn, to_text
from airflow_provider_bitrix24.exceptions import Bitrix24StoreError
from airflow_provider_bitrix24.sql import Collision, Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_bitrix24.api.working_time import UsageReport, Usages
    from airflow_provider_bitrix24.sql import Database

_METADATA = sa.MetaData()
_TABLE = sa.Table(
    "bitrix24_working_time",
    _METADATA,
    sa.Column("credential", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("known", sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql"), nullable=False),
)
SCHEMA = Schema("working_time", [_METADATA.create_all], by_command=False)


class RowWorkingTime:
    """A row of the table ``bitrix24_working_time``, which is created on first use.

    :param database: where it is.
    :param credential: portal and credential.
    :param clock: of this host.
    """

    def __init__(self, database: Database, credential: str, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._credential = credential
        self._here = _TABLE.c.credential == credential
        self._clock = clock
        self._prepared = False

    def share(self, seen: Sequence[UsageReport], clock_offset: float | None) -> tuple[float | None, Usages]:
        """Add what was learned here, in one short transaction, and return what is known in all.

        :param seen: what the portal has said since the last call.
        :param clock_offset: seconds by which the portal's clock is ahead of this host's; None if it is not known.
        :return: the same, by what the row says, and what is known of each method.
        :raises Bitrix24StoreError: the database is unavailable or refuses.
        """
        self._prepare()

        def work(connection: sa.Connection) -> tuple[float | None, Usages]:
            row = connection.execute(
                sa.select(_TABLE.c.version, _TABLE.c.known, self._database.now.label("now")).where(self._here)
            ).one()
            ahead = float(row.now) - self._clock()  # the database's clock, compared with this host's
            kept_offset, known = from_text(row.known)
            offset = clock_offset if clock_offset is not None else None if kept_offset is None else kept_offset + ahead
            usages = learn(known, seen)
            if seen:
                text = to_text(None if offset is None else offset - ahead, usages)
                same = self._here & (_TABLE.c.version == row.version)
                done = connection.execute(_TABLE.update().where(same).values(version=row.version + 1, known=text))
                if done.rowcount != 1:
                    raise Collision
            return offset, usages

        return self._database.transact(work)

    def _prepare(self) -> None:
        """Create table and row."""
        if self._prepared:
            return
        if self._database.version(SCHEMA) is None:
            self._database.migrate(SCHEMA)
        with self._database.begin(reads=True) as connection:
            found = connection.execute(sa.select(_TABLE.c.version).where(self._here)).one_or_none()
        if found is None:
            # Another process may insert it at the same moment.
            with contextlib.suppress(Bitrix24StoreError), self._database.begin() as connection:
                connection.execute(_TABLE.insert().values(credential=self._credential, version=0, known=""))
        self._prepared = True
