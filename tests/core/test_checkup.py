"""What a connection can do, from scripted answers: the ones that the sandbox portal does not give."""

from __future__ import annotations

from typing import Any

from airflow_provider_bitrix24.api.checkup import FEATURES, check
from airflow_provider_bitrix24.exceptions import Bitrix24AuthError, Bitrix24NoAnswer
from tests.core.scripted import Play, caller, play, refuses, says

METHODS = {method for methods in FEATURES.values() for method in methods}


def checked(scopes: Any, profile: Any = None, **methods: Any) -> Play:
    results: dict[str, Any] = {
        method.replace(".", "_"): {"isExisting": True, "isAvailable": True} for method in METHODS
    }
    results |= {"profile": profile or {"ID": "7", "ADMIN": True}, "scope": scopes, **methods}
    return play(check(caller()), says({"result": {"result": results, "result_error": []}}))


def test_everything() -> None:
    found = checked(["crm", "pay_system"]).value
    assert found.works
    assert found.text.startswith("Connected to acme.bitrix24.com as user 7, an administrator; scopes: crm, pay_system;")
    assert "cannot" not in found.text


def test_methods_that_are_missing_or_not_allowed() -> None:
    gone = {"isExisting": False, "isAvailable": False}
    text = checked(["crm", "pay_system"], crm_invoice_get=gone).value.text
    assert "cannot pay legacy invoices (this portal has no method crm.invoice.get), wait for legacy invoices" in text
    denied = {"isExisting": True, "isAvailable": False}
    text = checked(["crm", "pay_system"], crm_item_payment_pay=denied).value.text
    assert "cannot mark payments as paid (the webhook's user may not call crm.item.payment.pay)" in text


def test_a_portal_that_does_not_say_is_not_accused() -> None:
    assert "cannot" not in checked(["crm", "pay_system"], crm_invoice_get=None).value.text


def test_no_scopes_at_all() -> None:
    found = checked([]).value
    assert not found.works
    assert "scopes: none" in found.text
    assert not checked({"0": "crm"}).value.works


def test_a_webhook_that_is_not_accepted() -> None:
    assert isinstance(play(check(caller()), refuses("INVALID_CREDENTIALS", status=401)).error, Bitrix24AuthError)
    assert isinstance(checked(["crm"], {"NAME": "nobody"}).error, Bitrix24NoAnswer)
