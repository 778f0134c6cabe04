"""The body of an answer where the libraries do not check it themselves."""

from __future__ import annotations

import pytest

from airflow_provider_bitrix24.passage import Body, Unusable


def test_fewer_bytes_than_announced() -> None:
    body = Body({"content-length": "5"}, 100)
    body.add(b"1234")
    with pytest.raises(Unusable, match="incomplete"):
        body.whole()
    body.add(b"5")
    assert body.whole() == b"12345"


def test_an_odd_length_is_not_believed() -> None:
    body = Body({"content-length": "5, 5"}, 100)
    body.add(b"1")
    assert body.whole() == b"1"
