"""A database whose clock is the world's, and a pause of what measures which lines run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.simulation.virtual_journals import VirtualDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> VirtualDatabase:
    return VirtualDatabase(tmp_path / "journal.db")


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Coverage doubles the time of thousands of cases; other tests run each line."""
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage else None
    if measuring is None:
        yield
        return
    measuring.stop()
    yield
    measuring.start()
