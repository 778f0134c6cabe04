"""Tags in payments: added in one linked batch, found by comparing every row, and refused where they cannot be read."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest

from airflow_provider_bitrix24.api import calls, queries, tags
from airflow_provider_bitrix24.api.batch import Reference
from airflow_provider_bitrix24.api.io import Effect, SendDeadline, Unknown
from airflow_provider_bitrix24.at_most_once.course import SendCall
from airflow_provider_bitrix24.at_most_once.sending import send_one
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24InvalidRequest,
    Bitrix24NoAnswer,
    Bitrix24OutcomeUnknown,
    Bitrix24RateLimited,
)
from tests.api.scripted import Play, client, json_response, play

DEADLINE = SendDeadline(monotonic=1, wall=1)
TAG = tags.tag_of("acme.bitrix24.com", "order-17")
PAYMENT = {"paid": "N", "datePaid": None, "empPaidId": None, "paySystemId": 6, "sum": 0, "currency": "EUR"}


def payment(number: int) -> dict[str, Any]:
    return {"id": number, "accountNumber": f"1/{number}", "paySystemName": "Cash", **PAYMENT}


def answer(results: Any, errors: Any = ()) -> Any:
    return json_response({"result": {"result": results, "result_error": errors}})


def read(results: Any, errors: Any = (), tag: str | None = TAG) -> Play:
    query = queries.CandidatePayments(
        entity_id=4, entity_type_id=2, user_id=1, since=1_763_800_000.9, until=1_763_800_155.0, tag=tag
    )
    return play(queries.ask(client(), query), answer(results, errors))


def adds_tagged(outcome: Any, **more: Any) -> Play:
    """Add a payment with a tag, as the engine does."""
    call = calls.crm_item_payment_add(entity_id=4, entity_type_id=2, **more)
    return play(send_one(client(), SendCall(call=call, digest="k", deadline=DEADLINE, tag=TAG)), outcome)


def commands(played: Play) -> dict[str, str]:
    return {key: unquote(command) for key, command in played.requests[0].params["cmd"].items()}


def test_a_tag_is_short_and_says_nothing_about_its_key() -> None:
    assert re.fullmatch(r"af-[0-9a-f]{40}", TAG)
    assert tags.tag_of("acme.bitrix24.com", "order-17") == TAG
    assert len({TAG, tags.tag_of("acme.bitrix24.com", "order-18"), tags.tag_of("b.bitrix24.com", "order-17")}) == 3


def test_the_payment_is_tagged_in_the_request_that_adds_it() -> None:
    done = answer({"add": 1033, "get": payment(1033), "tag": {"payment": {"id": 1033}}})
    played = adds_tagged(done, fields={"paySystemId": 8})
    assert played.value == 1033
    [request] = played.requests
    assert (request.method, request.effect, request.not_after) == ("batch", Effect.NON_IDEMPOTENT, DEADLINE)
    assert request.params["halt"] == 1
    assert request.headers["Idempotency-Key"] == "k"
    assert commands(played) == {
        "add": "crm.item.payment.add?entityId=4&entityTypeId=2&fields[paySystemId]=8",
        "get": "crm.item.payment.get?id=$result[add]",
        "tag": f"sale.payment.update?id=$result[add]&fields[paySystemId]=$result[get][paySystemId]&fields[xmlId]={TAG}",
    }


def test_the_id_counts_whatever_became_of_the_tag() -> None:
    refused = {"tag": {"error": "200040300020", "error_description": "Access Denied"}}
    assert adds_tagged(answer({"add": "1033", "get": payment(1033)}, refused)).value == 1033


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Unknown("the connection ended"), Bitrix24OutcomeUnknown),
        (answer({"add": 0}), Bitrix24OutcomeUnknown),
        (answer({}), Bitrix24OutcomeUnknown),
        (answer([], {"add": {"error": "0", "error_description": "Something"}}), Bitrix24OutcomeUnknown),
        (answer([], {"add": {"error": "100", "error_description": "Invalid value"}}), Bitrix24InvalidRequest),
        (answer([], {"add": {"error": "QUERY_LIMIT_EXCEEDED"}}), Bitrix24RateLimited),
    ],
)
def test_what_is_no_id_is_an_error(outcome: Any, error: type[Exception]) -> None:
    assert type(adds_tagged(outcome).error) is error


@pytest.mark.parametrize("stranger", [{"id": 1034, "xmlId": "bx_1"}, {"id": 1035}])
def test_rows_without_the_tag_mean_that_its_filter_was_dropped(stranger: Any) -> None:
    rows = [{"id": 1033, "xmlId": TAG}, stranger]
    error = read({"payments": [payment(1033)], "tagged": {"payments": rows}, "fitting": []}).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "its filter was dropped" in str(error)


def test_who_carries_the_tag_is_told_apart_by_object() -> None:
    rows = [{"id": 1033, "xmlId": TAG}, {"id": 77, "xmlId": TAG}]
    both = [payment(1033), payment(1034)]
    found = {"payments": both, "tagged": {"payments": rows}, "fitting": [payment(1034)], "nothing": []}
    shown = read(found).value
    assert [one.id for one in shown.payments] == [1033, 1034]
    assert (shown.tagged, shown.tagged_elsewhere, shown.fitting) == ({1033}, {77}, {1034})


def test_who_fits_is_asked_by_user_and_time() -> None:
    played = read({"payments": [], "fitting": [payment(5)], "nothing": []}, tag=None)
    asked = commands(played)
    assert asked["fitting"].startswith("crm.item.payment.list?entityId=4&entityTypeId=2&filter[=empResponsibleId]=1")
    assert f"filter[>=xmlId]=bx_{1_763_799_999:08x}&filter[<=xmlId]=bx_{1_763_800_157:08x}" in asked["fitting"]
    assert asked["payments"] == "crm.item.payment.list?entityId=4&entityTypeId=2"
    assert "tagged" not in asked
    assert played.value.fitting == frozenset()


def test_a_portal_that_does_not_know_the_filter_does_not_tell_who_fits() -> None:
    refused = {"fitting": {"error": "100", "error_description": "Unknown field definition"}}
    assert read({"payments": []}, refused, tag=None).value.fitting is None


@pytest.mark.parametrize("name", ["fitting", "nothing"])
def test_who_fits_must_be_readable_where_it_is_told(name: str) -> None:
    busy = {name: {"error": "QUERY_LIMIT_EXCEEDED", "error_description": ""}}
    other = {"fitting": [], "nothing": []}
    del other[name]
    assert isinstance(read({"payments": [], **other}, busy, tag=None).error, Bitrix24RateLimited)


def test_a_filter_of_which_nobody_says_whether_it_was_dropped_does_not_tell_who_fits() -> None:
    assert read({"payments": [payment(5)], "fitting": [payment(5)]}, tag=None).value.fitting is None


@pytest.mark.parametrize("code", ["insufficient_scope", "200040300010"])
def test_who_may_not_read_tags_is_told_what_is_missing(code: str) -> None:
    refused = {"tagged": {"error": code, "error_description": "Access Denied"}}
    error = read({"payments": [], "fitting": []}, refused).error
    assert isinstance(error, Bitrix24ConfigError)
    assert "scope sale and an administrator" in str(error)


@pytest.mark.parametrize("tagged", [[], {"payments": None}, {"payments": ["x"]}, "text"])
def test_tags_in_another_shape_are_no_answer(tagged: Any) -> None:
    assert isinstance(read({"payments": [], "fitting": [], "tagged": tagged}).error, Bitrix24NoAnswer)


def test_a_tagged_row_without_an_id_is_no_answer() -> None:
    rows = {"payments": [{"id": None, "xmlId": TAG}]}
    assert isinstance(read({"payments": [], "fitting": [], "tagged": rows}).error, Bitrix24NoAnswer)


def test_only_references_of_ours_travel_in_a_batch() -> None:
    asked = {"a": ("profile", {"id": "$result[b]"})}
    error = play(client().batch(asked)).error
    assert isinstance(error, Bitrix24ConfigError)
    assert str(Reference("$result[b]")) == "$result[b]"
