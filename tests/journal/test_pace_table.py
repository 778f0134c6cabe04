"""Slots of the rate limit in a database row: on SQLite, and on the server that ``BITRIX24_TEST_DATABASE`` names."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.api.io import Reserve, Slot
from airflow_provider_bitrix24.api.pacing import LONGEST_QUEUE, Limits
from airflow_provider_bitrix24.exceptions import Bitrix24StoreError
from airflow_provider_bitrix24.hooks.pace_table import SCHEMA, RowPacer
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from pathlib import Path

SLOW = Limits(4, 0.1)
"""Three at once, then one every ten seconds."""
PORTAL = "acme.bitrix24.com"
BACK = sa.text("UPDATE bitrix24_pace SET booked_at = booked_at + :seconds")


@pytest.fixture
def pacer(database: Database) -> RowPacer:
    return RowPacer(database, PORTAL, SLOW)


def waits(pacer: RowPacer, count: int, **options: Any) -> list[float]:
    return [pacer.reserve(Reserve(**{"within": 1e6, **options})).wait for _ in range(count)]


def test_all_hosts_share_the_row(database: Database, pacer: RowPacer) -> None:
    began = time.monotonic()
    booked = waits(pacer, 2) + waits(RowPacer(database, PORTAL, SLOW), 4)
    passed = time.monotonic() - began
    assert booked[:3] == [0.0] * 3
    for number, wait in enumerate(booked[3:], 1):
        assert 10 * number - passed - 0.1 <= wait <= 10 * number
    assert waits(RowPacer(database, "other.bitrix24.com", SLOW), 1) == [0.0]


def test_who_would_wait_too_long_books_nothing(pacer: RowPacer) -> None:
    waits(pacer, 3)
    for _ in range(3):
        slot = pacer.reserve(Reserve(within=0.0))
        assert not slot.granted
        assert 0 < slot.wait <= 10
    assert 0 < pacer.reserve(Reserve(within=10.0)).wait <= 10


def test_a_refusal_of_the_portal_takes_the_burst_away(pacer: RowPacer) -> None:
    [wait] = waits(pacer, 1, drained=True)
    assert wait == pytest.approx(10)
    assert 10 < waits(pacer, 1, drained=True)[0] <= 20


def test_time_gives_slots_back(database: Database, pacer: RowPacer) -> None:
    waits(pacer, 5)
    with database.begin() as connection:
        connection.execute(BACK, {"seconds": -40.0})
    assert waits(pacer, 2) == [0.0] * 2


def test_a_clock_set_back_neither_frees_nor_locks(database: Database, pacer: RowPacer) -> None:
    waits(pacer, 4)
    with database.begin() as connection:
        connection.execute(BACK, {"seconds": 86400.0})
    assert 10 < pacer.reserve(Reserve(within=0.0)).wait <= 20
    with database.begin() as connection:
        ahead = connection.execute(
            sa.select(sa.literal_column("booked_at") - database.now).select_from(sa.text("bitrix24_pace"))
        )
        assert ahead.scalar_one() <= 0, "from here on time goes on"
    assert pacer.reserve(Reserve(within=0.0)).wait <= 20


def test_limits_that_were_written_wrong_do_not_stay(database: Database, pacer: RowPacer) -> None:
    waits(pacer, 1)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE bitrix24_pace SET backlog = :most"), {"most": 2 * LONGEST_QUEUE})
    assert waits(pacer, 1) == [pytest.approx(10)]


def test_it_is_made_once_and_left_as_it_is(database: Database, pacer: RowPacer) -> None:
    waits(pacer, 1)
    assert database.version(SCHEMA) == 1
    waits(RowPacer(database, PORTAL, SLOW), 1)
    with database.begin() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM bitrix24_pace")).scalar_one() == 1


def test_a_database_that_is_away_says_so(tmp_path: Path) -> None:
    nowhere = Database(sa.engine.URL.create("sqlite", database=str(tmp_path / "no" / "such.db")), "the test database")
    with pytest.raises(Bitrix24StoreError):
        RowPacer(nowhere, PORTAL, SLOW).reserve(Reserve(within=1.0))


def book(url: str, count: int, pipe: Any) -> None:
    """In a process of its own."""
    pipe.send(waits(RowPacer(Database(sa.engine.make_url(url), "the test database"), PORTAL, SLOW), count))


def test_no_slot_is_booked_twice(database: Database) -> None:
    """Four processes begin on empty tables at the same moment."""
    url = database.engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    began = time.monotonic()
    pipes = []
    for _ in range(4):
        ours, theirs = context.Pipe()
        process = context.Process(target=book, args=(url, 10, theirs))
        process.start()
        pipes.append((process, ours))
    booked = [wait for _, pipe in pipes for wait in pipe.recv()]
    for process, _ in pipes:
        process.join()
    slot = RowPacer(database, PORTAL, SLOW).reserve(Reserve(within=0.0))
    passed = time.monotonic() - began
    assert len(booked) == 40
    assert slot == Slot(slot.wait, granted=False)
    assert 380 - passed <= slot.wait <= 380, "three at once, then ten seconds for each of the others"
