"""How all tests run: none of them judges how fast the machine is, and every warning is an error."""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pathlib import Path

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("any machine")

# The sandbox has no rate limit unless a test asks for one: nobody waits for slots but the tests of pacing.
os.environ["AIRFLOW__BITRIX24__RATE_LIMIT"] = "off"

if "PYTEST_XDIST_WORKER" in os.environ:  # one of the processes that run tests side by side
    if "AIRFLOW_HOME" in os.environ:
        os.environ["AIRFLOW_HOME"] += f"-{os.environ['PYTEST_XDIST_WORKER']}"
    os.environ.pop("COVERAGE_PROCESS_START", None)  # what tests start is not measured


OLDER = tuple(int(number) for number in version("apache-airflow-core").split(".")[:2]) < (3, 3)
NEW_IN_AIRFLOW_3_3 = {
    "operators/test_asking.py": "a task that waits for a person's answer",
    "operators/test_later_attempts.py": "the task state store",
    "operators/test_retries.py": "retry policies",
    "operators/test_send_once.py": "the task state store",
    "operators/test_task_state_store.py": "the task state store",
    "journal/test_task_state.py": "the task state store",
}
collect_ignore = list(NEW_IN_AIRFLOW_3_3) if OLDER else []

TOLERATED = (DeprecationWarning, PendingDeprecationWarning, FutureWarning) if OLDER else ()
"""On an older Airflow, what others deprecate in each other's code is no error; in ours it is one everywhere."""
OTHERS = r"(?!(airflow_provider_bitrix24|dags_examples|tests)\b)"

for category in TOLERATED:
    warnings.filterwarnings("default", category=category, module=OTHERS)  # while the other conftests are loaded


def pytest_configure(config: pytest.Config) -> None:
    """Let the same hold while the tests are collected and run."""
    for category in TOLERATED:
        config.addinivalue_line("filterwarnings", f"default::{category.__name__}:{OTHERS}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process one test at a time; but all tests of a file that makes something for all of them."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if _has_module_fixtures(config.rootpath / file) else nodeid

    return Scheduling(config, log)


@cache
def _has_module_fixtures(file: Path) -> bool:
    sources = [file, file.with_name("conftest.py")]
    return any('@pytest.fixture(scope="module"' in source.read_text() for source in sources if source.exists())


def pytest_report_header() -> list[str]:
    """Nothing is left out silently."""
    return [f"not in this Airflow: {what} ({name})" for name, what in NEW_IN_AIRFLOW_3_3.items() if OLDER]
