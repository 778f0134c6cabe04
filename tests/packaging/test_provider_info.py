"""What Airflow is told about this provider: valid by both of its schemas, and true."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_bitrix24
from airflow_provider_bitrix24.get_provider_info import get_provider_info

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
