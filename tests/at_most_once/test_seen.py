"""A list was read as a whole: what is done already ends without another request; nothing else is decided on that."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.unpay_crm_payment import UnpayCrmPayment
from airflow_provider_bitrix24.at_most_once.preview import preview_invoices, preview_payments
from airflow_provider_bitrix24.at_most_once.receipt import Expected
from airflow_provider_bitrix24.at_most_once.record import Send
from airflow_provider_bitrix24.journal.protocol import Change
from tests.at_most_once.conftest import World
from tests.at_most_once.test_lists import PORTAL, Run, outcomes, pays, run
from tests.at_most_once.test_recovery import Killed

if TYPE_CHECKING:
    from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine

__all__ = ["run"]
pytestmark = pytest.mark.parametrize("world", ["source"], indirect=True)


def marks(run: Run, count: int, *, paid: int) -> list[PayCrmPayment]:
    """Payments of which people have marked the first ones as paid."""
    inside = run.world.portal
    payments = [int(inside.act.add_payment(2, deal)) for deal in run.deals(count)]
    for one in payments[:paid]:
        inside.act.pay_payment(one)
    inside.ledger.clear()
    return [PayCrmPayment(portal=PORTAL, payment_id=one, allow_zero=True) for one in payments]


def read_whole(run: Run, engine: PaymentEngine, operations: Any) -> None:
    """Read the list, let a minute pass, and forget the requests."""
    preview = preview_invoices if hasattr(operations[0], "invoice_id") else preview_payments
    engine.take(run.world.run(preview(run.world.client, operations)).views)
    run.world.clock.advance(60)
    run.world.sent.clear()


@pytest.mark.parametrize("kind", ["invoices", "payments"])
def test_what_is_paid_already_ends_without_a_request(run: Run, kind: str) -> None:
    if kind == "invoices":
        invoices = run.invoices(60)
        for one in invoices[:50]:
            run.world.portal.act.pay_invoice(one)
        operations: Any = pays(invoices)
    else:
        operations = marks(run, 60, paid=50)
    engine = run.engine()
    read_whole(run, engine, operations)
    results = engine.run(operations)
    assert outcomes(results) == ["already_paid"] * 50 + ["paid"] * 10
    assert [one.sent or one.recovered for one in results if not isinstance(one, Failure)] == [False] * 50 + [True] * 10
    assert run.world.sent == ["batch"] * 3  # read, send, read back


def test_what_another_task_has_marked_ends_without_a_request(run: Run) -> None:
    operations = marks(run, 30, paid=0)
    assert outcomes(run.engine("other").run(operations)) == ["paid"] * 30
    engine = run.engine()
    read_whole(run, engine, operations)
    assert outcomes(engine.run(operations)) == ["already_paid"] * 30
    assert run.world.sent == []


def test_a_send_on_its_way_is_looked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    world, operations = run.world, marks(run, 1, paid=0)

    def dying(flow: Any) -> Any:
        result = World.run(world, flow)
        if flow.__name__ == "send_one":
            raise Killed
        return result

    with monkeypatch.context() as once:
        once.setattr(world, "run", dying)
        with pytest.raises(Killed):
            run.engine().run(operations)
    engine = run.engine()
    read_whole(run, engine, operations)
    [result] = engine.run(operations)
    assert not isinstance(result, Failure)
    assert (result.outcome, result.recovered) == ("paid", True)
    assert world.sent == ["batch"]


def test_other_money_than_expected_is_refused_after_another_read(run: Run) -> None:
    operations = [replace(one, expected=Expected(amount=Decimal(5))) for one in marks(run, 1, paid=1)]
    engine = run.engine()
    read_whole(run, engine, operations)
    [result] = engine.run(operations)
    assert isinstance(result, Failure)
    assert result.code == "payment.mismatch"
    assert run.world.sent == ["batch"]


@pytest.mark.parametrize("settles_in", [30.0, 3600.0])
def test_an_operation_that_may_undo_it_is_judged_by_the_clock_of_now(run: Run, settles_in: float) -> None:
    operations = marks(run, 1, paid=1)
    unpay = UnpayCrmPayment(portal=PORTAL, payment_id=operations[0].payment_id)
    engine = run.engine()
    other = replace(engine._wanted(unpay), task="other")
    now = run.world.time()
    send = Send(at=now - 1, settle_until=now + settles_in, by="other:try:1", result="pending")
    engine._tools.journal.save([Change(record=replace(other, sends=(send,)))])
    read_whole(run, engine, operations)
    [result] = engine.run(operations)
    assert outcomes([result]) == ["already_paid" if settles_in < 60 else "payment.in_progress"]
    assert run.world.sent == ["batch"]


def test_what_is_not_paid_is_read_again_before_it_is_sent(run: Run) -> None:
    operations = marks(run, 2, paid=0)
    engine = run.engine()
    views = run.world.run(preview_payments(run.world.client, operations)).views
    assert views == {}
    read_whole(run, engine, operations)
    run.world.portal.act.pay_payment(operations[0].payment_id)
    assert outcomes(engine.run(operations)) == ["already_paid", "paid"]
    assert len(run.world.ledger("payment_paid")) == 2
