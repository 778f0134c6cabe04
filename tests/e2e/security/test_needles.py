"""The search itself: what it must find, and what it must not."""

from __future__ import annotations

import base64
import json
import pickle
from urllib.parse import quote

import pytest

from tests.e2e.security.needles import Needles

SECRET = 'c4n4ry/s3cr3t+c0de="x'
needles = Needles({"one": SECRET, "other": "0th3rs3cr3t"})


@pytest.mark.parametrize(
    "hay",
    [
        SECRET,
        SECRET.upper(),
        f"https://acme.bitrix24.com/rest/1/{SECRET}/profile",
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        json.dumps({"a": json.dumps({"b": quote(SECRET, safe="")})}),
        json.dumps([SECRET]),
        base64.b64encode(SECRET.encode()),
        base64.b64encode(b"1:" + SECRET.encode() + b":2"),
        base64.b64encode(b"user:" + SECRET.encode()),
        base64.urlsafe_b64encode(b"x" + SECRET.encode() + b"yyy"),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        pickle.dumps({"a": SECRET}),
        SECRET.encode("utf-16"),
        b"\xff\xfe" + SECRET.encode() + b"\x00",
    ],
)
def test_found_in_every_form(hay: str | bytes) -> None:
    assert needles.found_in(hay) == {"one"}


@pytest.mark.parametrize("hay", ["", SECRET[:-1], SECRET[1:], "***", base64.b64encode(SECRET[:9].encode())])
def test_not_found_where_it_is_not(hay: str | bytes) -> None:
    assert needles.found_in(hay) == set()
