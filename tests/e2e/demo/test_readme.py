"""The DAG of the README, run twice through a real Airflow: both runs succeed, and there is one payment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

README = Path(__file__).resolve().parents[3] / "README.md"


@pytest.fixture(scope="module")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the DAG of the README."""
    folder = tmp_path_factory.mktemp("dags")
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (folder / "bitrix24_payments.py").write_text(code)
    return folder


@pytest.mark.slow
@pytest.mark.bitrix24_sandbox(customers_pay_after=20)
def test_it_succeeds_as_often_as_it_runs(run_dag: Callable[..., Any], bitrix24_sandbox: Sandbox) -> None:
    first, second = run_dag("bitrix24_payments"), run_dag("bitrix24_payments")
    assert (first.state, second.state) == ("success", "success")
    assert "mark it as paid in Bitrix24: " in first.log  # it does not seem to hang
    made, found = first.results("add")[0], second.results("add")[0]
    assert (made["outcome"], found["outcome"]) == ("created", "existing")
    assert made["payment_id"] == found["payment_id"]
    effects = [entry["event"] for entry in bitrix24_sandbox.ledger if entry["by"] == "rest"]
    assert [effects.count(event) for event in ("invoice_paid", "payment_added", "payment_paid")] == [1, 1, 0]
