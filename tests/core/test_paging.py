"""Keyset paging over the list methods of the portal."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.api.paging import SHAPES
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24NoAnswer
from tests.core.scripted import Play, caller, play, says

PAGED = [method for method, shape in SHAPES.items() if shape.paged]


def page(method: str, params: Any, rows: Any, after: int | None = None) -> Play:
    return play(caller().page(method, params, after=after), says({"result": rows}))


def wrapped(method: str, ids: Any) -> Any:
    shape = SHAPES[method]
    rows = [{shape.id_field: number} for number in ids]
    return {shape.wrapper: rows} if shape.wrapper else rows


@pytest.mark.parametrize("method", PAGED)
def test_full_pages_go_on_and_others_are_the_last(method: str) -> None:
    field = SHAPES[method].id_field
    played = page(method, {"filter": {"=x": 1}}, wrapped(method, range(11, 61)), after=10)
    assert played.value.after == 60
    assert len(played.value.rows) == 50
    assert played.requests[0].params == {"filter": {"=x": 1, f">{field}": 10}, "order": {field: "ASC"}, "start": -1}
    played = page(method, None, wrapped(method, range(1, 50)))
    assert played.value.after is None
    assert played.requests[0].params["filter"] == {f">{field}": 0}


@pytest.mark.parametrize("method", [method for method in SHAPES if method not in PAGED])
def test_methods_without_pages_are_asked_once(method: str) -> None:
    params = {"entityId": 1, "order": {"id": "desc"}}
    played = page(method, params, wrapped(method, range(100, 0, -1)))
    assert played.requests[0].params == params
    assert played.value.after is None
    assert len(played.value.rows) == 100


def test_numeric_text_is_an_id_too() -> None:
    assert page("crm.deal.list", {}, [{"ID": str(number)} for number in range(1, 51)]).value.after == 50


def test_upper_case_names_are_understood() -> None:
    params = page("crm.invoice.list", {"FILTER": {">PRICE": 1}, "SELECT": ["PRICE"]}, []).requests[0].params
    assert params["FILTER"] == {">PRICE": 1, ">ID": 0}
    assert params["SELECT"] == ["PRICE", "ID"]
    assert page("crm.invoice.list", {"select": ["*"]}, []).requests[0].params["select"] == ["*"]


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("crm.deal.list", {"order": {"ID": "DESC"}}, "order"),
        ("crm.deal.list", {"START": 50}, "START"),
        ("crm.deal.list", {"filter": {">ID": 5}}, "after"),
        ("crm.lead.list", {}, "no list method"),
    ],
)
def test_what_would_break_the_paging_is_refused(method: str, params: Any, words: str) -> None:
    error = play(caller().page(method, params)).error
    assert isinstance(error, Bitrix24ConfigError)
    assert words in str(error)


@pytest.mark.parametrize(
    "rows",
    [
        [{"ID": 5}],
        [{"ID": 11}, {"ID": 10}],
        [{"ID": 13}, {"ID": 12}],
        [{"TITLE": "x"}],
        [{"ID": None}],
        [{"ID": True}],
        ["x"],
        {"items": []},
        None,
    ],
)
def test_rows_that_were_not_asked_for_are_no_answer(rows: Any) -> None:
    assert isinstance(page("crm.deal.list", {}, rows, after=10).error, Bitrix24NoAnswer)


def test_an_id_of_thousands_of_digits_is_none() -> None:
    flow = caller().page("crm.deal.list")
    assert isinstance(play(flow, says({"result": [{"ID": "9" * 5000}]})).error, Bitrix24NoAnswer)


def test_a_wrapper_that_is_missing_is_no_answer() -> None:
    assert isinstance(page("crm.item.list", {"entityTypeId": 2}, {"rows": []}).error, Bitrix24NoAnswer)
    assert page("crm.item.list", {"entityTypeId": 2}, {"items": []}).value.rows == []
