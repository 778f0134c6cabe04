"""What a connection can do, from scripted answers: the ones that the sandbox portal does not give."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.connection_test import FEATURES, check
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import Bitrix24AuthError, Bitrix24NoAnswer
from tests.api.scripted import Play, client, error_response, json_response, play

METHODS = {method for methods in FEATURES.values() for method in methods}


def checked(scopes: Any, profile: Any = None, **methods: Any) -> Play:
    results: dict[str, Any] = {
        method.replace(".", "_"): {"isExisting": True, "isAvailable": True} for method in METHODS
    }
    results |= {"profile": profile or {"ID": "7", "ADMIN": True}, "scope": scopes, **methods}
    return play(check(client()), json_response({"result": {"result": results, "result_error": []}}))


def test_everything() -> None:
    found = checked(["crm", "pay_system"]).value
    assert found.works
    assert found.text.startswith("Connected to acme.bitrix24.com as user 7, an administrator. The webhook can ")
    assert " Scopes: crm, pay_system; the portal's clock says " in found.text
    assert "cannot" not in found.text
    for feature in FEATURES:
        assert feature.partition(" (")[0] in found.text
    assert "Operator" not in found.text
    assert "tariff" not in found.text
    assert len(found.text.split()) < 60  # it is shown for some seconds


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"LICENSE": "en_pro100"}, "The tariff is en_pro100; whether it still allows new payments is known when"),
        ({"LICENSE": ["?"]}, ""),
        ("?", ""),
    ],
)
def test_an_application_is_told_the_tariff(info: Any, words: str) -> None:
    results = {"profile": {"ID": "7", "ADMIN": True}, "scope": ["crm"], "app": info}
    settings = Settings.from_connection_values(
        host="acme.bitrix24.com",
        login="local.5c8bb1b0917420.10000000",
        password="5ecr3tk3y",
        extra={"auth": "oauth", "refresh_token": "r3fr3sht0k3n"},
    )
    text = play(
        check(ApiClient(settings)), json_response({"result": {"result": results, "result_error": []}})
    ).value.text
    assert words in text
    assert ("tariff" in text) is bool(words)
    assert "The application can wait for legacy invoices, add payments" in text
    assert "the application lacks the scope pay_system" in text


def test_methods_that_are_missing_or_not_allowed() -> None:
    gone = {"isExisting": False, "isAvailable": False}
    text = checked(["crm", "pay_system"], crm_invoice_get=gone).value.text
    without = "this portal, or its tariff, has no method crm.invoice.get"
    assert (
        f"The webhook cannot pay legacy invoices (PayInvoiceOperator): {without}; wait for legacy invoices "
        f"(InvoicePaidSensor): {without}." in text
    )
    denied = {"isExisting": True, "isAvailable": False}
    text = checked(["crm", "pay_system"], crm_item_payment_pay=denied).value.text
    assert (
        "cannot mark payments as paid (PayCrmPaymentOperator): the webhook's user may not call crm.item.payment.pay."
        in text
    )


def test_a_portal_that_does_not_say_is_not_accused() -> None:
    assert "cannot" not in checked(["crm", "pay_system"], crm_invoice_get=None).value.text


def test_no_scopes_at_all() -> None:
    found = checked([]).value
    assert not found.works
    assert "Scopes: none" in found.text
    assert not checked({"0": "crm"}).value.works


def test_a_webhook_that_is_not_accepted() -> None:
    assert isinstance(play(check(client()), error_response("INVALID_CREDENTIALS", status=401)).error, Bitrix24AuthError)
    assert isinstance(checked(["crm"], {"NAME": "nobody"}).error, Bitrix24NoAnswer)
