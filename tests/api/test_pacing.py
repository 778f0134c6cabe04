"""The arithmetic of the rate limit, against a portal that counts by itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bitrix24.api.io import Slot
from airflow_provider_bitrix24.api.pacing import LONGEST_QUEUE, STANDARD, Bucket, Limits, reserve
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

SLOW = Limits(10, 0.5)
"""Eight at once, then one every two seconds."""


def book(bucket: Bucket, count: int, *, now: float = 0.0, limits: Limits = SLOW, **options: Any) -> Any:
    """Book some requests at one moment; return the bucket and their waits."""
    waits = []
    for _ in range(count):
        bucket, slot = reserve(bucket, limits, now, within=1e9, **options)
        assert slot.granted
        waits.append(slot.wait)
    return bucket, waits


def test_the_burst_does_not_wait_and_the_rest_stands_in_line() -> None:
    _, waits = book(Bucket(), 11)
    assert waits == [0.0] * 8 + [2.0, 4.0, 6.0]


def test_a_fifth_of_the_burst_is_left_free() -> None:
    for limits, at_once in ((STANDARD, 40), (Limits.read("enterprise"), 200), (Limits(1, 1.0), 1)):
        _, waits = book(Bucket(), at_once + 1, limits=limits)
        assert waits == [0.0] * at_once + [pytest.approx(limits.interval)]


def test_time_gives_slots_back() -> None:
    bucket, _ = book(Bucket(), 8)
    bucket, waits = book(bucket, 3, now=4.0)
    assert waits == [0.0, 0.0, 2.0]
    assert book(bucket, 9, now=1e6)[1] == [0.0] * 8 + [2.0]


def test_who_would_wait_too_long_books_nothing() -> None:
    bucket, _ = book(Bucket(), 10)
    same, slot = reserve(bucket, SLOW, 0.0, within=5.9)
    assert (same, slot) == (bucket, Slot(6.0, granted=False))
    assert reserve(bucket, SLOW, 0.0, within=6.0)[1] == Slot(6.0)


def test_nobody_queues_for_longer_than_an_hour() -> None:
    bucket = Bucket(SLOW.tolerance + LONGEST_QUEUE + 1.0)
    assert not reserve(bucket, SLOW, 0.0, within=1e9)[1].granted


def test_a_refusal_of_the_portal_takes_the_burst_away() -> None:
    bucket, waits = book(Bucket(), 1, drained=True)
    assert waits == [2.0]
    assert book(bucket, 1)[1] == [4.0]
    assert book(book(Bucket(), 12)[0], 1, drained=True)[1] == [10.0], "who stands in line already keeps the place"


def test_a_clock_set_back_neither_frees_nor_locks() -> None:
    bucket, _ = book(Bucket(), 10, now=1000.0)
    bucket, slot = reserve(bucket, SLOW, 10.0, within=0.0)
    assert slot == Slot(6.0, granted=False)
    assert reserve(bucket, SLOW, 14.0, within=2.0)[1] == Slot(2.0), "time goes on, though nothing was booked"


@pytest.mark.parametrize("backlog", [1e9, math.inf, math.nan, -1e9])
@pytest.mark.parametrize("at", [0.0, 1e300, -math.inf, math.nan])
def test_a_damaged_bucket_costs_the_burst_at_most(backlog: float, at: float) -> None:
    bucket, slot = reserve(Bucket(backlog, at), SLOW, 5.0, within=10.0)
    assert slot.granted
    assert slot.wait in (0.0, 2.0)
    assert (bucket.at, math.isfinite(bucket.backlog)) == (5.0, True)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 4.5)), max_size=300),
    st.sampled_from([STANDARD, Limits.read("enterprise")]),
)
def test_the_portal_refuses_nothing(requests: list[tuple[float, float]], limits: Limits) -> None:
    """Whenever they are wanted, and however late they arrive: no more than the headroom's worth of seconds."""
    late = limits.burst / 5 * limits.interval / 5
    bucket, now, arrivals = Bucket(), 0.0, []
    for pause, delay in requests:
        now += pause if pause > 1 else 0.0  # most of them at once
        bucket, slot = reserve(bucket, limits, now, within=600.0)
        arrivals.append(now + slot.wait + delay * late)
    level, last = 0.0, 0.0
    for arrival in sorted(arrivals):
        level, last = max(0.0, level - (arrival - last) * limits.rate) + 1, arrival
        assert level <= limits.burst


@pytest.mark.parametrize(
    ("written", "limits"),
    [
        ("standard", Limits(50, 2.0)),
        ("Enterprise ", Limits(250, 5.0)),
        ("100/4", Limits(100, 4.0)),
        ("1/0.5", Limits(1, 0.5)),
        ("", STANDARD),
        (None, STANDARD),
    ],
)
def test_the_extra_says_the_limits(written: Any, limits: Limits) -> None:
    made = Settings.from_connection_values(
        host="acme.bitrix24.com", login="1", password="c4n4rys3cr3tc0de", extra={"rate_limit": written}
    )
    assert made.rate_limit == limits
    assert not made.rate_limit.off


def test_off_is_off() -> None:
    assert Limits.read("off").off


@pytest.mark.parametrize(
    "written", ["fast", "50", "0/2", "50/0", "50/0.05", "50/-1", "50/2/1", "50/1e3", True, 50, "\u0665/2"]
)
def test_anything_else_is_told(written: Any) -> None:
    with pytest.raises(
        Bitrix24ConfigError, match="rate_limit must be standard, enterprise, off, or BURST/RATE such as"
    ):
        Settings.from_connection_values(
            host="acme.bitrix24.com", login="1", password="c4n4rys3cr3tc0de", extra={"rate_limit": written}
        )
