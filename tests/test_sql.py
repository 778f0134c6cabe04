"""Databases of Airflow connections: addresses, drivers, errors without secrets, and tables with a version."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24ConnectionNotFound,
    Bitrix24StoreError,
)
from airflow_provider_bitrix24.sql import Collision, Database, Schema, url_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.airflow

CANARY = "c4n4ry-passw0rd"


def schema(*statements: str) -> Schema:
    def step(statement: str) -> Any:
        return lambda connection: connection.execute(sa.text(statement))

    return Schema("shelf", [step(statement) for statement in statements])


ONE = schema("create table shelf (id integer)")
TWO = schema("create table shelf (id integer)", "alter table shelf add column name integer")


@pytest.fixture
def file(tmp_path: Path) -> Database:
    return Database(sa.engine.URL.create("sqlite", database=str(tmp_path / "shelf.db")), "the test database")


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({"conn_type": "postgres", "host": "db", "schema": "pay"}, "postgresql+psycopg2://db/pay"),
        (
            {"conn_type": "postgresql", "host": "db", "login": "me", "password": "x@/:", "port": 5433, "schema": "pay"},
            "postgresql+psycopg2://me:x%40%2F%3A@db:5433/pay",
        ),
        (
            {"conn_type": "Postgres", "host": "db", "extra": {"driver": "psycopg", "sslmode": "require"}},
            "postgresql+psycopg://db?sslmode=require",
        ),
        ({"conn_type": "mysql", "host": "db", "port": 0, "extra": {"charset": ""}}, "mysql+pymysql://db"),
        ({"conn_type": "mariadb"}, "mysql+pymysql://localhost"),
        ({"conn_type": "sqlite", "host": "/data/pay.db"}, "sqlite:////data/pay.db"),
        ({"conn_type": "sqlite", "schema": "/data/pay.db"}, "sqlite:////data/pay.db"),
    ],
)
def test_connections_become_addresses(values: dict[str, Any], url: str) -> None:
    assert url_of(**values).render_as_string(hide_password=False) == url


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"conn_type": "http"}, "of type 'http'"),
        ({"conn_type": None}, "of type None"),
        ({"conn_type": "sqlite"}, "host must be the SQLite file with its whole path, not ''"),
        ({"conn_type": "sqlite", "host": "pay.db"}, "host must be the SQLite file with its whole path, not 'pay.db'"),
        ({"conn_type": "postgres", "extra": {"options": {"a": 1}}}, "the extra 'options' must be a text or a number"),
    ],
)
def test_what_is_no_such_database_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match=words):
        url_of(**values)


def test_a_missing_driver_is_named() -> None:
    url = sa.engine.URL.create("postgresql+asyncpg_not_there", host="db", password=CANARY)
    with pytest.raises((Bitrix24ConfigError, sa.exc.NoSuchModuleError)) as caught:
        Database(url, "The database")
    assert CANARY not in str(caught.value)


def test_the_connection_of_airflow_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", f'{{"conn_type": "sqlite", "host": "{tmp_path}/pay.db"}}')
    found = Database.from_connection("journal")
    assert found.version(ONE) is None
    assert found.dialect == "sqlite"
    assert "'journal'" in found.name
    assert "'journal'" in repr(found)


@pytest.mark.needs_connection_errors
def test_a_connection_that_is_not_there_is_told() -> None:
    with pytest.raises(
        Bitrix24ConnectionNotFound, match=r"The Airflow connection 'nowhere' \(journal_conn_id\) was not found"
    ) as caught:
        Database.from_connection("nowhere")
    assert caught.value.__context__ is None
    assert not caught.value.final  # a secrets backend that is away looks the same
    assert "Nothing was sent by this attempt. And so on." in str(caught.value.after("And so on."))


def test_looking_for_tables_makes_no_file(tmp_path: Path) -> None:
    database = Database(url_of(conn_type="sqlite", host=f"{tmp_path}/pay.db"), "the test database")
    assert database.version(ONE) is None
    assert list(tmp_path.iterdir()) == []


def test_new_tables_are_told_once(file: Database, caplog: pytest.LogCaptureFixture) -> None:
    file.require(ONE)
    file.require(ONE)
    assert [record.getMessage() for record in caplog.records] == [
        f"There were no {ONE.component} tables in {file.name}: they are created now, and know nothing of what is kept "
        "elsewhere."
    ]


def test_errors_hold_no_secret() -> None:
    url = sa.engine.URL.create("sqlite", database=f"/nonexistent/{CANARY[:3]}/pay.db", query={})
    with pytest.raises(Bitrix24StoreError, match="The test database cannot be used now: OperationalError") as caught:
        Database(url, "the test database").require(ONE)
    assert not caught.value.final
    assert caught.value.__context__ is None


def test_values_do_not_get_into_errors(file: Database) -> None:
    file.require(ONE)
    with pytest.raises(Bitrix24StoreError) as caught, file.begin() as connection:
        connection.execute(sa.text("insert into nothing values (:secret)"), {"secret": CANARY})
    assert CANARY not in str(caught.value)


def test_a_transaction_that_fails_leaves_nothing(file: Database) -> None:
    file.require(ONE)

    def fail() -> None:
        with file.begin() as connection:
            connection.execute(sa.text("insert into shelf values (1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with file.begin() as connection:
        assert connection.execute(sa.text("select count(*) from shelf")).scalar() == 0


def test_tables_are_made_on_first_use(file: Database) -> None:
    assert file.version(ONE) is None
    file.require(ONE)
    file.require(ONE)
    assert file.version(ONE) == 1


def test_migrations_go_on_where_they_were(file: Database) -> None:
    assert file.migrate(ONE) == (0, 1)
    assert file.migrate(TWO) == (1, 2)
    assert file.migrate(TWO) == (2, 2)


def test_older_tables_are_not_changed_by_themselves(file: Database) -> None:
    file.migrate(ONE)
    with pytest.raises(Bitrix24ConfigError, match=r"version 1, and this release works with 2.*shelf migrate"):
        file.require(TWO)


def test_newer_tables_are_left_alone(file: Database) -> None:
    file.migrate(TWO)
    with pytest.raises(Bitrix24ConfigError, match="install the newer release"):
        file.require(ONE)
    assert file.migrate(ONE) == (2, 2)


def test_what_has_no_command_is_changed_at_work(file: Database) -> None:
    file.migrate(ONE)
    file.require(Schema("shelf", TWO.steps, by_command=False))
    assert file.version(TWO) == 2


def test_who_only_reads_does_not_wait_for_who_writes(file: Database) -> None:
    file.require(ONE)
    with file.begin() as writing:
        writing.execute(sa.text("insert into shelf values (1)"))
        with file.begin(reads=True) as reading:
            assert reading.execute(sa.text("select count(*) from shelf")).scalar() == 0


def test_a_migration_that_fails_is_told(file: Database) -> None:
    with pytest.raises(Bitrix24StoreError, match="OperationalError"):
        file.migrate(schema("create nonsense"))
    assert file.version(ONE) is None


def test_many_may_make_the_tables_at_once(file: Database) -> None:
    barrier = threading.Barrier(6)
    failed: list[Exception] = []

    def make() -> None:
        mine = Database(file.engine.url, "the test database")
        barrier.wait()
        try:
            mine.require(ONE)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert file.version(ONE) == 1


def test_the_databases_clock_is_the_epochs(file: Database) -> None:
    with file.begin() as connection:
        first = connection.execute(sa.select(file.now)).scalar_one()
        second = connection.execute(sa.select(file.now)).scalar_one()
    assert 1_700_000_000 < first <= second


def count(file: Database) -> int:
    with file.begin() as connection:
        return int(connection.execute(sa.text("select count(*) from shelf")).scalar_one())


@pytest.mark.parametrize("trouble", ["changed", "deadlock", "deadlock of MariaDB", "inserted"])
def test_a_transaction_that_collides_runs_again_from_its_beginning(file: Database, trouble: str) -> None:
    file.require(schema("create table shelf (id integer primary key)"))
    runs: list[int] = []

    class Deadlock(Exception):
        pgcode = "40P01"

    def work(connection: sa.Connection) -> str:
        runs.append(1)
        connection.execute(sa.text("insert into shelf values (1)"))
        if len(runs) < 3:
            if trouble == "changed":
                raise Collision
            if trouble == "deadlock":
                raise sa.exc.OperationalError("update", {}, Deadlock())
            if trouble == "deadlock of MariaDB":
                raise sa.exc.OperationalError("update", {}, Exception(1213, "Deadlock found"))
            connection.execute(sa.text("insert into shelf values (1)"))
        return "done"

    assert file.transact(work) == "done"
    assert (len(runs), count(file)) == (3, 1)


def test_a_transaction_does_not_run_again_for_ever(file: Database) -> None:
    file.require(ONE)
    runs: list[int] = []

    def collide(connection: sa.Connection) -> None:
        runs.append(1)
        raise Collision

    with pytest.raises(Bitrix24StoreError, match="collide with this one again and again") as caught:
        file.transact(collide)
    assert caught.value.__context__ is None
    assert 10 < len(runs) < 100


def test_other_trouble_ends_a_transaction(file: Database) -> None:
    file.require(ONE)
    runs: list[int] = []

    def fail(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(sa.text("insert into shelf values (1)"))
        connection.execute(sa.text("insert into nothing values (1)"))

    with pytest.raises(Bitrix24StoreError, match="OperationalError"):
        file.transact(fail)
    assert (len(runs), count(file)) == (1, 0)
