"""Every fault at every effect of chunks of two and three operations: for each key, no payment twice in the ledger."""

from __future__ import annotations

import pytest

from tests.simulation.chunks import LISTS, ChunkCase, campaign, tell
from tests.simulation.virtual_journals import VirtualDatabase

pytestmark = pytest.mark.usefixtures("unmeasured")

STRIDE = 1499
"""Of the cases with two strikes, every how many-th."""
SINGLES = {"sql": 5, "task state": 7, "sql and task state": 23}
"""Of the cases with one strike, every how many-th; `python -m tests.simulation.full --chunks` runs all."""


@pytest.fixture(scope="session")
def database() -> VirtualDatabase:
    return VirtualDatabase()


@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", list(LISTS))
def test_whatever_strikes_a_chunk(
    name: str, count: int, journal: str, database: VirtualDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = campaign(name, count, journal, database, stride=STRIDE, singles=SINGLES[journal])
    with capsys.disabled():
        print(f"\n{tally}", end="")
    assert not tally.verdict(), tally.verdict()


@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state"])
@pytest.mark.parametrize("name", list(LISTS))
def test_a_calm_day_is_one_batch(name: str, journal: str, database: VirtualDatabase) -> None:
    told = tell(ChunkCase(name, 3, journal, {}), database)
    assert told.ended == "green"
    alone = journal == "task state" and name in ("adds", "mixed")
    assert told.effects.count("send") == ((3 if name == "adds" else 2) if alone else 1)
