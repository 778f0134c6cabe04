"""Find invoices and payments by account number: every row is compared with what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.api import account_numbers
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24NoAnswer
from tests.api.scripted import Play, client, json_response, play


def invoices(numbers: Any, *bodies: Any) -> Play:
    return play(account_numbers.find_invoices(client(), account_numbers=numbers), *map(json_response, bodies))


def payments(numbers: Any, *bodies: Any, **owner: Any) -> Play:
    return play(
        account_numbers.find_crm_payments(client(), account_numbers=numbers, **owner), *map(json_response, bodies)
    )


def row(number: int, account_number: Any) -> dict[str, Any]:
    return {"ID": str(number), "ACCOUNT_NUMBER": account_number}


def test_an_invoice_is_found_by_one_read() -> None:
    played = invoices(["INV-1"], {"result": [row(7, "INV-1")]})
    assert played.value == {"INV-1": (7,)}
    (request,) = played.requests
    assert (request.method, request.effect) == ("crm.invoice.list", Effect.READ)
    assert request.params["filter"] == {"@ACCOUNT_NUMBER": ["INV-1"]}


def test_a_payment_is_looked_for_in_the_whole_portal_or_in_one_object() -> None:
    found = [{"id": 1034, "accountNumber": "161/1"}]
    played = payments(["161/1"], {"result": {"payments": found}})
    assert (played.value, played.requests[0].method) == ({"161/1": (1034,)}, "sale.payment.list")
    assert played.requests[0].params["filter"] == {"@accountNumber": ["161/1"]}
    played = payments(["161/1"], {"result": found}, entity_id=4, entity_type_id=2)
    assert (played.value, played.requests[0].method) == ({"161/1": (1034,)}, "crm.item.payment.list")
    assert played.requests[0].params == {"entityId": 4, "entityTypeId": 2, "filter": {"@accountNumber": ["161/1"]}}


def test_half_an_object_is_refused() -> None:
    assert isinstance(payments(["161/1"], entity_type_id=2).error, Bitrix24ConfigError)


def test_every_number_has_its_ids_none_one_or_several() -> None:
    played = invoices([" 1 ", "2", "3"], {"result": [row(9, "3"), row(8, "3"), row(5, 1)]})
    assert played.value == {" 1 ": (5,), "2": (), "3": (8, 9)}


@pytest.mark.parametrize("shown", ["inv-1", "INV-1 ", "\uff29\uff2e\uff36-1"])
def test_what_a_database_takes_for_the_same_number_counts_as_it(shown: str) -> None:
    assert invoices(["INV-1"], {"result": [row(7, "INV-1"), row(8, shown)]}).value == {"INV-1": (7, 8)}


@pytest.mark.parametrize("shown", ["INV-10", "INV", "", None, 1])
def test_a_filter_that_the_portal_ignored_is_an_error(shown: Any) -> None:
    error = invoices(["INV-1"], {"result": [row(7, "INV-1"), row(8, shown)]}).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "it shows 8" in str(error)


@pytest.mark.parametrize("more", [{"next": 50}, {"total": 2}])
def test_a_cut_page_does_not_prove_that_a_number_is_unique(more: Any) -> None:
    assert isinstance(invoices(["1"], {"result": [row(7, "1")], **more}).error, Bitrix24NoAnswer)


def test_a_cut_page_proves_that_a_number_is_not_unique() -> None:
    page = [row(number, "1") for number in range(1, 51)]
    assert invoices(["1"], {"result": page, "next": 50}).value == {"1": tuple(range(1, 51))}


@pytest.mark.parametrize("result", [None, {}, {"payments": []}, [None], [{"ID": "x", "ACCOUNT_NUMBER": "1"}]])
def test_another_shape_is_an_error(result: Any) -> None:
    assert isinstance(invoices(["1"], {"result": result}).error, Bitrix24NoAnswer)


def test_many_numbers_are_looked_up_in_batches() -> None:
    numbers = [str(number) for number in range(1, 1277)]
    first = {f"c{index}": [row(n, str(n)) for n in range(25 * index + 1, 25 * index + 26)] for index in range(50)}
    second = {"c0": [row(n, str(n)) for n in range(1251, 1276)], "c1": [row(1276, "1276")]}
    bodies = [{"result": {"result": found, "result_error": []}} for found in (first, second)]
    played = invoices(numbers, *bodies)
    assert played.value == {number: (int(number),) for number in numbers}
    assert [request.method for request in played.requests] == ["batch", "batch"]


def test_a_cut_page_in_a_batch_is_an_error() -> None:
    found = {"c0": [row(n, str(n)) for n in range(1, 26)], "c1": [row(26, "26")]}
    for more in ({"result_next": {"c1": 50}}, {"result_total": {"c1": 2}}):
        body = {"result": {"result": found, "result_error": [], **more}}
        assert isinstance(invoices([str(n) for n in range(1, 27)], body).error, Bitrix24NoAnswer)


def test_nothing_is_asked_for_no_numbers() -> None:
    assert invoices([]).value == {}


@pytest.mark.parametrize("number", [4711, 4711.0, None, "", " ", "None", "1\u200b", "1\n2", "x" * 101, True, ["1"]])
def test_what_is_no_number_is_refused(number: Any) -> None:
    error = play(account_numbers.find_invoices(client(), account_numbers=iter([number]))).error
    assert isinstance(error, Bitrix24ConfigError)
    assert "account_numbers" in str(error)
