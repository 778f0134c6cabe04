"""Triggers over real HTTP: they only read, bear failures for a while, and report a reason."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from typing import Any

import pytest

from airflow_provider_bitrix24.triggers.payments import WaitForInvoicesTrigger, WaitForPaymentsTrigger, WaitTrigger
from airflow_provider_bitrix24.triggers.poll_result import Reason

WAITING: dict[str, Any] = {"bitrix24_conn_id": "bitrix24_default", "poke_interval": 0.05}
BOTH = pytest.mark.parametrize("kind", ["invoice", "payment", "payment of an object"])


def trigger(kind: str, ids: list[int] | None = None, *, seconds: float = 300, **options: Any) -> WaitTrigger:
    waiting = {**WAITING, "end_time": time.time() + seconds, **options}
    if kind == "invoice":
        return WaitForInvoicesTrigger(invoice_ids=ids or [2], **waiting)
    if kind == "payment":
        return WaitForPaymentsTrigger(payment_ids=ids or [1001], **waiting)
    return WaitForPaymentsTrigger(payment_ids=ids or [1001], entity_type_id=2, entity_id=4, **waiting)


async def report(waiting: WaitTrigger) -> dict[str, Any]:
    events = [event async for event in waiting.run()]
    (event,) = events
    payload = event.payload
    assert json.loads(json.dumps(payload)) == payload
    assert list(payload) == ["reason", "message", "items"]
    return dict(payload)


def read_method(kind: str) -> str:
    return "crm.item.payment.list" if kind == "payment of an object" else "batch"


def looks(portal: Any) -> int:
    return sum(not request["inside_batch"] for request in portal.requests)


async def until_looked(portal: Any, number: int) -> None:
    while looks(portal) < number:  # noqa: ASYNC110 - the portal tells nobody
        await asyncio.sleep(0.01)


def pay(portal: Any, kind: str) -> None:
    if kind == "invoice":
        portal.act.pay_invoice(2, by="person", user_id=7)
    else:
        portal.act.pay_payment(1001, by="person", user_id=7)


@BOTH
async def test_it_reports_when_everything_is_paid(portal: Any, kind: str) -> None:
    task = asyncio.create_task(report(trigger(kind)))
    await until_looked(portal, 2)
    pay(portal, kind)
    event = await task
    assert event["reason"] == "paid"
    (item,) = event["items"]
    assert (item["paid"], item["currency"], item["paid_by_id"]) == (True, "EUR", 7)
    assert item["amount"] == ("1500.00" if kind == "invoice" else "350.00")


@BOTH
async def test_the_first_look_comes_after_poke_interval(portal: Any, kind: str, clock: Any) -> None:
    slept: list[tuple[float, int]] = []
    clock.before_wait = lambda seconds: slept.append((seconds, looks(portal)))
    pay(portal, kind)
    event = await report(trigger(kind, seconds=900, poke_interval=30))
    assert event["reason"] == "paid"
    assert slept == [(30, 0)]


@BOTH
async def test_it_only_reads(portal: Any, kind: str) -> None:
    await report(trigger(kind, seconds=0.3))
    methods = {request["method"] for request in portal.requests}
    assert methods <= {"batch", "crm.invoice.list", "crm.item.payment.get", "crm.item.payment.list"}
    assert portal.ledger == []


@BOTH
async def test_the_time_is_over(portal: Any, kind: str) -> None:
    event = await report(trigger(kind, seconds=0.3))
    assert event["reason"] == "timeout"
    assert "1 of 1" in event["message"]
    assert looks(portal) >= 1


@BOTH
async def test_what_is_paid_at_the_bell_is_paid(portal: Any, kind: str) -> None:
    pay(portal, kind)
    event = await report(trigger(kind, seconds=-5))
    assert event["reason"] == "paid"


@pytest.mark.parametrize(
    ("kind", "act", "argument", "reason"),
    [
        ("invoice", "cancel_invoice", 2, "cancelled"),
        ("invoice", "decline_invoice", 2, "declined"),
        ("invoice", "delete_invoice", 2, "deleted"),
        ("payment", "delete_payment", 1001, "deleted"),
        ("payment of an object", "delete_payment", 1001, "deleted"),
    ],
)
async def test_what_will_never_be_paid_is_reported_at_once(
    portal: Any, kind: str, act: str, argument: int, reason: str
) -> None:
    task = asyncio.create_task(report(trigger(kind)))
    await until_looked(portal, 1)
    getattr(portal.act, act)(argument)
    event = await task
    assert event["reason"] == reason
    assert Reason(event["reason"]).hopeless


@BOTH
async def test_failing_looks_are_borne_for_a_while(portal: Any, kind: str) -> None:
    portal.fault("drop_before", read_method(kind), times=7)
    pay(portal, kind)
    assert (await report(trigger(kind)))["reason"] == "paid"


@BOTH
async def test_too_many_failing_looks_are_reported(portal: Any, kind: str) -> None:
    portal.fault("html", read_method(kind), status=502)
    event = await report(trigger(kind, read_failures_allowed=1))
    assert event["reason"] == "unreadable"
    assert "Look 2 in a row failed: Bitrix24NoAnswer" in event["message"]
    assert portal.secret not in json.dumps(event)
    assert not Reason(event["reason"]).hopeless


async def test_failures_are_counted_in_a_row(portal: Any) -> None:
    # Each look tries three times by itself; every fourth request is answered.
    for occurrence in (1, 2, 3, 5, 6, 7):
        portal.fault("drop_before", "batch", occurrence=occurrence)
    task = asyncio.create_task(report(trigger("invoice", read_failures_allowed=1)))
    await until_looked(portal, 8)
    pay(portal, "invoice")
    assert (await task)["reason"] == "paid"


async def test_any_number_of_failures_until_the_time_is_over(portal: Any) -> None:
    portal.fault("html", "batch", status=502)
    event = await report(trigger("invoice", seconds=0.5, read_failures_allowed=None))
    assert event["reason"] == "timeout"
    assert "in a row failed" in event["message"]


async def test_used_up_working_time_is_waited_for(portal: Any) -> None:
    portal.fault("operation_time_limit", "batch", times=1)
    pay(portal, "invoice")
    assert (await report(trigger("invoice")))["reason"] == "paid"


@BOTH
async def test_an_error_that_no_wait_can_mend_is_reported_at_once(
    portal: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = json.loads(portal.connection) | {"password": "canarycanary"}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    event = await report(trigger(kind))
    assert event["reason"] == "refused"
    assert "Bitrix24AuthError" in event["message"]
    assert "canarycanary" not in json.dumps(event)
    assert looks(portal) == 1


async def test_a_portal_that_says_to_come_back_later_is_left_alone_until_then(portal: Any) -> None:
    from airflow_provider_bitrix24.exceptions import Bitrix24RateLimited

    class Limited(WaitForInvoicesTrigger):
        def evaluate(self, answer: Any) -> Any:
            result = super().evaluate(answer)
            if looks(portal) == 1:
                self.end_time = time.time() + 0.2  # from here, so that a slow machine does not use it up
                raise Bitrix24RateLimited("OPERATION_TIME_LIMIT", 429, "crm.invoice.list", retry_after=3600)
            return result

    # Paid, but the portal has asked for an hour: the next look is the one at the end of the time.
    pay(portal, "invoice")
    limited = Limited(invoice_ids=[2], **WAITING, end_time=time.time() + 600)
    assert (await report(limited))["reason"] == "paid"
    assert looks(portal) == 2


@BOTH
async def test_a_second_triggerer_begins_anew(portal: Any, kind: str) -> None:
    first = trigger(kind)
    run = asyncio.create_task(report(first))
    await until_looked(portal, 2)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    path, arguments = first.serialize()
    module, name = path.rsplit(".", 1)
    second = getattr(importlib.import_module(module), name)(**arguments)
    assert second.end_time == first.end_time
    pay(portal, kind)
    assert (await report(second))["reason"] == "paid"


@BOTH
def test_serialization_loses_nothing(kind: str) -> None:
    first = trigger(kind, [3, 4], read_failures_allowed=None, exponential_backoff=True, max_wait=7.5)
    path, arguments = first.serialize()
    assert json.loads(json.dumps(arguments)) == arguments
    module, name = path.rsplit(".", 1)
    second = getattr(importlib.import_module(module), name)(**arguments)
    assert type(second) is type(first)
    assert second.serialize() == (path, arguments)
    for attribute, value in vars(first).items():
        if not attribute.startswith("_"):
            assert vars(second)[attribute] == value


@BOTH
async def test_the_event_loop_goes_on_while_the_portal_is_silent(portal: Any, kind: str) -> None:
    """A blocking read would keep this coroutine from running until the portal lets go by itself, after 5 s."""
    held = portal.fault("hold", "*", seconds=5)
    task = asyncio.create_task(report(trigger(kind, seconds=0, poke_interval=0)))

    def holding() -> int:
        (script,) = [script for script in portal.portal.faults.describe() if script["id"] == held]
        return int(script["holding"])

    while not holding():  # noqa: ASYNC110 - the portal tells nobody
        await asyncio.sleep(0.01)
    pay(portal, kind)
    assert (portal.release(held), task.done()) == (1, False)
    portal.clear_faults()
    assert (await task)["reason"] == "paid"


def test_nothing_is_read_when_a_trigger_is_made() -> None:
    made = WaitForInvoicesTrigger(invoice_ids=[1], bitrix24_conn_id="there_is_none", poke_interval=1, end_time=0)
    assert "there_is_none" in repr(made)


@BOTH
@pytest.mark.needs_connection_errors
async def test_a_connection_that_the_triggerer_does_not_have_is_reported(portal: Any, kind: str) -> None:
    event = await report(trigger(kind, bitrix24_conn_id="there_is_none"))
    assert event["reason"] == "refused"
    assert "cannot find the Airflow connection 'there_is_none'" in event["message"]
    assert portal.requests == []


@pytest.mark.parametrize("kind", ["payment", "payment of an object"])
async def test_another_payment_than_asked_for_is_not_taken_for_it(portal: Any, kind: str) -> None:
    other = WaitForPaymentsTrigger(payment_ids=[1001], **WAITING, end_time=time.time() + 0.3)
    if kind == "payment of an object":
        other.entity_type_id, other.entity_id = 2, 5  # where 1002 is, and paid
    else:
        handle = portal.portal.handle

        def confused(method: str, params: Any, **options: Any) -> Any:
            if method == "batch":
                params = {**params, "cmd": {key: cmd.replace("1001", "1002") for key, cmd in params["cmd"].items()}}
            return handle(method, params, **options)

        portal.portal.handle = confused
    assert (await report(other))["reason"] in ("timeout", "deleted")


@BOTH
@pytest.mark.parametrize(
    ("poke_interval", "max_wait", "least", "most"),
    [
        (60.0, None, [30, 60, 120, 240, 480], [59, 119, 239, 479, 959]),
        (60.0, 100.0, [30, 60, 100, 100, 100], [59, 100, 100, 100, 100]),
        (0.05, None, [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]),
        (8.0, 5.0, [4, 5, 5, 5, 5], [5, 5, 5, 5, 5]),
    ],
)
async def test_waits_grow_as_they_do_in_a_worker(
    portal: Any,
    clock: Any,
    kind: str,
    poke_interval: float,
    max_wait: float | None,
    least: list[float],
    most: list[float],
) -> None:
    """The clock is the test's: each wait passes at once."""
    now = time.time()

    def pay_in_the_last_wait(seconds: float) -> None:
        if len(clock.waits) == len(least) - 1:
            pay(portal, kind)

    clock.before_wait = pay_in_the_last_wait
    waiting = trigger(
        kind, poke_interval=poke_interval, exponential_backoff=True, max_wait=max_wait, end_time=now + 10**6
    )
    assert (await report(waiting))["reason"] == "paid"
    for low, waited, high in zip(least, clock.waits, most, strict=True):
        assert low <= waited <= high


async def test_without_back_off_each_wait_is_the_same(portal: Any, clock: Any) -> None:
    def pay_in_the_last_wait(seconds: float) -> None:
        if len(clock.waits) == 3:
            pay(portal, "invoice")

    clock.before_wait = pay_in_the_last_wait
    assert (await report(trigger("invoice", poke_interval=60.0, max_wait=5.0)))["reason"] == "paid"
    assert clock.waits == [60.0] * 4
