"""A database whose clock is the world's."""

from __future__ import annotations

import pytest

from tests.simulation.virtual_journals import VirtualDatabase


@pytest.fixture
def database() -> VirtualDatabase:
    return VirtualDatabase()
