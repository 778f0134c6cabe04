"""Event triggers: what was paid is reported at least once, and as a rule once, whatever stops or fails."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_bitrix24.api.paid_since import OVERLAP, Cursor, Paid, PaidRows
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24NoAnswer
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.triggers import shared_poll
from airflow_provider_bitrix24.triggers.paid import InvoicePaidTrigger, PaidEventTrigger, PaymentPaidTrigger
from tests.triggers.watching import LONG_AGO, Store, Watcher, reads, trigger

BEGIN = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)


class OldStore:
    """That of Airflow 3.3.0, which has no asynchronous methods."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


# ---------------------------------------------------------------------------------------------------------- the cursor


def row(number: int, seconds: float) -> Paid:
    return Paid(number, BEGIN + timedelta(seconds=seconds), 8, {"payment_id": number})


def rows(*found: Paid, at: float | None) -> PaidRows:
    return PaidRows(found, None if at is None else BEGIN + timedelta(seconds=at))


def test_a_row_is_reported_once() -> None:
    new, cursor = Cursor(BEGIN).advance(rows(row(1, 5), at=60))
    assert [one.id for one in new] == [1]
    again, cursor = cursor.advance(rows(row(1, 5), row(2, 65), at=120))
    assert [one.id for one in again] == [2]
    assert cursor.since == BEGIN + timedelta(seconds=120)


def test_a_row_that_appears_late_is_reported_within_the_overlap() -> None:
    _, cursor = Cursor(BEGIN).advance(rows(at=60))
    late, cursor = cursor.advance(rows(row(1, 30), at=120))
    assert [one.id for one in late] == [1]
    nothing, _ = cursor.advance(rows(row(1, 30), at=180))
    assert nothing == []


def test_what_is_older_than_the_overlap_was_asked_for_by_somebody_else() -> None:
    nothing, _ = Cursor(BEGIN).advance(rows(row(1, -OVERLAP.total_seconds() - 1), at=60))
    assert nothing == []


def test_a_payment_that_was_set_back_and_paid_again_is_reported_again() -> None:
    _, cursor = Cursor(BEGIN).advance(rows(row(1, 5), at=60))
    again, _ = cursor.advance(rows(row(1, 50), at=120))
    assert [one.id for one in again] == [1]


def test_a_date_in_the_future_does_not_move_the_cursor() -> None:
    new, cursor = Cursor(BEGIN).advance(rows(row(1, 10**6), at=60))
    assert [one.id for one in new] == [1]
    assert cursor.since == BEGIN + timedelta(seconds=60)
    new, cursor = cursor.advance(rows(row(1, 10**6), row(2, 70), at=120))
    assert [one.id for one in new] == [2]


def test_a_portal_without_a_clock_keeps_the_cursor_where_it_is() -> None:
    new, cursor = Cursor(BEGIN).advance(rows(row(1, 5), at=None))
    assert [one.id for one in new] == [1]
    assert cursor.since == BEGIN
    assert cursor.advance(rows(row(1, 5), at=None))[0] == []


def test_a_clock_that_is_set_back_does_not_move_the_cursor_back() -> None:
    _, cursor = Cursor(BEGIN).advance(rows(at=-3600))
    assert cursor.since == BEGIN


def test_the_cursor_survives_json() -> None:
    _, cursor = Cursor(BEGIN).advance(rows(row(1, 5), row(2, 6), at=60))
    assert Cursor.load(json.loads(json.dumps(cursor.dump()))) == cursor


@pytest.mark.parametrize(
    "stored", [None, "x", {}, {"v": 2, "since": "2026-11-27T09:00:00+00:00", "seen": []}, {"v": 1, "since": "x"}]
)
def test_a_cursor_that_cannot_be_read_is_an_error(stored: Any) -> None:
    with pytest.raises(ValueError, match="not of this version's form"):
        Cursor.load(stored)


# ------------------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("kind", ["payment", "invoice"])
def test_only_what_was_paid_since_then_is_read(portal: Any, kind: Any) -> None:
    hook = Bitrix24Hook()
    before = datetime.now(UTC) - timedelta(seconds=1)
    portal.act.pay_payment(1001)
    portal.act.pay_invoice(2)
    found = hook.read_paid_since(kind, before)
    assert [one.id for one in found.rows] == ([1001] if kind == "payment" else [2])
    (only,) = found.rows
    assert only.item["amount"] == ("350.00" if kind == "payment" else "1500.00")
    assert found.at is not None


def test_a_date_that_the_portal_drops_is_an_error(portal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_bitrix24.api import paid_since

    monkeypatch.setattr(paid_since, "_asked", lambda kind, since: {"filter": {"=paid": "Y"}})
    with pytest.raises(Bitrix24NoAnswer, match="the filter was ignored"):
        Bitrix24Hook().read_paid_since("payment", datetime.now(UTC) + timedelta(days=3))


def test_a_status_that_the_portal_drops_is_an_error(portal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_bitrix24.api import paid_since

    monkeypatch.setattr(paid_since, "_asked", lambda kind, since: {})
    with pytest.raises(Bitrix24NoAnswer, match="is not paid"):
        Bitrix24Hook().read_paid_since("payment", datetime(2020, 1, 1, tzinfo=UTC))


# ----------------------------------------------------------------------------------------------------------- triggers


@pytest.mark.parametrize(("kind", "number"), [(PaymentPaidTrigger, 1001), (InvoicePaidTrigger, 2)])
async def test_what_is_paid_is_reported_once(
    portal: Any, clock: Any, store: Store, kind: type[PaidEventTrigger], number: int
) -> None:
    watcher = Watcher(trigger(kind), store)
    pay = portal.act.pay_payment if kind is PaymentPaidTrigger else portal.act.pay_invoice
    clock.before_wait = lambda seconds: pay(number) if len(clock.waits) == 1 else None
    assert await watcher.next_ids() == [number]
    nothing = asyncio.create_task(watcher.next_ids())
    while len(clock.waits) < 6:  # noqa: ASYNC110 - the clock tells nobody
        await asyncio.sleep(0.001)
    assert not nothing.done()
    nothing.cancel()
    await asyncio.gather(nothing, return_exceptions=True)
    assert clock.waits[:5] == [60.0] * 5


async def test_what_was_paid_before_is_not_reported_unless_wanted(portal: Any, clock: Any, store: Store) -> None:
    portal.act.pay_payment(1001)
    watcher = Watcher(trigger(since=LONG_AGO), store)
    assert await watcher.next_ids() == [1001, 1002]
    await watcher.stop()


async def test_a_restart_loses_nothing_and_repeats_little(portal: Any, clock: Any, store: Store) -> None:
    first = Watcher(trigger(since=LONG_AGO), store)
    assert await first.next_ids() == [1002]
    await first.stop()  # before Airflow has stored the event: it is reported again
    second = Watcher(trigger(since=LONG_AGO), store)
    assert await second.next_ids() == [1002]
    clock.before_wait = lambda seconds: portal.act.pay_payment(1003) if len(clock.waits) == 1 else None
    assert await second.next_ids() == [1003]  # by now the cursor after 1002 is stored
    await second.stop()
    portal.act.pay_payment(1001)
    third = Watcher(trigger(since=LONG_AGO), store)
    assert await third.next_ids() == [1001, 1003]
    await third.stop()


async def test_the_first_cursor_is_stored_at_once(portal: Any, clock: Any, store: Store) -> None:
    clock.wait = lambda seconds, wake: asyncio.Event().wait()
    first = asyncio.create_task(Watcher(trigger(), store).next_ids())
    while not reads(portal):  # noqa: ASYNC110 - the portal tells nobody
        await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    portal.act.pay_payment(1001)  # while no triggerer runs
    del clock.wait
    second = Watcher(trigger(), store)
    assert await second.next_ids() == [1001]
    await second.stop()


async def test_all_watchers_of_a_portal_share_one_read(portal: Any, clock: Any) -> None:
    watchers = [Watcher(trigger(since=LONG_AGO, poll_interval=60 + number), Store()) for number in range(5)]
    for watcher in watchers:
        assert await watcher.next_ids() == [1002]
    portal.act.pay_payment(1001)
    clock.running, before = 5, reads(portal)
    assert await asyncio.gather(*(watcher.next_ids() for watcher in watchers)) == [[1001]] * 5
    assert reads(portal) - before == 1
    for watcher in watchers:
        await watcher.stop()


async def test_only_one_pay_system(portal: Any, clock: Any, store: Store) -> None:
    paid = portal.act.add_payment(2, 3, amount="5.00", pay_system_id=8)
    portal.act.pay_payment(1001)
    portal.act.pay_payment(paid)
    watcher = Watcher(trigger(since=LONG_AGO, pay_system_id=8), store)
    assert paid in (found := await watcher.next_ids())
    assert 1001 not in found
    await watcher.stop()


async def test_many_at_once_come_in_several_events(portal: Any, clock: Any, store: Store) -> None:
    ids = [portal.act.add_payment(2, 3, amount="1.00") for _ in range(450)]
    for number in ids:
        portal.act.pay_payment(number)
    watcher = Watcher(trigger(since=LONG_AGO), store)
    sizes = [len(await watcher.next_ids()) for _ in range(3)]
    assert sizes == [200, 200, 51]
    await watcher.stop()


async def test_trouble_is_waited_for_longer_and_longer(portal: Any, clock: Any, store: Store) -> None:
    portal.fault("html", "*", status=502)
    watcher = Watcher(trigger(since=LONG_AGO), store)

    def end_it(seconds: float) -> None:
        if len(clock.waits) == 4:
            portal.clear_faults()

    clock.before_wait = end_it
    assert await watcher.next_ids() == [1002]
    assert clock.waits[:5] == [60.0, 120.0, 240.0, 480.0, 600.0]
    await watcher.stop()


async def test_a_secret_that_was_corrected_is_used(
    portal: Any, clock: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = portal.connection
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(json.loads(right) | {"password": "canarycanary"}))
    clock.before_wait = lambda seconds: monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", right)
    watcher = Watcher(trigger(since=LONG_AGO), store)
    assert await watcher.next_ids() == [1002]
    await watcher.stop()


async def test_nothing_is_reported_anew_while_airflow_cannot_be_asked_for_the_cursor(
    portal: Any, clock: Any, store: Store
) -> None:
    store.fails = RuntimeError("API server away")

    def end_it(seconds: float) -> None:
        store.fails = None

    clock.before_wait = end_it
    watcher = Watcher(trigger(since=LONG_AGO), store)
    assert await watcher.next_ids() == [1002]
    assert clock.waits == [60.0]
    await watcher.stop()


async def test_airflow_3_3_0_has_no_asynchronous_store(portal: Any, clock: Any) -> None:
    store = OldStore()
    watcher = Watcher(trigger(since=LONG_AGO), store)
    assert await watcher.next_ids() == [1002]
    await watcher.stop()
    assert len(store.values) == 1


@pytest.mark.parametrize("several", [False, True])
async def test_without_a_store_it_says_so_once_and_goes_on(
    portal: Any, clock: Any, caplog: pytest.LogCaptureFixture, several: bool
) -> None:
    class Several(Store):
        async def aget(self, key: str) -> Any:
            raise ValueError("Task has 2 concrete inlets and outlets")

    watcher = Watcher(trigger(since=LONG_AGO), Several() if several else None)
    assert await watcher.next_ids() == [1002]
    clock.before_wait = lambda seconds: portal.act.pay_payment(1001)
    assert await watcher.next_ids() == [1001]
    await watcher.stop()


async def test_each_connection_and_filter_has_a_cursor_of_its_own(
    portal: Any, clock: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", portal.connection)
    for options in ({}, {"bitrix24_conn_id": "other"}, {"pay_system_id": 6}):
        watcher = Watcher(trigger(since=LONG_AGO, **options), store)
        await watcher.next_ids()
        await watcher.stop()
    assert len(store.values) == 3


@pytest.mark.parametrize("kind", [PaymentPaidTrigger, InvoicePaidTrigger])
def test_it_can_be_made_again_from_what_it_serializes(kind: type[PaidEventTrigger]) -> None:
    made = kind(bitrix24_conn_id="x", poll_interval=5, pay_system_id=8, since=LONG_AGO)
    path, arguments = made.serialize()
    assert path.endswith(kind.__name__)
    assert kind(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


@pytest.mark.parametrize("options", [{"since": "yesterday"}, {"since": "2026-11-27T09:00:00"}, {"poll_interval": 0}])
def test_wrong_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Bitrix24ConfigError):
        PaymentPaidTrigger(**options)


async def test_the_seat_is_given_up(portal: Any, clock: Any, store: Store) -> None:
    watcher = Watcher(trigger(since=LONG_AGO), store)
    await watcher.next_ids()
    await watcher.stop()
    assert shared_poll._polls == {}
