"""The decision table, row by row and as a whole: when money is sent, and when it is not."""

from __future__ import annotations

from itertools import product

import pytest

from airflow_provider_bitrix24.at_most_once.next_step import (
    LastSend,
    Observation,
    Policy,
    Recorded,
    Step,
    is_unresolved,
    next_step,
)
from airflow_provider_bitrix24.at_most_once.write import ADDED_PAYMENT, PAYMENT, PRODUCT_ROW, SETTING
from tests.tools.decision_table import FILE, generated

NOW = (1000.0, 2000.0)
FRESH = (996.0, 1996.0)
DEADLINE = 5.0
LASTS: list[LastSend | None] = [None, "pending", "acknowledged", "inconclusive", "absent", "not_applied"]


def step(record: Recorded, seen: Observation, policy: Policy = PAYMENT) -> Step:
    return next_step(record, seen, NOW, policy, DEADLINE)


def sent(last: LastSend | None, **more: object) -> Recorded:
    return Recorded(last=last, sends=1, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [PAYMENT, ADDED_PAYMENT, PRODUCT_ROW, SETTING])
@pytest.mark.parametrize("last", LASTS)
def test_what_the_portal_shows_is_done(last: LastSend | None, policy: Policy) -> None:
    for readable, ambiguous, asked in product([True, False], repeat=3):
        seen = Observation(shown=True, readable=readable, ambiguous=ambiguous)
        assert step(sent(last, needs_decision=asked), seen, policy) is Step.DONE


def test_the_first_send_needs_a_fresh_observation() -> None:
    assert step(Recorded(), Observation(read_at=FRESH)) is Step.SEND
    assert step(Recorded(), Observation()) is Step.LOOK_AGAIN


@pytest.mark.parametrize(("monotonic", "wall"), [(994.9, 1996.0), (996.0, 1994.9)])
def test_either_clock_ends_what_permits_a_send(monotonic: float, wall: float) -> None:
    assert step(Recorded(), Observation(read_at=(monotonic, wall))) is Step.LOOK_AGAIN


@pytest.mark.parametrize(("last", "needed"), [("pending", 2), ("acknowledged", 1), ("inconclusive", 1)])
def test_an_absence_needs_its_reads(last: LastSend, needed: int) -> None:
    for absences in range(needed):
        assert step(sent(last), Observation(absences=absences, read_at=FRESH)) is Step.LOOK_AGAIN
    assert step(sent(last), Observation(absences=needed, read_at=FRESH)) is not Step.LOOK_AGAIN


def test_what_got_no_response_and_is_absent_is_sent_once_more_and_then_a_person_decides() -> None:
    seen = Observation(absences=2, read_at=FRESH)
    for last in ("pending", "absent"):
        assert step(Recorded(last=last, sends=1), seen) is Step.SEND
        assert step(Recorded(last=last, sends=2), seen) is Step.ASK
        assert step(Recorded(last=last, sends=2, granted=1), seen) is Step.SEND
        assert step(Recorded(last=last, sends=2), seen, PRODUCT_ROW) is Step.FAIL


@pytest.mark.parametrize("last", ["acknowledged", "inconclusive", "not_applied"])
def test_what_was_answered_and_is_not_applied_fails(last: LastSend) -> None:
    seen = Observation(absences=1, read_at=FRESH)
    assert step(sent(last), seen) is Step.FAIL
    assert step(Recorded(last=last, sends=2), seen) is Step.ASK


def test_only_what_a_person_has_cleared_since_is_sent_again() -> None:
    seen = Observation(read_at=FRESH)
    assert step(sent("not_applied"), seen) is Step.FAIL
    assert step(sent("not_applied", cleared=True), seen) is Step.SEND


def test_an_added_payment_that_was_absent_is_looked_for_once_more() -> None:
    for last in ("absent", "not_applied"):
        record = Recorded(last=last, sends=1, cleared=True)
        assert step(record, Observation(read_at=FRESH), ADDED_PAYMENT) is Step.LOOK_AGAIN
        assert step(record, Observation(absences=1, read_at=FRESH), ADDED_PAYMENT) is Step.SEND


def test_a_setting_is_sent_once_in_an_attempt() -> None:
    assert step(Recorded(), Observation(read_at=FRESH), SETTING) is Step.SEND
    assert step(sent("acknowledged"), Observation(absences=1, read_at=FRESH), SETTING) is Step.FAIL
    assert step(sent("pending"), Observation(absences=2, read_at=FRESH), SETTING) is Step.FAIL


def test_what_is_used_instead_needs_a_fresh_observation_too() -> None:
    assert step(Recorded(), Observation(replaced=True, read_at=FRESH)) is Step.DONE
    assert step(Recorded(), Observation(replaced=True)) is Step.LOOK_AGAIN
    assert step(sent("pending"), Observation(replaced=True, read_at=FRESH)) is Step.LOOK_AGAIN


def test_nothing_is_sent_but_under_all_its_conditions() -> None:
    """All situations there are: a send needs each of its conditions."""
    sends = 0
    for last, cleared, asked, granted, times, policy in product(
        LASTS, [True, False], [True, False], [0, 1], range(4), [PAYMENT, ADDED_PAYMENT, PRODUCT_ROW, SETTING]
    ):
        record = Recorded(last=last, sends=times, granted=granted, needs_decision=asked, cleared=cleared)
        for shown, absences, ambiguous, replaced, readable, read_at in product(
            [True, False], range(3), [True, False], [True, False], [True, False], [None, FRESH, (1.0, 1.0)]
        ):
            seen = Observation(
                shown=shown,
                absences=absences,
                ambiguous=ambiguous,
                replaced=replaced,
                readable=readable,
                read_at=read_at,
            )
            if step(record, seen, policy) is not Step.SEND:
                continue
            sends += 1
            assert (shown, ambiguous, replaced, asked) == (False, False, False, False)
            assert readable
            assert read_at == FRESH
            assert times < policy.sends + granted
            assert last in (None, "pending", "absent") or (last == "not_applied" and cleared)
            assert last != "pending" or absences == 2
            assert not is_unresolved(record, seen, policy)
    assert sends > 0


def test_the_page_of_the_documentation_is_what_is_decided() -> None:
    assert FILE.read_text() == generated(), "run: python tests/tools/decision_table.py"
