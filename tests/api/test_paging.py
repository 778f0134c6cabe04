"""Keyset paging over the list methods of the portal."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import pytest

from airflow_provider_bitrix24.api.io import Unknown
from airflow_provider_bitrix24.api.methods import METHODS
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24NoAnswer, Bitrix24OutcomeUnknown
from tests.api.scripted import Play, client, json_response, play

SHAPES = {row.name: row.rows for row in METHODS.values() if row.rows is not None}
BY_ID = [method for method, shape in SHAPES.items() if shape.paging == "id"]
BY_START = [method for method, shape in SHAPES.items() if shape.paging == "start"]
WHOLE = [method for method, shape in SHAPES.items() if not shape.paged]


def page(method: str, params: Any, rows: Any, after: int | None = None) -> Play:
    return play(client().page(method, params, after=after), json_response({"result": rows}))


def wrapped(method: str, ids: Any) -> Any:
    shape = SHAPES[method]
    rows = [{shape.id_field: number} for number in ids]
    return {shape.wrapper: rows} if shape.wrapper else rows


@pytest.mark.parametrize("method", BY_ID)
def test_full_pages_go_on_and_others_are_the_last(method: str) -> None:
    field = SHAPES[method].id_field
    played = page(method, {"filter": {f"<{field}": 99}}, wrapped(method, range(11, 61)), after=10)
    assert played.value.after == 60
    assert len(played.value.rows) == 50
    bounds = {f"<{field}": 99, f">{field}": 10}
    assert played.requests[0].params == {"filter": bounds, "order": {field: "ASC"}, "start": -1}
    played = page(method, None, wrapped(method, range(1, 50)))
    assert played.value.after is None
    assert played.requests[0].params["filter"] == {f">{field}": 0}


@pytest.mark.parametrize("method", WHOLE)
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
        ("crm.deal.get", {}, "no list method"),
        ("user.get", {"start": 50}, "start"),
        ("crm.lead.list", {"start": 50}, "start"),
    ],
)
def test_what_would_break_the_paging_is_refused(method: str, params: Any, words: str) -> None:
    error = play(client().page(method, params)).error
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
    flow = client().page("crm.deal.list")
    assert isinstance(play(flow, json_response({"result": [{"ID": "9" * 5000}]})).error, Bitrix24NoAnswer)


def test_a_wrapper_that_is_missing_is_no_answer() -> None:
    assert isinstance(page("crm.item.list", {"entityTypeId": 2}, {"rows": []}).error, Bitrix24NoAnswer)
    assert page("crm.item.list", {"entityTypeId": 2}, {"items": []}).value.rows == []


def offsets(method: str, params: Any, *replies: Any, after: int | None = None) -> Play:
    return play(client().page(method, params, after=after), *(json_response(reply) for reply in replies))


@pytest.mark.parametrize("method", [*BY_START, "crm.lead.list", "telephony.externalLine.get"])
def test_other_methods_are_read_by_the_offset_that_the_reply_names(method: str) -> None:
    def rows(numbers: range) -> Any:
        return wrapped(method, numbers) if method in SHAPES else [{"ID": number} for number in numbers]

    first = offsets(method, {"order": {"NAME": "ASC"}}, {"result": rows(range(1, 51)), "next": 50, "total": 70})
    assert first.requests[0].params == {"order": {"NAME": "ASC"}}
    assert (len(first.value.rows), first.value.after) == (50, 50)
    last = offsets(method, None, {"result": rows(range(51, 71)), "total": 70}, after=50)
    assert last.requests[0].params == {"start": 50}
    assert (len(last.value.rows), last.value.after) == (20, None)


def test_the_call_of_an_unknown_method_is_repeated_only_if_its_name_says_that_it_reads() -> None:
    lost, found = Unknown("the connection was closed"), json_response({"result": []})
    assert play(client().page("crm.lead.list"), lost, found).value.rows == []
    assert isinstance(play(client().page("crm.lead.delete", {"id": 1}), lost).error, Bitrix24OutcomeUnknown)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ([{"ID": 1}], 1),
        ({"items": [{"id": 1}], "links": [{"id": 2}, {"id": 3}]}, 1),
        ({"tasks": [{"id": 1}], "count": 1}, 1),
        ({"tasks": []}, 0),
    ],
)
def test_the_rows_of_an_unknown_method_are_found(result: Any, found: int) -> None:
    assert len(offsets("tasks.task.list", {}, {"result": result}).value.rows) == found


@pytest.mark.parametrize("result", [{"tasks": [], "links": []}, {"count": 1}, {"items": 1}, [1], 7, None])
def test_a_result_without_one_list_is_no_answer(result: Any) -> None:
    assert isinstance(offsets("tasks.task.list", {}, {"result": result}).error, Bitrix24NoAnswer)


@pytest.mark.parametrize("method", ["user.get", "crm.lead.list", "crm.item.payment.delivery.list"])
@pytest.mark.parametrize(
    "reply",
    [
        {"result": [{"ID": 1}], "next": 50},
        {"result": [{"ID": 1}], "next": 0},
        {"result": [], "next": 100},
        {"result": [{"ID": 1}], "total": 52},
    ],
)
def test_a_list_that_goes_round_in_circles_or_is_incomplete_is_no_answer(method: str, reply: Any) -> None:
    assert isinstance(offsets(method, {}, reply, after=50).error, Bitrix24NoAnswer)


def test_a_method_without_pages_that_names_a_next_one_is_read_on() -> None:
    params = {"paymentId": 1}
    rows = [{"id": number} for number in range(1, 51)]
    assert (
        offsets("crm.item.payment.delivery.list", params, {"result": rows, "next": 50, "total": 51}).value.after == 50
    )
    second = offsets("crm.item.payment.delivery.list", params, {"result": [{"id": 51}], "total": 51}, after=50)
    assert second.requests[0].params == {**params, "start": 50}
    assert second.value.after is None


def test_an_empty_page_that_names_a_next_one_is_no_answer() -> None:
    params = {"entityId": 1, "entityTypeId": 2}
    assert isinstance(offsets("crm.item.payment.list", params, {"result": [], "next": 50}).error, Bitrix24NoAnswer)


def test_a_whole_number_of_another_class_goes_out_as_a_number() -> None:
    class Four:
        """As numpy's integers, which are no int."""

        def __int__(self) -> int:
            return 4

    Integral.register(Four)
    assert offsets("user.get", {"ID": Four()}, {"result": []}).requests[0].params == {"ID": 4}
