"""Parameters are read as PHP reads them, and JSON is written with the digits that money has."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_bitrix24.sandbox.parameters import from_json, merged, to_json


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", {}),
        ("id=5", {"id": "5"}),
        ("id=5&id=6", {"id": "6"}),
        ("fields[title]=A%20b&fields[sum]=1", {"fields": {"title": "A b", "sum": "1"}}),
        ("fields%5Btitle%5D=A+b", {"fields": {"title": "A b"}}),
        ("filter[>id]=5&order[id]=desc", {"filter": {">id": "5"}, "order": {"id": "desc"}}),
        ("filter[@id][]=5&filter[@id][]=7", {"filter": {"@id": ["5", "7"]}}),
        ("a[0]=x&a[1]=y", {"a": ["x", "y"]}),
        ("a[1]=x&a[2]=y", {"a": {"1": "x", "2": "y"}}),
        ("a[5]=x&a[]=y", {"a": {"5": "x", "6": "y"}}),
        ("a[b][c][d]=deep", {"a": {"b": {"c": {"d": "deep"}}}}),
        ("rows[0][id]=1&rows[1][id]=2", {"rows": [{"id": "1"}, {"id": "2"}]}),
        ("empty=&flag", {"empty": "", "flag": ""}),
        ("a.b=1&c d=2", {"a_b": "1", "c_d": "2"}),
        ("a=1&a[b]=2", {"a": {"b": "2"}}),
        ("=2", {}),
        ("cmd[x]=crm.deal.get%3Fid%3D1", {"cmd": {"x": "crm.deal.get?id=1"}}),
        ("title=%E2%82%AC%20%D0%96", {"title": "€ Ж"}),
    ],
)
def test_query(query: str, parameters: dict[str, Any]) -> None:
    assert merged(query, "", b"") == parameters


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'"text"', b"5", b"null", b'{"a": NaN}', b"[" * 100_000, b"\xff\xfe{}", b"{'a': 1}"],
)
def test_json_that_is_no_object_is_silently_no_parameters(body: bytes) -> None:
    assert from_json(body) == {}


def test_json_keeps_types_and_digits() -> None:
    assert from_json(b'{"sum": 1999.99, "id": 5, "flag": true, "none": null, "ids": [1, 2]}') == {
        "sum": Decimal("1999.99"),
        "id": 5,
        "flag": True,
        "none": None,
        "ids": [1, 2],
    }
    assert from_json(b'["a", {"b": 1}]') == {"0": "a", "1": {"b": 1}}


def test_body_overrides_query_name_by_name() -> None:
    query = "id=1&fields[a]=1&only=query"
    assert merged(query, "application/json; charset=utf-8", b'{"id": 2, "fields": {"b": 2}}') == {
        "id": 2,
        "fields": {"b": 2},
        "only": "query",
    }
    assert merged(query, "application/x-www-form-urlencoded", b"id=3") == {
        "id": "3",
        "fields": {"a": "1"},
        "only": "query",
    }


def test_json_needs_its_content_type() -> None:
    assert merged("id=1", "text/plain", b'{"id": 2}') == {"id": "1"}
    assert merged("id=1", "", b'{"id": 2}') == {"id": "1"}


def test_broken_json_leaves_the_query() -> None:
    assert merged("id=1", "application/json", b'{"id": 2') == {"id": "1"}


def test_multipart_form() -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="fields[title]"\r\n\r\nCaf\xc3\xa9\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nignored\r\n--x--\r\n'
    )
    assert merged("", "multipart/form-data; boundary=x", body) == {"fields": {"title": "Café"}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1999.99"), "1999.99"),
        (Decimal("350.00"), "350"),
        (Decimal("249.90"), "249.9"),
        (Decimal("0.00"), "0"),
        (Decimal("-0"), "0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.1") + Decimal("0.2"), "0.3"),
        (Decimal("123456789012345.67"), "123456789012345.67"),
        (
            {"sum": Decimal("1.10"), "rows": [], "map": {}, "t": (True, None, 1.5)},
            '{"sum":1.1,"rows":[],"map":{},"t":[true,null,1.5]}',
        ),
        ('a"<\u20ac', '"a\\"<\\u20ac"'),
    ],
)
def test_json_out(value: Any, text: str) -> None:
    assert to_json(value) == text
