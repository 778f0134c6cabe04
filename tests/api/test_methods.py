"""What executing each method does: careful where nothing is known."""

from __future__ import annotations

import json
import keyword
from pathlib import Path

import pytest

from airflow_provider_bitrix24 import api
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods import (
    FAMILIES,
    METHODS,
    effect_of,
    find,
    moves_money,
    scope_of,
    similar,
    strongest,
)
from airflow_provider_bitrix24.api.methods.row import Method, snake_case

READS = [
    "profile", "scope", "methods", "server.time", "app.info", "method.get", "crm.deal.list", "crm.invoice.fields",
    "sale.payment.getFields", "crm.item.productrow.getAvailableForPayment", "CRM.ITEM.PAYMENT.GET",
]  # fmt: skip
IDEMPOTENT = ["crm.item.payment.pay", "crm.item.payment.unpay", "sale.paysystem.pay.invoice", "sale.payment.update"]
ROWS = list(METHODS.values())
DOCUMENTED = json.loads((Path(__file__).parents[1] / "sandbox" / "documented-examples.json").read_text())
NON_IDEMPOTENT = [
    "crm.item.payment.add",
    "crm.item.payment.product.add",
    "event.offline.get",
    "im.notify",
    "batch",
    "target",
]


@pytest.mark.parametrize("method", READS)
def test_reads(method: str) -> None:
    assert effect_of(method) is Effect.READ


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_sets(method: str) -> None:
    assert effect_of(method) is Effect.IDEMPOTENT


@pytest.mark.parametrize("method", NON_IDEMPOTENT)
def test_everything_else(method: str) -> None:
    assert effect_of(method) is Effect.NON_IDEMPOTENT


def test_no_documented_method_that_adds_is_taken_for_less() -> None:
    adding = [method for method in DOCUMENTED if method.endswith((".add", ".bind", ".set", ".modify"))]
    assert adding
    assert {effect_of(method) for method in adding} == {Effect.NON_IDEMPOTENT}


def test_a_batch_is_as_strong_as_its_strongest_command() -> None:
    assert strongest({"a": ("crm.deal.get", {})}) is Effect.READ
    assert strongest({"a": ("crm.deal.get", {}), "b": ("crm.item.payment.pay", {})}) is Effect.IDEMPOTENT
    assert strongest({"a": ("crm.item.payment.add", {}), "b": ("crm.item.payment.pay", {})}) is Effect.NON_IDEMPOTENT


def test_modules_load_when_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(api, "payments", raising=False)
    assert api.payments.__name__.endswith("api.payments")
    with pytest.raises(AttributeError, match="nonsense"):
        api.nonsense  # noqa: B018


# -- the registry


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_agrees_with_its_page(row: Method) -> None:
    documented = DOCUMENTED.get(row.name)
    if documented is None:
        assert row.url.startswith("https://apidocs.bitrix24.com/")
        return
    assert f"{row.page}.md" == documented["page"]
    assert [scope for scope in documented["scope"] if scope != "basic"] == ([row.scope] if row.scope else [])
    known = {param.wire.lower() for param in row.params}
    assert {name.lower() for name in documented["request"] or {}} - {"auth"} <= known


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_consistent(row: Method) -> None:
    assert find(row.name.upper()) is row
    assert row.does.endswith((".", ".)"))
    names = [param.python for param in row.params]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and not keyword.iskeyword(name) for name in [row.python, *names])
    wires = {param.wire for param in row.params}
    assert set(row.any_of) <= wires
    if row.moves_money:
        assert row.effect is not Effect.READ
    if row.operator:
        assert row.moves_money
    if row.rows is not None:
        assert row.effect is Effect.READ
        assert row.rows.fields is None or row.rows.id_field in row.rows.fields


def test_names_in_python() -> None:
    names = ("entityTypeId", "PAY_SYSTEM_ID", "useOriginalUfNames", "auth_type")
    assert [*map(snake_case, names)] == ["entity_type_id", "pay_system_id", "use_original_uf_names", "auth_type"]
    python = [row.python for row in ROWS]
    assert len(set(python)) == len(python)
    assert METHODS["crm.item.payment.product.setquantity"].python == "crm_item_payment_product_set_quantity"


def test_every_method_is_in_one_family() -> None:
    assert sum(len(rows) for rows in FAMILIES.values()) == len(METHODS)


def test_scopes() -> None:
    assert scope_of("sale.paysystem.pay.invoice") == "pay_system"
    assert scope_of("profile") is None
    assert scope_of("sale.paysystem.unheard.of") == "pay_system"
    assert scope_of("CRM.lead.list") == "crm"
    assert scope_of("tasks.task.list") is None


def test_what_moves_money() -> None:
    assert moves_money("crm.item.payment.pay")
    assert not moves_money("crm.item.payment.get")
    assert moves_money("sale.payment.setPaid")  # not documented, and known to mark payments
    assert moves_money("sale.payment.modify")
    assert not moves_money("sale.payment.unheard.list")
    assert not moves_money("crm.lead.add")


@pytest.mark.parametrize("method", ["crm.invoice.add", "crm.invoice.update", "CRM.Invoice.Delete"])
def test_a_legacy_invoice_says_itself_whether_it_is_paid(method: str) -> None:
    assert moves_money(method)
    assert moves_money("crm.invoice.recurring.add")
    assert not moves_money("crm.invoice.get")
    assert not moves_money("crm.invoice.recurring.list")


def test_an_order_has_its_payments() -> None:
    assert moves_money("sale.order.delete")
    # The portal does not let it write what is paid.
    assert not moves_money("sale.order.update")


def test_the_most_similar_name() -> None:
    assert similar("crm.items.payment.pay") == "crm.item.payment.pay"
    assert similar("zzz") is None
