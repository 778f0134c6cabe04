"""What many wait for is read in few requests; what cannot be read concerns only those who wait for it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.api.states import PaymentReader, read_invoices
from airflow_provider_bitrix24.exceptions import Bitrix24ApiError, Bitrix24Error, Bitrix24NoAnswer
from tests.api.scripted import Play, client, error_response, play
from tests.api.test_payments import INVOICE
from tests.api.test_whole_lists import batch, payment, some

BUSY = {"error": "QUERY_LIMIT_EXCEEDED", "error_description": "Too many requests"}
DEAL = (2, 4)
PAYMENTS = dict.fromkeys(range(1, 52))


def read(wanted: Any, *outcomes: Any) -> Play:
    return play(PaymentReader().read(client(), wanted), *outcomes)


def failed(played: Play) -> dict[int, type[Bitrix24Error]]:
    return {number: type(state) for number, state in played.value.items() if isinstance(state, Bitrix24Error)}


@pytest.mark.parametrize("first", ["no rows", {"payments": [{"paid": "Y"}]}])
def test_a_page_that_cannot_be_read_leaves_the_others(first: Any) -> None:
    played = read(PAYMENTS, batch({"c0": first, "c1": {"payments": some(51)}}))
    assert failed(played) == dict.fromkeys(range(1, 51), Bitrix24NoAnswer)
    assert played.value[51].id == 51


def test_a_page_that_is_refused_for_now_leaves_the_others() -> None:
    played = read(PAYMENTS, batch({"c1": {"payments": some(51)}}, result_error={"c0": BUSY}))
    assert set(failed(played)) == set(range(1, 51))


@pytest.mark.parametrize(
    "said",
    [
        {"result_error": {"u0": {"error": "ACCESS_DENIED", "error_description": "no"}}},
        {"result": {"u0": "no rows"}},
        {"result": {"u0": [{"paid": "Y"}]}},
    ],
)
def test_an_object_that_cannot_be_read_leaves_the_others(said: Any) -> None:
    results = {"u1": payment(7), **said.get("result", {})}
    played = read({1: DEAL, 7: None}, batch(results, result_error=said.get("result_error", {})))
    assert set(failed(played)) == {1}
    assert played.value[7].id == 7


def test_the_rest_of_an_object_that_cannot_be_read_is_an_error_of_all_its_payments() -> None:
    cut = batch({"u0": some(1)}, result_next={"u0": 50})
    played = read({1: DEAL, 99: DEAL}, cut, error_response("ACCESS_DENIED", status=403))
    assert set(failed(played)) == {1, 99}


@pytest.mark.parametrize(
    "said",
    [
        {"result": {"c0": [{**INVOICE, "ID": "9"}]}},
        {"result": {"c0": []}, "result_total": {"c0": 1}},
        {"result": {"c0": "no rows"}},
        {"result": {}, "result_error": {"c0": BUSY}},
    ],
)
def test_invoices_that_cannot_be_read_are_not_missing(said: Any) -> None:
    more = dict(said)
    assert set(failed(play(read_invoices(client(), [2]), batch(more.pop("result"), **more)))) == {2}


def test_what_the_portal_refuses_for_good_is_not_asked_of_it_again() -> None:
    played = play(read_invoices(client(), range(1, 2502)), error_response("ACCESS_DENIED", status=403))
    assert isinstance(played.value[2501], Bitrix24ApiError)
    assert set(failed(played)) == set(range(1, 2502))
