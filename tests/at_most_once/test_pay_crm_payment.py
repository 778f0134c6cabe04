"""Marking a payment of a deal or smart invoice, in virtual time."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.at_most_once.receipt import Expected
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24NoAnswer,
    Bitrix24PermissionError,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)

if TYPE_CHECKING:
    from conftest import World

PAY = "crm.item.payment.pay"


def pay(world: World, payment_id: int = 1001, **arguments: Any) -> dict[str, Any]:
    return world.payments.pay_crm_payment(payment_id=payment_id, **arguments).as_dict()


def test_an_unpaid_payment_is_marked_in_three_requests(world: World) -> None:
    receipt = pay(world)
    key = "acme.bitrix24.com:payment:1001"
    assert receipt.pop("paid_at").startswith("2025-11-22T10:26:40")
    assert receipt == {
        "operation": "pay_crm_payment",
        "outcome": "paid",
        "portal": "acme.bitrix24.com",
        "payment_id": 1001,
        "pay_system_id": 6,
        "amount": "350.00",
        "currency": "EUR",
        "idempotency_key": key,
        "evidence": "response",
        "recovered": False,
    }
    (entry,) = world.ledger("payment_paid")
    assert entry["payment_id"] == 1001
    assert entry["idempotency_key"] == hashlib.sha256(key.encode()).hexdigest()
    assert world.sent == ["batch", PAY, "crm.item.payment.get"]


def test_only_the_scope_crm_is_needed(world: World) -> None:
    world.connect(scopes=("crm",))
    assert pay(world)["outcome"] == "paid"


def test_the_missing_scope_is_named(world: World) -> None:
    world.connect(scopes=("sale", "pay_system"))
    with pytest.raises(Bitrix24ConfigError, match="lacks the scope crm; needed are crm,"):
        pay(world)
    assert world.portal.ledger == []


def test_a_paid_payment_is_left_alone(world: World) -> None:
    receipt = world.payments.pay_crm_payment(payment_id=1002)
    assert not receipt.sent
    assert receipt.as_dict()["outcome"] == "already_paid"
    assert receipt.as_dict()["paid_at"] == "2025-11-21T10:26:40+02:00"
    assert world.sent == ["batch"]


def test_a_deleted_payment_is_refused(world: World) -> None:
    world.portal.act.delete_payment(1001)
    with pytest.raises(PaymentRefused, match=r"There is no payment 1001 .* Nothing was sent\."):
        pay(world)
    assert world.writes() == []


def test_a_payment_that_may_not_be_read_is_not_marked(world: World) -> None:
    world.fault("error", "crm.item.payment.get", code="ACCESS_DENIED", text="Access denied")
    with pytest.raises(Bitrix24PermissionError):
        pay(world)
    assert world.writes() == []


def test_an_empty_payment_is_refused(world: World) -> None:
    empty = world.portal.act.add_payment(2, 3)
    with pytest.raises(PaymentRefused, match=r"is for 0\.00 EUR: it is empty.*allow_zero=True\. Nothing was sent"):
        pay(world, empty)
    assert world.ledger("payment_paid") == []


def test_an_empty_payment_is_marked_if_the_author_says_so(world: World) -> None:
    empty = world.portal.act.add_payment(2, 3)
    assert pay(world, empty, allow_zero=True)["amount"] == "0.00"
    assert len(world.ledger("payment_paid")) == 1


def test_other_money_is_refused(world: World) -> None:
    with pytest.raises(PaymentMismatch, match=r"350\.00 EUR; 300\.00 EUR was expected"):
        pay(world, expected=Expected(amount=Decimal(300)))
    assert world.portal.ledger == []


def test_another_sum_afterwards_says_that_the_mark_was_made(world: World) -> None:
    world.before[PAY] = lambda: world.portal.act.set_sum(1001, "17.50")
    with pytest.raises(PaymentMismatch, match=r"Payment 1001 is for 17\.50 EUR now.*It was marked as paid by this key"):
        pay(world)
    assert len(world.ledger("payment_paid")) == 1


@pytest.mark.parametrize("fault", ["drop_after", "truncate", "invalid_json"])
def test_a_lost_answer_is_resolved_by_reading(world: World, fault: str) -> None:
    world.fault(fault, PAY, times=1)
    receipt = pay(world)
    assert (receipt["outcome"], receipt["evidence"]) == ("paid", "portal_state")
    assert world.writes() == [PAY]


def test_a_lost_request_is_sent_once_more(world: World) -> None:
    world.fault("drop_before", PAY, times=1)
    assert pay(world)["outcome"] == "paid"
    assert world.writes() == [PAY, PAY]
    assert len(world.ledger("payment_paid")) == 1


def test_a_request_that_is_lost_twice_is_for_a_person(world: World) -> None:
    world.fault("drop_before", PAY)
    with pytest.raises(
        PaymentAmbiguous, match=r"request to mark payment 1001 as paid was sent twice.*does not show it"
    ):
        pay(world)
    assert world.writes() == [PAY, PAY]
    assert world.ledger("payment_paid") == []


def test_the_customer_was_faster(world: World) -> None:
    world.fault("drop_before", PAY, times=1)
    world.before["crm.item.payment.get"] = lambda: world.portal.act.pay_payment(1001, by="customer")
    receipt = world.payments.pay_crm_payment(payment_id=1001)
    assert receipt.sent
    assert receipt.as_dict()["outcome"] == "already_paid"


def test_true_without_effect_is_found(world: World) -> None:
    world.fault("true_not_applied", PAY, times=1)
    with pytest.raises(
        PaymentNotApplied, match=r"accepted the request to mark payment 1001 as paid, but does not show it as paid"
    ):
        pay(world)
    assert world.ledger("payment_paid") == []


def test_another_payment_than_asked_for_says_nothing(world: World) -> None:
    batch = {"scope": ["crm"], "profile": {"ID": 1}, "payment": world.person("crm.item.payment.get", {"id": 1002})}
    world.bodies["batch"] = {"result": batch, "result_error": []}
    with pytest.raises(Bitrix24NoAnswer, match="object: 1002 instead of 1001"):
        pay(world)
    assert world.writes() == []


def test_another_paid_payment_is_no_proof(world: World) -> None:
    world.fault("true_not_applied", PAY)
    world.bodies["crm.item.payment.get"] = world.person("crm.item.payment.get", {"id": 1002})
    with pytest.raises(PaymentNotApplied, match="does not show it as paid"):
        pay(world)


def test_the_portals_refusal_is_told_with_its_words(world: World) -> None:
    world.portal.act.cancel_order(1)
    with pytest.raises(PaymentNotApplied, match="SALE_ORDER_PAID_ORDER_CANCELED"):
        pay(world)
    assert world.ledger("payment_paid") == []


@pytest.mark.parametrize("fault", ["drop_after", "drop_before", None])
def test_a_payment_that_is_deleted_while_it_is_looked_for_is_gone(world: World, fault: str | None) -> None:
    if fault is not None:
        world.fault(fault, PAY, times=1)
    world.before["crm.item.payment.get"] = lambda: world.portal.act.delete_payment(1001)
    with pytest.raises(
        PaymentNotApplied, match=r"request to mark payment 1001 as paid\. .* what has taken its place"
    ) as caught:
        pay(world)
    assert caught.value.final
    assert world.writes() == [PAY]
