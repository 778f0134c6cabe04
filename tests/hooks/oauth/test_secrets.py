"""Canaries in the place of all tokens and the client secret: none sings in a log at DEBUG, an error or a repr."""

from __future__ import annotations

import logging
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

if TYPE_CHECKING:
    from tests.hooks.oauth.conftest import Application

pytestmark = pytest.mark.libraries

FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    ("no fault", "*", {}),
    ("drop_after", "oauth.token", {}),
    ("drop_before", "oauth.token", {}),
    ("hold", "oauth.token", {"when": "before"}),
    ("html", "oauth.token", {"status": 502, "when": "after"}),
    ("truncate", "oauth.token", {}),
    ("invalid_json", "oauth.token", {}),
    ("redirect", "oauth.token", {"location": "https://new.bitrix24.com/"}),
    ("lure", "oauth.token", {"location": "https://evil.example.com/rest/"}),
    ("error", "oauth.token", {"code": "invalid_client", "text": "?", "status": 401}),
    ("drop_after", "crm.item.payment.pay", {}),
    ("redirect", "crm.item.payment.pay", {"location": "https://new.bitrix24.com/"}),
]


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(
        f"{record.getMessage()} {record.args} {record.msg} {record.exc_text}"
        for record in caplog.records
        if not record.name.startswith("uvicorn")
    )


def shown(error: BaseException) -> str:
    parts = [repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    return "\n".join([*parts, repr(pickle.dumps(error)), repr(error.__context__), repr(error.__cause__)])


@pytest.mark.parametrize("driver", ["requests", "httpx"])
@pytest.mark.parametrize("fault", FAULTS, ids=[f"{kind} {number}" for number, (kind, *_) in enumerate(FAULTS)])
async def test_whatever_fails(
    application: Application, caplog: pytest.LogCaptureFixture, fault: tuple[str, str, dict[str, Any]], driver: str
) -> None:
    for name in ("", "urllib3", "requests", "httpx", "httpcore", "airflow_provider_bitrix24", "sqlalchemy"):
        caplog.set_level(logging.DEBUG, name)
    application.connect(token_conn_id="tokens", read_timeout=1, token_key="t0k3nk3yc4n4ry12345")
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    kind, method, options = fault
    if kind != "no fault":
        application.sandbox.fault(kind, method, times=10, **options)
    try:
        if driver == "requests":
            hook.rest.crm_item_payment_pay(id=1004)
        else:
            await hook.arest.crm_item_payment_pay(id=1004)
        got = "nothing"
    except Bitrix24Error as error:
        got = shown(error)
    application.sandbox.clear_faults()
    secrets = {application.made.client_secret, application.pair.access_token, application.pair.refresh_token}
    secrets |= set(hook.settings.secrets)
    assert len(secrets) >= 4
    everything = got + said(caplog) + repr(hook.settings) + repr(hook._token_manager.__dict__)
    assert not [secret for secret in secrets if secret in everything]
    if kind == "no fault":
        assert "/oauth/token/?***" in everything  # they were logged, starred out
