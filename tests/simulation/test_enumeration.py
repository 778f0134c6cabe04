"""Every fault at every effect, every death at every effect, one and two in a row: the ledger shows no payment twice.

Here every case with one strike is run, and every so-many-th of those with two; `make test-proof` runs all of them.
"""

from __future__ import annotations

import pytest

from tests.simulation.campaign import OPERATIONS, Case, campaign, tell
from tests.simulation.virtual_journals import VirtualDatabase

pytestmark = pytest.mark.usefixtures("unmeasured")

STRIDE = 997
"""Of the cases with two strikes, every how many-th."""
SINGLES = {"sql and task state": 7}
"""Both journals together do what each does alone: a sample is enough here."""


@pytest.fixture(scope="session")
def database() -> VirtualDatabase:
    return VirtualDatabase()


@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state", "none"])
@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_whatever_strikes(
    operation: str, journal: str, database: VirtualDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = campaign(operation, journal, database, stride=STRIDE, singles=SINGLES.get(journal, 1))
    with capsys.disabled():
        print(f"\n{tally}", end="")
    assert not tally.verdict(), tally.verdict()


@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state", "none"])
@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_a_calm_day_is_green(operation: str, journal: str, database: VirtualDatabase) -> None:
    told = tell(Case(OPERATIONS[operation], journal, {}), database)
    assert told.ended == "green"
    assert told.effects.count("send") == (3 if operation == "fill" else 1)


@pytest.mark.parametrize("lost", ["drop_before", "drop_after", "html after", "commit_latest", "orphan soon"])
@pytest.mark.parametrize(
    ("operation", "journal"),
    [
        ("invoice", "task state"),
        ("payment", "task state"),
        ("pay system", "task state"),
        ("tag", "task state"),
        ("add", "sql"),
        ("fill", "sql"),
        ("tag", "sql"),
        ("invoice", "sql"),
        ("payment", "sql"),
        ("pay system", "sql"),
    ],
)
def test_a_lost_answer_ends_green_without_a_person(
    operation: str, journal: str, lost: str, database: VirtualDatabase
) -> None:
    calm = tell(Case(OPERATIONS[operation], journal, {}), database)
    assert tell(Case(OPERATIONS[operation], journal, {calm.effects.index("send"): lost}), database).ended == "green"


@pytest.mark.parametrize("operation", ["payment", "pay system"])
def test_what_a_person_set_back_after_a_frozen_attempt_is_told(operation: str, database: VirtualDatabase) -> None:
    journal = "sql and task state"
    sending = tell(Case(OPERATIONS[operation], journal, {}), database).effects.index("send")
    for later in range(sending + 1, sending + 18):
        tell(Case(OPERATIONS[operation], journal, {sending: "frozen before", later: "people: takes back"}), database)
