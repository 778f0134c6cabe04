"""DAG files are parsed all day: importing our operators may load nothing that `airflow.sdk` has not loaded already."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.tools.printed import printed_json

PUBLIC = [
    "airflow_provider_bitrix24.hooks.bitrix24",
    "airflow_provider_bitrix24.operators.payments",
    "airflow_provider_bitrix24.operators.payment_lists",
    "airflow_provider_bitrix24.operators.calls",
    "airflow_provider_bitrix24.operators.payment_changes",
    "airflow_provider_bitrix24.operators.tokens",
    "airflow_provider_bitrix24.sensors.payments",
    "airflow_provider_bitrix24.sensors.records",
    "airflow_provider_bitrix24.triggers.payments",
    "airflow_provider_bitrix24.triggers.records",
    "airflow_provider_bitrix24.links.bitrix24",
]
LAZY = (
    "airflow.triggers.base",
    "airflow_provider_bitrix24.api.account_numbers",
    "airflow_provider_bitrix24.api.client",
    "airflow_provider_bitrix24.api.io",
    "airflow_provider_bitrix24.api.methods",
    "airflow_provider_bitrix24.api.models",
    "airflow_provider_bitrix24.drivers",
    "airflow_provider_bitrix24.journal.sql",
    "airflow_provider_bitrix24.at_most_once.record",
    "airflow_provider_bitrix24.sql",
    "airflow_provider_bitrix24.triggers.payments",
    "airflow_provider_bitrix24.triggers.records",
)
"""What only a running task needs, and no DAG file."""
COUNT = """
import importlib, json, os, sys
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, task
before, added = sorted(sys.modules), {}
for module in sys.argv[1:]:
    reads, writes = os.pipe()
    if child := os.fork():  # each module in a process that has imported nothing of ours
        os.close(writes)
        with open(reads) as file:
            added[module] = json.load(file)
        os.waitpid(child, 0)
    else:
        importlib.import_module(module)
        with open(writes, "w") as file:
            json.dump(sorted(set(sys.modules) - set(before)), file)
        os._exit(0)
print(json.dumps([before, added]))
"""


@pytest.fixture(scope="module")
def loaded() -> tuple[list[str], dict[str, list[str]]]:
    """What `airflow.sdk` has loaded, and what each of our modules loads beside."""
    done = subprocess.run([sys.executable, "-c", COUNT, *PUBLIC], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    before, added = printed_json(done.stdout)
    return before, added


@pytest.mark.slow
@pytest.mark.parametrize("module", PUBLIC)
def test_importing_loads_only_our_own_modules(module: str, loaded: tuple[list[str], dict[str, list[str]]]) -> None:
    before, added = loaded[0], loaded[1][module]
    assert module in added
    packages, known = ({name.partition(".")[0] for name in names} for names in (added, before))
    airflows = {"tenacity", "tornado"} if ".triggers." in module else set[str]()  # of Airflow 3.4's own triggers
    assert packages - known - sys.stdlib_module_names <= {"airflow_provider_bitrix24"} | airflows, added
    assert "requests" not in packages  # nor has Airflow loaded it already, from 3.1.1 on
    assert not [name for name in added if name.startswith("airflow_provider_bitrix24.sandbox")]
    if ".operators." in module or ".sensors." in module:
        assert not set(LAZY) & set(added)


@pytest.mark.slow
@pytest.mark.parametrize("module", LAZY)
def test_what_must_not_be_loaded_exists(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.slow
def test_the_package_itself_is_nearly_empty() -> None:
    code = "import sys; old = set(sys.modules); import airflow_provider_bitrix24; print(sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1800)
    assert done.stdout.strip() == "['airflow_provider_bitrix24']", done.stderr
