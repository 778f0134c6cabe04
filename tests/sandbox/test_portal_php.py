"""PHP's habits, one by one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_bitrix24.sandbox.portal import parse_query, php


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("a=1&b=x%20y+z&a=2", {"a": "2", "b": "x y z"}),
        ("a", {"a": ""}),
        ("=1&&a=1", {"a": "1"}),
        ("fields[a]=1&fields[b][c]=2", {"fields": {"a": "1", "b": {"c": "2"}}}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("a[0]=1&a[1]=2", {"a": ["1", "2"]}),
        ("a[1]=1&a[]=2", {"a": {"1": "1", "2": "2"}}),
        ("a[][x]=1&a[][x]=2", {"a": [{"x": "1"}, {"x": "2"}]}),
        ("a=1&a[b]=2", {"a": {"b": "2"}}),
        ("filter%5B%3Eid%5D=5", {"filter": {">id": "5"}}),
        ("a.b=1&c d=2& e=3", {"a_b": "1", "c_d": "2", "e": "3"}),
        ("a[b=1", {"a_b": "1"}),
        ("a[b][c=1", {"a": {"b": "1"}}),
        ("a[b]c=1", {"a": {"b": "1"}}),
    ],
    ids=repr,
)
def test_parse_query(query: str, expected: dict[str, Any]) -> None:
    assert parse_query(query) == expected


@pytest.mark.parametrize(
    ("value", "numeric", "integer", "decimal"),
    [
        ("12", True, 12, Decimal(12)),
        (" 2.9 ", True, 2, Decimal("2.9")),
        ("1e3", True, 1000, Decimal(1000)),
        ("-.5", True, 0, Decimal("-0.5")),
        ("12abc", False, 12, None),
        ("abc", False, 0, None),
        ("", False, 0, None),
        (True, False, 1, None),
        (None, False, 0, None),
        ([1], False, 0, None),
        (2.7, True, 2, Decimal("2.7")),
        (Decimal("9.99"), True, 9, Decimal("9.99")),
    ],
    ids=repr,
)
def test_numbers(value: Any, numeric: bool, integer: int, decimal: Decimal | None) -> None:
    assert (php.is_numeric(value), php.to_int(value), php.to_decimal(value)) == (numeric, integer, decimal)


def test_text_and_truth() -> None:
    assert [php.to_text(value) for value in (None, False, True, 5, [], {})] == ["", "", "1", "5", "Array", "Array"]
    assert [php.truthy(value) for value in ("", "0", 0, None, False, [], {})] == [False] * 7
    assert [php.truthy(value) for value in ("false", "0.0", 1, True, [0], {"a": 0})] == [True] * 6


def test_names() -> None:
    assert [php.snake(name) for name in ("paySystemId", "ID", "id", "xmlID")] == [
        "PAY_SYSTEM_ID",
        "I_D",
        "ID",
        "XML_I_D",
    ]
    assert php.camel("EMP_RESPONSIBLE_ID") == "empResponsibleId"
    assert php.upper_keys({"a": [{"b": 1}]}) == {"A": [{"B": 1}]}


def test_times() -> None:
    assert php.iso(None) is None
    assert php.iso(0) == "1970-01-01T02:00:00+02:00"
    assert php.parse_time("1970-01-01") == -7200
    assert php.parse_time("1970-01-01T00:00:00+00:00") == 0
    assert (php.parse_time("soon"), php.parse_time(None)) == (None, None)
    assert php.parse_site_time("01.01.1970 02:00") == 0
    assert (php.parse_site_time("1970-01-01"), php.parse_site_time("31.02.2025")) == (None, None)


def test_arrays() -> None:
    assert php.json_array({}) == []
    assert php.json_array({"0": 1, "1": 2}) == [1, 2]
    assert php.json_array({"1": 1}) == {"1": 1}
    assert php.listify({"a": {}}) == {"a": {}}


def test_exact_numbers_become_json_numbers() -> None:
    assert php.jsonable({"a": [Decimal("1.50"), Decimal(2)]}) == {"a": [1.5, 2]}
    assert php.number(None) is None
    assert isinstance(php.number(Decimal("3.00")), int)
