"""What an operator or sensor takes is in its own signature and docstring: editors and the documentation show it."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from airflow.sdk import BaseOperator, BaseSensorOperator

from airflow_provider_bitrix24.api.methods import METHODS
from airflow_provider_bitrix24.operators.list_base import PaymentListOperator
from tests.tools.own_operators import own_operators

CLASSES = own_operators()
NOT_FOR_LISTS = {"on_unknown", "ask_timeout", "multiple_outputs"}
"""A list asks nobody, and its result is one summary."""


def _arguments(kind: type[Any]) -> set[str]:
    found = inspect.signature(kind.__init__).parameters.values()
    return {one.name for one in found if one.kind is inspect.Parameter.KEYWORD_ONLY}


def test_the_operators_that_the_registry_recommends_exist() -> None:
    recommended = {row.operator for row in METHODS.values() if row.operator is not None}
    assert recommended
    assert recommended <= {kind.__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_the_signature_hides_only_the_arguments_of_airflow(kind: type[Any]) -> None:
    ours = [one for one in kind.__mro__ if one.__module__.startswith("airflow_provider_bitrix24.")]
    inherited = set().union(*(_arguments(one) for one in ours[1:] if "__init__" in vars(one)))
    if issubclass(kind, PaymentListOperator):
        inherited -= NOT_FOR_LISTS
    assert inherited <= _arguments(kind)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_docstring_has_each_argument_in_the_order_of_the_signature(kind: type[Any]) -> None:
    airflow = BaseSensorOperator if issubclass(kind, BaseSensorOperator) else BaseOperator
    described = re.findall(r":param (\w+):", inspect.getdoc(kind) or "")
    taken = [
        one.name
        for one in inspect.signature(kind.__init__).parameters.values()
        if one.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert taken
    assert described == taken
    assert issubclass(kind, airflow)
