"""How all tests run: none of them judges how fast the machine is, and every warning is an error."""

from __future__ import annotations

import os
import sqlite3
import sys
import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings

from airflow_provider_bitrix24 import api, at_most_once
from tests.tools.airflow_home import put_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).parent

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("any machine")

# The sandbox has no rate limit unless a test asks for one: nobody waits for slots but the tests of pacing.
os.environ["AIRFLOW__BITRIX24__RATE_LIMIT"] = "off"


@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "connect")
def _do_not_wait_for_the_disk(connection: Any, _record: Any) -> None:
    """Let SQLite return before its data is on the disk: no test needs it to survive a power failure."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(autouse=True)
def secrets_of_one_test() -> Iterator[None]:
    """Remove the secrets that a test gave to Airflow's masker, which compiles all of them again for each new one."""
    from airflow.sdk._shared.secrets_masker import _secrets_masker  # not before AIRFLOW_HOME is known

    masker = _secrets_masker()
    before = masker.patterns, masker.replacer
    masker.patterns = set(masker.patterns)
    yield
    masker.patterns, masker.replacer = before


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Do not measure coverage, which doubles the time of thousands of cases; other tests run each line."""
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage else None
    if measuring is None:
        yield
        return
    measuring.stop()
    yield
    for function in CACHED:  # or else a measured test gets a result for which no line is run
        function.cache_clear()
    measuring.start()


@pytest.fixture(scope="session")
def new_airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return what makes a new folder in which an Airflow can live: its database has the tables."""
    mine = tmp_path_factory.getbasetemp()

    def make() -> Path:
        home = tmp_path_factory.mktemp("airflow")
        put_tables(home, mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine)
        return home

    return make


if "PYTEST_XDIST_WORKER" in os.environ:  # one of the processes that run tests side by side
    if "AIRFLOW_HOME" in os.environ:
        os.environ["AIRFLOW_HOME"] += f"-{os.environ['PYTEST_XDIST_WORKER']}"
    os.environ.pop("COVERAGE_PROCESS_START", None)  # what tests start is not measured

# What is loaded or made once, and late, would else be loaded or made by a test that is not measured.
MODULES = [
    import_module(module.name)
    for package in (api, at_most_once)
    for module in walk_packages(package.__path__, f"{package.__name__}.")
]
CACHED = set()
"""The functions of these packages whose results are kept by their arguments."""
for function in [function for module in MODULES for function in vars(module).values()]:
    if hasattr(function, "cache_clear") and function.__module__.startswith("airflow_provider_bitrix24."):
        if signature(function).parameters:
            CACHED.add(function)
        else:
            function()


AIRFLOW = version("apache-airflow-core")
OLDER = tuple(int(number) for number in AIRFLOW.split(".")[:2]) < (3, 3)
LACKS = {
    "needs_task_state": "the task state is new in Airflow 3.3" if OLDER else "",
    "needs_connection_errors": "outside of a task, Airflow 3.1.0 cannot say what is wrong with a connection"
    if AIRFLOW == "3.1.0"
    else "",
}
"""The marks of tests that need what not every Airflow has, and why they are skipped on this one."""
MARKED = {
    "airflow": ("assets", "e2e/demo", "hooks", "journal", "links", "operators", "packaging", "sensors", "triggers"),
    "libraries": ("api", "at_most_once", "drivers"),
}
"""The marks of whole folders: what Airflow has a part in, and what only other libraries have a part in."""

TOLERATED = (DeprecationWarning, PendingDeprecationWarning, FutureWarning) if OLDER else ()
"""On an older Airflow, what others deprecate in each other's code is no error; in ours it is one everywhere."""
OTHERS = r"(?!(airflow_provider_bitrix24|dags_examples|tests)\b)"

for category in TOLERATED:
    warnings.filterwarnings("default", category=category, module=OTHERS)  # while the other conftests are loaded


def pytest_configure(config: pytest.Config) -> None:
    """Let the same hold while the tests are collected and run."""
    for category in TOLERATED:
        config.addinivalue_line("filterwarnings", f"default::{category.__name__}:{OTHERS}")


@pytest.hookimpl(tryfirst=True)  # before -m looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests the marks of their folder, unless they have one of these; skip what this Airflow lacks; sort them."""
    for item in items:
        if not any(item.get_closest_marker(mark) for mark in MARKED):
            for mark in _marks_of(item.path.parent):
                item.add_marker(mark)
        for mark, reason in LACKS.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
    # What takes longest begins first, so that the other processes do not wait for it at the end.
    items.sort(
        key=lambda item: (not item.get_closest_marker("slow"), "unmeasured" not in getattr(item, "fixturenames", ()))
    )


@cache
def _marks_of(folder: Path) -> list[str]:
    """The marks that all tests of a folder have."""
    inside = folder.relative_to(TESTS)
    return [mark for mark, folders in MARKED.items() if any(inside.is_relative_to(one) for one in folders)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process one test at a time; but all tests of a file that makes something for all of them."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if _has_module_fixtures(config.rootpath / file) else nodeid

    config.option.loadscopereorder = False  # they are sorted
    return Scheduling(config, log)


@cache
def _has_module_fixtures(file: Path) -> bool:
    sources = [file, file.with_name("conftest.py")]
    return any('@pytest.fixture(scope="module"' in source.read_text() for source in sources if source.exists())
