"""Event triggers of an application with offline events: one request a tick, and still nothing is lost."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_bitrix24.api.offline_events import EVENTS, Hint
from airflow_provider_bitrix24.exceptions import Bitrix24ApiError, Bitrix24NoAnswer
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.triggers import paid_polls
from airflow_provider_bitrix24.triggers.paid import InvoicePaidTrigger, PaidEventTrigger, PaymentPaidTrigger
from tests.triggers.watching import LONG_AGO, Store, Watcher, reads, trigger

SAVED = "ONPAYMENTENTITYSAVED"
LISTS = {"payment": "sale.payment.list", "invoice": "crm.invoice.list"}


@pytest.fixture
def application(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """A sandbox whose default connection is that of an application, signed in to by an administrator."""
    connect(bitrix24_sandbox, monkeypatch, str(tmp_path / "tokens.db"))
    return bitrix24_sandbox


def connect(sandbox: Any, monkeypatch: pytest.MonkeyPatch, tokens: str, **who: Any) -> None:
    made = sandbox.add_application()
    fields = json.loads(sandbox.oauth_connection_of(made, sandbox.grant(made, **who)))
    fields["extra"] |= {"token_conn_id": "tokens", "rate_limit_wait": 1}
    monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps({"conn_type": "sqlite", "host": tokens}))
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(fields))


async def ticks(watcher: Watcher, clock: Any, number: int) -> asyncio.Task[list[int]]:
    """Let a trigger look so many times."""
    task = asyncio.create_task(watcher.next_ids())
    wanted = len(clock.waits) + number
    while len(clock.waits) < wanted and not task.done():  # noqa: ASYNC110 - the clock tells nobody
        await asyncio.sleep(0.001)
    return task


async def end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def outer(sandbox: Any) -> list[str]:
    """The requests, without what is inside of batches."""
    return [request["method"] for request in sandbox.requests if not request["inside_batch"]]


def pay(sandbox: Any, kind: str) -> int:
    if kind == "payment":
        sandbox.act.pay_payment(1001)
        return 1001
    sandbox.act.pay_invoice(2)
    return 2


@pytest.mark.parametrize(("kind", "cls"), [("payment", PaymentPaidTrigger), ("invoice", InvoicePaidTrigger)])
async def test_a_quiet_tick_is_one_request_and_reads_no_payments(
    application: Any, clock: Any, store: Store, kind: str, cls: type[PaidEventTrigger]
) -> None:
    watcher = Watcher(trigger(cls, bind_events=True), store)
    clock.before_wait = lambda seconds: pay(application, kind) if len(clock.waits) == 10 else None
    assert await watcher.next_ids() == [2 if kind == "invoice" else 1001]
    # When it began, and when the customer had paid.
    assert reads(application, LISTS[kind]) == 2
    begin = outer(application).index(LISTS[kind]) + 1
    assert outer(application)[begin:] == ["batch"] * 11 + [LISTS[kind]]
    await watcher.stop()


async def test_nothing_is_bound_unless_wanted(application: Any, clock: Any, store: Store) -> None:
    watcher = Watcher(trigger(), store)
    await end(await ticks(watcher, clock, 5))
    assert Bitrix24Hook().rest.event_get() == []
    assert not any("event.bind" in request["method"] for request in application.requests)
    # The queue was asked once, and then payments were read.
    assert sum(request["method"] == "event.get" and request["inside_batch"] for request in application.requests) == 1
    assert reads(application) >= 5


async def test_events_that_somebody_else_has_bound_are_used(application: Any, clock: Any, store: Store) -> None:
    Bitrix24Hook().rest.event_bind(event="OnPaymentEntitySaved", event_type="offline")
    await end(await ticks(Watcher(trigger(), store), clock, 5))
    assert reads(application) == 1


@pytest.mark.parametrize("kind", ["payment", "invoice"])
def test_what_is_bound_is_not_bound_again(application: Any, kind: Any) -> None:
    hook = Bitrix24Hook()
    assert hook.bind_paid_events(kind) == EVENTS[kind]
    assert hook.bind_paid_events(kind) == ()
    bound = [(row["event"], int(row["offline"])) for row in hook.rest.event_get()]
    assert sorted(bound) == sorted((name, 1) for name in EVENTS[kind])


def test_an_online_handler_fills_no_queue(application: Any) -> None:
    hook = Bitrix24Hook()
    hook.rest.event_bind(event=SAVED, handler="https://acme.example.com/handler")
    assert hook.read_paid_hint("payment", datetime.now(UTC)).missing == (SAVED,)


async def test_the_queue_is_left_as_it_is(application: Any, clock: Any, store: Store) -> None:
    watcher = Watcher(trigger(bind_events=True), store)
    clock.before_wait = lambda seconds: pay(application, "payment") if len(clock.waits) == 2 else None
    assert await watcher.next_ids() == [1001]
    await watcher.stop()
    assert [row["EVENT_NAME"] for row in Bitrix24Hook().rest.event_offline_list()] == [SAVED]


@pytest.mark.parametrize("kind", ["payment", "invoice"])
def test_an_old_event_is_no_news(application: Any, kind: Any) -> None:
    hook = Bitrix24Hook()
    hook.bind_paid_events(kind)
    pay(application, kind)
    now = datetime.now(UTC)
    assert hook.read_paid_hint(kind, now - timedelta(minutes=1)).happened
    hint = hook.read_paid_hint(kind, now + timedelta(minutes=1))
    assert (hint.missing, hint.happened) == ((), False)
    assert hint.at is not None


async def test_payments_are_read_again_while_the_event_is_young(
    application: Any, clock: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payment may be seen later than its event: the portal raises the event before it commits."""
    watcher = Watcher(trigger(bind_events=True, since=LONG_AGO), store)
    assert await watcher.next_ids() == [1002]
    pay(application, "payment")
    task = await ticks(watcher, clock, 1)
    assert await task == [1001]
    before = reads(application)
    await end(await ticks(watcher, clock, 3))
    assert reads(application) >= before + 2


async def test_a_handler_that_was_lost_ends_the_use_of_the_queue(application: Any, clock: Any, store: Store) -> None:
    watcher = Watcher(trigger(bind_events=True), store)
    hook = Bitrix24Hook()

    def lose_it(seconds: float) -> None:
        if len(clock.waits) == 2:
            hook.rest.event_unbind(event=SAVED, event_type="offline")
        if len(clock.waits) == 4:
            pay(application, "payment")

    clock.before_wait = lose_it
    assert await watcher.next_ids() == [1001]
    await watcher.stop()


async def test_now_and_then_payments_are_read_without_an_event(
    application: Any, clock: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others who use the application may empty its queue."""
    watcher = Watcher(trigger(bind_events=True), store)
    hook = Bitrix24Hook()

    def take_the_event(seconds: float) -> None:
        if len(clock.waits) == 2:
            pay(application, "payment")
            assert hook.rest.event_offline_get(clear=1)["events"]
        if len(clock.waits) == 6:
            monkeypatch.setattr(paid_polls, "READ_ANYWAY", timedelta(minutes=-3))

    clock.before_wait = take_the_event
    assert await watcher.next_ids() == [1001]
    assert len(clock.waits) >= 6
    await watcher.stop()


async def test_a_queue_that_cannot_be_read_does_not_hide_a_payment(
    application: Any, clock: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Hint:
        raise Bitrix24NoAnswer("event.offline.list", "HTTP 502")

    watcher = Watcher(trigger(bind_events=True), store)
    clock.before_wait = lambda seconds: pay(application, "payment") if len(clock.waits) == 2 else None
    monkeypatch.setattr(Bitrix24Hook, "aread_paid_hint", fail)
    assert await watcher.next_ids() == [1001]
    await watcher.stop()


async def test_a_read_that_fails_after_an_event_is_made_up_for(application: Any, clock: Any, store: Store) -> None:
    watcher = Watcher(trigger(bind_events=True), store)

    def trouble(seconds: float) -> None:
        if len(clock.waits) == 2:
            pay(application, "payment")
            application.fault("html", "sale.payment.list", status=502)
        if len(clock.waits) == 4:
            application.clear_faults()

    clock.before_wait = trouble
    assert await watcher.next_ids() == [1001]
    assert len(clock.waits) >= 4
    await watcher.stop()


async def test_a_restart_after_an_event_loses_nothing(application: Any, clock: Any, store: Store) -> None:
    first = Watcher(trigger(bind_events=True), store)
    await end(await ticks(first, clock, 3))
    pay(application, "payment")
    second = Watcher(trigger(bind_events=True), store)
    assert await second.next_ids() == [1001]
    await second.stop()


async def test_a_watcher_that_joins_later_gets_what_it_has_to_know(application: Any, clock: Any) -> None:
    first = Watcher(trigger(bind_events=True), Store())
    task = await ticks(first, clock, 3)
    second = Watcher(trigger(since=LONG_AGO), Store())
    assert await second.next_ids() == [1002]
    await end(task)
    await second.stop()


async def test_a_webhook_is_not_asked_for_events(portal: Any, clock: Any, store: Store) -> None:
    watcher = Watcher(trigger(since=LONG_AGO), store)
    assert await watcher.next_ids() == [1002]
    await end(await ticks(watcher, clock, 3))
    assert not any(request["method"].startswith("event.") for request in portal.requests)


async def test_a_webhook_cannot_bind_and_says_so(
    portal: Any, clock: Any, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = Watcher(trigger(since=LONG_AGO, bind_events=True), store)
    assert await watcher.next_ids() == [1002]
    assert "Offline events are not bound, so payments are read" in capsys.readouterr().out
    await watcher.stop()


def test_who_may_not_bind_is_told(portal: Any) -> None:
    with pytest.raises(Bitrix24ApiError):
        Bitrix24Hook().bind_paid_events("payment")
