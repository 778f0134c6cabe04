"""A canary in the place of the secret: it must not sing in any log line, message, repr or chain, whatever fails."""

from __future__ import annotations

import importlib.util
import logging
import pickle
import socket
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.hooks import masking
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTION = "AIRFLOW_CONN_BITRIX24_DEFAULT"
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("drop_before", {}),
    ("drop_after", {}),
    ("hold", {"when": "before"}),
    ("truncate", {}),
    ("slow", {"seconds": 30}),
    ("html", {"status": 502, "when": "before"}),
    ("html", {"status": 200, "when": "after"}),
    ("operation_time_limit", {}),
    ("query_limit_exceeded", {}),
    ("overload_limit", {}),
    ("expired_token", {}),
    ("error", {"code": "0", "text": "?", "status": 400}),
    ("error_after_executing", {"code": "", "text": "", "status": 400}),
    ("redirect", {"location": "https://new.bitrix24.com/"}),
    ("close_idle", {}),
    ("empty_body", {}),
    ("invalid_json", {}),
    ("internal_server_error", {}),
    ("time_missing", {}),
]

HTTPX = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
"""The names that the library has: Airflow 3.4 installs both."""


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger at DEBUG, those of the HTTP libraries too."""
    for name in ("", "urllib3", "requests", "httpx", "httpcore", "httpx2", "httpcore2", "airflow_provider_bitrix24"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


def said(caplog: pytest.LogCaptureFixture) -> str:
    """All that was logged by anybody but the portal's web server."""
    return "\n".join(
        f"{record.getMessage()} {record.args} {record.msg} {record.exc_text}"
        for record in caplog.records
        if not record.name.startswith("uvicorn")
    )


def shown(error: BaseException) -> str:
    parts = [str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    return "\n".join([*parts, repr(pickle.dumps(error)), repr(error.__context__), repr(error.__cause__)])


CALLS: dict[str, Callable[[Bitrix24Hook], Any]] = {
    "read": lambda hook: hook.get_crm_payment(payment_id=1001),
    "write": lambda hook: hook.rest.crm_item_payment_pay(id=1001),
    "batch": lambda hook: hook.get_crm_payments(payment_ids=[1001]),
    "test": lambda hook: hook.test_connection(),
}


@pytest.mark.libraries
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS, ids=[f"{kind} {number}" for number, (kind, _) in enumerate(FAULTS)])
def test_blocking_calls(
    bitrix24_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    everything_logged: pytest.LogCaptureFixture,
    fault: tuple[str, dict[str, Any]],
    call: str,
) -> None:
    secret = bitrix24_sandbox.secret
    extra = "?read_timeout=1&rate_limit_wait=0&connect_timeout=1"
    address = bitrix24_sandbox.url.removeprefix("http://")
    monkeypatch.setenv(CONNECTION, f"bitrix24://1:{secret}@{address}/http{extra}")
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.connection_test.TIMES", {})
    hook = Bitrix24Hook()
    hook.call("profile")
    bitrix24_sandbox.fault(fault[0], **fault[1])
    try:
        got = repr(CALLS[call](hook))
    except Bitrix24Error as error:
        got = shown(error)
    bitrix24_sandbox.clear_faults()
    assert secret not in got
    assert secret not in said(everything_logged)
    assert "urllib3" in {record.name.partition(".")[0] for record in everything_logged.records}  # it does listen


@pytest.mark.libraries
@pytest.mark.parametrize("fault", FAULTS, ids=[f"{kind} {number}" for number, (kind, _) in enumerate(FAULTS)])
async def test_async_calls(
    bitrix24_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    everything_logged: pytest.LogCaptureFixture,
    fault: tuple[str, dict[str, Any]],
) -> None:
    secret = bitrix24_sandbox.secret
    address = bitrix24_sandbox.url.removeprefix("http://")
    monkeypatch.setenv(CONNECTION, f"bitrix24://1:{secret}@{address}/http?read_timeout=1&rate_limit_wait=0")
    hook = Bitrix24Hook()
    await hook.acall("profile")
    bitrix24_sandbox.fault(fault[0], **fault[1])
    try:
        got = repr(await hook.arest.crm_item_payment_pay(id=1001))
    except Bitrix24Error as error:
        got = shown(error)
    bitrix24_sandbox.clear_faults()
    assert secret not in got
    assert secret not in said(everything_logged)
    assert {"httpx", "httpcore"} <= {record.name.partition(".")[0] for record in everything_logged.records}


@pytest.mark.parametrize("address", ["portal.invalid", "127.0.0.1:1", "127.0.0.1:1/?ca_bundle=nowhere"])
async def test_no_portal_at_all(
    monkeypatch: pytest.MonkeyPatch, everything_logged: pytest.LogCaptureFixture, address: str
) -> None:
    monkeypatch.setenv(CONNECTION, f"bitrix24://1:c4n4rys3cr3tc0de@{address}")
    for call in (lambda: Bitrix24Hook().call("profile"), lambda: Bitrix24Hook().rest.crm_item_payment_pay(id=1)):
        with pytest.raises(Bitrix24Error) as caught:
            call()
        assert "c4n4rys3cr3tc0de" not in shown(caught.value)
    with pytest.raises(Bitrix24Error) as caught:
        await Bitrix24Hook().acall("profile")
    assert "c4n4rys3cr3tc0de" not in shown(caught.value) + said(everything_logged)


async def test_airflow_is_told_to_mask_it(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Airflow itself could not know that it is one: in the host, or in the path of a pasted address."""
    from airflow.sdk._shared.secrets_masker import _secrets_masker, redact

    for call in ("blocking", "async"):
        webhook = bitrix24_sandbox.add_webhook(user_id=1)
        monkeypatch.setenv(CONNECTION, f"{bitrix24_sandbox.url}/rest/1/{webhook.secret}/")
        assert webhook.secret not in _secrets_masker().patterns
        if call == "blocking":
            Bitrix24Hook().call("profile")
        else:
            await Bitrix24Hook().acall("profile")
        assert redact(f"at {webhook.secret}!") == "at ***!"


async def test_older_airflow_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    monkeypatch.delattr("airflow.sdk.log.amask_secret", raising=False)
    await masking.amask(("another-c4n4ry",))
    assert redact("at another-c4n4ry!") == "at ***!"


@pytest.mark.parametrize(
    "name", ["urllib3.connectionpool", "urllib3.connection", "httpx", "httpcore.http11", "httpx2", "httpcore2.http11"]
)
@pytest.mark.parametrize("path", ["/rest/1/{}/profile", "/rest/api/1/{}/profile", "/REST/API/1/{}"])
def test_every_form_of_the_address_is_starred_out(
    everything_logged: pytest.LogCaptureFixture, name: str, path: str
) -> None:
    from airflow_provider_bitrix24 import drivers  # noqa: F401 - it has the filter put in

    logging.getLogger(name).info("POST %s HTTP/1.1", path.format("c4n4rys3cr3tc0de"))
    assert "POST /rest/***/***" in everything_logged.text
    assert "c4n4rys3cr3tc0de" not in everything_logged.text


def test_other_libraries_log_as_before(everything_logged: pytest.LogCaptureFixture) -> None:
    import requests

    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(requests.RequestException):
        requests.get(f"http://127.0.0.1:{listener.getsockname()[1]}/other/path", timeout=0.1)
    assert "Starting new HTTP connection" in everything_logged.text


@pytest.mark.parametrize("name", HTTPX)
def test_what_the_library_logs_of_a_webhook(
    bitrix24_sandbox: Any, everything_logged: pytest.LogCaptureFixture, name: str
) -> None:
    from airflow_provider_bitrix24 import drivers  # noqa: F401 - it has the filter put in

    library = importlib.import_module(name)
    library.post(f"{bitrix24_sandbox.webhook_url}profile", trust_env=False).raise_for_status()
    assert f"{name}: " in "".join(f"{record.name}: " for record in everything_logged.records)
    assert "/rest/***/***" in everything_logged.text
    assert bitrix24_sandbox.secret not in everything_logged.text
