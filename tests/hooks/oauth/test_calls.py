"""Calls of an application whose access token dies in between: each is executed once, by the portal's ledger."""

from __future__ import annotations

import json
import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24 import drivers
from airflow_provider_bitrix24.api import queries
from airflow_provider_bitrix24.api import tokens as protocol
from airflow_provider_bitrix24.api.io import Effect, SendDeadline
from airflow_provider_bitrix24.exceptions import (
    Bitrix24AuthError,
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NotSent,
    Bitrix24PermissionError,
)
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.hooks.oauth.conftest import Application

pytestmark = pytest.mark.libraries

Call = tuple[str, "Callable[[Bitrix24Hook], Any]", "Callable[[Bitrix24Hook], Awaitable[Any]]", list[str]]
CALLS: list[Call] = [
    (
        "read",
        lambda hook: hook.get_crm_payment(payment_id=1004),
        lambda hook: hook.aget_crm_payment(payment_id=1004),
        [],
    ),
    (
        "set",
        lambda hook: hook.rest.crm_item_payment_pay(id=1004),
        lambda hook: hook.arest.crm_item_payment_pay(id=1004),
        ["payment_paid"],
    ),
    (
        "create",
        lambda hook: hook.rest.crm_item_payment_add(entity_id=1, entity_type_id=2),
        lambda hook: hook.arest.crm_item_payment_add(entity_id=1, entity_type_id=2),
        ["order_created", "payment_added"],
    ),
    (
        "batch",
        lambda hook: hook.batch({"one": ("crm.item.payment.pay", {"id": 1004})}, effect=Effect.IDEMPOTENT).value("one"),
        lambda hook: hook.abatch({"one": ("crm.item.payment.pay", {"id": 1004})}, effect=Effect.IDEMPOTENT),
        ["payment_paid"],
    ),
]


@pytest.mark.parametrize("driver", ["requests", "httpx"])
@pytest.mark.parametrize("call", CALLS, ids=[name for name, *_ in CALLS])
async def test_a_token_that_dies_in_between(application: Application, call: Call, driver: str) -> None:
    _, blocking, asynchronous, events = call
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    if driver == "requests":
        blocking(hook)
    else:
        await asynchronous(hook)
    assert [entry["event"] for entry in application.sandbox.ledger] == events
    assert len(application.log("refreshed")) == 1
    assert application.log("refused") == []
    outside = [request for request in application.sandbox.requests if not request["inside_batch"]]
    assert [request["error"] for request in outside] == [None, "expired_token", None, None]
    assert [request["method"] for request in outside].index("oauth.token") == 2


async def test_pages_go_on_with_the_new_token(application: Application) -> None:
    hook = Bitrix24Hook()
    rows = hook.iterate("crm.invoice.list")
    first = next(rows)
    application.expire()
    assert [first, *rows] == [row async for row in hook.aiterate("crm.invoice.list")]
    application.expire()
    assert list(hook.iterate("crm.invoice.list")) == [row async for row in Bitrix24Hook().aiterate("crm.invoice.list")]
    assert application.log("refused") == []


def test_a_refresh_does_not_let_a_write_leave_after_its_deadline(application: Application) -> None:
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    over = SendDeadline(monotonic=time.monotonic() - 1, wall=time.time() - 1)
    with pytest.raises(Bitrix24NotSent) as caught:
        hook.run(hook.client.call("crm.item.payment.pay", {"id": 1004}, effect=Effect.IDEMPOTENT, deadline=over))
    assert caught.value.deadline_passed
    application.sandbox.fault("expired_token", "crm.item.payment.pay", times=1)
    held = application.sandbox.fault("slow", "oauth.token", seconds=1.5)
    short = SendDeadline(monotonic=time.monotonic() + 1, wall=time.time() + 1)
    hook = Bitrix24Hook()
    with pytest.raises(Bitrix24NotSent) as caught:
        hook.run(hook.client.call("crm.item.payment.pay", {"id": 1004}, effect=Effect.IDEMPOTENT, deadline=short))
    assert caught.value.deadline_passed
    assert held
    assert application.sandbox.ledger == []


def test_a_portal_that_calls_every_token_expired_is_believed_once(application: Application) -> None:
    application.sandbox.fault("expired_token", times=100)
    with pytest.raises(Bitrix24AuthError, match="expired_token"):
        Bitrix24Hook().call("profile")
    assert len(application.log("refreshed")) == 1


def test_without_any_access_token_the_first_call_gets_one(application: Application) -> None:
    application.connect(token_conn_id="tokens", access_token=None)
    assert Bitrix24Hook().call("profile")["ID"] == "1"
    assert len(application.log("refreshed")) == 1
    assert Bitrix24Hook().call("profile")["ID"] == "1"
    assert len(application.log("refreshed")) == 1


@pytest.mark.parametrize("driver", ["requests", "httpx"])
async def test_a_refresh_is_a_flow_for_both_drivers(application: Application, driver: str) -> None:
    settings = Bitrix24Hook().settings
    auth = settings.application
    assert auth is not None
    there = settings.at(auth.oauth_url)
    flow = protocol.refresh(settings, auth, application.pair.refresh_token)
    if driver == "requests":
        with drivers.make_session(there) as session:
            issued = drivers.run(flow, session)
    else:
        async with drivers.make_client(there) as client:
            issued = await drivers.arun(flow, client)
    assert issued.portal == settings.host
    assert issued.tokens.expires_at is not None
    assert issued.tokens.issued_at is not None
    assert issued.tokens.expires_at - issued.tokens.issued_at == 3600
    assert len(application.log("refreshed")) == 1


async def test_what_the_hook_offers_for_refreshing(application: Application) -> None:
    hook = Bitrix24Hook()
    refreshed, first = hook.refresh_token(min_lifetime=60)  # how long the first pair lives, nobody knows
    assert refreshed
    assert hook.refresh_token(min_lifetime=60) == (False, first)
    refreshed, second = await hook.arefresh_token(min_lifetime=7200)
    assert refreshed
    assert second != first
    assert len(application.log("refreshed")) == 2


async def test_a_webhook_has_no_tokens(bitrix24_sandbox: Any) -> None:
    for refresh in (Bitrix24Hook().refresh_token, Bitrix24Hook().arefresh_token):
        with pytest.raises(Bitrix24ConfigError, match="is a webhook's"):
            await refresh(min_lifetime=60)


def test_a_copied_hook_finds_its_tokens_again(application: Application) -> None:
    hook = Bitrix24Hook()
    hook.call("profile")
    twin = pickle.loads(pickle.dumps(hook))
    assert twin.call("profile")["ID"] == "1"
    assert "token" not in json.dumps([str(value) for value in twin.__getstate__().values()])


def test_a_scope_that_the_application_lacks(
    bitrix24_sandbox: Any, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.made = bitrix24_sandbox.add_application(scopes=["crm"])
    application.pair = bitrix24_sandbox.grant(application.made)
    application.connect(token_conn_id="tokens")
    with pytest.raises(Bitrix24PermissionError) as caught:
        Bitrix24Hook().rest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)
    assert caught.value.missing_scopes == ("pay_system",)
    assert "The application lacks the scope pay_system: add it in Bitrix24." in str(caught.value)


def test_nobody_speaks_of_a_webhook(
    application: Application, bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong names what the connection is; each of these says "webhook" where it is one."""
    application.made = bitrix24_sandbox.add_application(scopes=["crm"])
    application.pair = bitrix24_sandbox.grant(application.made, user_id=7)
    application.connect(token_conn_id="tokens")
    denied = {"kind": "error", "code": "ACCESS_DENIED", "text": "Access denied.", "status": 403}
    shut_out = {"kind": "error", "code": "INVALID_CREDENTIALS", "text": "?", "status": 401}
    moved = {"kind": "redirect", "location": "https://new.example.com/rest/"}
    webhook = bitrix24_sandbox.add_webhook(user_id=7, scopes=["crm"])
    said: dict[str, list[str]] = {}
    for kind in ("application", "webhook"):
        said[kind] = []
        if kind == "webhook":
            address = f"{bitrix24_sandbox.url}/rest/{webhook.user_id}/{webhook.secret}/"
            monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", address)
        hook = Bitrix24Hook()
        for fault in (denied, shut_out, moved):
            bitrix24_sandbox.fault(times=1, **fault)
            with pytest.raises(Bitrix24Error) as caught:
                hook.get_crm_payment(payment_id=1001)
            said[kind].append(str(caught.value))
        with pytest.raises(Bitrix24Error) as caught:
            hook.get_crm_payment(payment_id=99)
        said[kind].append(str(caught.value))
        with pytest.raises(Bitrix24Error) as caught:
            hook.batch({"one": ("sale.paysystem.list", {})}).value("one")
        said[kind].append(str(caught.value))
        with pytest.raises(Bitrix24Error) as caught:
            hook.run(queries.ask(hook.client, queries.InvoiceBeforePaying(invoice_id=2)))
        said[kind].append(str(caught.value))
        said[kind].append(hook.test_connection()[1])
    other = {"application": "webhook", "webhook": "application"}
    for kind, texts in said.items():
        assert [text for text in texts if kind not in text or other[kind] in text] == []
