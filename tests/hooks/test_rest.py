"""The documentation's own requests through typed calls: to the sandbox, and to a server that plays the replies."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api import calls
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods import METHODS
from airflow_provider_bitrix24.api.models import Invoice, Payment, PaySystem
from airflow_provider_bitrix24.api.paging import rows_in
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24InvalidRequest,
    Bitrix24NoAnswer,
    Bitrix24NotFound,
)
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from tests.api.test_calls import sample
from tests.drivers.raw_server import SECRET, http_response
from tests.sandbox.test_documented_examples import EXAMPLES
from tests.tools.documented_calls import IGNORED, arguments, request_of, row_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.api.methods.row import Method
    from tests.drivers.raw_server import Peer, RawServer, Script

    Serve = Callable[[Script], RawServer]


def lower(params: dict[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in params.items()}


def playing(serve: Serve, monkeypatch: pytest.MonkeyPatch, *bodies: Any) -> RawServer:
    """A portal that gives these replies, one after another."""

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(http_response(bodies[min(len(peer.server.requests), len(bodies)) - 1]))

    server = serve(script)
    connection = {
        "conn_type": "bitrix24", "host": "127.0.0.1", "port": server.port, "schema": "http", "login": "1",
        "password": SECRET, "extra": {"allow_http": True},
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    return server


def sent(server: RawServer) -> list[tuple[str, dict[str, Any]]]:
    """Method and parameters of each request."""
    found = []
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        found.append((head.split()[1].decode().rpartition("/")[2], json.loads(body)))
    return found


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("method", EXAMPLES)
def test_documented_request_and_reply_on_the_wire(
    method: str, twin: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, request, successes = row_of(method), request_of(method), EXAMPLES[method]["success"]
    if not successes:  # of legacy invoices, the documentation shows no replies
        invoice = {"ID": request.get("id", 2), "ACCOUNT_NUMBER": "2", "PAYED": "N", "PRICE": "1.00", "CURRENCY": "EUR"}
        successes = [{"result": invoice if row.returns == "model" else True}]
    server = playing(serve, monkeypatch, successes[0])
    hook, named = Bitrix24Hook(), arguments(row, request)
    typed = getattr(hook.arest if twin else hook.rest, row.python)
    result = asyncio.run(typed(**named)) if twin else typed(**named)
    ((path, body),) = sent(server)
    assert path == row.name
    assert lower(body) == lower(request)
    if row.returns == "raw":
        assert json.loads(json.dumps(result, default=float)) == successes[0]["result"]
    elif row.returns != "models":
        assert type(result).__name__ == {"model": row.model, "id": "int", "true": "bool"}[row.returns]
    else:
        assert result
        assert {type(one).__name__ for one in result} == {row.model}


@pytest.mark.parametrize("row", [row for row in METHODS.values() if row.name not in EXAMPLES], ids=lambda row: row.name)
def test_other_methods_on_the_wire(row: Method, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    results: dict[str, Any] = {"model": {"ID": "1", "ADMIN": True}, "id": 5, "true": True, "raw": {"x": 1}}
    server = playing(serve, monkeypatch, {"result": results[row.returns]})
    hook, samples = Bitrix24Hook(), {param: sample(row, param) for param in row.params}
    named = {param.python: given for param, (given, _) in samples.items()}
    wire = {param.wire: value for param, (_, value) in samples.items()}
    result = getattr(hook.rest, row.python)(**named)
    assert asyncio.run(getattr(hook.arest, row.python)(**named)) == result
    assert sent(server) == [(row.name, wire)] * 2
    assert row.returns == "model" or result == results[row.returns]


@pytest.mark.parametrize("method", IGNORED)
def test_names_that_would_be_ignored_are_refused_though_documented(method: str, bitrix24_sandbox: Any) -> None:
    row = METHODS[method]
    with pytest.raises(Bitrix24ConfigError, match="does not know"):
        getattr(Bitrix24Hook().rest, row.python)(**arguments(row, EXAMPLES[method]["request"]))
    assert bitrix24_sandbox.requests == []


# -- filters


def test_a_filter_that_would_do_nothing_is_refused_before_anything_is_sent(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    wrong = {"filter": {"PAID": "N"}}
    for ask in (
        lambda: list(hook.iterate("sale.payment.list", wrong)),
        lambda: hook.call("sale.payment.list", wrong),
        lambda: hook.call_raw("sale.payment.list", wrong),
        lambda: hook.rest.sale_payment_list(**wrong),
        lambda: hook.batch({"a": ("sale.payment.list", wrong)}),
        lambda: asyncio.run(hook.acall("sale.payment.list", wrong)),
        lambda: asyncio.run(hook.abatch({"a": ("sale.payment.list", wrong)})),
    ):
        with pytest.raises(Bitrix24ConfigError, match="Did you mean 'paid'"):
            ask()
    assert bitrix24_sandbox.requests == []
    unpaid = list(hook.iterate("sale.payment.list", {"filter": {"paid": "N"}}))
    everything = list(hook.iterate("sale.payment.list", wrong, check_names=False))
    assert {row["paid"] for row in unpaid} == {"N"}
    assert {row["paid"] for row in everything} == {"N", "Y"}
    assert len(hook.call("sale.payment.list", wrong, check_names=False)["payments"]) == len(everything)


ASK: dict[str, Callable[[Bitrix24Hook, dict[str, Any]], Any]] = {
    "iterate": lambda hook, wanted: list(hook.iterate("sale.payment.list", {"filter": wanted})),
    "call": lambda hook, wanted: hook.call("sale.payment.list", {"filter": wanted}),
    "rest": lambda hook, wanted: hook.rest.sale_payment_list(filter=wanted),
    "batch": lambda hook, wanted: hook.batch({"a": calls.sale_payment_list(filter=wanted)}).value("a"),
}


@pytest.mark.parametrize("kind", ASK)
def test_rows_that_the_filter_excludes_are_no_data(kind: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"payments": [{"id": 1, "paid": "N"}, {"id": 2, "paid": "Y"}]}
    reply = {"result": {"result": {"a": rows}, "result_error": []} if kind == "batch" else rows}
    playing(serve, monkeypatch, reply)
    with pytest.raises(Bitrix24NoAnswer, match="id 2"):
        ASK[kind](Bitrix24Hook(), {"=paid": "N"})


# -- iterate, call_raw, batch


async def test_rows_are_models_where_there_is_one(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    invoices = list(hook.iterate("crm.invoice.list", {"filter": {"PAYED": "N"}}))
    assert {type(invoice) for invoice in invoices} == {Invoice}
    assert [row async for row in hook.aiterate("crm.invoice.list", {"filter": {"PAYED": "N"}})] == invoices
    raw = list(hook.iterate("crm.invoice.list", {"filter": {"PAYED": "N"}}, raw=True))
    assert [int(row["ID"]) for row in raw] == [invoice.id for invoice in invoices]
    assert set(next(hook.iterate("crm.invoice.list", {"select": ["ID", "PRICE"]}))) == {"ID", "PRICE"}
    assert {type(row) for row in hook.iterate("sale.paysystem.list")} == {PaySystem}
    payments = list(hook.iterate("crm.item.payment.list", {"entityId": 4, "entityTypeId": 2}))
    assert {type(payment) for payment in payments} == {Payment}


OF_WHAT: dict[str, Any] = {
    "entityTypeId": 2,
    "entityId": 4,
    "paymentId": 1003,
    "ownerType": "D",
    "ownerId": 1,
}
"""Values for the parameters that lists require."""
OWNER: dict[str, Any] = {"crm.item.productrow.list": {"filter": {"=ownerType": "D", "=ownerId": 1}}}
"""A list whose filter must name an object."""
LISTS = [row for row in METHODS.values() if row.rows is not None and not row.application]


@pytest.mark.bitrix24_sandbox(scopes=("crm", "sale", "pay_system", "user"))
@pytest.mark.parametrize("row", LISTS, ids=lambda row: row.name)
def test_every_list_method_is_iterated(row: Method, bitrix24_sandbox: Any) -> None:
    hook, method = Bitrix24Hook(), row.name
    params = {param.wire: OF_WHAT[param.wire] for param in row.params if param.required} | OWNER.get(method, {})
    rows = rows_in(method, hook.call(method, params))
    assert sorted(map(str, hook.iterate(method, params, raw=True))) == sorted(map(str, rows or []))


async def test_a_list_that_is_not_known_is_read_by_offset_with_a_warning(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pages = [
        {"result": [{"ID": number} for number in range(50)], "next": 50, "total": 70},
        {"result": [{"ID": number} for number in range(50, 70)], "total": 70},
    ]
    server = playing(serve, monkeypatch, *pages, *pages)
    hook, params = Bitrix24Hook(), {"filter": {"STATUS_ID": "NEW"}}
    with caplog.at_level(logging.WARNING):
        rows = list(hook.iterate("crm.deals.list", params))
    assert [row["ID"] for row in rows] == list(range(70))
    assert sent(server) == [("crm.deals.list", params), ("crm.deals.list", {**params, "start": 50})]
    assert "did you mean crm.deal.list?" in caplog.text
    server.requests.clear()
    assert [row async for row in hook.aiterate("crm.deals.list", params)] == rows


def test_a_method_that_lists_nothing_is_refused(bitrix24_sandbox: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match="no list method"):
        list(Bitrix24Hook().iterate("crm.deal.get", {"id": 1}))
    assert bitrix24_sandbox.requests == []


async def test_the_whole_reply(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    reply = hook.call_raw("crm.deal.list", {"select": ["ID"]})
    assert reply.total == len(reply.result)
    assert reply.next is None
    assert reply.time["date_finish"]
    assert reply.at is not None
    assert (await hook.acall_raw("crm.deal.list", {"select": ["ID"]})).result == reply.result
    for number in range(50):
        bitrix24_sandbox.portal.create("deal", {"title": f"Deal {number}"})
    longer = hook.call_raw("crm.deal.list", {"select": ["ID"]})
    assert (len(longer.result), longer.next, longer.total) == (50, 50, 50 + len(reply.result))


async def test_typed_calls_in_a_batch(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    commands: dict[str, Any] = {
        "payment": calls.crm_item_payment_get(id=1001),
        "all": calls.crm_item_payment_list(entity_id=4, entity_type_id=2, filter={"=paid": "N"}),
        "gone": calls.crm_item_payment_get(id=9999),
        "raw": ("crm.item.payment.get", {"id": 1001}),
    }
    reply = hook.batch(commands)
    assert reply.value("payment") == hook.get_crm_payment(payment_id=1001) == hook.rest.crm_item_payment_get(id=1001)
    assert reply.value("payment") in reply.value("all")
    assert reply.value("raw")["id"] == 1001
    with pytest.raises(Bitrix24NotFound):
        reply.value("gone")
    assert (await hook.abatch(commands)).value("payment") == reply.value("payment")
    assert await hook.asend(calls.crm_item_payment_get(id=1001)) == reply.value("payment")


def test_a_method_that_nobody_knows(bitrix24_sandbox: Any) -> None:
    with pytest.raises(Bitrix24InvalidRequest) as caught:
        Bitrix24Hook().call("crm.item.payment.product.frobnicate", {"id": 1}, effect=Effect.READ)
    assert caught.value.portal_code == "ERROR_METHOD_NOT_FOUND"
