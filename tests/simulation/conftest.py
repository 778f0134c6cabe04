"""A database whose clock is the world's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.virtual_journals import VirtualDatabase

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> VirtualDatabase:
    return VirtualDatabase(tmp_path / "journal.db")
