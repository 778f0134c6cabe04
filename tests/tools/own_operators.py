"""All operators and sensors of the provider that a DAG can use."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from airflow.sdk import BaseOperator

from airflow_provider_bitrix24 import operators, sensors


def own_operators() -> list[type[Any]]:
    """Return the classes that are not abstract, by the modules that define them."""
    modules = [
        importlib.import_module(found.name)
        for package in (operators, sensors)
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]
    return [
        one
        for module in modules
        for one in vars(module).values()
        if inspect.isclass(one)
        and issubclass(one, BaseOperator)
        and one.__module__ == module.__name__
        and not inspect.isabstract(one)
    ]
