"""Batches as PHP wants them, and what its responses say about each command."""

from __future__ import annotations

import string
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bitrix24.api.batch import query
from airflow_provider_bitrix24.api.io import Effect, SendDeadline, Unknown
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ApiError,
    Bitrix24ConfigError,
    Bitrix24NoAnswer,
    Bitrix24NotFound,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24RateLimited,
)
from tests.api.scripted import SECRET, Play, client, error_response, json_response, play

GET = "crm.item.payment.get"
TWO = {"a": (GET, {"id": 1}), "b": (GET, {"id": 2})}


def answered(result: Any = (), errors: Any = (), **more: Any) -> Any:
    """A batch's response; Python's empty tuple becomes PHP's empty array."""
    body = {"result": result, "result_error": errors, "result_total": [], "result_next": [], "result_time": [], **more}
    return json_response({"result": body, "time": {"finish": 1763800000}})


def batch(commands: Any, *outcomes: Any, **options: Any) -> Play:
    return play(client().batch(commands, **options), *outcomes)


def test_commands_travel_as_php_queries() -> None:
    params = {
        "filter": {">id": 5, "@id": [1, 2]},
        "select": ["ID", "TITLE"],
        "fields": {"title": "50% & #1 + ü = 'x'", "opened": True, "sum": Decimal("10.10"), "closed": False},
        "start": -1,
        "empty": "",
    }
    request = batch({"list": ("crm.deal.list", params)}, answered({"list": []}), halt=True).requests[0]
    assert request.url.endswith("/batch")
    assert request.params["halt"] == 1
    assert request.params["cmd"]["list"] == (
        "crm.deal.list?filter[%3Eid]=5&filter[%40id][0]=1&filter[%40id][1]=2&select[0]=ID&select[1]=TITLE"
        "&fields[title]=50%25%20%26%20%231%20%2B%20%C3%BC%20%3D%20%27x%27&fields[opened]=Y&fields[sum]=10.10"
        "&fields[closed]=N&start=-1&empty="
    )


names = st.text(string.ascii_letters + ">=@!%_", min_size=1, max_size=8)
texts = st.text().filter(lambda text: "$" not in text)


@given(st.dictionaries(names, texts | st.dictionaries(names, texts, min_size=1), max_size=4))
def test_any_text_arrives_as_it_was(params: dict[str, Any]) -> None:
    flat = {
        name if not isinstance(value, dict) else f"{name}[{inner}]": text
        for name, value in params.items()
        for inner, text in (value.items() if isinstance(value, dict) else [("", value)])
    }
    assert dict(parse_qsl(query(params), keep_blank_values=True, separator="&")) == flat


@pytest.mark.parametrize(
    "params",
    [
        {"title": "it costs $result[a]"},
        {"title": "$RESULT"},
        {"title": "a$next"},
        {"title": "$total[x]"},
        {"title": "$error"},
        {"title": "$Time"},
        {"filter": {"$result[a]": 1}},
        {"$result": 1},
        {"ids": ["$result[a][id]"]},
    ],
)
def test_no_text_can_be_a_reference(params: dict[str, Any]) -> None:
    error = batch({"a": ("crm.deal.add", params)}).error
    assert isinstance(error, Bitrix24ConfigError)
    assert "$result" in str(error)


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ({}, "1 to 50"),
        ({f"c{i}": (GET, {"id": i}) for i in range(51)}, "1 to 50"),
        ({"a b": (GET, {})}, "letters"),
        ({"$result": (GET, {})}, "letters"),
        ({"a": ("batch", {})}, "part of a batch"),
        ({"a": ("../x", {})}, "REST method"),
        ({"a": (GET, {"id": None})}, "None"),
        ({"a": (GET, {"filter": {"@id": []}})}, "vanish"),
        ({"a": (GET, {"filter": {}})}, "vanish"),
        ({"a": (GET, {"id": object()})}, "cannot be sent"),
    ],
)
def test_what_cannot_travel_is_refused(commands: Any, words: str) -> None:
    error = batch(commands).error
    assert isinstance(error, Bitrix24ConfigError)
    assert words in str(error)


def test_fifty_commands_are_one_request() -> None:
    commands = {f"c{i}": (GET, {"id": i}) for i in range(50)}
    played = batch(commands, answered(dict.fromkeys(commands, 1)))
    assert len(played.value.results) == 50


def test_results_and_errors_by_key() -> None:
    failed = {"b": {"error": "0", "error_description": "Payment has not been found"}}
    reply = batch(TWO, answered({"a": {"id": 1}}, failed)).value
    assert reply.value("a") == {"id": 1}
    assert reply.at.timestamp() == 1763800000
    with pytest.raises(Bitrix24NotFound) as caught:
        reply.value("b")
    assert caught.value.method == GET
    assert set(reply.errors) == {"b"}
    with pytest.raises(KeyError):
        reply.value("c")


def test_phps_arrays_in_all_their_forms() -> None:
    numbers = {"0": (GET, {"id": 1}), "1": (GET, {"id": 2})}
    reply = batch(numbers, answered(["x", "y"])).value
    assert (reply.value("0"), reply.value("1")) == ("x", "y")
    reply = batch(numbers, answered([], [{"error": 100}, {"error": "", "error_description": ""}])).value
    assert {key: error.portal_code for key, error in reply.errors.items()} == {"0": "100", "1": ""}
    reply = batch(TWO, answered({"a": None, "b": False})).value
    assert (reply.value("a"), reply.value("b")) == (None, False)


def test_an_error_wins_over_a_result_of_the_same_key() -> None:
    reply = batch(TWO, answered({"a": None, "b": 1}, {"a": {"error": "ACCESS_DENIED"}})).value
    assert reply.results == {"b": 1}


def test_an_error_may_be_no_object() -> None:
    reply = batch(TWO, answered({"a": 1}, {"b": "gone"})).value
    assert type(reply.errors["b"]) is Bitrix24ApiError
    assert reply.errors["b"].description == "gone"


@pytest.mark.parametrize(
    ("effect", "halt", "errors", "kind"),
    [
        (Effect.READ, False, [], Bitrix24NoAnswer),
        (Effect.READ, True, {"a": {"error": "100"}}, Bitrix24NotSent),
        (Effect.IDEMPOTENT, True, {"a": {"error": "100"}}, Bitrix24NotSent),
        (Effect.IDEMPOTENT, True, [], Bitrix24OutcomeUnknown),
        (Effect.NON_IDEMPOTENT, False, {"a": {"error": "100"}}, Bitrix24OutcomeUnknown),
    ],
)
def test_a_command_that_the_answer_does_not_mention(effect: Effect, halt: bool, errors: Any, kind: type) -> None:
    reply = batch(TWO, answered([], errors), effect=effect, halt=halt).value
    with pytest.raises(kind):
        reply.value("b")


def test_unclear_words_inside_a_batch_of_writes_are_an_unknown_outcome() -> None:
    reply = batch(TWO, answered([], {"a": {"error": 0, "error_description": "?"}}), effect=Effect.IDEMPOTENT).value
    with pytest.raises(Bitrix24OutcomeUnknown) as caught:
        reply.value("a")
    assert caught.value.answered


def test_working_time_of_inner_calls_is_remembered() -> None:
    one = client()
    at = 1763800000
    times = {"a": {"operating_reset_at": at + 60}, "b": {"operating": 0}}
    body = {"result": {"a": 1, "b": 1}, "result_error": [], "result_time": times}
    play(one.batch(TWO), json_response({"result": body}))
    blocked = {"a": {"error": "OPERATION_TIME_LIMIT", "error_description": "Method is blocked"}}
    reply = play(one.batch(TWO), answered({"b": 1}, blocked)).value
    with pytest.raises(Bitrix24RateLimited) as caught:
        reply.value("a")
    assert caught.value.retry_after == 60
    error = play(one.call(GET, effect=Effect.READ), error_response("OPERATION_TIME_LIMIT", status=429)).error
    assert error.retry_after == 60


@pytest.mark.parametrize("result", [True, [], None, {"result": {}}, "x"])
def test_an_answer_that_is_no_batch(result: Any) -> None:
    assert isinstance(batch(TWO, json_response({"result": result})).error, Bitrix24NoAnswer)
    error = batch(TWO, json_response({"result": result}), effect=Effect.NON_IDEMPOTENT).error
    assert isinstance(error, Bitrix24OutcomeUnknown)
    assert error.answered is False


def test_a_lost_batch_of_writes_is_not_sent_again() -> None:
    deadline = SendDeadline(monotonic=1, wall=1)
    played = batch(
        TWO, Unknown("reset"), effect=Effect.NON_IDEMPOTENT, deadline=deadline, headers={"Idempotency-Key": "k"}
    )
    assert isinstance(played.error, Bitrix24OutcomeUnknown)
    assert played.requests[0].not_after is deadline
    assert played.requests[0].headers["Idempotency-Key"] == "k"


def test_secrets_in_inner_errors_are_taken_out() -> None:
    errors = {"a": {"error": "X", "error_description": f"at /rest/1/{SECRET}"}}
    assert batch(TWO, answered({"b": 1}, errors)).value.errors["a"].description == "at /rest/1/***"
