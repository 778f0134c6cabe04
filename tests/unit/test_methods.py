"""What executing each method does: careful where nothing is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_bitrix24 import api
from airflow_provider_bitrix24.api.effects import Effect
from airflow_provider_bitrix24.api.methods import effect_of, strongest

READS = [
    "profile", "scope", "methods", "server.time", "app.info", "method.get", "crm.deal.list", "crm.invoice.fields",
    "sale.payment.getFields", "crm.item.productrow.getAvailableForPayment", "CRM.ITEM.PAYMENT.GET",
]  # fmt: skip
SETS = ["crm.item.payment.pay", "crm.item.payment.unpay", "sale.paysystem.pay.invoice", "sale.payment.update"]
CREATES = ["crm.item.payment.add", "crm.item.payment.product.add", "event.offline.get", "im.notify", "batch", "target"]


@pytest.mark.parametrize("method", READS)
def test_reads(method: str) -> None:
    assert effect_of(method) is Effect.READ


@pytest.mark.parametrize("method", SETS)
def test_sets(method: str) -> None:
    assert effect_of(method) is Effect.SET


@pytest.mark.parametrize("method", CREATES)
def test_everything_else(method: str) -> None:
    assert effect_of(method) is Effect.CREATE


def test_no_documented_method_that_adds_is_taken_for_less() -> None:
    documented = json.loads((Path(__file__).parents[1] / "sandbox" / "documented-examples.json").read_text())
    adding = [method for method in documented if method.endswith((".add", ".bind", ".set", ".modify"))]
    assert adding
    assert {effect_of(method) for method in adding} == {Effect.CREATE}


def test_a_batch_is_as_strong_as_its_strongest_command() -> None:
    assert strongest({"a": ("crm.deal.get", {})}) is Effect.READ
    assert strongest({"a": ("crm.deal.get", {}), "b": ("crm.item.payment.pay", {})}) is Effect.SET
    assert strongest({"a": ("crm.item.payment.add", {}), "b": ("crm.item.payment.pay", {})}) is Effect.CREATE


def test_modules_load_when_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(api, "payments", raising=False)
    assert api.payments.__name__.endswith("api.payments")
    with pytest.raises(AttributeError, match="nonsense"):
        api.nonsense  # noqa: B018
