"""The working time of methods: what replies teach, and when the next calls fit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.working_time import ANY_NUMBER, MethodUsage, UsageReport, WorkingTime, learn
from airflow_provider_bitrix24.exceptions import Bitrix24RateLimited
from tests.api.scripted import client, error_response, json_response, play

ADD = "crm.item.payment.add"
NOW = 1_763_800_020.0
"""The beginning of a minute is 40 s before."""
FIRST = 1_763_800_620.0


def known(*seen: UsageReport) -> WorkingTime:
    one = WorkingTime()
    one.learn(*seen)
    return one


def at(seconds: float, operating: float, **more: float) -> UsageReport:
    return UsageReport(method=ADD, at=NOW + seconds, operating=operating, resets_at=FIRST - 40, **more)  # type: ignore[arg-type]


def test_nothing_is_bounded_before_the_portal_has_said_anything() -> None:
    assert WorkingTime().fits([ADD], NOW) == ANY_NUMBER
    assert (WorkingTime().wait([ADD], NOW), WorkingTime().cost([ADD])) == (0.0, 0.0)


def test_what_fits_stays_below_the_limit() -> None:
    one = known(at(0, 9.0, took=0.9), at(1, 400.0, took=0.9))
    assert one.cost([ADD]) == pytest.approx(0.9), "others have used up the rest"
    assert one.fits([ADD], NOW + 1) == int((0.98 * 480 - 400) / 0.9)


def test_the_cost_is_what_the_sum_grows_by_from_call_to_call() -> None:
    one = known(at(0, 0.9), at(1, 1.8), at(2, 2.7))
    assert one.cost([ADD]) == pytest.approx(0.9)
    assert one.cost([ADD, ADD]) == pytest.approx(1.8)


def test_what_is_used_up_comes_back_minute_by_minute() -> None:
    one = known(at(0, 235.0, took=1.0), at(100, 470.0, took=1.0))
    assert one.fits([ADD], NOW + 100) == 0
    waits = one.wait([ADD], NOW + 100)
    assert NOW + 100 + waits == pytest.approx(FIRST - 40 + 1)
    assert 200 < one.fits([ADD], NOW + 100 + waits) < 400
    assert one.fits([ADD], NOW + 800) == 470 // one.cost([ADD])


def test_what_has_come_back_already_is_not_waited_for() -> None:
    one = known(at(0, 235.0, took=1.0), at(300, 470.0, took=1.0))
    later = NOW + 570  # the seconds of the first minute count no more, those of five minutes still do
    assert one.wait([ADD] * 400, later) == pytest.approx(FIRST - 40 + 4 * 60 + 1 - later)


def test_a_sum_that_is_smaller_than_it_was_known_is_believed() -> None:
    one = known(at(0, 470.0, took=1.0), at(5, 100.0, took=1.0))
    assert one.usages[ADD].used(NOW + 5) == pytest.approx(100.0)


def test_a_refusal_blocks_until_the_portal_said_and_lowers_the_limit() -> None:
    one = known(at(0, 400.0, took=1.0), at(1, 420.0, took=1.0), UsageReport(method=ADD, at=NOW + 2, refused=True))
    assert one.fits([ADD], NOW + 2) == 0
    assert one.wait([ADD], NOW + 2) == pytest.approx(FIRST - 40 + 1 - NOW - 2)
    assert one.usages[ADD].cap(480) == pytest.approx(0.98 * 420)


def test_a_refusal_that_the_sum_does_not_explain_lowers_no_limit() -> None:
    """Else one call in ten minutes would be sent from then on."""
    one = known(at(0, 0.6, took=0.6), UsageReport(method=ADD, at=NOW + 1, refused=True))
    assert one.fits([ADD], NOW + 1) == 0
    one.learn(UsageReport(method=ADD, at=NOW + 3600, operating=0.6, took=0.6))
    assert one.fits([ADD], NOW + 3601) > 700


def test_a_refusal_of_an_unknown_method_blocks_for_a_minute() -> None:
    one = known(UsageReport(method=ADD, at=NOW, refused=True))
    assert one.wait([ADD], NOW) == pytest.approx(61)
    assert one.usages[ADD].limit is None


def test_a_call_that_takes_longer_than_all_of_the_time_is_tried_when_nothing_counts() -> None:
    one = WorkingTime(limit=10.0)
    one.learn(UsageReport(method=ADD, at=NOW, took=30.0))
    assert one.fits([ADD], NOW) == 1


def test_a_call_that_takes_next_to_no_time_fits_any_number_of_times() -> None:
    one = known(UsageReport(method=ADD, at=NOW, took=5e-324))
    assert one.fits([ADD], NOW) == ANY_NUMBER


def test_a_portal_that_bills_the_batch_bounds_its_commands() -> None:
    one = WorkingTime()
    for number in range(1, 20):
        one.learn(UsageReport(method="batch", at=NOW + number, operating=22.5 * number, resets_at=FIRST))
        one.learn_batch([ADD] * 25, ())
    assert one.cost([ADD]) == pytest.approx(0.9)
    assert one.fits([ADD], NOW + 20) == int((0.98 * 480 - 22.5 * 19) / one.cost([ADD]))


def test_both_ways_of_billing_come_out_of_real_replies() -> None:
    one = client()
    commands = {"a": (ADD, {"entityId": 1}), "b": (ADD, {"entityId": 2})}
    inner = {"a": {"operating": 0.9, "operating_reset_at": FIRST}, "b": {"operating": 1.8}}
    body = {"result": {"result": {"a": 1, "b": 2}, "result_error": [], "result_time": inner}}
    play(one.batch(commands, effect=Effect.NON_IDEMPOTENT), json_response(body))
    assert one.working_time.cost([ADD]) == pytest.approx(0.9)
    assert one.working_time.usages[ADD].used(NOW) == pytest.approx(1.8)

    other = client()
    for total in (2, 4, 6):
        billed = {"result": {"result": {"a": 1, "b": 2}, "result_error": []}, "time": {"operating": total}}
        play(other.batch(commands, effect=Effect.NON_IDEMPOTENT), json_response(billed))
    assert other.working_time.cost([ADD]) == pytest.approx(1.0)
    billed_so_far = other.working_time.usages["batch"]
    assert billed_so_far.used(billed_so_far.at) == pytest.approx(6.0)


def test_a_refusal_is_learned_from_a_call() -> None:
    one = client()
    play(one.call(ADD, effect=Effect.NON_IDEMPOTENT), error_response("OPERATION_TIME_LIMIT", status=429))
    now = one.working_time.usages[ADD].at
    error = one.out_of_time(ADD, now - one.working_time.clock_offset)
    assert error is not None
    assert (error.is_time_limit, error.status, error.retry_after) == (True, 0, pytest.approx(61))
    assert "the portal has refused it a moment ago" in str(error)
    assert one.out_of_time("crm.deal.get", now) is None


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2000), st.floats(0, 600), st.floats(-5, 800), st.floats(0, 70), st.booleans(), st.booleans()
        ),
        max_size=12,
    )
)
def test_whatever_the_portal_says_a_wait_ends(told: list[tuple[float, float, float, float, bool, bool]]) -> None:
    one = WorkingTime()
    for moment, operating, reset, took, refused, says in told:
        one.learn(
            UsageReport(
                method=ADD,
                at=NOW + moment,
                operating=operating if says else None,
                resets_at=NOW + moment + reset,
                took=took,
                refused=refused,
            )
        )
    now = NOW + 2000
    kept = {method: MethodUsage.of(json.loads(json.dumps(use.as_dict()))) for method, use in one.usages.items()}
    for _ in range(15):
        if one.fits([ADD], now):
            break
        wait = one.wait([ADD], now)
        assert 0 < wait <= 900
        now += wait
    assert one.fits([ADD], now) > 0
    assert kept == {method: replace(use, cost=round(use.cost, 4), grown=0.0) for method, use in one.usages.items()}


@pytest.mark.parametrize("ahead", [3600, 86_400, 31_536_000])
def test_a_clock_that_was_far_ahead_blocks_nothing_when_it_is_right_again(ahead: float) -> None:
    wrong = NOW + ahead
    one = known(
        UsageReport(method=ADD, at=wrong, operating=470.0, resets_at=wrong + 60, took=0.9),
        UsageReport(method=ADD, at=wrong + 1, refused=True),
    )
    assert one.fits([ADD], wrong + 1) == 0
    assert one.fits([ADD], NOW) == int(0.98 * 470 / 0.9), "what it said is no time of this clock"
    assert one.wait([ADD], NOW) == 0
    one.learn(UsageReport(method=ADD, at=NOW, operating=9.0, took=0.9))
    assert one.usages[ADD].used(NOW) == pytest.approx(9.0)
    assert one.cost([ADD]) == pytest.approx(0.9)
    one.learn(UsageReport(method=ADD, at=NOW + 1, operating=470.0, took=0.9))
    assert one.fits([ADD], NOW + 1) == 0, "it learns again"


def test_a_refusal_that_names_a_time_beyond_the_window_blocks_for_a_minute() -> None:
    one = known(UsageReport(method=ADD, at=NOW, operating=1.0, resets_at=NOW + 86_400))
    one.learn(UsageReport(method=ADD, at=NOW + 1, refused=True))
    assert one.wait([ADD], NOW + 1) == pytest.approx(61)


def test_the_same_is_learned_from_news_as_at_once() -> None:
    one = known(at(0, 0.9), at(1, 1.8))
    assert learn({}, one.unshared) == one.usages


@pytest.mark.parametrize("cost", [0.2, 0.9, 1.7, 4.4])
def test_what_does_not_fit_is_always_waited_for(cost: float) -> None:
    """At the very limit, floats round to either side: a wait of nothing would be repeated without end."""
    near = known(at(0, round(0.98 * 480 - cost, 3), took=cost))
    full = WorkingTime(usages={ADD: MethodUsage(minutes=((int(NOW // 60), 0.98 * 480),))})
    for one in (near, full):
        wait = one.wait([ADD], NOW)
        assert one.fits([ADD], NOW) > 0 or wait > 60
        assert one.fits([ADD], NOW + wait) > 0


def test_a_refusal_with_a_date_of_the_last_century_is_a_refusal() -> None:
    refused = error_response("OPERATION_TIME_LIMIT", status=429, date="Mon, 01 Jan 1900 00:00:00 GMT")
    played = play(client().call(ADD, {"entityId": 1}, effect=Effect.NON_IDEMPOTENT), refused)
    assert isinstance(played.error, Bitrix24RateLimited)
