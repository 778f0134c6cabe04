"""Anything in any order: hypothesis looks for a story that breaks the protocol. `make test-proof` looks longer."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import Portal
from tests.simulation.virtual_journals import VirtualDatabase

pytestmark = pytest.mark.usefixtures("unmeasured")

EXAMPLES = int(os.environ.get("PROOF_EXAMPLES", "0"))
"""How many stories; without it a few, the same ones every time."""


@pytest.mark.parametrize("journal", ["task state", "sql", "sql and task state", "none"])
def test_anything_in_any_order(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Machine(Portal):
        pass

    Machine.journal = journal
    Machine.database = VirtualDatabase()
    examples = EXAMPLES or 40
    with capsys.disabled():
        print(f"\n{journal}: {examples} stories, {'at random' if EXAMPLES else 'the same ones every time'}", end="")
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            # The story is told in full: making it shorter takes longer than reading it.
            phases=[Phase.explicit, Phase.generate],
            report_multiple_bugs=False,
            derandomize=not EXAMPLES,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
