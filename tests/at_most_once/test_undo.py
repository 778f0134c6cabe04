"""Setting payments back to unpaid, deleting them, and paying them through their pay system, in virtual time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.delete_crm_payment import DeleteCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.unpay_crm_payment import UnpayCrmPayment
from airflow_provider_bitrix24.at_most_once.receipt import Expected
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ApiError,
    Bitrix24NotSent,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
    PaymentUnresolved,
)
from tests.at_most_once.test_lists import PORTAL, Run, outcomes, run
from tests.at_most_once.test_recovery import Killed, die

if TYPE_CHECKING:
    from conftest import World

__all__ = ["run"]

UNPAY = "crm.item.payment.unpay"
DELETE = "crm.item.payment.delete"
PAY = "sale.paysystem.pay.payment"
KEY = "acme.bitrix24.com:payment:{}"


def unpay(world: World, payment_id: int = 1002, **arguments: Any) -> dict[str, Any]:
    return world.payments.unpay_crm_payment(payment_id=payment_id, **arguments).as_dict()


def delete(world: World, payment_id: int = 1001, **arguments: Any) -> dict[str, Any]:
    return world.payments.delete_crm_payment(payment_id=payment_id, **arguments).as_dict()


def with_rest_handler(world: World) -> tuple[int, int]:
    """An unpaid payment whose pay system has a REST handler."""
    system = world.person(
        "sale.paysystem.add",
        {"NAME": "Bank", "PERSON_TYPE_ID": 1, "BX_REST_HANDLER": "sandbox_bank", "ENTITY_REGISTRY_TYPE": "ORDER"},
    )
    payment = world.person(
        "crm.item.payment.add", {"entityId": 1, "entityTypeId": 2, "fields": {"paySystemId": system}}
    )
    world.portal.ledger.clear()
    return payment, system


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


# -- back to unpaid


def test_a_paid_payment_is_set_back_in_three_requests(world: World) -> None:
    receipt = unpay(world)
    key = f"{KEY.format(1002)}:unpay"
    assert receipt["operation"] == "unpay_crm_payment"
    assert (receipt["outcome"], receipt["evidence"], receipt["idempotency_key"]) == ("unpaid", "response", key)
    assert "paid_at" not in receipt
    (entry,) = world.ledger("payment_unpaid")
    assert (entry["payment_id"], entry["idempotency_key"]) == (1002, digest(key))
    assert world.sent == ["batch", UNPAY, "crm.item.payment.get"]


def test_an_unpaid_payment_is_left_alone(world: World) -> None:
    assert unpay(world, 1001)["outcome"] == "already_unpaid"
    assert world.sent == ["batch"]


@pytest.mark.parametrize("fault", ["drop_after", "truncate"])
def test_a_lost_reply_to_the_reset_is_resolved_by_reading(world: World, fault: str) -> None:
    world.fault(fault, UNPAY, times=1)
    receipt = unpay(world)
    assert (receipt["outcome"], receipt["evidence"]) == ("unpaid", "portal_state")
    assert world.writes() == [UNPAY]


def test_a_lost_reset_is_sent_once_more_and_then_for_a_person(world: World) -> None:
    world.fault("drop_before", UNPAY)
    with pytest.raises(
        PaymentAmbiguous, match=r"request to set payment 1002 back to unpaid was sent twice.*if it is paid"
    ):
        unpay(world)
    assert world.writes() == [UNPAY, UNPAY]
    assert world.ledger("payment_unpaid") == []


def test_true_without_effect_is_found_for_the_reset(world: World) -> None:
    world.fault("true_not_applied", UNPAY, times=1)
    with pytest.raises(
        PaymentNotApplied,
        match=r"request to set payment 1002 back to unpaid, but does not show it as unpaid",
    ):
        unpay(world)


def test_other_money_and_more_than_the_limit_are_not_set_back(world: World) -> None:
    with pytest.raises(PaymentMismatch, match="was expected"):
        unpay(world, expected=Expected(amount=Decimal(1)))
    with pytest.raises(PaymentRefused, match="max_amount"):
        unpay(world, max_amount=Decimal(1))
    assert world.writes() == []


# -- delete


def test_an_unpaid_payment_is_deleted_in_three_requests(world: World) -> None:
    receipt = delete(world)
    key = f"{KEY.format(1001)}:delete"
    assert (receipt["outcome"], receipt["amount"], receipt["idempotency_key"]) == ("deleted", "350.00", key)
    (entry,) = world.ledger("payment_deleted")
    assert (entry["payment_id"], entry["idempotency_key"]) == (1001, digest(key))
    assert world.sent == ["batch", DELETE, "batch"]


def test_a_paid_payment_is_not_deleted(world: World) -> None:
    with pytest.raises(PaymentRefused, match=r"Payment 1002 .* is paid.*allow_paid=True.*Nothing was sent"):
        delete(world, 1002)
    assert world.writes() == []


def test_a_paid_payment_is_set_back_first_if_the_author_allows_it(world: World) -> None:
    assert delete(world, 1002, allow_paid=True)["outcome"] == "deleted"
    assert world.writes() == [UNPAY, DELETE]
    assert [entry["event"] for entry in world.ledger("payment_unpaid", "payment_deleted")] == [
        "payment_unpaid",
        "payment_deleted",
    ]


def test_a_paid_payment_that_cannot_be_set_back_stays(world: World) -> None:
    world.fault("true_not_applied", UNPAY)
    with pytest.raises(PaymentNotApplied, match="could not be set back to unpaid, so it was not deleted"):
        delete(world, 1002, allow_paid=True)
    assert DELETE not in world.writes()


def test_a_lost_request_to_set_it_back_is_not_sent_again_after_the_wait(world: World) -> None:
    """What permitted it was judged before the wait."""
    world.fault("drop_before", UNPAY, times=1)
    with pytest.raises(PaymentNotApplied, match="could not be set back to unpaid, so it was not deleted"):
        delete(world, 1002, allow_paid=True)
    assert world.writes() == [UNPAY]


def test_setting_it_back_that_does_not_leave_is_tried_again(world: World) -> None:
    world.not_sent = 1
    assert delete(world, 1002, allow_paid=True)["outcome"] == "deleted"
    assert world.writes() == [UNPAY, DELETE]


@pytest.mark.parametrize("fault", ["overload_limit", "operation_time_limit"])
def test_a_refusal_after_it_was_set_back_does_not_deny_that(world: World, fault: str) -> None:
    world.fault(fault, DELETE)
    with pytest.raises(Bitrix24ApiError, match="sent the request to set payment 1002 back to unpaid") as told:
        delete(world, 1002, allow_paid=True)
    assert world.writes() == [UNPAY, DELETE]
    assert told.value.sent == "unknown"
    assert str(told.value).count("sent the request to set") == 1


def test_a_deletion_that_does_not_leave_does_not_deny_that_it_was_set_back(world: World) -> None:
    world.before["crm.item.payment.get"] = lambda: setattr(world, "not_sent", 1000)
    with pytest.raises(Bitrix24NotSent, match="sent the request to set payment 1002 back to unpaid") as told:
        delete(world, 1002, allow_paid=True)
    assert len(world.ledger("payment_unpaid")) == 1
    assert told.value.sent == "unknown"


def test_a_later_attempt_knows_that_it_was_set_back(run: Run) -> None:
    run.world.person("crm.item.payment.pay", {"id": 1001})
    run.world.before["crm.item.payment.get"] = die
    with pytest.raises(Killed):
        marked(run, "delete", DELETE_1001)
    assert len(run.world.ledger("payment_unpaid")) == 1
    run.world.person("crm.item.payment.pay", {"id": 1001})
    again = replace(DELETE_1001, allow_paid=False)
    [refused] = run.engine("delete").run([again])
    assert isinstance(refused, Failure)
    assert refused.sent == "unknown"
    assert "sent the request to set payment 1001 back to unpaid" in str(refused.error)


def test_a_payment_that_is_paid_once_more_meanwhile_stays(world: World) -> None:
    def pay_again() -> None:
        world.before["batch"] = lambda: world.person("crm.item.payment.pay", {"id": 1002})

    world.before[UNPAY] = pay_again
    with pytest.raises(PaymentNotApplied, match="could not be set back to unpaid, so it was not deleted"):
        delete(world, 1002, allow_paid=True)
    assert world.writes() == [UNPAY]


def test_a_payment_that_does_not_exist_is_not_taken_for_deleted(world: World) -> None:
    with pytest.raises(PaymentRefused, match="There is no payment 999"):
        delete(world, 999)
    assert world.writes() == []


def test_a_payment_that_cannot_be_read_after_it_was_set_back_is_not_deleted_now(world: World) -> None:
    world.before[UNPAY] = lambda: world.fault("drop_before", "crm.item.payment.get")
    with pytest.raises(PaymentUnresolved, match="sent the request to set payment 1002 back to unpaid"):
        delete(world, 1002, allow_paid=True)
    assert world.writes() == [UNPAY]


@pytest.mark.parametrize("fault", ["drop_after", "truncate"])
def test_a_lost_reply_to_the_deletion_is_resolved_by_reading(world: World, fault: str) -> None:
    world.fault(fault, DELETE, times=1)
    receipt = delete(world)
    assert (receipt["outcome"], receipt["evidence"]) == ("deleted", "portal_state")
    assert world.writes() == [DELETE]


def test_a_lost_deletion_is_sent_once_more(world: World) -> None:
    world.fault("drop_before", DELETE, times=1)
    assert delete(world)["outcome"] == "deleted"
    assert world.writes() == [DELETE, DELETE]
    assert len(world.ledger("payment_deleted")) == 1


def test_true_without_effect_is_found_for_the_deletion(world: World) -> None:
    world.fault("true_not_applied", DELETE, times=1)
    with pytest.raises(PaymentNotApplied, match="does not show it as deleted"):
        delete(world)
    assert world.ledger("payment_deleted") == []


# -- through the pay system


def test_a_payment_is_paid_through_its_pay_system(world: World) -> None:
    payment, system = with_rest_handler(world)
    receipt = world.payments.pay_payment(payment_id=payment, pay_system_id=system, allow_zero=True).as_dict()
    key = f"{KEY.format(payment)}:pay_system"
    assert (receipt["outcome"], receipt["pay_system_id"], receipt["idempotency_key"]) == ("paid", system, key)
    (entry,) = world.ledger("payment_paid")
    assert (entry["payment_id"], entry["idempotency_key"]) == (payment, digest(key))
    assert world.sent == ["batch", PAY, "crm.item.payment.get"]


def test_a_payment_of_0_is_not_paid_through_its_pay_system(world: World) -> None:
    payment, system = with_rest_handler(world)
    with pytest.raises(PaymentRefused, match="allow_zero"):
        world.payments.pay_payment(payment_id=payment, pay_system_id=system)
    assert world.writes() == []


def test_another_pay_system_than_the_payments_is_refused(world: World) -> None:
    with pytest.raises(PaymentRefused, match=r"has pay system 6, not 8 \(pay_system_id\).*Nothing was sent"):
        world.payments.pay_payment(payment_id=1001, pay_system_id=8)
    assert world.writes() == []


def test_a_pay_system_that_would_do_nothing_is_refused(world: World) -> None:
    with pytest.raises(PaymentRefused, match=r"no REST handler.*PayCrmPaymentOperator"):
        world.payments.pay_payment(payment_id=1001, pay_system_id=6)
    assert world.writes() == []


# -- among tasks of one journal


def marked(run: Run, owner: str, operation: Any) -> str:
    """How a task with this one operation ends."""
    return outcomes(run.engine(owner).run([operation]))[0]


PAY_1001 = PayCrmPayment(portal=PORTAL, payment_id=1001)
UNPAY_1001 = UnpayCrmPayment(portal=PORTAL, payment_id=1001)
DELETE_1001 = DeleteCrmPayment(portal=PORTAL, payment_id=1001, allow_paid=True)


def test_a_task_whose_payment_was_set_back_does_not_go_on_with_what_another_has_begun(run: Run) -> None:
    assert marked(run, "first", PAY_1001) == "paid"
    assert marked(run, "back", UNPAY_1001) == "unpaid"
    run.world.before["crm.item.payment.pay"] = die
    with pytest.raises(Killed):
        marked(run, "second", PAY_1001)
    assert marked(run, "first", PAY_1001) == "payment.not_applied"
    assert len(run.world.ledger("payment_paid")) == 1


def test_nothing_is_sent_while_another_operation_on_the_payment_may_arrive(run: Run) -> None:
    run.world.before["crm.item.payment.pay"] = die
    with pytest.raises(Killed):
        marked(run, "first", PAY_1001)
    assert marked(run, "delete", DELETE_1001) == "payment.in_progress"
    assert 1001 in run.world.portal.state.payments


def test_nothing_is_sent_while_another_operation_on_the_payment_cannot_be_read(run: Run) -> None:
    assert marked(run, "first", PAY_1001) == "paid"
    with run.database.begin() as connection:
        connection.execute(sqlalchemy.text("update bitrix24_journal set document = '{'"))
    assert marked(run, "delete", DELETE_1001) == "config.invalid"
    assert 1001 in run.world.portal.state.payments
