"""All rows of a list in few requests, and an error instead of a short list."""

from __future__ import annotations

import gc
import re
import tracemalloc
from bisect import bisect_right
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
        self.until: int | None = None
        """Upper bound of the request that is being answered."""
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
        begin = bisect_right(self.ids, after)
        end = len(self.ids) if self.until is None else bisect_right(self.ids, self.until)
        shown = [number for number in self.ids[begin : min(begin + PAGE, end)] if number not in self.hidden]
        field = "id" if method == PAYMENTS else "ID"
        rows = [{field: number if method == PAYMENTS else str(number)} for number in shown]
        told = {"total": end - begin} if counted and self.counts else {}
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


@pytest.mark.parametrize(("last", "requests"), [(150, 2), (900, 3)])
def test_a_row_that_the_filter_excludes_is_an_error_in_a_linked_page_too(last: int, requests: int) -> None:
    table = Table(600)
    page = table.page

    def wrong(method: str, after: int, counted: bool) -> Any:
        result, told = page(method, after, counted)
        for row in result["payments"]:
            row["paid"] = "N" if row["id"] > last else "Y"
        return result, told

    table.page = wrong  # type: ignore[method-assign]
    with pytest.raises(Bitrix24NoAnswer, match="does not satisfy the filter"):
        read_all(table, params={"filter": {"=paid": "Y"}})
    assert len(table.requests) == requests


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


@pytest.mark.usefixtures("unmeasured")
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


# ------------------------------------------------------------------------------------------------------------- ranges


class Split(Table):
    """A portal that knows offsets and upper bounds, too."""

    offsets = True

    def __call__(self, request: Request) -> Any:
        first = unquote(next(iter(request.params.get("cmd", {"": ""}).values())))
        if request.method != "batch" or "start=-1" in first:
            until = re.search(r"filter\[<=id\]=(\d+)", first)
            self.until = int(until[1]) if until else None
            return super().__call__(request)
        self.requests.append(request)
        results = {}
        for key, command in request.params["cmd"].items():
            asked = {unquote(name): values[0] for name, values in parse_qs(command.partition("?")[2]).items()}
            begin = bisect_right(self.ids, int(asked["filter[>id]"])) + (int(asked["start"]) if self.offsets else 0)
            results[key] = {"payments": [{"id": number} for number in self.ids[begin : begin + PAGE]]}
        return json_response({"result": {"result": results, "result_error": [], "result_total": [], "result_next": []}})


def read_split(table: Table, order: Any = iter) -> list[int]:
    """Read a list in ranges, which come in an order of their own."""
    reader = ListReader(PAYMENTS, None)
    portal = client()
    ids: list[int] = []
    while not reader.done:
        ids += [row["id"] for row in read_once(reader, portal, table)]
        while parts := run(reader.split(portal), table):
            found = {}
            for part in order(parts):
                found[part] = run(part.read_whole(portal), table)
                reader.add(part)
            ids += [row["id"] for part in parts for row in found[part]]
    return ids


def run(flow: Any, table: Table) -> Any:
    answer: Any = None
    while True:
        try:
            command = flow.send(answer)
        except StopIteration as end:
            return end.value
        answer = table(command) if isinstance(command, Request) else None


@pytest.mark.parametrize("order", [iter, reversed])
@pytest.mark.parametrize("rows", [10_049, 10_050, 10_051, 12_600, 20_000])
def test_ranges_hold_every_row_once(rows: int, order: Any) -> None:
    table = Split(rows)
    assert read_split(table, order) == table.ids


@pytest.mark.usefixtures("unmeasured")
def test_a_hundred_thousand_rows_take_42_requests() -> None:
    table = Split(100_000)
    assert len(read_split(table)) == 100_000
    assert len(table.requests) == 42


def test_the_ends_of_a_list_without_select_are_asked_for_as_it_is() -> None:
    reader = ListReader("crm.item.productrow.list", None)
    flow = reader.read(client())
    flow.send(None)
    with pytest.raises(StopIteration):
        flow.send(json_response({"result": {"productRows": [{"id": n} for n in range(1, 51)]}, "total": 20_000}))
    request = reader.split(client()).send(None)
    assert isinstance(request, Request)
    assert "select" not in unquote(request.params["cmd"]["r1"])


def test_a_short_list_is_not_split() -> None:
    table = Split(10_000)
    assert read_split(table) == table.ids
    assert len(table.requests) == 5


@pytest.mark.usefixtures("unmeasured")
def test_more_than_fifty_ranges_are_split_in_two_steps() -> None:
    table = Split(140_000)
    assert read_split(table) == table.ids
    assert len(table.requests) == 1 + 2 + 50 + 5 + 1


def test_a_portal_that_ignores_offsets_is_read_in_a_row() -> None:
    table = Split(15_000)
    table.offsets = False
    assert read_split(table) == table.ids
    assert len(table.requests) < 12


def test_rows_that_come_and_go_while_ranges_are_read() -> None:
    table = Split(12_000)

    def change(parts: Any) -> Any:
        for number, part in enumerate(parts):
            if number == 1:
                table.ids.remove(9_000)
                table.ids += [9_001, 9_002, table.ids[-1] + 3]
                table.ids.sort()
            yield part

    read = read_split(table, change)
    assert read == table.ids


def test_ranges_that_show_less_than_is_counted_are_an_error() -> None:
    table = Split(12_000)
    table.hidden = set(table.ids[6_000:6_001])
    with pytest.raises(Bitrix24NoAnswer):
        read_split(table)


def test_a_portal_that_cannot_reply_with_many_pages_is_asked_for_fewer_in_all_ranges() -> None:
    table = Split(15_000)

    def shrink(parts: Any) -> Any:
        table.most_commands = 20
        yield from parts

    assert read_split(table, shrink) == table.ids
    assert not any(len(request.params["cmd"]) > 12 for request in table.requests[-20:])


@pytest.mark.parametrize("wrong", ["refused", "short"])
def test_ends_that_are_refused_or_too_few_leave_the_list_in_one_piece(wrong: str) -> None:
    class Wrong(Split):
        def __call__(self, request: Request) -> Any:
            commands = request.params.get("cmd", {})
            if "r1" not in commands:
                return super().__call__(request)
            results = {} if wrong == "refused" else {key: {"payments": [{"id": self.ids[-1]}]} for key in commands}
            errors = {key: {"error": "ERROR_CORE", "error_description": "no"} for key in commands if not results}
            body = {"result": results, "result_error": errors, "result_total": [], "result_next": []}
            return json_response({"result": body})

    table = Wrong(12_000)
    assert read_split(table) == table.ids
