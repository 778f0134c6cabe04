"""A list is whole only if nothing says otherwise, and its rows must fit what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.api import payments, preflight, queries
from airflow_provider_bitrix24.exceptions import Bitrix24NoAnswer, PaymentRefused
from tests.api.scripted import Play, client, json_response, play

LIST = "crm.item.payment.list"


def payment(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "accountNumber": f"1/{number}",
        "paid": "N",
        "datePaid": None,
        "empPaidId": None,
        "paySystemId": 6,
        "paySystemName": "Cash",
        "sum": 0,
        "currency": "EUR",
    }


def some(*numbers: int) -> list[dict[str, Any]]:
    return [payment(number) for number in numbers]


def listed(*outcomes: Any, **options: Any) -> Play:
    return play(payments.list_crm_payments(client(), entity_id=4, entity_type_id=2, **options), *outcomes)


PAGE = some(*range(1, 51))
REST = some(*range(51, 61))


@pytest.mark.parametrize(
    ("first", "many"),
    [
        ({"result": PAGE}, 3),
        ({"result": PAGE, "next": 50, "total": 60}, 3),
        ({"result": PAGE[:20], "next": 20}, 3),
        ({"result": PAGE[:20], "total": 60}, 3),
    ],
)
def test_the_rest_of_a_list_is_asked_for_by_id(first: Any, many: int) -> None:
    played = listed(json_response(first), json_response({"result": PAGE}), json_response({"result": REST}))
    assert [one.id for one in played.value] == list(range(1, 61))
    assert [request.params.get("filter") for request in played.requests] == [None, {">id": 0}, {">id": 50}]
    assert len(played.requests) == many


def test_exactly_one_page_is_asked_about_and_believed() -> None:
    played = listed(json_response({"result": PAGE}), json_response({"result": PAGE}), json_response({"result": []}))
    assert len(played.value) == 50


@pytest.mark.parametrize("rows", [[], PAGE[:49], some(*range(1, 61))])
def test_other_lists_are_read_in_one_request(rows: Any) -> None:
    assert len(listed(json_response({"result": rows, "total": len(rows)})).value) == len(rows)


def test_small_pages_are_gone_through() -> None:
    first = {"result": PAGE[:20], "next": 20}
    second, third = {"result": PAGE[:20], "next": 20}, {"result": PAGE[20:30]}
    assert len(listed(json_response(first), json_response(second), json_response(third)).value) == 30


def test_more_rows_that_never_come_are_no_answer() -> None:
    error = listed(
        json_response({"result": PAGE, "next": 50}),
        json_response({"result": PAGE}),
        json_response({"result": [], "total": 9}),
    ).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "there are more rows, and does not show them" in str(error)


def test_a_portal_that_ignores_where_to_go_on_is_no_answer() -> None:
    error = listed(
        json_response({"result": PAGE}), json_response({"result": PAGE}), json_response({"result": PAGE})
    ).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "not asked for" in str(error)


@pytest.mark.parametrize(("bound", "asked"), [("0", {">id": 0}), (5, {">=id": 6, ">id": 0})])
def test_a_bound_of_the_caller_is_kept(bound: Any, asked: Any) -> None:
    played = listed(
        json_response({"result": PAGE}),
        json_response({"result": PAGE}),
        json_response({"result": []}),
        filter={">id": bound},
    )
    assert played.requests[1].params["filter"] == asked


def test_an_order_of_the_caller_is_kept_if_nothing_is_missing() -> None:
    backwards = PAGE[::-1]
    asked = {"order": {"id": "desc"}}
    played = listed(
        json_response({"result": backwards}), json_response({"result": PAGE}), json_response({"result": []}), **asked
    )
    assert [one.id for one in played.value] == list(range(50, 0, -1))
    error = listed(
        json_response({"result": backwards}), json_response({"result": PAGE}), json_response({"result": REST}), **asked
    ).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "in the order of the ids" in str(error)


@pytest.mark.parametrize(
    "outcomes",
    [
        ({"result": PAGE, "total": 60}, {"result": PAGE[:45]}),
        ({"result": PAGE, "total": 60}, {"result": PAGE}, {"result": REST[:9]}),
        ({"result": PAGE}, {"result": PAGE[:48], "total": 49}, {"result": []}),
        ({"result": PAGE}, {"result": PAGE}, {"result": REST[:3], "total": 4}, {"result": []}),
    ],
)
def test_a_whole_with_fewer_rows_than_were_told_is_no_answer(outcomes: Any) -> None:
    error = listed(*map(json_response, outcomes)).error
    assert isinstance(error, Bitrix24NoAnswer)


def test_a_whole_without_a_row_that_a_part_has_shown_is_no_answer() -> None:
    error = listed(json_response({"result": PAGE}), json_response({"result": PAGE[:-1]})).error
    assert isinstance(error, Bitrix24NoAnswer)
    assert "leaves out 50, which a part of it has shown" in str(error)


# -- in a batch


def batch(results: Any, **more: Any) -> Any:
    return json_response({"result": {"result": results, "result_error": [], **more}})


def evidence(results: Any, *outcomes: Any, known: Any = (), tag: str | None = None, **more: Any) -> Play:
    query = queries.CandidatePayments(
        entity_id=4, entity_type_id=2, user_id=1, since=100.0, until=200.0, tag=tag, known=known
    )
    return play(queries.ask(client(), query), batch(results, **more), *outcomes)


@pytest.mark.parametrize("said", [{}, {"result_next": {"payments": 50}}, {"result_total": {"payments": "60"}}])
def test_the_rest_is_asked_for_in_a_batch_too(said: Any) -> None:
    played = evidence(
        {"payments": PAGE, "fitting": []}, json_response({"result": PAGE}), json_response({"result": REST}), **said
    )
    assert len(played.value.payments) == 60


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_there_before_is_asked_for_by_id(kept: bool) -> None:
    by_id = json_response({"result": some(7) if kept else []})
    played = evidence({"payments": some(8), "fitting": []}, by_id, known=(7, 8))
    assert played.requests[1].params == {"entityId": 4, "entityTypeId": 2, "filter": {"@id": [7]}}
    if kept:
        assert isinstance(played.error, Bitrix24NoAnswer)
        assert "it leaves out 7" in str(played.error)
    else:
        assert [one.id for one in played.value.payments] == [8]


@pytest.mark.parametrize(
    ("results", "known", "more"),
    [
        ({"fitting": some(8, 9), "nothing": some(8)}, (), {}),
        ({"fitting": some(7, 8), "nothing": []}, (7,), {}),
        ({"fitting": some(8), "nothing": []}, (), {"result_next": {"fitting": 50}}),
    ],
    ids=["what nobody fits comes back", "what was there before fits", "it is cut"],
)
def test_a_filter_that_is_dropped_does_not_tell_who_fits(results: Any, known: Any, more: Any) -> None:
    assert evidence({"payments": some(7, 8, 9), **results}, known=known, **more).value.fitting is None


def test_not_all_payments_with_a_tag_are_no_answer() -> None:
    rows = {"payments": [{"id": 8, "xmlId": "af-1"}]}
    found = {"payments": some(8), "fitting": [], "tagged": rows}
    assert isinstance(evidence(found, tag="af-1", result_total={"tagged": 2}).error, Bitrix24NoAnswer)


def contents(results: Any, *outcomes: Any, **more: Any) -> Play:
    flow = queries.ask(client(), queries.ContentsOfPayment(payment_id=8, prices_of=(2, 4)))
    return play(flow, batch({"payment": payment(8), "rows": [], **results}, **more), *outcomes)


def test_the_rest_of_what_is_in_a_payment_is_asked_for() -> None:
    lines = [{"id": number, "paymentId": 8, "rowId": number, "quantity": 1} for number in range(1, 61)]
    played = contents(
        {"products": lines[:50]}, json_response({"result": lines[:50]}), json_response({"result": lines[50:]})
    )
    assert len(played.value.quantities) == 60
    assert played.requests[2].params == {"paymentId": 8, "filter": {">id": 50}, "order": {"id": "ASC"}, "start": -1}


@pytest.mark.parametrize("said", [{"result_next": {"rows": 50}}, {"result_total": {"rows": 51}}])
def test_available_rows_that_do_not_all_come_are_no_answer(said: Any) -> None:
    assert isinstance(contents({"products": []}, **said).error, Bitrix24NoAnswer)


# -- pay systems


def system(number: int, registry: str = "CRM_INVOICE", active: str = "Y") -> dict[str, Any]:
    return {
        "ID": number,
        "NAME": f"System {number}",
        "ACTION_FILE": "rest",
        "ENTITY_REGISTRY_TYPE": registry,
        "ACTIVE": active,
    }


INVOICE = {"ID": 2, "PAYED": "N", "PRICE": "1.00", "CURRENCY": "EUR", "STATUS_ID": "N"}


def pay_systems(systems: Any, handlers: Any, **more: Any) -> preflight.PaySystems:
    found = {
        "scope": ["crm", "pay_system"],
        "profile": {"ID": 1},
        "invoice": INVOICE,
        "pay_systems": systems,
        "handlers": handlers,
    }
    shown: preflight.PaySystems = play(
        queries.ask(client(), queries.InvoiceBeforePaying(invoice_id=2)), batch(found, **more)
    ).value.pay_systems
    return shown


def test_a_pay_system_that_may_be_on_the_next_page_is_not_refused() -> None:
    page = [system(number) for number in range(1, 51)]
    cut = pay_systems(page, [{"CODE": "rest"}])
    assert cut.check_for_invoice(pay_system_id=99, bx_rest_handler=None) == 99
    assert cut.check_for_invoice(pay_system_id=None, bx_rest_handler="rest") is None
    with pytest.raises(PaymentRefused, match="does not exist"):
        pay_systems(page[:49], [{"CODE": "rest"}]).check_for_invoice(pay_system_id=99, bx_rest_handler=None)


def test_what_is_seen_of_a_cut_list_counts() -> None:
    cut = pay_systems([system(1, active="N"), system(2, "ORDER")], [], result_next={"pay_systems": 2})
    for number in (1, 2):
        with pytest.raises(PaymentRefused):
            cut.check_for_invoice(pay_system_id=number, bx_rest_handler=None)


def test_handlers_of_a_cut_list_are_not_known() -> None:
    cut = pay_systems([system(1, "ORDER")], [{"CODE": "a"}], result_total={"handlers": 2})
    assert cut.handlers is None
    assert not cut.check_for_pay_payment(1)


@pytest.mark.parametrize("rest", [PAGE[:-1], PAGE[1:]])
@pytest.mark.parametrize("said", [{}, {"result_total": {"payments": 60}}])
def test_the_rest_of_a_batch_is_compared_with_what_it_said(rest: Any, said: Any) -> None:
    error = evidence({"payments": PAGE, "fitting": []}, json_response({"result": rest}), **said).error
    assert isinstance(error, Bitrix24NoAnswer)
    if said:
        error = evidence({"payments": PAGE[:40], "fitting": []}, json_response({"result": PAGE[:41]}), **said).error
        assert isinstance(error, Bitrix24NoAnswer)
