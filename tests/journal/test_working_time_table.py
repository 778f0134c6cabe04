"""Working time in a database row: on SQLite, and on the server that ``BITRIX24_TEST_DATABASE`` names."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.api.working_time import UsageReport
from airflow_provider_bitrix24.exceptions import Bitrix24StoreError
from airflow_provider_bitrix24.hooks.working_time_table import RowWorkingTime
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from pathlib import Path

ADD = "crm.item.payment.add"
HERE = "one credential"


def report(database: Database, operating: float, *, after: float = 0.0, method: str = ADD) -> UsageReport:
    with database.begin() as connection:
        now = float(connection.execute(sa.select(database.now)).scalar_one())
    return UsageReport(method=method, at=now + after, operating=operating, took=0.9)


def test_what_one_host_learns_all_hosts_know(database: Database) -> None:
    RowWorkingTime(database, HERE).share([report(database, 470.0)], 0.0)
    _, known = RowWorkingTime(database, HERE).share([], None)
    assert known[ADD].used(known[ADD].at) == pytest.approx(470.0)
    assert known[ADD].cost == pytest.approx(0.9)
    assert RowWorkingTime(database, "another credential").share([], None) == (None, {})


def test_the_portals_clock_is_kept_by_the_databases(database: Database) -> None:
    """The hosts' own clocks are wrong, each by something else."""
    with database.begin() as connection:
        now = float(connection.execute(sa.select(database.now)).scalar_one())
    first = RowWorkingTime(database, HERE, clock=lambda: now - 500.0)
    second = RowWorkingTime(database, HERE, clock=lambda: now + 3000.0)
    # The portal is 100 s ahead of the database, and so 600 s ahead of the first host.
    first.share([report(database, 1.0, after=100.0)], 600.0)
    offset, known = second.share([], None)
    assert offset == pytest.approx(100.0 - 3000.0, abs=60)
    assert known[ADD].at == pytest.approx(now + 100.0, abs=60)
    assert second.share([], 7.0)[0] == 7.0, "what the portal has just said is newer"


def test_a_damaged_row_is_learned_again(database: Database) -> None:
    row = RowWorkingTime(database, HERE)
    row.share([report(database, 470.0)], 0.0)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE bitrix24_working_time SET known = '{'"))
    assert row.share([], None) == (None, {})
    assert ADD in row.share([report(database, 1.0)], 0.0)[1]


def test_an_unavailable_database_is_an_error(tmp_path: Path) -> None:
    nowhere = Database(sa.engine.URL.create("sqlite", database=str(tmp_path / "no" / "such.db")), "the test database")
    with pytest.raises(Bitrix24StoreError):
        RowWorkingTime(nowhere, HERE).share([], None)


def learn(url: str, name: str, pipe: Any) -> None:
    """Share ten reports, in a process of its own."""
    row = RowWorkingTime(Database(sa.engine.make_url(url), "the test database"), HERE)
    for number in range(10):
        row.share([UsageReport(method=f"{name}.{number}", at=1e9, operating=1.0)], 0.0)
    pipe.send(True)


def test_nothing_that_was_learned_is_lost(database: Database) -> None:
    """Four processes begin on empty tables at the same moment."""
    url = database.engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    pipes = []
    for name in "abcd":
        ours, theirs = context.Pipe()
        process = context.Process(target=learn, args=(url, name, theirs))
        process.start()
        pipes.append((process, ours))
    assert [pipe.recv() for _, pipe in pipes] == [True] * 4
    for process, _ in pipes:
        process.join()
    _, known = RowWorkingTime(database, HERE).share([], None)
    assert len(known) == 40
