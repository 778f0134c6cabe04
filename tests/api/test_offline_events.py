"""The queue of offline events: what is no list of rows proves nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_bitrix24.api.offline_events import read_hint
from airflow_provider_bitrix24.exceptions import Bitrix24NoAnswer
from tests.api.scripted import client, json_response, play

SINCE = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
BOUND = {"event": "ONPAYMENTENTITYSAVED", "handler": "", "auth_type": "0", "offline": 1}


def hint(handlers: Any, events: Any) -> Any:
    results = {"handlers": handlers, "e0": events}
    body = {"result": {"result": results, "result_error": [], "result_total": [], "result_next": []}}
    return play(read_hint(client(), "payment", SINCE), json_response(body))


@pytest.mark.parametrize(("handlers", "events"), [([BOUND], {"x": 1}), ([BOUND], ["x"]), ("x", []), (["x"], [])])
def test_what_is_no_list_of_rows_is_an_error(handlers: Any, events: Any) -> None:
    assert isinstance(hint(handlers, events).error, Bitrix24NoAnswer)


def test_an_event_that_was_not_asked_for_is_an_error() -> None:
    other = {"ID": "1", "TIMESTAMP_X": "2026-11-27T09:00:01+00:00", "EVENT_NAME": "ONCRMDEALADD"}
    assert isinstance(hint([BOUND], [other]).error, Bitrix24NoAnswer)


def test_a_handler_with_a_connector_does_not_count() -> None:
    assert hint([BOUND | {"connector_id": "mine"}], []).value.missing == ("ONPAYMENTENTITYSAVED",)
    assert hint([BOUND | {"connector_id": ""}], []).value.missing == ()
