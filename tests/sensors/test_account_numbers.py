"""Sensors that are given account numbers instead of ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor

if TYPE_CHECKING:
    from conftest import Task

BOTH = pytest.mark.parametrize("kind", ["invoice", "payment"])
LOOK_UPS = {"invoice": "crm.invoice.list", "payment": "sale.payment.list"}


def sensor(kind: str, numbers: Any, **options: Any) -> Any:
    options = {"task_id": "wait", "poke_interval": 0.01, "timeout": 30, "deferrable": False, **options}
    return (InvoicePaidSensor if kind == "invoice" else CrmPaymentPaidSensor)(account_number=numbers, **options)


def rows(portal: Any, kind: str) -> Any:
    return portal.portal.state.invoices if kind == "invoice" else portal.portal.state.payments


def numbers(portal: Any, kind: str) -> tuple[str, str]:
    """The numbers of one that is paid and of one that is not."""
    paid, unpaid = {"invoice": (1, 2), "payment": (1002, 1001)}[kind]
    return rows(portal, kind)[paid].account_number, rows(portal, kind)[unpaid].account_number


def methods(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests if not request["inside_batch"]]


@BOTH
def test_a_paid_one_is_found_by_its_number(portal: Any, task: Task, kind: str) -> None:
    paid, _ = numbers(portal, kind)
    result = sensor(kind, paid).execute(task.context)
    assert (result["paid"], result[f"{kind}_id"]) == (True, {"invoice": 1, "payment": 1002}[kind])
    assert methods(portal) == [LOOK_UPS[kind], "batch"]
    assert len(task.xcoms) == 1


@BOTH
@pytest.mark.parametrize("form", [lambda one: [one], lambda one: (one, one), lambda one: f"['{one}']"])
def test_a_list_of_numbers_gives_a_list(portal: Any, task: Task, kind: str, form: Any) -> None:
    paid, _ = numbers(portal, kind)
    assert [item["paid"] for item in sensor(kind, form(paid)).execute(task.context)] == [True]


def test_the_payments_of_one_object_need_no_scope_sale(portal: Any, task: Task) -> None:
    paid, _ = numbers(portal, "payment")
    assert sensor("payment", paid, entity_type_id="deal", entity_id=5).execute(task.context)["payment_id"] == 1002
    assert methods(portal) == ["crm.item.payment.list", "crm.item.payment.list"]


@BOTH
def test_a_poking_sensor_looks_the_number_up_once(portal: Any, task: Task, kind: str) -> None:
    _, unpaid = numbers(portal, kind)
    waiting = sensor(kind, unpaid)
    assert waiting.poke(task.context).is_done is False
    assert waiting.poke(task.context).is_done is False
    assert methods(portal) == [LOOK_UPS[kind], "batch", "batch"]


@BOTH
@pytest.mark.parametrize("many", [True, False])
def test_a_deferred_sensor_goes_on_with_the_ids(portal: Any, task: Task, kind: str, many: bool) -> None:
    _, unpaid = numbers(portal, kind)
    number = {"invoice": 2, "payment": 1001}[kind]
    waiting = sensor(kind, [unpaid] if many else unpaid, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute(task.context)
    rows(portal, kind)[number].account_number = "another"
    event = {"reason": "paid", "message": "1 paid", "items": [{f"{kind}_id": number, "paid": True}]}
    resumed = sensor(kind, [unpaid] if many else unpaid, deferrable=True)
    result = resumed.execute_complete(task.context, event, **deferred.value.kwargs)
    assert result == (event["items"] if many else event["items"][0])  # type: ignore[index]
    assert methods(portal) == [LOOK_UPS[kind], "batch"]


@BOTH
@pytest.mark.parametrize("deferrable", [False, True])
def test_an_unknown_number_fails_at_once(portal: Any, task: Task, kind: str, deferrable: bool) -> None:
    paid, _ = numbers(portal, kind)
    with pytest.raises(AirflowFailException, match=r"has the account_number 'X-9'") as caught:
        sensor(kind, [paid, "X-9"], deferrable=deferrable).execute(task.context)
    assert caught.value.sent == "no"  # type: ignore[attr-defined]
    assert methods(portal) == [LOOK_UPS[kind]]


@BOTH
def test_a_number_of_several_fails_at_once(portal: Any, task: Task, kind: str) -> None:
    paid, unpaid = numbers(portal, kind)
    for row in rows(portal, kind).values():
        row.account_number = paid if row.account_number == unpaid else row.account_number
    with pytest.raises(AirflowFailException, match=rf"account_number '{paid}' is that of 2"):
        sensor(kind, paid).execute(task.context)


@BOTH
@pytest.mark.parametrize("value", [2, "", [], [2], "None"])
def test_what_is_no_number_is_refused_by_name(portal: Any, task: Task, kind: str, value: Any) -> None:
    with pytest.raises(AirflowFailException, match="account_number"):
        sensor(kind, value).execute(task.context)
    assert portal.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        lambda: InvoicePaidSensor(task_id="wait"),
        lambda: InvoicePaidSensor(task_id="wait", invoice_id=2, account_number="2"),
        lambda: CrmPaymentPaidSensor(task_id="wait"),
        lambda: CrmPaymentPaidSensor(task_id="wait", payment_id=2, account_number="2"),
    ],
)
def test_exactly_one_is_needed_when_the_dag_file_is_read(arguments: Any) -> None:
    with pytest.raises(TypeError, match=r"exactly one of (invoice|payment)_id and account_number"):
        arguments()


@BOTH
def test_a_link_is_stored_only_for_one_number(portal: Any, kind: str) -> None:
    for value, stored in (("1/1", True), (["1/1"], True), (["1/1", "2/1"], False), ("", False)):
        waiting = sensor(kind, value)
        assert waiting.stores_link(waiting.link()) is stored
    both = sensor(kind, "1/1")
    setattr(both, both.id_field, 2)
    assert both.stores_link(both.link()) is False


@BOTH
def test_errors_of_a_task_that_only_reads_say_that_nothing_was_sent(portal: Any, task: Task, kind: str) -> None:
    paid, _ = numbers(portal, kind)
    waiting = sensor(kind, paid)
    portal.fault("drop_before", LOOK_UPS[kind], times=3)
    with pytest.raises(Bitrix24Error) as caught:
        waiting.execute(task.context)
    assert (caught.value.final, caught.value.sent) == (False, "no")
    portal.fault("drop_before", "batch", times=3)
    with pytest.raises(Bitrix24Error) as caught:
        waiting.execute(task.context)
    assert (caught.value.final, caught.value.sent) == (False, "no")
    with pytest.raises(Bitrix24Error) as caught:
        waiting.execute_complete(task.context, {"reason": "unreadable", "message": "no", "items": []}, [[1], False])
    assert caught.value.sent == "no"
