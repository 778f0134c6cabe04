"""Every fault of the sandbox portal, blocking and async: the same exception, and nothing extra on the portal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bitrix24.exceptions import (
    Bitrix24AuthError,
    Bitrix24Error,
    Bitrix24InvalidRequest,
    Bitrix24OutcomeUnknown,
    Bitrix24Overloaded,
    Bitrix24RateLimited,
)
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

pytestmark = pytest.mark.libraries

ADD = "crm.item.payment.add"
Unknown = Bitrix24OutcomeUnknown

# fault, its options, what the write is told (None: it worked), whether the portal executed it
FAULTS: list[tuple[str, dict[str, Any], type[Bitrix24Error] | None, bool]] = [
    ("drop_before", {}, Unknown, False),
    ("drop_after", {}, Unknown, True),
    ("hold", {"when": "before"}, Unknown, False),
    ("hold", {"when": "after"}, Unknown, True),
    ("truncate", {}, Unknown, True),
    ("slow", {"seconds": 20}, Unknown, True),
    ("html", {"status": 502, "when": "before"}, Unknown, False),
    ("html", {"status": 504, "when": "after"}, Unknown, True),
    ("html", {"status": 200, "when": "after"}, Unknown, True),
    ("operation_time_limit", {}, Bitrix24RateLimited, False),
    ("query_limit_exceeded", {}, Bitrix24RateLimited, False),
    ("overload_limit", {}, Bitrix24Overloaded, False),
    ("expired_token", {}, Bitrix24AuthError, False),
    (
        "error",
        {"code": 100, "text": "Could not find value for parameter {x}", "status": 400},
        Bitrix24InvalidRequest,
        False,
    ),
    ("error", {"code": "0", "text": "Oops", "status": 400}, Unknown, False),
    ("error_after_executing", {"code": 0, "text": "", "status": 400}, Unknown, True),
    ("redirect", {"location": "https://new.bitrix24.com/"}, Unknown, False),
    ("empty_body", {}, Unknown, True),
    ("invalid_json", {}, Unknown, True),
    ("internal_server_error", {"when": "after"}, Unknown, True),
    ("time_integers", {}, None, True),
    ("time_missing", {}, None, True),
]


@pytest.mark.parametrize(
    ("fault", "options", "kind", "executed"), FAULTS, ids=[f"{i} {f[0]}" for i, f in enumerate(FAULTS)]
)
async def test_a_write_under_each_fault(
    bitrix24_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    options: dict[str, Any],
    kind: type[Bitrix24Error] | None,
    executed: bool,
) -> None:
    connection = json.loads(bitrix24_sandbox.connection)
    silent = fault in ("hold", "slow")
    connection["extra"] = {"allow_http": True, "read_timeout": 1 if silent else 60, "rate_limit_wait": 0}
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    told = []
    for number, colour in enumerate(("blocking", "async"), 1):
        hook = Bitrix24Hook()
        await hook.acall("profile") if colour == "async" else hook.call("profile")
        fault_id = bitrix24_sandbox.fault(fault, method=ADD, times=1, **options)
        try:
            if colour == "async":
                made: Any = await hook.arest.crm_item_payment_add(entity_id=1, entity_type_id=2)
            else:
                made = hook.rest.crm_item_payment_add(entity_id=1, entity_type_id=2)
        except Bitrix24Error as error:
            made = error
        sent = [request for request in bitrix24_sandbox.requests if request["method"] == ADD]
        assert len(sent) <= number
        if (fault, options.get("when")) != ("hold", "before"):  # a held one is executed when it is let go
            on_the_portal = [entry for entry in bitrix24_sandbox.ledger if entry["event"] == "payment_added"]
            assert len(on_the_portal) == number * executed
        if kind is None:
            assert made == on_the_portal[-1]["payment_id"]
        else:
            assert type(made) is kind
            told.append((*made.args, str(made)))
        if fault == "hold":
            bitrix24_sandbox.release(fault_id)
        bitrix24_sandbox.clear_faults()
    if fault != "operation_time_limit":  # which says a time of day
        assert len(set(map(repr, told))) <= 1
