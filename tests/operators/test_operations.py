"""Every operation that changes a payment is in each list of operations: of the code, of the tests and of the pages."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bitrix24.operators.base import PaymentOperator
from airflow_provider_bitrix24.operators.list_base import PaymentListOperator
from airflow_provider_bitrix24.operators.task_payments import TaskPayments
from tests.operators.test_task_payments import CALLS
from tests.simulation.campaign import OPERATIONS as CAMPAIGN
from tests.simulation.judge import MARKED
from tests.tools.own_operators import own_operators
from tests.tools.payments import ScriptedPayments

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__.removesuffix("Operator")).lower(): kind.__name__
    for kind in own_operators()
    if issubclass(kind, PaymentOperator) and not issubclass(kind, PaymentListOperator)
}
"""Operation -> its operator: ``pay_invoice`` is that of PayInvoiceOperator."""


def _methods(kind: type[Any]) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


LISTS: dict[str, set[str]] = {
    "operators/task_payments.py": _methods(TaskPayments),
    "tests/tools/payments.py": _methods(ScriptedPayments),
    "tests/operators/test_task_payments.py: CALLS": set(CALLS),
    "tests/simulation/campaign.py: OPERATIONS": {one.operation for one in CAMPAIGN.values()},
    "tests/simulation/judge.py: MARKED, for all but what adds": {*MARKED, "add_crm_payment"},
}


@pytest.mark.parametrize("place", LISTS)
def test_a_list_has_every_operation(place: str) -> None:
    assert LISTS[place] == set(OPERATORS)


@pytest.mark.parametrize("page", ["docs/hook.md", "docs/metrics.md", "docs/operators/taskflow.md"])
def test_a_page_names_every_operation(page: str) -> None:
    text = (ROOT / page).read_text()
    assert [name for name in OPERATORS if re.search(rf"\b{name}\b", text) is None] == []


def test_a_task_of_every_operator_is_cleared() -> None:
    text = (ROOT / "tests/e2e/crash/clear_dags.py").read_text()
    assert [kind for kind in OPERATORS.values() if f"operator={kind}," not in text] == []
