"""The hook against the sandbox portal: connections in all their forms, every method and its twin."""

from __future__ import annotations

import copy
import importlib.abc
import inspect
import json
import os
import pickle
import sys
import threading
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
import pytest

import airflow_provider_bitrix24
from airflow_provider_bitrix24.api.batch import Reference
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24NotFound,
    Bitrix24OutcomeUnknown,
    Bitrix24PermissionError,
)
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

CONNECTION = "AIRFLOW_CONN_BITRIX24_DEFAULT"


def host_of(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


FORMS = {
    "fields as JSON": lambda url, secret: json.dumps(
        {"conn_type": "bitrix24", "host": host_of(url)[0], "port": host_of(url)[1], "schema": "http", "login": "1",
         "password": secret}
    ),
    "everything as text": lambda url, secret: json.dumps(
        {"conn_type": "bitrix24", "host": host_of(url)[0], "port": str(host_of(url)[1]), "schema": "http", "login": "1",
         "password": secret, "extra": '{"allow_http": "false", "read_timeout": ""}'}
    ),
    "a URI": lambda url, secret: (
        f"bitrix24://1:{secret}@{host_of(url)[0]}:{host_of(url)[1]}/http?read_timeout=60&allow_http=true"
    ),
    "the webhook as the host of a JSON": lambda url, secret: json.dumps(
        {"conn_type": "bitrix24", "host": f"{url}/rest/1/{secret}/", "port": 0, "login": "", "password": ""}
    ),
    "the webhook as the host of a URI": lambda url, secret: f"bitrix24://{quote(f'{url}/rest/1/{secret}/', safe='')}",
    "the webhook as the whole connection": lambda url, secret: f"{url}/rest/1/{secret}/",
    "the newer webhook as the whole connection": lambda url, secret: f"{url}/rest/api/1/{secret}/",
    "the webhook with a method": lambda url, secret: f"{url}/rest/1/{secret}/profile.json",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_a_connection_works(
    bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv(CONNECTION, FORMS[form](bitrix24_sandbox.url, bitrix24_sandbox.secret))
    hook = Bitrix24Hook()
    assert hook.get_invoice(invoice_id=2).money == Money(Decimal(1500), "EUR")
    assert hook.portal == bitrix24_sandbox.url.removeprefix("http://")
    assert (await Bitrix24Hook().aget_invoice(invoice_id=2)).id == 2
    assert bitrix24_sandbox.secret not in repr(hook.settings) + repr(hook) + repr(vars(hook))


def test_a_wrong_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PORTAL", "bitrix24://1:c4n4rys3cr3tc0de@acme.bitrix24.com/?read_timeout=soon")
    with pytest.raises(Bitrix24ConfigError, match=r"connection 'portal' cannot be used: extra: read_timeout") as caught:
        Bitrix24Hook("portal").settings  # noqa: B018
    assert caught.value.__context__ is None


def test_the_connection_is_read_when_it_is_needed() -> None:
    assert Bitrix24Hook("there_is_no_such_connection").bitrix24_conn_id == "there_is_no_such_connection"


def test_a_session_is_kept_and_not_shared_with_a_fork(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Bitrix24Hook()
    hook.call("profile")
    session = hook._session
    hook.call("profile")
    assert hook._session is session
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    hook.call("profile")
    assert hook._session is not session


async def test_a_used_hook_can_be_copied(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    hook.call("profile")
    await hook.acall("profile")
    for copied in (pickle.loads(pickle.dumps(hook)), copy.deepcopy(hook), copy.copy(hook)):
        assert vars(copied) == vars(Bitrix24Hook())
        assert str(copied.call("profile")["ID"]) == "1"
    assert hook._session is not None
    assert bitrix24_sandbox.secret.encode() not in pickle.dumps(hook)


async def test_the_event_loop_does_not_load_libraries_and_certificates(
    bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = {}

    class Watch(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: Any, target: Any = None) -> None:
            if name == "airflow_provider_bitrix24.drivers":
                threads["loading"] = threading.current_thread()

    make = httpx.AsyncHTTPTransport

    def transport(*args: Any, **options: Any) -> httpx.AsyncHTTPTransport:
        threads["certificates"] = threading.current_thread()
        return make(*args, **options)

    monkeypatch.delattr(airflow_provider_bitrix24, "drivers", raising=False)
    monkeypatch.delitem(sys.modules, "airflow_provider_bitrix24.drivers", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Watch(), *sys.meta_path])
    monkeypatch.setattr(httpx, "AsyncHTTPTransport", transport)
    assert str((await Bitrix24Hook().acall("profile"))["ID"]) == "1"
    assert set(threads) == {"loading", "certificates"}
    assert threading.current_thread() not in threads.values()


def test_calls_of_any_method(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    assert hook.call("crm.deal.get", {"ID": 1})["ID"] in (1, "1")
    with pytest.raises(Bitrix24NotFound):
        hook.call("crm.item.payment.get", {"id": 999999})
    reply = hook.batch({"a": ("profile", {}), "b": ("crm.item.payment.get", {"id": 999999})})
    assert str(reply.value("a")["ID"]) == "1"
    assert isinstance(reply.errors["b"], Bitrix24NotFound)
    bitrix24_sandbox.fault("drop_after", method="crm.item.payment.pay", times=1)
    with pytest.raises(Bitrix24OutcomeUnknown):
        hook.call("crm.item.payment.pay", {"id": 1001})
    assert bitrix24_sandbox.payment(1001)["paid"] == "Y"
    hook.call("crm.item.payment.pay", {"id": 1001}, effect=Effect.IDEMPOTENT)


async def test_twins_of_any_method(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    assert str((await hook.acall("profile"))["ID"]) == "1"
    assert str((await hook.abatch({"a": ("profile", {})})).value("a")["ID"]) == "1"


async def test_iterate_and_its_twin_see_every_row_once(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    for _ in range(112):
        hook.call("crm.deal.add", {"fields": {"TITLE": "x"}})
    rows = list(hook.iterate("crm.deal.list", {"select": ["TITLE"]}))
    ids = [int(row["ID"]) for row in rows]
    assert ids == sorted(set(ids))
    assert len(ids) == 118
    assert [row async for row in hook.aiterate("crm.deal.list", {"select": ["TITLE"]})] == rows
    assert [int(row["ID"]) for row in hook.iterate("crm.deal.list", after=ids[99])] == ids[100:]
    lists = [r for r in bitrix24_sandbox.requests if r["method"] == "crm.deal.list"]
    assert len(lists) == 3 + 3 + 1


def test_the_main_job_by_hand(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    hook.rest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)
    hook.rest.sale_paysystem_pay_invoice(invoice_id=3, bx_rest_handler="sandbox_bank")
    assert {number: one.paid for number, one in hook.get_invoices(invoice_ids=[2, 3, 7, 999]).items()} == {
        2: True, 3: True, 7: False,
    }  # fmt: skip
    payment_id = hook.rest.crm_item_payment_add(entity_id=1, entity_type_id=2, fields={"paySystemId": 8})
    hook.update_crm_payment(payment_id=payment_id, pay_system_id=6)
    payment = hook.get_crm_payment(payment_id=payment_id)
    assert (payment.paid, payment.pay_system_id, payment.money.amount) == (False, 6, 0)
    hook.rest.crm_item_payment_pay(id=1001)
    assert [one.id for one in hook.list_crm_payments(entity_id=1, filter={">id": 1000}, order={"id": "asc"})] == [
        payment_id
    ]
    found = hook.get_crm_payments(payment_ids=[1001, payment_id, 999999])
    assert found[1001].paid
    assert isinstance(found[999999], Bitrix24NotFound)
    number = bitrix24_sandbox.portal.state.payments[1001].account_number
    assert hook.find_crm_payments(account_numbers=[number, "X-9"]) == {number: (1001,), "X-9": ()}
    assert hook.find_invoices(account_numbers=["2"]) == {"2": (2,)}
    events = [(entry["event"], entry["payment_id"] or entry["invoice_id"]) for entry in bitrix24_sandbox.ledger]
    for entry in (("invoice_paid", 2), ("invoice_paid", 3), ("payment_added", payment_id), ("payment_paid", 1001)):
        assert events.count(entry) == 1


async def test_the_main_job_by_twins(bitrix24_sandbox: Any) -> None:
    hook = Bitrix24Hook()
    await hook.arest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)
    assert (await hook.aget_invoices(invoice_ids=[2]))[2].paid
    payment_id = await hook.arest.crm_item_payment_add(entity_id=101, entity_type_id=31)
    await hook.aupdate_crm_payment(payment_id=payment_id, pay_system_id=8)
    assert (await hook.aget_crm_payment(payment_id=payment_id)).pay_system_id == 8
    number = bitrix24_sandbox.portal.state.payments[1004].account_number
    assert await hook.afind_crm_payments(account_numbers=[number]) == {number: (1004,)}
    assert await hook.afind_invoices(account_numbers=["X-9"]) == {"X-9": ()}
    await hook.arest.crm_item_payment_pay(id=1004)
    assert (await hook.aget_crm_payments(payment_ids=[1004]))[1004].paid
    assert [one.id for one in await hook.alist_crm_payments(entity_id=101, entity_type_id=31)] == [payment_id]


def test_every_method_has_a_twin_with_the_same_arguments() -> None:
    own = {"run", "call", "batch", "iterate", "get_invoice", "get_invoices"}
    own |= {"get_crm_payment", "get_crm_payments", "list_crm_payments", "update_crm_payment"}
    own |= {"refresh_token", "find_invoices", "find_crm_payments"}
    assert own | {f"a{name}" for name in own} <= set(dir(Bitrix24Hook))
    for name in own:
        one = inspect.signature(getattr(Bitrix24Hook, name)).parameters
        assert one == inspect.signature(getattr(Bitrix24Hook, f"a{name}")).parameters


def test_a_missing_scope_is_said(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = bitrix24_sandbox.add_webhook(user_id=1, scopes=["crm"])
    monkeypatch.setenv(CONNECTION, f"{bitrix24_sandbox.url}/rest/{webhook.user_id}/{webhook.secret}/")
    with pytest.raises(Bitrix24PermissionError) as caught:
        Bitrix24Hook().rest.sale_paysystem_pay_invoice(invoice_id=2, pay_system_id=31)
    assert caught.value.missing_scopes == ("pay_system",)


def test_the_result_of_one_command_goes_into_the_next(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the documentation of the hook shows it."""
    monkeypatch.setenv(CONNECTION, bitrix24_sandbox.connection)
    hook = Bitrix24Hook()
    added = hook.call("crm.item.payment.add", {"entityTypeId": 2, "entityId": 4})
    commands: dict[str, tuple[str, dict[str, Any]]] = {
        "deals": ("crm.deal.list", {"filter": {"ID": 4}, "select": ["ID"]}),
        "payments": ("crm.item.payment.list", {"entityTypeId": 2, "entityId": Reference("$result[deals][0][ID]")}),
    }
    reply = hook.batch(commands, halt=True)
    assert added in [payment["id"] for payment in reply.value("payments")]
    with pytest.raises(Bitrix24ConfigError):
        hook.batch(commands)
    assert hook.get_invoice(2) == hook.get_invoice(invoice_id=2)
    assert hook.get_crm_payment(added).as_dict()["id"] == added
