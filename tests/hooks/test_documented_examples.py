"""Every example of the documentation through typed calls to the sandbox: each request, reply and error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24Error, Bitrix24OutcomeUnknown
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from tests.sandbox.test_documented_examples import APPLICATION, ERRORS, EXAMPLES, differences
from tests.tools.documented_calls import OPTIONS, arguments, prepare, request_of, row_of, unmake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Connect = Callable[..., Bitrix24Hook]


@pytest.fixture
def connect(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Connect:
    """Make the connection of a method: that of a webhook, or of an application if only such a one may call it."""

    def connect(method: str, user_id: int = 1, denied: Sequence[str] = ()) -> Bitrix24Hook:
        caller = prepare(bitrix24_sandbox.portal, method, user_id)
        bitrix24_sandbox.portal.state.users[user_id].denied = list(denied)
        if caller is None:
            connection = json.loads(bitrix24_sandbox.connection_of(bitrix24_sandbox.add_webhook(user_id=user_id)))
        else:
            connection = json.loads(bitrix24_sandbox.oauth_connection_of(caller.application, caller.pair))
            connection["extra"]["token_conn_id"] = "tokens"
            tokens = {"conn_type": "sqlite", "host": str(tmp_path / "tokens.db")}
            monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps(tokens))
        monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
        return Bitrix24Hook()

    return connect


def lower(params: dict[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in params.items()}


def test_no_example_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row_of(method).name for method in EXAMPLES] == list(EXAMPLES)
    replies = sum(len(example["success"]) for example in EXAMPLES.values())
    errors = sum(len(example["error"]) for example in EXAMPLES.values())
    with capsys.disabled():
        print(f"\n{len(EXAMPLES)} documented requests, {replies} replies and {errors} errors", end="")
    assert len(EXAMPLES) >= 84
    assert replies >= 73
    assert errors >= 69


@pytest.mark.bitrix24_sandbox(**OPTIONS)
@pytest.mark.parametrize("method", EXAMPLES)
def test_documented_request(method: str, connect: Connect, bitrix24_sandbox: Any) -> None:
    row, request, hook = row_of(method), request_of(method), connect(method)
    unmake(bitrix24_sandbox.portal, method)
    result = getattr(hook.rest, row.python)(**arguments(row, request))
    asked = bitrix24_sandbox.requests[-1]
    assert (asked["method"].lower(), asked["status"], asked["error"]) == (row.name.lower(), 200, None)
    assert lower({name: value for name, value in asked["params"].items() if name != "auth"}) == lower(request)
    if row.returns == "models":
        assert {type(one).__name__ for one in result} == {row.model}
    elif row.returns != "raw":
        assert type(result).__name__ == {"model": row.model, "id": "int", "true": "bool"}[row.returns]
    else:
        for success in EXAMPLES[method]["success"]:
            assert differences(success["result"], json.loads(json.dumps(result, default=float))) == []


@pytest.mark.bitrix24_sandbox(**OPTIONS)
@pytest.mark.parametrize("method", [method for method, example in EXAMPLES.items() if example["error"]])
def test_documented_error(method: str, connect: Connect, bitrix24_sandbox: Any) -> None:
    (documented,) = EXAMPLES[method]["error"]
    row, (params, denied) = row_of(method), ERRORS.get(method, (request_of(method), ()))
    if method == "app.info":  # a webhook is refused
        hook = Bitrix24Hook()
    else:
        hook = connect(method, 7 if denied or method in APPLICATION else 1, denied)
    if method == "event.bind":
        params["event"] = "ONNOTHING"
    elif method == "event.unbind":
        params["event_type"] = "offline"
    elif method in APPLICATION:
        pass  # they are refused to people who are no administrators
    elif method not in ERRORS:  # what the page shows cannot be brought about: it is played
        code, text = documented.values()
        bitrix24_sandbox.fault("error", method, code=code, text=text)
    with pytest.raises((Bitrix24Error, TypeError)) as caught:
        getattr(hook.rest, row.python)(**arguments(row, params))
    if isinstance(caught.value, Bitrix24ConfigError | TypeError):  # a typed call refuses what the portal would refuse
        assert not [asked for asked in bitrix24_sandbox.requests if asked["method"] == method]
        with pytest.raises(Bitrix24Error) as caught:
            hook.call(method, params, check_names=False)
    error: Any = caught.value
    text = error.text if isinstance(error, Bitrix24OutcomeUnknown) else error.description
    assert (error.portal_code, text) == (str(documented["error"]), documented["error_description"])
