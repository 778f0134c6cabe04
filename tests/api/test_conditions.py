"""Conditions on one object, written like filters."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_bitrix24.api.conditions import check_condition, holds
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

DEAL = {
    "ID": "4", "STAGE_ID": "WON", "OPPORTUNITY": "1500.00", "CLOSED": "Y", "COMMENTS": None, "UTM_TERM": "",
    "DATE_CREATE": "2026-11-22T10:00:00+02:00", "sum": Decimal("10.10"), "open": True, "WHEN": "T", "LIST": [1],
}  # fmt: skip
NOON = datetime.fromisoformat("2026-11-22T12:00:00+02:00")


@pytest.mark.parametrize(
    "condition",
    [
        {"STAGE_ID": "WON"}, {"=STAGE_ID": ["LOSE", "WON"]}, {"@STAGE_ID": ("WON",)}, {"!STAGE_ID": "LOSE"},
        {"!=STAGE_ID": ["LOSE", "NEW"]}, {"!@STAGE_ID": {"LOSE"}}, {"ID": 4}, {"OPPORTUNITY": "1500"},
        {">OPPORTUNITY": 1499.99}, {">=OPPORTUNITY": "1500"}, {"<OPPORTUNITY": Decimal(1501)}, {"<=sum": "10.1"},
        {"sum": 10.1}, {"CLOSED": True}, {"open": True}, {"!CLOSED": False}, {"COMMENTS": None}, {"UTM_TERM": None},
        {"COMMENTS": ""}, {"!STAGE_ID": None}, {"<DATE_CREATE": NOON}, {">=DATE_CREATE": "2026-11-22T08:00:00Z"},
        {"STAGE_ID": "WON", ">OPPORTUNITY": 1}, {"LIST": "[1]"},
    ],
)  # fmt: skip
def test_what_holds(condition: Any) -> None:
    assert holds(check_condition(condition, "condition"), DEAL, "condition")


@pytest.mark.parametrize(
    "condition",
    [
        {"STAGE_ID": "won"}, {"=STAGE_ID": ["LOSE"]}, {"!STAGE_ID": "WON"}, {"ID": 5}, {">OPPORTUNITY": "1500"},
        {"CLOSED": False}, {"open": False}, {"!COMMENTS": None}, {"STAGE_ID": None}, {">STAGE_ID": 1},
        {">DATE_CREATE": NOON}, {">OPPORTUNITY": NOON}, {">DATE_CREATE": 5}, {">COMMENTS": 0}, {">WHEN": 1},
        {"STAGE_ID": "WON", ">OPPORTUNITY": 9999}, {">LIST": 0},
    ],
)  # fmt: skip
def test_what_does_not_hold(condition: Any) -> None:
    assert not holds(check_condition(condition, "condition"), DEAL, "condition")


@pytest.mark.parametrize(
    "condition",
    [
        None, {}, "STAGE_ID=WON", ["STAGE_ID"], {"": 1}, {"=": 1}, {"%TITLE": "x"}, {"><sum": [1, 2]}, {">sum": None},
        {">sum": "much"}, {">DATE_CREATE": "2026-11-22"}, {">DATE_CREATE": "2026-11-22T10:00:00"}, {">sum": [1]},
        {">DATE_CREATE": datetime(2026, 11, 22)},
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused(condition: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match=r"^fail_when"):
        check_condition(condition, "fail_when")


def test_a_field_that_the_object_has_not_is_named() -> None:
    with pytest.raises(Bitrix24ConfigError, match="did you mean 'STAGE_ID'"):
        holds({"STAGEID": "WON"}, DEAL, "condition")
    with pytest.raises(Bitrix24ConfigError, match="it has CLOSED, COMMENTS"):
        holds({"zzz": "WON"}, DEAL, "condition")
