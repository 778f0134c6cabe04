"""What the operators count with Airflow's metrics."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat import sdk
from airflow.sdk.execution_time.context import set_current_context

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentMismatch
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.payment_lists import PayInvoicesOperator
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator, PayInvoiceOperator

if TYPE_CHECKING:
    from conftest import Task

Counted = list[tuple[str, dict[str, str]]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """The counters and tags that Airflow was given."""
    all_of_them: Counted = []
    stats = SimpleNamespace(incr=lambda name, *, tags: all_of_them.append((name, tags)))
    monkeypatch.setattr(sdk, "Stats", stats, raising=False)
    return all_of_them


@pytest.mark.parametrize(("invoice", "status"), [(2, "paid"), (1, "already_paid")])
def test_a_payment_is_counted_by_its_outcome(
    portal: Any, task: Task, counted: Counted, invoice: int, status: str
) -> None:
    PayInvoiceOperator(task_id="pay", invoice_id=invoice, pay_system_id=31).execute(task.context)
    assert counted == [(f"bitrix24.payments.{status}", {"operation": "pay_invoice"})]


def test_a_failure_is_counted_with_its_code(portal: Any, task: Task, counted: Counted) -> None:
    with pytest.raises(PaymentMismatch):
        PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, expected_amount="1").execute(task.context)
    assert counted == [("bitrix24.payments.refused", {"operation": "pay_invoice", "code": "payment.mismatch"})]


def test_an_unknown_outcome_is_counted(portal: Any, task: Task, counted: Counted) -> None:
    portal.fault("drop_after", "crm.item.payment.add", occurrence=1)
    with pytest.raises(PaymentAmbiguous):
        AddCrmPaymentOperator(task_id="add", entity_id=3).execute(task.context)
    assert counted == [("bitrix24.payments.unknown", {"operation": "add_crm_payment", "code": "payment.ambiguous"})]


def test_each_item_of_a_list_is_counted(portal: Any, task: Task, counted: Counted) -> None:
    operator = PayInvoicesOperator(task_id="pay", invoices=[1, 2, 4], pay_system_id=31, fail_on="never")
    operator.execute(task.context)
    assert sorted(name.rpartition(".")[2] for name, _ in counted) == ["already_paid", "paid", "refused"]


def test_a_payment_of_a_task_function_is_counted(portal: Any, task: Task, counted: Counted) -> None:
    task.context["task"] = SimpleNamespace(retries=0)
    with set_current_context(task.context):
        Bitrix24Hook().payments.pay_crm_payment(payment_id=1001)
    assert counted == [("bitrix24.payments.paid", {"operation": "pay_crm_payment"})]


def test_a_payment_succeeds_if_it_cannot_be_counted(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str, *, tags: dict[str, str]) -> None:
        raise OSError("no route to the metrics")

    monkeypatch.setattr(sdk, "Stats", SimpleNamespace(incr=fail), raising=False)
    receipt = PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31).execute(task.context)
    assert receipt["outcome"] == "paid"
    assert "The result of invoice 2 was not counted in Airflow's metrics." in caplog.text


def test_a_payment_succeeds_where_airflow_has_no_metrics(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class WithoutMetrics(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name == "Stats":
                raise AttributeError(name)
            return getattr(sdk, name)

    monkeypatch.setitem(sys.modules, sdk.__name__, WithoutMetrics(sdk.__name__))
    receipt = PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31).execute(task.context)
    assert receipt["outcome"] == "paid"
    assert "The result of invoice 2 was not counted in Airflow's metrics." in caplog.text
