"""All rows of a list in few requests, and an error instead of a short list."""

from __future__ import annotations

import gc
import re
import tracemalloc
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

from airflow_provider_bitrix24.api.io import Request, Unknown
from airflow_provider_bitrix24.api.reading import ListReader
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24Error, Bitrix24NoAnswer
from tests.api.scripted import client, error_response, json_response

PAYMENTS = "sale.payment.list"
DEALS = "crm.deal.list"
PAGE = 50


class Table:
    """A portal with one list, which can be told to be wrong."""

    def __init__(self, rows: int, *, counts: bool = True, step: int = 3) -> None:
        self.ids = [step * number for number in range(1, rows + 1)]
        self.counts = counts
        self.most_commands = PAGE
        """More in a batch get no answer."""
        self.hidden: set[int] = set()
        """Rows that are counted and never shown."""
        self.links = True
        self.breaks: dict[int, Any] = {}
        """Command number, over all batches -> an error instead of rows."""
        self.requests: list[Request] = []
        self.commands = 0
        self.to_nothing = 0
        """Commands whose reference led nowhere."""

    def page(self, method: str, after: int, counted: bool) -> tuple[Any, dict[str, int]]:
        left = [number for number in self.ids if number > after]
        shown = [number for number in left[:PAGE] if number not in self.hidden]
        field = "id" if method == PAYMENTS else "ID"
        rows = [{field: number if method == PAYMENTS else str(number)} for number in shown]
        told = {"total": len(left)} if counted and self.counts else {}
        return {"payments": rows} if method == PAYMENTS else rows, told

    def __call__(self, request: Request) -> Any:
        self.requests.append(request)
        if request.method != "batch":
            bound = next(value for key, value in request.params["filter"].items() if key in (">id", ">ID"))
            result, told = self.page(request.method, bound, request.params["start"] == 0)
            return json_response({"result": result, **told})
        commands = request.params["cmd"]
        if len(commands) > self.most_commands:
            return Unknown("the answer is larger than 67108864 bytes")
        results: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for key, command in commands.items():
            self.commands += 1
            if self.commands in self.breaks:
                errors[key] = {"error": self.breaks.pop(self.commands), "error_description": "no"}
                break
            method, _, query = command.partition("?")
            (bound,) = [v[0] for k, v in parse_qs(query).items() if unquote(k) in ("filter[>id]", "filter[>ID]")]
            results[key], _ = self.page(method, self.resolve(bound, results), counted=False)
        body = {"result": results, "result_error": errors, "result_total": [], "result_next": []}
        return json_response({"result": body})

    def resolve(self, bound: str, results: dict[str, Any]) -> int:
        if not bound.startswith("$result"):
            return int(bound)
        value: Any = results
        for part in re.findall(r"\[(\w+)\]", bound):
            try:
                value = value[int(part) if isinstance(value, list) else part]
            except (IndexError, KeyError):
                value = None
                break
        if value is None:
            self.to_nothing += 1
        return int(value) if value is not None and self.links else 0


def read_once(reader: ListReader, portal: Any, table: Table) -> list[dict[str, Any]]:
    flow = reader.read(portal)
    answer: Any = None
    while True:
        try:
            command = flow.send(answer)
        except StopIteration as end:
            return list(end.value)
        answer = table(command) if isinstance(command, Request) else None


def read_all(table: Table, method: str = PAYMENTS, params: Any = None, **options: Any) -> list[int]:
    reader = ListReader(method, params, **options)
    portal = client()
    ids: list[int] = []
    while not reader.done:
        ids += [int(row.get("id", row.get("ID"))) for row in read_once(reader, portal, table)]
    return ids


@pytest.mark.parametrize("method", [PAYMENTS, DEALS])
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 49, 50, 51, 99, 100, 101, 449, 450, 451, 2549, 2550, 2551, 5200])
def test_every_row_comes_once_and_in_order(rows: int, counts: bool, method: str) -> None:
    table = Table(rows, counts=counts)
    assert read_all(table, method) == table.ids
    assert table.to_nothing == 0 or not counts


@pytest.mark.parametrize(
    ("rows", "requests"),
    [(0, 1), (49, 1), (50, 2), (60, 2), (2549, 2), (2550, 3), (10_000, 5)],
)
def test_how_many_requests_it_takes(rows: int, requests: int) -> None:
    table = Table(rows, step=1)
    assert len(read_all(table)) == rows
    assert len(table.requests) == requests


def test_it_goes_on_after_an_id() -> None:
    table = Table(300)
    assert read_all(table, after=table.ids[99]) == table.ids[100:]


def test_rows_that_are_added_meanwhile_are_read_too() -> None:
    table = Table(60)
    page = table.page

    def add(method: str, after: int, counted: bool) -> Any:
        if not counted:
            table.ids += range(200, 400) if 200 not in table.ids else []
        return page(method, after, counted)

    table.page = add  # type: ignore[method-assign]
    assert read_all(table) == table.ids
    assert len(table.ids) == 260


def test_rows_that_are_deleted_meanwhile_are_no_error() -> None:
    table = Table(200)
    page = table.page

    def delete(method: str, after: int, counted: bool) -> Any:
        if not counted:
            table.ids = [number for number in table.ids if number != 300]
        return page(method, after, counted)

    table.page = delete  # type: ignore[method-assign]
    assert len(read_all(table)) == 199


@pytest.mark.parametrize("hidden", [3, 300, 600])
def test_a_list_that_shows_less_than_it_counts_is_an_error(hidden: int) -> None:
    table = Table(200)
    table.hidden = {hidden}
    with pytest.raises(Bitrix24NoAnswer):
        read_all(table)


def test_a_portal_that_does_not_fill_in_references_is_read_page_by_page() -> None:
    table = Table(400)
    table.links = False
    assert read_all(table) == table.ids
    assert [request.method for request in table.requests] == [PAYMENTS, "batch", *[PAYMENTS] * 7]


def test_a_portal_that_cannot_reply_with_many_pages_is_asked_for_fewer() -> None:
    table = Table(3000)
    table.most_commands = 12
    assert read_all(table) == table.ids
    sizes = [len(request.params["cmd"]) for request in table.requests if request.method == "batch"]
    assert sizes == [50, 50, 50, 12, 12, 12, 12, 12]  # a read is repeated twice


@pytest.mark.parametrize("at", [2, 7])
def test_an_error_in_the_middle_that_passes_is_no_error(at: int) -> None:
    table = Table(600)
    table.breaks = {at: "QUERY_LIMIT_EXCEEDED"}
    assert read_all(table) == table.ids


def test_an_error_that_stays_is_raised() -> None:
    table = Table(600)
    table.breaks = dict.fromkeys(range(3, 100), "ACCESS_DENIED")
    with pytest.raises(Bitrix24Error, match="ACCESS_DENIED"):
        read_all(table)


def test_a_row_that_the_filter_excludes_is_an_error_in_a_linked_page_too() -> None:
    table = Table(600)
    page = table.page

    def wrong(method: str, after: int, counted: bool) -> Any:
        result, told = page(method, after, counted)
        for row in result["payments"]:
            row["paid"] = "N" if row["id"] > 900 else "Y"
        return result, told

    table.page = wrong  # type: ignore[method-assign]
    with pytest.raises(Bitrix24NoAnswer, match="does not satisfy the filter"):
        read_all(table, params={"filter": {"=paid": "Y"}})


@pytest.mark.parametrize("value", [True, None, "$result[p0]", [], {"LOGIC": True}])
def test_what_a_batch_would_change_is_read_page_by_page(value: Any) -> None:
    table = Table(120)
    try:
        assert read_all(table, params={"filter": {"=xmlId": value}}) == table.ids
    except Bitrix24ConfigError:
        pytest.fail("it is a page by itself")
    assert {request.method for request in table.requests} == {PAYMENTS}


def test_methods_that_are_not_known_are_read_by_offset() -> None:
    reader = ListReader("some.thing.list", {})
    flow = reader.read(client())
    request = flow.send(None)
    assert isinstance(request, Request)
    assert request.method == "some.thing.list"
    with pytest.raises(StopIteration) as end:
        flow.send(json_response({"result": [{"ID": 1}], "next": 1, "total": 2}))
    assert (end.value.value, reader.done) == ([{"ID": 1}], False)


def test_the_first_page_is_refused() -> None:
    reader = ListReader(PAYMENTS, {})
    flow = reader.read(client())
    flow.send(None)
    with pytest.raises(Bitrix24Error, match="insufficient_scope"):
        flow.send(error_response("insufficient_scope", "no", 403))


def test_no_reply_stays_in_memory_until_the_next_collection_of_garbage() -> None:
    table = Table(30_000)
    reader = ListReader(PAYMENTS, {})
    portal = client()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        begin, _ = tracemalloc.get_traced_memory()
        while not reader.done:
            read_once(reader, portal, table)
            table.requests.clear()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept - begin < 2_000_000
