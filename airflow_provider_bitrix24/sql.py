"""A SQL database of your own, beside Airflow's: an Airflow connection as engine, and tables with a versioned schema.

Postgres, MySQL or MariaDB, and SQLite. Journal and token store keep their tables here. SQLAlchemy's errors can hold
addresses and values, so none gets out: they become :class:`Bitrix24StoreError`.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from airflow_provider_bitrix24 import connections
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 10
"""Seconds until a database that does not answer counts as away."""
_DIALECTS: Final = {
    "postgres": "postgresql+psycopg2",
    "postgresql": "postgresql+psycopg2",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "sqlite": "sqlite",
}
"""Airflow's connection type -> SQLAlchemy's dialect and driver; the extra ``driver`` names another driver."""
_NOW: Final = {
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(sysdate(6))",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}
_READS: Final = "bitrix24_reads"
_RUNS: Final = 50
"""How often a transaction runs at most that others collide with: each time, one of them has got on."""
_COLLISIONS: Final = ("40001", "40P01", 1213, 1020)
"""Serialization failure and deadlock of Postgres; deadlock and changed snapshot of MySQL and MariaDB."""
_METADATA = sa.MetaData()
_SCHEMA = sa.Table(
    "bitrix24_schema",
    _METADATA,
    sa.Column("component", sa.String(50), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)


@dataclass(frozen=True)
class Schema:
    """The tables of one component, and how they came to be.

    :param component: name under which the database remembers the version.
    :param steps: ``steps[n]`` leads from version n to version n + 1: a function that takes an open connection.
    :param by_command: whether older tables are only changed by the component's command, never at work.
    """

    component: str
    steps: Sequence[Any]
    by_command: bool = True

    @property
    def version(self) -> int:
        """The version that this release works with."""
        return len(self.steps)


class Collision(Exception):
    """Another transaction has changed what this one has read."""


class Database:
    """One database.

    :param url: where it is; its password never shows in `repr`.
    :param name: what messages call it.
    """

    def __init__(self, url: sa.engine.URL, name: str) -> None:
        self.name = name
        self._ready: set[str] = set()
        try:
            self.engine = _engine(url)
        except ImportError as error:
            missing = error.name or "its driver"
        else:
            return
        raise Bitrix24ConfigError(
            f"{name} needs the Python package {missing!r}, which is not installed here.",
            "Install it, or name another driver in the connection's extra 'driver'.",
            NOT_SENT,
        )

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    @classmethod
    def from_connection(cls, conn_id: str, *, named_by: str = "journal_conn_id") -> Database:
        """Return the database of an Airflow connection of type postgres, mysql, mariadb or sqlite.

        :param named_by: where the connection was named, for the message.
        :raises Bitrix24ConfigError: no such connection, or it is no such database.
        """
        connection = connections.find(conn_id, named_by)
        return cls(
            url_of(
                conn_type=connection.conn_type,
                host=connection.host,
                login=connection.login,
                password=connection.password,
                port=connection.port,
                schema=connection.schema,
                extra=connections.read_extra(connection, conn_id),
                name=f"The Airflow connection {conn_id!r}",
            ),
            name=f"the database of the Airflow connection {conn_id!r}",
        )

    @property
    def dialect(self) -> str:
        """``postgresql``, ``mysql`` or ``sqlite``."""
        return str(self.engine.dialect.name)

    @property
    def now(self) -> sa.ColumnElement[float]:
        """The database's clock, seconds since the epoch: one clock for all workers."""
        return sa.literal_column(_NOW[self.dialect], sa.Float(53))

    @contextmanager
    def begin(self, *, reads: bool = False, autocommit: bool = False) -> Iterator[sa.Connection]:
        """One transaction: committed at the end, rolled back by any exception.

        On SQLite it takes the write lock at once, so that what is read in it stays true until it ends.

        :param reads: it only reads, and need not wait for writers.
        :param autocommit: no transaction: the server commits each statement, also if this process stops meanwhile.
        :raises Bitrix24StoreError: the database cannot be reached, or refuses.
        """
        trouble = None
        try:
            options = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
            with self.engine.execution_options(**{_READS: reads}, **options).begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            trouble = _words(error)
        if trouble is not None:
            raise Bitrix24StoreError(self.name, trouble)

    def transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Do the work in one transaction; again from its beginning if another transaction collides with it.

        :param work: raises :class:`Collision` if what it has read is not true any more. It has no other effect than on
            its connection.
        :raises Bitrix24StoreError: the database cannot be reached, or refuses.
        """
        trouble = ""
        for _ in range(_RUNS):
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except Collision:
                trouble = "other transactions collide with this one again and again"
            except sa.exc.SQLAlchemyError as error:
                trouble = _words(error)
                if not _is_collision(error):
                    break
        raise Bitrix24StoreError(self.name, trouble)

    def version(self, schema: Schema) -> int | None:
        """The version that the database has; None if there are no such tables. It makes nothing."""
        if self.dialect == "sqlite" and not _is_there(self.engine.url.database):
            return None
        with self.begin(reads=True) as connection:
            return self._version(connection, schema)

    def require(self, schema: Schema) -> None:
        """Make sure that the tables are there: made on first use, refused if they are of another version.

        :raises Bitrix24ConfigError: the tables are older or newer than this release, or may not be made.
        """
        if schema.component in self._ready:
            return
        found = self.version(schema)
        if found is None or (found < schema.version and not schema.by_command):
            self.migrate(schema)
            if found is None:
                log.warning(
                    "There were no %s tables in %s: they are created now, and know nothing of what is kept elsewhere.",
                    schema.component,
                    self.name,
                )
        elif found != schema.version:
            advice = (
                f"run `bitrix24-airflow {schema.component} migrate`"
                if found < schema.version
                else "install the newer release of airflow-provider-bitrix24 that made them on this worker too"
            )
            raise Bitrix24ConfigError(
                f"The {schema.component} tables in {self.name} have version {found}, and this release works with "
                f"{schema.version}: {advice}.",
                NOT_SENT,
            )
        self._ready.add(schema.component)

    def migrate(self, schema: Schema) -> tuple[int, int]:
        """Bring the tables to this release's version; does nothing if they are there.

        :return: the versions before and after; 0 stands for no tables.
        """
        try:
            return self._migrate(schema)
        except Bitrix24StoreError as error:
            # Somebody else may have made them at the same moment.
            lost = error
        if self.version(schema) == schema.version:
            return schema.version, schema.version
        raise lost

    def _migrate(self, schema: Schema) -> tuple[int, int]:
        with self.begin() as connection:
            before = self._version(connection, schema) or 0
            _METADATA.create_all(connection)
            if before == 0:
                connection.execute(_SCHEMA.insert().values(component=schema.component, version=0))
            for step in schema.steps[before:]:
                step(connection)
            after = max(before, schema.version)
            connection.execute(_SCHEMA.update().where(_SCHEMA.c.component == schema.component).values(version=after))
        return before, after

    def _version(self, connection: sa.Connection, schema: Schema) -> int | None:
        if not sa.inspect(connection).has_table(_SCHEMA.name):
            return None
        found = connection.execute(sa.select(_SCHEMA.c.version).where(_SCHEMA.c.component == schema.component))
        version: int | None = found.scalar()
        return version


def url_of(
    *,
    conn_type: str | None,
    host: str | None = None,
    login: str | None = None,
    password: str | None = None,
    port: int | None = None,
    schema: str | None = None,
    extra: Mapping[str, Any] | None = None,
    name: str = "The connection",
) -> sa.engine.URL:
    """Return SQLAlchemy's address of a database.

    :param conn_type: postgres, postgresql, mysql, mariadb or sqlite.
    :param host: host; for SQLite the file.
    :param schema: name of the database.
    :param extra: ``driver`` (such as psycopg), and parameters that the driver takes (such as sslmode).
    :raises Bitrix24ConfigError: names the field that is wrong.
    """
    options = {key: value for key, value in (extra or {}).items() if value not in (None, "")}
    dialect = _DIALECTS.get((conn_type or "").lower())
    if dialect is None:
        raise Bitrix24ConfigError(
            f"{name} is of type {conn_type!r}; a journal or token store takes postgres, mysql, mariadb or sqlite.",
            NOT_SENT,
        )
    driver = options.pop("driver", None)
    if driver is not None:
        dialect = f"{dialect.partition('+')[0]}+{driver}"
    for key, value in options.items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise Bitrix24ConfigError(f"{name}: the extra {key!r} must be a text or a number.", NOT_SENT)
    query = {key: str(value) for key, value in options.items()}
    if dialect.partition("+")[0] == "sqlite":
        file = schema if host in (None, "") else host
        # From a relative path each process would make a file of its own, wherever it happens to stand.
        if not file or not Path(file).is_absolute():
            raise Bitrix24ConfigError(
                f"{name}: host must be the SQLite file with its whole path, not {file or ''!r}.", NOT_SENT
            )
        return sa.engine.URL.create(dialect, database=file, query=query)
    return sa.engine.URL.create(
        dialect,
        username=login or None,
        password=password or None,
        host=host or "localhost",
        port=port or None,
        database=schema or None,
        query=query,
    )


def _is_there(file: str | None) -> bool:
    """Whether there is a SQLite file; looking into it with SQLite would make it."""
    return file is None or Path(file).exists()


def _engine(url: sa.engine.URL) -> sa.Engine:
    # No pool: workers fork, tasks are short, and a connection that waits for a portal helps nobody.
    backend = url.get_backend_name()
    arguments = {"timeout": CONNECT_TIMEOUT} if backend == "sqlite" else {"connect_timeout": CONNECT_TIMEOUT}
    given = {key: value for key, value in arguments.items() if key not in url.query}
    engine = sa.create_engine(url, poolclass=NullPool, connect_args=given, hide_parameters=True, future=True)
    if backend == "sqlite":
        sa.event.listen(engine, "connect", _leave_transactions_to_us)
        sa.event.listen(engine, "begin", _take_the_write_lock)
    if backend == "mysql":
        sa.event.listen(engine, "connect", _think_in_utc)
    return engine


def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


def _think_in_utc(connection: Any, _record: Any) -> None:
    """In a zone with summer time its clock shows one hour of autumn twice, and `_NOW` is made of what it shows."""
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")


def _take_the_write_lock(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(_READS) else "BEGIN IMMEDIATE")


def _is_collision(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether the transaction may succeed if it runs again: a deadlock, or a row that another one has just inserted."""
    cause = getattr(error, "orig", None)
    codes = (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None), *getattr(cause, "args", ())[:1])
    return isinstance(error, sa.exc.IntegrityError) or any(code in _COLLISIONS for code in codes)


def _words(error: sa.exc.SQLAlchemyError) -> str:
    """What the database said, in one line, without statements and values."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
