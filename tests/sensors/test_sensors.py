"""Both sensors over real HTTP: poke, reschedule, deferred, and what ends a wait."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_bitrix24.exceptions import (
    Bitrix24AuthError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24PermissionError,
)
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor
from airflow_provider_bitrix24.triggers.payments import WaitForInvoicesTrigger, WaitForPaymentsTrigger
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from conftest import Task

BOTH = pytest.mark.parametrize("kind", ["invoice", "payment"])
UNPAID = {"invoice": 2, "payment": 1001}
PAID = {"invoice": 1, "payment": 1002}


def sensor(kind: str, ids: Any = None, **options: Any) -> Any:
    ids = UNPAID[kind] if ids is None else ids
    options = {"task_id": "wait", "poke_interval": 0.05, "timeout": 30, "deferrable": False, **options}
    if kind == "invoice":
        return InvoicePaidSensor(invoice_id=ids, **options)
    return CrmPaymentPaidSensor(payment_id=ids, **options)


def http_requests(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests if not request["inside_batch"]]


# -- what is returned


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_paid_invoice_ends_the_wait_at_the_first_look(portal: Any, task: Task, mode: str, deferrable: bool) -> None:
    task.ti.get_first_reschedule_date = lambda context: None
    result = sensor("invoice", 1, mode=mode, deferrable=deferrable).execute(task.context)
    assert result == {
        "invoice_id": 1,
        "paid": True,
        "amount": "800.00",
        "currency": "EUR",
        "paid_at": result["paid_at"],
        "paid_by_id": 1,
    }
    assert len(http_requests(portal)) == 1
    assert portal.ledger == []
    paid_at = Bitrix24Hook().call("crm.invoice.get", {"id": 1})["DATE_PAYED"]
    assert datetime.fromisoformat(result["paid_at"]) == datetime.fromisoformat(paid_at)


def test_a_paid_payment_ends_the_wait_at_the_first_look(portal: Any, task: Task) -> None:
    result = sensor("payment", "1002").execute(task.context)
    assert result["paid_at"]
    del result["paid_at"]
    assert result == {"payment_id": 1002, "paid": True, "amount": "500.00", "currency": "EUR", "paid_by_id": 7}


def test_many_are_returned_in_the_order_asked_for(portal: Any, task: Task) -> None:
    for invoice_id in (9, 3):
        portal.act.pay_invoice(invoice_id, by="person", user_id=1)
    result = sensor("invoice", [9, "1", 3, 9]).execute(task.context)
    assert [(item["invoice_id"], item["amount"]) for item in result] == [(9, "1999.99"), (1, "800.00"), (3, "249.90")]


def test_a_list_of_one_stays_a_list(portal: Any, task: Task) -> None:
    assert [item["payment_id"] for item in sensor("payment", [1002]).execute(task.context)] == [1002]


def test_the_payments_of_one_object_are_read_by_one_list(portal: Any, task: Task) -> None:
    second = portal.act.add_payment(2, 5, amount="20.00")
    portal.act.pay_payment(second)
    result = sensor("payment", [1002, second], entity_type_id="deal", entity_id="5").execute(task.context)
    assert [item["amount"] for item in result] == ["500.00", "20.00"]
    assert http_requests(portal) == ["crm.item.payment.list"]


@BOTH
def test_a_thousand_in_one_request(portal: Any, task: Task, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", portal.connection)  # whose reads may take their time
    if kind == "invoice":
        ids = [portal.portal.create("invoice", {"price": "1.00", "order_topic": "One"}) for _ in range(1000)]
    else:
        ids = [portal.act.add_payment(2, 3, amount="1.00") for _ in range(1000)]
    for number in ids:
        (portal.act.pay_invoice if kind == "invoice" else portal.act.pay_payment)(number)
    assert len(sensor(kind, ids).execute(task.context)) == 1000
    assert len(http_requests(portal)) == 1


@BOTH
def test_a_thousand_that_do_not_exist(portal: Any, task: Task, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", portal.connection)
    # A payment that the list does not show is read by its id before it counts as deleted.
    with pytest.raises(AirflowFailException):
        sensor(kind, list(range(5001, 6001))).execute(task.context)
    assert len(http_requests(portal)) <= 21


def test_a_thousand_payments_of_one_deal_in_one_request(portal: Any, task: Task) -> None:
    with pytest.raises(AirflowFailException):
        sensor("payment", list(range(5001, 6001)), entity_type_id=2, entity_id=5).execute(task.context)
    assert len(http_requests(portal)) == 1


# -- waiting


@BOTH
def test_poke_waits_until_it_is_paid(portal: Any, task: Task, kind: str) -> None:
    pay_before_look(portal, kind, 3)
    result = sensor(kind).execute(task.context)
    assert result["paid"] is True
    assert len(http_requests(portal)) >= 3


def pay_before_look(portal: Any, kind: str, number: int) -> None:
    """The customer pays while the sensor's look of that number is under way."""
    import threading

    hold = portal.fault("hold", "batch", occurrence=number, when="before", times=1)

    def customer() -> None:
        while len(http_requests(portal)) < number:
            time.sleep(0.02)
        if kind == "invoice":
            portal.act.pay_invoice(2, by="customer")
        else:
            portal.act.pay_payment(1001, by="customer")
        while not portal.release(hold):
            time.sleep(0.02)

    threading.Thread(target=customer, daemon=True).start()


@BOTH
def test_reschedule_leaves_the_worker(portal: Any, task: Task, kind: str) -> None:
    task.ti.get_first_reschedule_date = lambda context: None
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class lives elsewhere in every version of Airflow
        sensor(kind, mode="reschedule").execute(task.context)
    assert type(caught.value).__name__ == "AirflowRescheduleException"
    assert len(http_requests(portal)) == 1


@BOTH
def test_many_wait_for_the_last_one(portal: Any, task: Task, kind: str) -> None:
    with pytest.raises(AirflowSensorTimeout):
        sensor(kind, [PAID[kind], UNPAID[kind]], timeout=0).execute(task.context)


@BOTH
@pytest.mark.parametrize(("soft_fail", "outcome"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_a_poke_times_out_as_airflows_do(portal: Any, task: Task, kind: str, soft_fail: bool, outcome: Any) -> None:
    with pytest.raises(outcome):
        sensor(kind, timeout=0.2, soft_fail=soft_fail).execute(task.context)


# -- what ends a wait


def delete_invoice(portal: Any) -> None:
    portal.act.delete_invoice(2)


def cancel_invoice(portal: Any) -> None:
    portal.act.cancel_invoice(2)


def decline_invoice(portal: Any) -> None:
    portal.act.decline_invoice(2)


def delete_payment(portal: Any) -> None:
    portal.act.delete_payment(1001)


HOPELESS = pytest.mark.parametrize(
    ("kind", "options", "act", "words"),
    [
        ("invoice", {}, delete_invoice, "Invoice 2 is not among the legacy invoices"),
        ("invoice", {}, cancel_invoice, "Invoice 2 was cancelled"),
        ("invoice", {}, decline_invoice, "Invoice 2 was declined"),
        (
            "payment",
            {},
            delete_payment,
            "Payment 1001 is not among .* it was deleted, or there never was",
        ),
        ("payment", {"entity_type_id": 2, "entity_id": 4}, delete_payment, "Payment 1001 is not among .* object 4 "),
    ],
)


@HOPELESS
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_will_never_be_paid_fails_at_once(
    portal: Any, task: Task, kind: str, options: Any, act: Any, words: str, deferrable: bool
) -> None:
    act(portal)
    with pytest.raises(AirflowFailException, match=words):
        sensor(kind, deferrable=deferrable, **options).execute(task.context)
    assert len(http_requests(portal)) == 1


@HOPELESS
@pytest.mark.parametrize("deferrable", [False, True])
def test_and_is_skipped_with_soft_fail(
    portal: Any, task: Task, kind: str, options: Any, act: Any, words: str, deferrable: bool
) -> None:
    act(portal)
    with pytest.raises(AirflowSkipException):
        sensor(kind, deferrable=deferrable, soft_fail=True, **options).execute(task.context)


def test_a_cancelled_invoice_that_is_paid_is_paid(portal: Any, task: Task) -> None:
    portal.act.pay_invoice(2, by="person", user_id=1)
    assert sensor("invoice").execute(task.context)["paid"] is True


def test_a_payment_of_another_object_is_told_so(portal: Any, task: Task) -> None:
    with pytest.raises(AirflowFailException, match=r"there never was one .*, or it belongs to another object"):
        sensor("payment", 1002, entity_type_id=2, entity_id=4).execute(task.context)


def test_a_payment_that_may_not_be_read_fails_at_once(portal: Any, task: Task) -> None:
    portal.fault("error", "crm.item.payment.get", code="ACCESS_DENIED", text="Access denied")
    with raises_for_good(Bitrix24PermissionError):
        sensor("payment").execute(task.context)


@BOTH
def test_a_webhook_that_is_gone_fails_at_once(
    portal: Any, task: Task, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = json.loads(portal.connection) | {"password": "canarycanary"}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    with raises_for_good(Bitrix24AuthError) as caught:
        sensor(kind).execute(task.context)
    assert "canarycanary" not in str(caught.value)
    assert caught.value.__context__ is None


@BOTH
def test_a_portal_that_cannot_be_read_is_a_passing_error(portal: Any, task: Task, kind: str) -> None:
    portal.fault("drop_before", "batch", times=3)
    with pytest.raises(Bitrix24Error) as caught:
        sensor(kind).execute(task.context)
    assert not caught.value.final


@BOTH
def test_silent_fail_goes_on_waiting(portal: Any, task: Task, kind: str) -> None:
    portal.fault("drop_before", "batch", times=3)
    assert sensor(kind, PAID[kind], silent_fail=True).execute(task.context)["paid"] is True


# -- arguments


@BOTH
@pytest.mark.parametrize("value", [None, True, 1.0, "", "None", [], [None]])
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_is_no_id_is_refused_by_name(portal: Any, task: Task, kind: str, value: Any, deferrable: bool) -> None:
    waiting = sensor(kind, deferrable=deferrable)
    setattr(waiting, f"{kind}_id", value)
    with pytest.raises(AirflowFailException, match=f"{kind}_id"):
        waiting.execute(task.context)
    assert portal.requests == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"entity_id": 4}, "entity_type_id is missing"),
        ({"entity_type_id": 2}, "entity_id is missing"),
        ({"entity_type_id": 1, "entity_id": 4}, "entity_type_id must be 2"),
        ({"entity_type_id": 2, "entity_id": "None"}, "entity_id must be a whole positive number"),
    ],
)
def test_half_an_object_is_refused_by_name(portal: Any, task: Task, options: dict[str, Any], words: str) -> None:
    with pytest.raises(AirflowFailException, match=words):
        sensor("payment", **options).execute(task.context)
    assert portal.requests == []


def test_links_are_stored_before_the_first_look(portal: Any, task: Task) -> None:
    sensor("payment", 1002, entity_type_id=2, entity_id=5).execute(task.context)
    assert task.xcoms == {
        "_link_CrmPaymentLink": f"{portal.url}/shop/orders/payment/details/1002/",
        "_link_DealLink": f"{portal.url}/crm/deal/details/5/",
    }
    task.xcoms.clear()
    sensor("invoice", 1).execute(task.context)
    assert task.xcoms == {"_link_InvoiceLink": f"{portal.url}/crm/invoice/show/1/"}
    task.xcoms.clear()
    portal.act.pay_invoice(2, by="person", user_id=1)
    sensor("invoice", [1, 2]).execute(task.context)
    assert task.xcoms == {}


# -- deferred


def test_an_invoice_is_deferred_after_one_look(portal: Any, task: Task) -> None:
    before = time.time()
    with pytest.raises(TaskDeferred) as caught:
        sensor("invoice", [1, 2], deferrable=True, timeout=600).execute(task.context)
    trigger = caught.value.trigger
    assert isinstance(trigger, WaitForInvoicesTrigger)
    assert trigger.invoice_ids == [1, 2]
    assert trigger.poke_interval == 0.05
    assert before + 600 <= trigger.end_time <= time.time() + 600
    assert trigger.read_failures_allowed == 10
    assert caught.value.method_name == "execute_complete"
    assert caught.value.timeout.total_seconds() > 600
    assert len(http_requests(portal)) == 1


def test_a_payment_is_deferred_with_its_object(portal: Any, task: Task) -> None:
    with pytest.raises(TaskDeferred) as caught:
        sensor("payment", deferrable=True, entity_type_id="deal", entity_id="4", silent_fail=True).execute(task.context)
    trigger = caught.value.trigger
    assert isinstance(trigger, WaitForPaymentsTrigger)
    assert (trigger.payment_ids, trigger.entity_type_id, trigger.entity_id) == ([1001], 2, 4)
    assert trigger.read_failures_allowed is None


PAID_EVENT = {
    "reason": "paid",
    "message": "1 invoice paid",
    "items": [
        {"invoice_id": 2, "paid": True, "amount": "1.00", "currency": "EUR", "paid_at": None, "paid_by_id": None}
    ],
}


def resume(waiting: Any, event: Any) -> Any:
    return waiting.resume_execution("execute_complete", {"event": event}, {})


def test_a_paid_event_is_the_result() -> None:
    assert resume(sensor("invoice"), PAID_EVENT) == PAID_EVENT["items"][0]
    assert resume(sensor("invoice", [2]), PAID_EVENT) == PAID_EVENT["items"]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("deleted", AirflowFailException),
        ("cancelled", AirflowFailException),
        ("declined", AirflowFailException),
        ("refused", AirflowFailException),
        ("timeout", AirflowSensorTimeout),
        ("unreadable", Bitrix24NoAnswer),
    ],
)
def test_other_events_are_errors(reason: str, outcome: Any) -> None:
    event = {"reason": reason, "message": "what happened", "items": []}
    with pytest.raises(outcome, match="what happened"):
        resume(sensor("invoice"), event)
    if outcome is not Bitrix24NoAnswer:
        with pytest.raises(AirflowSkipException):
            resume(sensor("invoice", soft_fail=True), event)


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        "paid",
        [],
        {"reason": "paid"},
        {"reason": "done", "message": "", "items": []},
        {"reason": "waiting", "message": "", "items": []},
        {"reason": "paid", "message": "", "items": None},
        {"reason": "paid", "message": "", "items": []},
        {"reason": "paid", "message": "", "items": [{"invoice_id": 2}]},
        {"reason": "paid", "message": "", "items": [{"invoice_id": 2, "paid": False}]},
        {"reason": "paid", "message": "", "items": [{"invoice_id": 3, "paid": True}]},
        {"reason": "paid", "message": "", "items": [{"payment_id": 2, "paid": True}]},
    ],
)
def test_an_event_that_is_none_of_ours_is_never_a_success(event: Any) -> None:
    with pytest.raises(ValueError, match="trigger"):
        resume(sensor("invoice", soft_fail=True), event)


FORGETFUL = version("apache-airflow-core") == "3.1.0"
"""When the triggerer is away, its sensors do not think of `soft_fail`."""


@pytest.mark.parametrize(
    ("soft_fail", "outcome"),
    [(False, AirflowSensorTimeout), (True, AirflowSensorTimeout if FORGETFUL else AirflowSkipException)],
)
def test_no_triggerer_is_a_timeout_too(soft_fail: bool, outcome: Any) -> None:
    with pytest.raises(outcome):
        sensor("invoice", soft_fail=soft_fail).resume_execution("__fail__", {"error": "Trigger timeout"}, {})


def test_the_default_of_deferrable_is_airflows() -> None:
    from airflow.providers.common.compat.sdk import conf

    assert InvoicePaidSensor(task_id="a", invoice_id=1).deferrable is conf.getboolean("operators", "default_deferrable")


@pytest.mark.parametrize("field", ["payment_id", "entity_type_id", "entity_id"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_rendered_to_none_is_refused_by_name(portal: Any, task: Task, field: str, deferrable: bool) -> None:
    waiting = sensor("payment", 1002, entity_type_id=2, entity_id=5, deferrable=deferrable)
    setattr(waiting, field, None)  # what native rendering makes of a template
    with pytest.raises(AirflowFailException, match=f"{field} was given, but rendered to None. Nothing was sent"):
        waiting.execute(task.context)
    assert portal.requests == []


def test_both_names_of_an_object_that_rendered_to_none_do_not_widen_the_search(portal: Any, task: Task) -> None:
    waiting = sensor("payment", 1002, entity_type_id=2, entity_id=4)
    waiting.entity_type_id = waiting.entity_id = None
    with pytest.raises(AirflowFailException, match="entity_id was given, but rendered to None"):
        waiting.execute(task.context)
    assert portal.requests == []


@pytest.mark.parametrize("max_wait", [None, 90, 90.0, timedelta(seconds=90)])
@pytest.mark.parametrize("poke_interval", [5, 5.0, timedelta(seconds=5)])
@pytest.mark.parametrize("timeout", [600, timedelta(minutes=10)])
def test_how_to_wait_reaches_the_trigger(
    portal: Any, task: Task, max_wait: Any, poke_interval: Any, timeout: Any
) -> None:
    before = time.time()
    with pytest.raises(TaskDeferred) as caught:
        sensor(
            "invoice", deferrable=True, exponential_backoff=True, max_wait=max_wait, poke_interval=poke_interval,
            timeout=timeout,
        ).execute(task.context)  # fmt: skip
    trigger = caught.value.trigger
    assert isinstance(trigger, WaitForInvoicesTrigger)
    assert (trigger.exponential_backoff, trigger.poke_interval) == (True, 5)
    assert trigger.max_wait == (None if max_wait is None else 90)
    assert before + 600 <= trigger.end_time <= time.time() + 600


def test_never_fail_skips_what_cannot_be_read_after_a_deferral_too() -> None:
    event = {"reason": "unreadable", "message": "Look 11 in a row failed", "items": []}
    with pytest.raises(AirflowSkipException, match="never_fail"):
        resume(sensor("invoice", never_fail=True), event)
    with pytest.raises(Bitrix24NoAnswer):
        resume(sensor("invoice", soft_fail=True), event)


@BOTH
def test_a_wait_says_once_where_a_person_can_end_it(
    portal: Any, task: Task, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AirflowSensorTimeout):
        sensor(kind, timeout=0.2).execute(task.context)
    (hint,) = [line for line in capfd.readouterr().out.splitlines() if "mark it as paid in Bitrix24" in line]
    page = {"invoice": "/crm/invoice/show/2/", "payment": "/shop/orders/payment/details/1001/"}[kind]
    assert f"{portal.url}{page}" in hint
    assert "Waiting up to 0:00:00.2" in hint


def test_a_wait_that_is_over_at_once_does_not_say_so(
    portal: Any, task: Task, capfd: pytest.CaptureFixture[str]
) -> None:
    sensor("invoice", 1).execute(task.context)
    said = capfd.readouterr().out
    assert "1 invoice paid" in said
    assert "mark it as paid" not in said
