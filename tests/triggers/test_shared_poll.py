"""Many triggers, one poll: what it costs, and that each keeps its own interval, end, limit of failures and result."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.models import Invoice
from airflow_provider_bitrix24.triggers import shared_poll
from airflow_provider_bitrix24.triggers.payments import WaitForInvoicesTrigger, WaitForPaymentsTrigger, WaitTrigger

if TYPE_CHECKING:
    from collections.abc import Callable


def invoice(number: int, **options: Any) -> WaitTrigger:
    return WaitForInvoicesTrigger(invoice_ids=[number], **_waiting(options))


def payment(number: int, **options: Any) -> WaitTrigger:
    owner = options.pop("owner", (None, None))
    return WaitForPaymentsTrigger(
        payment_ids=[number], entity_type_id=owner[0], entity_id=owner[1], **_waiting(options)
    )


def _waiting(options: dict[str, Any]) -> dict[str, Any]:
    defaults = {"bitrix24_conn_id": "bitrix24_default", "poke_interval": 60.0, "end_time": time.time() + 10**6}
    return defaults | options


async def report(waiting: WaitTrigger) -> dict[str, Any]:
    clock: Any = shared_poll.clock
    clock.running = getattr(clock, "running", 0) + 1
    try:
        (event,) = [event async for event in waiting.run()]
    finally:
        clock.running -= 1
    return dict(event.payload)


async def reports(waiting: list[WaitTrigger]) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*map(report, waiting)))


def sent(portal: Any) -> list[list[str]]:
    """The methods of each request, in the order of the requests."""
    requests: list[list[str]] = []
    for entry in portal.requests:
        if entry["inside_batch"]:
            requests[-1].append(entry["method"])
        else:
            requests.append([])
    return requests


def connect(portal: Any, monkeypatch: pytest.MonkeyPatch, name: str, scopes: tuple[str, ...], user_id: int = 1) -> None:
    connection = json.loads(portal.connection_of(portal.add_webhook(user_id=user_id, scopes=scopes)))
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


def for_each(act: Callable[[int], Any], ids: list[int]) -> None:
    for number in ids:
        act(number)


async def cancel(tasks: list[asyncio.Task[dict[str, Any]]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def add_payments(portal: Any, count: int, deal: int = 3) -> list[int]:
    return [portal.act.add_payment(entity_type_id=2, entity_id=deal, amount="10.00") for _ in range(count)]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    yield
    assert [loop for loop in shared_poll._polls if not loop.is_closed()] == []


# ---------------------------------------------------------------------------------------------------------- requests


@pytest.mark.usefixtures("unmeasured")
async def test_a_thousand_payments_cost_one_request_a_tick(portal: Any, clock: Any) -> None:
    ids = add_payments(portal, 1000)

    clock.before_wait = lambda seconds: for_each(portal.act.pay_payment, ids) if len(clock.waits) == 2 else None
    found = await reports([payment(number) for number in ids])
    assert [event["items"][0]["payment_id"] for event in found] == ids
    assert {event["reason"] for event in found} == {"paid"}
    assert clock.waits == [60.0] * 3
    assert sent(portal) == [["sale.payment.list"] * 20] * 3


@pytest.mark.usefixtures("unmeasured")
async def test_a_thousand_invoices_cost_one_request_a_tick(portal: Any, clock: Any) -> None:
    ids = [portal.portal.create("invoice", {"price": "1.00", "order_topic": "One"}) for _ in range(1000)]
    clock.before_wait = lambda seconds: for_each(portal.act.pay_invoice, ids) if len(clock.waits) == 1 else None
    found = await reports([invoice(number) for number in ids])
    assert [event["items"][0]["invoice_id"] for event in found] == ids
    assert sent(portal) == [["crm.invoice.list"] * 20] * 2


async def test_without_the_scope_of_the_list_fifty_payments_are_read_in_a_request(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(portal, monkeypatch, "crm_only", ("crm",))
    ids = add_payments(portal, 120)

    clock.before_wait = lambda seconds: for_each(portal.act.pay_payment, ids) if len(clock.waits) == 1 else None
    found = await reports([payment(number, bitrix24_conn_id="crm_only") for number in ids])
    assert {event["reason"] for event in found} == {"paid"}
    by_id = [["crm.item.payment.get"] * 50] * 2 + [["crm.item.payment.get"] * 20]
    assert sent(portal) == [["sale.payment.list"] * 3, *by_id, *by_id]


async def test_without_the_scope_of_the_list_fifty_objects_are_read_in_a_request(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(portal, monkeypatch, "crm_only", ("crm",))
    waited = []
    for _ in range(60):
        deal = portal.portal.create("deal", {"title": "One of many"})
        numbers = add_payments(portal, 2, deal)
        for_each(portal.act.pay_payment, numbers)
        waited += [payment(number, owner=(2, deal), bitrix24_conn_id="crm_only") for number in numbers]
    assert {event["reason"] for event in await reports(waited)} == {"paid"}
    by_object = [["crm.item.payment.list"] * 50, ["crm.item.payment.list"] * 10]
    assert sent(portal) == [["sale.payment.list"] * 3, *by_object]


@pytest.mark.bitrix24_sandbox(options={"payment_list_pages": True})
async def test_the_list_of_an_object_that_is_cut_is_read_to_its_end(portal: Any, clock: Any) -> None:
    ids = add_payments(portal, 70)
    for_each(portal.act.pay_payment, ids)
    assert {event["reason"] for event in await reports([payment(number, owner=(2, 3)) for number in ids])} == {"paid"}


async def test_a_user_who_is_no_administrator_reads_by_id(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(portal, monkeypatch, "person", ("crm", "sale"), user_id=7)
    ids = add_payments(portal, 60)
    for_each(portal.act.pay_payment, ids)
    found = await reports([payment(number, bitrix24_conn_id="person") for number in ids])
    assert {event["reason"] for event in found} == {"paid"}
    assert [len(methods) for methods in sent(portal)] == [2, 50, 10]


@pytest.mark.bitrix24_sandbox(options={"sale_filters_drop_what_does_not_convert": True})
async def test_a_list_that_drops_the_filter_is_not_used(portal: Any, clock: Any) -> None:
    ids = add_payments(portal, 60)
    portal.act.pay_payment(ids[0])
    for_each(portal.act.delete_payment, ids[1:])
    found = await reports([payment(number) for number in ids])
    assert [event["reason"] for event in found] == ["paid"] + ["deleted"] * 59
    assert [methods[0] for methods in sent(portal)] == ["sale.payment.list", *["crm.item.payment.get"] * 2]


async def test_what_the_list_does_not_show_is_read_by_its_id_before_it_counts_as_deleted(
    portal: Any, clock: Any
) -> None:
    ids = add_payments(portal, 60)
    for_each(portal.act.pay_payment, ids[1:])
    portal.act.delete_payment(ids[0])
    found = await reports([payment(number) for number in ids])
    assert [event["reason"] for event in found] == ["deleted"] + ["paid"] * 59
    assert sent(portal) == [["sale.payment.list"] * 2, ["crm.item.payment.get"]]


# ------------------------------------------------------------------------------------------------ each one's own wait


async def test_the_shortest_interval_wins(portal: Any, clock: Any) -> None:
    clock.before_wait = lambda seconds: portal.act.pay_invoice(3) if len(clock.waits) == 2 else None
    patient = asyncio.create_task(report(invoice(3, poke_interval=3600.0)))
    hasty = asyncio.create_task(report(invoice(2, poke_interval=20.0)))
    assert (await patient)["reason"] == "paid"
    assert clock.waits == [20.0] * 3
    hasty.cancel()
    await asyncio.gather(hasty, return_exceptions=True)


async def test_no_more_are_read_along_than_the_requests_have_room_for(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(portal, monkeypatch, "crm_only", ("crm",))
    first, *others = add_payments(portal, 120)
    patient = [
        asyncio.create_task(report(payment(number, poke_interval=3600.0, bitrix24_conn_id="crm_only")))
        for number in others
    ]
    clock.before_wait = lambda seconds: portal.act.pay_payment(first) if len(clock.waits) == 2 else None
    assert (await report(payment(first, poke_interval=20.0, bitrix24_conn_id="crm_only")))["reason"] == "paid"
    await cancel(patient)
    tried = [["sale.payment.list"] * 3, *[["crm.item.payment.get"] * count for count in (50, 50, 20)]]
    assert sent(portal) == [*tried, ["crm.item.payment.get"] * 50, ["crm.item.payment.get"] * 50]


@pytest.mark.parametrize("by_object", [False, True])
async def test_what_many_wait_for_takes_room_once(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, by_object: bool
) -> None:
    connect(portal, monkeypatch, "crm_only", ("crm",))
    deals = [portal.portal.create("deal", {"title": "One of many"}) for _ in range(120)]
    payments = [(add_payments(portal, 1, deal)[0], deal) for deal in deals]
    hurried, others = payments[:2], payments[2:]
    hurried += [(add_payments(portal, 1, deal)[0] if by_object else number, deal) for number, deal in hurried[:1] * 49]

    def wait(number: int, deal: int, seconds: float) -> asyncio.Task[dict[str, Any]]:
        owner = {"owner": (2, deal)} if by_object else {}
        return asyncio.create_task(report(payment(number, poke_interval=seconds, bitrix24_conn_id="crm_only", **owner)))

    patient = [wait(number, deal, 3600.0) for number, deal in others]
    hasty = [wait(number, deal, 20.0) for number, deal in hurried]
    paid = [number for number, _ in hurried]
    clock.before_wait = lambda seconds: for_each(portal.act.pay_payment, paid) if len(clock.waits) == 2 else None
    assert {event["reason"] for event in await asyncio.gather(*hasty)} == {"paid"}
    await cancel(patient)
    # 51 seats for 2 payments or objects are due, and 48 others are read along.
    assert [len(methods) for methods in sent(portal)[1:]] == [50, 50, 20, 50, 50]


async def test_who_came_a_moment_ago_is_not_read_along(portal: Any, clock: Any) -> None:
    portal.act.pay_invoice(2)
    portal.act.pay_invoice(3)
    first = asyncio.create_task(report(invoice(4, poke_interval=60.0, end_time=time.time() + 10**6)))
    late: list[asyncio.Task[dict[str, Any]]] = []

    def join(seconds: float) -> None:
        if not late:
            clock.time += 55
            late.append(asyncio.create_task(report(invoice(2, poke_interval=60.0))))

    clock.before_wait = join
    assert (await first)["reason"] == "cancelled"
    assert not late[0].done()
    assert (await late[0])["reason"] == "paid"
    assert len(sent(portal)) == 2


async def test_one_that_ends_leaves_the_others_waiting(portal: Any, clock: Any) -> None:
    over, goes_on = invoice(2, end_time=time.time() - 1), invoice(3)
    task = asyncio.create_task(report(goes_on))
    assert (await report(over))["reason"] == "timeout"
    portal.act.pay_invoice(3)
    assert (await task)["reason"] == "paid"


async def test_a_failing_read_counts_only_for_those_that_were_due(portal: Any, clock: Any) -> None:
    portal.fault("html", "batch", status=502)
    hasty = asyncio.create_task(report(invoice(2, poke_interval=20.0, read_failures_allowed=2)))
    patient = asyncio.create_task(report(invoice(3, poke_interval=100.0, read_failures_allowed=0)))
    assert (await hasty)["reason"] == "unreadable"
    assert clock.waits == [20.0] * 3
    assert not patient.done()
    portal.clear_faults()
    portal.act.pay_invoice(3)
    assert (await patient)["reason"] == "paid"


async def test_each_bears_as_many_failures_as_it_may(portal: Any, clock: Any) -> None:
    portal.fault("html", "batch", status=502)
    allowed = [0, 1, 2]
    found = await reports([invoice(2, read_failures_allowed=number) for number in allowed])
    assert [
        f"Look {number + 1} in a row failed" in event["message"] for number, event in zip(allowed, found, strict=True)
    ]
    assert {event["reason"] for event in found} == {"unreadable"}


async def test_one_row_that_cannot_be_read_concerns_nobody_else(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_wire = Invoice.from_wire

    def spoil(wire: Any) -> Any:
        return from_wire({**wire, "PAYED": "perhaps"} if int(wire["ID"]) == 3 else wire)

    monkeypatch.setattr(Invoice, "from_wire", spoil)
    portal.act.pay_invoice(2)
    found = await reports([invoice(2), invoice(3, read_failures_allowed=1)])
    assert [event["reason"] for event in found] == ["paid", "unreadable"]
    assert "PAYED" in found[1]["message"] or "paid" in found[1]["message"]


async def test_a_mistake_in_a_poll_leaves_nobody_waiting(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_bitrix24.triggers.state_polls import InvoicePoll

    async def mistake(self: Any, wants: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(InvoicePoll, "read", mistake)
    event = await report(invoice(2, read_failures_allowed=1))
    assert event["reason"] == "unreadable"
    assert "ZeroDivisionError" in event["message"]


# -------------------------------------------------------------------------------------------------- who shares a poll


async def test_two_connections_never_share(portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", portal.connection)
    portal.act.pay_invoice(2)
    await reports([invoice(2), invoice(2, bitrix24_conn_id="other"), invoice(2)])
    assert len(sent(portal)) == 2


async def test_a_connection_that_was_changed_gets_a_poll_of_its_own(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.create_task(report(invoice(3)))
    await asyncio.sleep(0)
    while not shared_poll._polls:  # noqa: ASYNC110 - the connection is read in a thread
        await asyncio.sleep(0)
    connect(portal, monkeypatch, "bitrix24_default", ("crm",))
    portal.act.pay_invoice(2)
    portal.act.pay_invoice(3)
    assert (await report(invoice(2)))["reason"] == "paid"
    assert (await before)["reason"] == "paid"
    assert len(sent(portal)) == 2


def test_nothing_leaks_from_one_event_loop_into_another(portal: Any) -> None:
    portal.act.pay_invoice(2)
    for _ in range(2):
        assert asyncio.run(report(invoice(2, poke_interval=0.01)))["reason"] == "paid"
        assert list(shared_poll._polls) == []


async def test_who_is_cancelled_leaves_and_the_last_one_ends_the_poll(portal: Any, clock: Any) -> None:
    held = asyncio.Event()

    async def wait(seconds: float, wake: asyncio.Event) -> None:
        try:
            await held.wait()
        finally:
            await asyncio.sleep(0.01)  # as closing a connection takes

    clock.wait = wait
    tasks = [asyncio.create_task(report(invoice(number))) for number in (2, 3)]
    while sum(len(poll.seats) for polls in shared_poll._polls.values() for poll in polls.values()) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    ((poll,),) = [list(polls.values()) for polls in shared_poll._polls.values()]
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert [list(seat.want) for seat in poll.seats] == [[3]]
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    assert (len(poll.seats), shared_poll._polls) == (0, {})
    assert poll._task.cancelled()


async def test_the_same_payment_said_to_belong_to_two_objects(
    portal: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal.act.pay_payment(1001)
    found = await reports([payment(1001, owner=(2, 4)), payment(1001, owner=(2, 5)), payment(1001)])
    assert [event["reason"] for event in found] == ["paid", "deleted", "paid"]
