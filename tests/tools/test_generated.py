"""What is generated from the registry is what is committed, and has no leftovers."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api import calls
from airflow_provider_bitrix24.api.filters import check_names
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods import FAMILIES, METHODS
from airflow_provider_bitrix24.hooks.rest import AsyncRest, Rest
from airflow_provider_bitrix24.operators.calls import Bitrix24CallOperator
from airflow_provider_bitrix24.operators.task_payments import TaskPayments
from tests.tools.generate_calls import EXAMPLES, GUARDED, PACKAGE, ROOT, generated

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_bitrix24.api.methods.row import Method

FILES = generated()
WRITTEN_BY_HAND = {"call.py", "base.py"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_the_committed_file_is_the_generated_one(file: Path) -> None:
    assert file.read_text() == FILES[file], "run: python tests/tools/generate_calls.py"


def test_nothing_is_left_of_families_that_are_gone() -> None:
    folders = (ROOT / PACKAGE / "api/calls", ROOT / PACKAGE / "hooks/rest", ROOT / "docs/methods")
    found = {file for folder in folders for file in folder.iterdir() if file.is_file()}
    assert {file.name for file in found - set(FILES)} == WRITTEN_BY_HAND


@pytest.mark.parametrize("row", METHODS.values(), ids=lambda row: row.name)
def test_every_method_has_a_typed_call_a_twin_and_a_value(row: Method) -> None:
    name = row.python
    arguments = [param.python for param in sorted(row.params, key=lambda param: not param.required)]
    for where, bound in ((Rest, ["self"]), (AsyncRest, ["self"]), (calls, [])):
        signature = inspect.signature(getattr(where, name))
        assert list(signature.parameters) == [*bound, *arguments]
    assert inspect.iscoroutinefunction(getattr(AsyncRest, name))
    text = inspect.getdoc(getattr(Rest, name))
    assert row.url in text
    assert row.name in text
    assert all(f":param {argument}:" in text for argument in arguments)
    assert all(code in text for code in row.errors)
    assert callable(getattr(calls, name))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_example_of_a_family_is_one_of_its_calls(family: str) -> None:
    call = eval(EXAMPLES[family].replace("hook.rest.", "calls."), {"calls": calls})
    assert call.row in FAMILIES[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_guarded_example_of_a_family_can_be_called(family: str) -> None:
    used: list[str] = []

    class Payments:
        def __getattr__(self, name: str) -> Any:
            def call(**arguments: Any) -> None:
                inspect.signature(getattr(TaskPayments, name)).bind(self, **arguments)
                used.append(name)

            return call

    hook = SimpleNamespace(payments=Payments())
    found = eval(
        GUARDED[family].removeprefix("receipt = "), {"hook": hook, "Bitrix24CallOperator": Bitrix24CallOperator}
    )
    if not used:
        row = METHODS[found.method.lower()]
        assert row in FAMILIES[family]
        assert row.effect is not Effect.READ
        assert not row.moves_money
        check_names(row.name, found.parameters)
        assert {name.lower() for name in found.parameters} <= {param.wire.lower() for param in row.params}
