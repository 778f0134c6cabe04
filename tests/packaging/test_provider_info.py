"""What Airflow is told about this provider: valid by both of its schemas, and true."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_bitrix24
from airflow_provider_bitrix24.get_provider_info import get_provider_info
from tests.tools.own_operators import own_operators

AIRFLOW = Path(airflow.__file__).parent


def entries(info: dict[str, Any], section: str) -> list[str]:
    return [module for entry in info.get(section, []) for module in entry["python-modules"]]


def test_is_the_entry_point_of_the_installed_distribution() -> None:
    (point,) = [
        point
        for point in importlib.metadata.distribution("airflow-provider-bitrix24").entry_points
        if point.group == "apache_airflow_provider"
    ]
    assert point.load() is get_provider_info


def test_version_is_single_sourced() -> None:
    assert importlib.metadata.version("airflow-provider-bitrix24") == airflow_provider_bitrix24.__version__


@pytest.mark.parametrize("schema", ["provider_info.schema.json", "provider.yaml.schema.json"])
def test_is_valid_by_airflow_schema(schema: str) -> None:
    info = get_provider_info()
    rules = json.loads((AIRFLOW / schema).read_text())
    if schema == "provider.yaml.schema.json":
        # What only Apache's own providers have: their place in Airflow's release process.
        rules["required"] = [key for key in rules["required"] if key in ("name", "package-name", "description")]
    jsonschema.validate(info, rules)


@pytest.mark.parametrize("section", ["operators", "sensors", "hooks", "triggers"])
def test_listed_modules_exist(section: str) -> None:
    modules = entries(get_provider_info(), section)
    assert modules
    for module in modules:
        importlib.import_module(module)


@pytest.mark.parametrize("kind", own_operators(), ids=lambda kind: kind.__name__)
def test_every_operator_can_be_imported_from_a_listed_module(kind: type[Any]) -> None:
    info = get_provider_info()
    modules = map(importlib.import_module, [*entries(info, "operators"), *entries(info, "sensors")])
    assert any(vars(module).get(kind.__name__) is kind for module in modules)


def test_every_option_is_listed_by_airflow_with_its_text(tmp_path: Path) -> None:
    """What an administrator sees, and whether what is set in the environment counts."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__BITRIX24__JOURNAL_CONN_ID": "payments_journal",
    }

    def airflow(*arguments: str) -> str:
        command = [sys.executable, "-m", "airflow", "config", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=1800).stdout

    listed = airflow("list", "--section", "bitrix24", "--include-descriptions", "--include-examples", "--defaults")
    section = get_provider_info()["config"]["bitrix24"]
    assert section["description"] in listed
    assert set(section["options"]) == {
        "journal_conn_id",
        "max_amount",
        "allow_backfill",
        "kill_switch",
        "pace_conn_id",
        "rate_limit",
    }
    for name, option in section["options"].items():
        assert f"{name} = " in listed
        assert f"# Example: {name} = {option['example']}" in listed
        for line in option["description"].strip().splitlines():
            assert f"# {line}" in listed
    assert airflow("get-value", "bitrix24", "journal_conn_id").strip().endswith("payments_journal")
    assert airflow("get-value", "bitrix24", "kill_switch").strip().endswith("False")


def test_every_link_class_is_listed() -> None:
    listed = set(get_provider_info()["extra-links"])
    links = importlib.import_module("airflow_provider_bitrix24.links.bitrix24")
    base = links.Bitrix24Link
    classes = {
        f"{value.__module__}.{value.__qualname__}"
        for value in vars(links).values()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    }
    assert listed == classes
