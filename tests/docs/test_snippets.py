"""The pieces of Python in the pages run against a sandbox portal. Whole DAGs have tests of their own."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from airflow.sdk import DAG, BaseOperator

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.calls import Bitrix24CallOperator
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

DOCS = Path(__file__).resolve().parents[2] / "docs"
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "hook.payments": "works in a running task only: tests/operators/test_task_payments.py",
    "event_offline_get": "works for an application only: tests/hooks/test_documented_examples.py",
}
SNIPPETS = [
    pytest.param(code, id=f"{page.relative_to(DOCS).as_posix()}-{number}")
    for page in sorted(DOCS.rglob("*.md"))
    for number, code in enumerate(PYTHON.findall(page.read_text()))
    if not any(words in code for words in ELSEWHERE)
]


@pytest.mark.parametrize("code", SNIPPETS)
@pytest.mark.bitrix24_sandbox(scopes=("crm", "sale", "pay_system", "salescenter", "im"))
def test_the_code_of_a_page_runs(code: str, bitrix24_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", bitrix24_sandbox.connection)
    names = {
        "pytest": pytest,
        "timedelta": timedelta,
        "hook": Bitrix24Hook(),
        "add_payment": SimpleNamespace(output={"payment_id": 1001}),
        "AddCrmPaymentOperator": AddCrmPaymentOperator,
        "Bitrix24CallOperator": Bitrix24CallOperator,
        "CrmPaymentPaidSensor": CrmPaymentPaidSensor,
        "InvoicePaidSensor": InvoicePaidSensor,
    }
    with DAG("example", schedule=None) as dag:
        exec(code, names)
    if re.search(r"^\w*(Operator|Sensor)\(", code, re.MULTILINE):
        assert [isinstance(task, BaseOperator) for task in dag.tasks] == [True]
