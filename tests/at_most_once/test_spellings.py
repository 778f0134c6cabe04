"""A portal that writes money as doubles of 17 digits, or times in its site's format: payments and receipts hold."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.io import Response
from airflow_provider_bitrix24.at_most_once.receipt import Expected
from airflow_provider_bitrix24.exceptions import PaymentRefused
from tests.at_most_once.conftest import World

if TYPE_CHECKING:
    from collections.abc import Callable

MONEY = re.compile(rb'("(?:sum|price|PRICE)": ?)("?)([0-9.]+)"?')
SPELLINGS: dict[str, Callable[[float], str]] = {
    "more than it is": lambda amount: repr(amount + 1.3e-14),
    "less than it is": lambda amount: repr(amount - 1.3e-13),
    "17 digits": lambda amount: f"{amount:.17g}",
    "an exponent": lambda amount: f"{amount:.16e}",
    "a sum of doubles": lambda amount: repr(sum([amount / 10] * 10)),
}


class FloatWorld(World):
    """The sandbox portal, whose answers spell money in another way."""

    spell: Callable[[float], str]
    respell: tuple[re.Pattern[bytes], bytes] | None = None
    """What else is written in another way: a pattern, and what stands there instead."""

    def _answer(self, request: Any) -> Any:
        outcome = super()._answer(request)
        if not isinstance(outcome, Response):
            return outcome

        def spelled(found: re.Match[bytes]) -> bytes:
            return found[1] + found[2] + self.spell(float(found[3])).encode() + found[2]

        body = MONEY.sub(spelled, outcome.body)
        body = self.respell[0].sub(self.respell[1], body) if self.respell else body
        return Response(status=outcome.status, headers=outcome.headers, body=body, at=outcome.at)


@pytest.fixture(params=SPELLINGS)
def world(request: pytest.FixtureRequest) -> FloatWorld:
    made = FloatWorld("source")
    made.spell = SPELLINGS[request.param]
    for row in made.portal.state.product_rows.values():
        if row.id == 1:
            row.price, row.quantity = Decimal("33.30"), Decimal(3)
        else:
            row.quantity = Decimal(0)
    return made


def test_what_is_filled_may_be_as_much_as_the_limit(world: FloatWorld) -> None:
    receipt = world.payments.add_crm_payment(
        entity_id=1, entity_type_id=2, key="key", fill_products=True, max_amount=Decimal("99.90")
    )
    assert receipt.as_dict()["amount"] == "99.90"


def test_what_is_filled_may_not_be_a_cent_more(world: FloatWorld) -> None:
    with pytest.raises(PaymentRefused, match=r"99\.90? ?.*the max_amount of this task is 99\.89"):
        world.payments.add_crm_payment(
            entity_id=1, entity_type_id=2, key="key", fill_products=True, max_amount=Decimal("99.89")
        )
    assert world.writes() == []


def test_an_invoice_for_as_much_as_the_limit_is_paid(world: FloatWorld) -> None:
    for invoice in world.portal.state.invoices.values():
        if invoice.id == 2:
            invoice.price = Decimal("8.20")
    limits = {"max_amount": Decimal("8.20"), "expected": Expected(amount=Decimal("8.2"), currency="EUR")}
    with pytest.raises(PaymentRefused, match=r"Invoice 2 is for 8\.20 EUR; .* 8\.19"):
        world.payments.pay_invoice(invoice_id=2, pay_system_id=31, max_amount=Decimal("8.19"))
    assert world.payments.pay_invoice(invoice_id=2, pay_system_id=31, **limits).as_dict()["amount"] == "8.20"


def test_an_empty_payment_is_empty(world: FloatWorld) -> None:
    world.spell = lambda amount: repr(amount + 1.3e-17)
    payment = world.person("crm.item.payment.add", {"entityTypeId": 2, "entityId": 1})
    with pytest.raises(PaymentRefused, match="is empty"):
        world.payments.pay_crm_payment(payment_id=payment)
    assert world.payments.pay_crm_payment(payment_id=payment, allow_zero=True).as_dict()["amount"] == "0.00"


@pytest.mark.parametrize("time", ['"27.11.2026 14:05:00"', '"2026-11-27 14:05:00"', '"0000-00-00"', "0", '""', "true"])
def test_a_time_in_the_format_of_the_site_does_not_stop_a_payment(time: str) -> None:
    made = FloatWorld("source")
    made.spell = str
    made.respell = (re.compile(rb'("(?:datePaid|DATE_PAYED)": ?)("[^"]*"|null)'), rb"\g<1>" + time.encode())
    payment = made.person("crm.item.payment.add", {"entityTypeId": 2, "entityId": 1})
    receipts = [
        made.payments.pay_invoice(invoice_id=2, pay_system_id=31).as_dict(),
        made.payments.pay_crm_payment(payment_id=payment, allow_zero=True).as_dict(),
        made.payments.pay_invoice(invoice_id=2, pay_system_id=31).as_dict(),
    ]
    assert [receipt["paid_at"] for receipt in receipts] == [None, None, None]
    assert len(made.ledger("invoice_paid")) == 1
    assert len(made.ledger("payment_paid")) == 1
