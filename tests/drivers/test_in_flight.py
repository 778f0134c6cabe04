"""What one request checks by itself, where the libraries do not: the body of its response, and its time."""

from __future__ import annotations

import pytest

from airflow_provider_bitrix24.api.io import Effect, Request
from airflow_provider_bitrix24.drivers.body import Body, UnusableResponse
from airflow_provider_bitrix24.drivers.in_flight import InFlightRequest


def test_fewer_bytes_than_announced() -> None:
    body = Body({"content-length": "5"}, 100)
    body.add(b"1234")
    with pytest.raises(UnusableResponse, match="incomplete"):
        body.whole()
    body.add(b"5")
    assert body.whole() == b"12345"


def test_an_odd_length_is_not_believed() -> None:
    body = Body({"content-length": "5, 5"}, 100)
    body.add(b"1")
    assert body.whole() == b"1"


def test_the_time_for_connecting_ends_and_the_answer_has_its_own() -> None:
    request = Request(
        url="http://x", method="m", params={}, effect=Effect.READ, connect_timeout=0, read_timeout=60, max_bytes=1
    )
    in_flight = InFlightRequest(request)
    with pytest.raises(TimeoutError):
        in_flight.seconds_left()
    in_flight.start_sending()
    assert 0 < in_flight.seconds_left() <= 60
