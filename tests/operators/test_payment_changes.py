"""The operators that undo, delete, and pay through the pay system, over real HTTP; the ledger says what happened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous
from airflow_provider_bitrix24.operators.payment_changes import (
    DeleteCrmPaymentOperator,
    PayPaymentOperator,
    UnpayCrmPaymentOperator,
)
from airflow_provider_bitrix24.operators.payments import PayCrmPaymentOperator
from airflow_provider_bitrix24.operators.safeguards import TEMPORARY
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from conftest import Task

UNPAID, PAID = 1001, 1002
WRITES = {
    "pay": "sale.paysystem.pay.payment",
    "unpay": "crm.item.payment.unpay",
    "delete": "crm.item.payment.delete",
}
EVENTS = {"pay": "payment_paid", "unpay": "payment_unpaid", "delete": "payment_deleted"}
OUTCOMES = {"pay": "paid", "unpay": "unpaid", "delete": "deleted"}
EACH = pytest.mark.parametrize("kind", list(WRITES))


@pytest.fixture
def bank(portal: Any) -> tuple[int, int]:
    """An unpaid payment whose pay system has a REST handler, and that pay system."""
    rows, system = portal.portal.state.pay_systems, 99
    rows[system] = replace(rows[31], id=system, entity_registry_type="ORDER")
    portal.portal.state.payments[UNPAID].pay_system_id = system
    return UNPAID, system


def operator(kind: str, portal: Any, **arguments: Any) -> Any:
    if kind == "pay":
        system = portal.portal.state.payments[UNPAID].pay_system_id
        return PayPaymentOperator(task_id="change", **{"payment_id": UNPAID, "pay_system_id": system, **arguments})
    if kind == "unpay":
        return UnpayCrmPaymentOperator(task_id="change", **{"payment_id": PAID, **arguments})
    return DeleteCrmPaymentOperator(task_id="change", **{"payment_id": UNPAID, **arguments})


def events(portal: Any) -> list[str]:
    return [entry["event"].removeprefix("payment_") for entry in portal.ledger if entry["event"] in EVENTS.values()]


def sent(portal: Any, kind: str) -> int:
    return sum(request["method"] == WRITES[kind] for request in portal.requests)


@EACH
def test_three_requests_one_entry_and_a_plain_receipt(portal: Any, bank: Any, task: Task, kind: str) -> None:
    receipt = operator(kind, portal).execute(task.context)
    assert sum(not request["inside_batch"] for request in portal.requests) == 3
    (entry,) = [entry for entry in portal.ledger if entry["event"] == EVENTS[kind]]
    assert entry["idempotency_key"] == hashlib.sha256(receipt["idempotency_key"].encode()).hexdigest()
    assert receipt["outcome"] == OUTCOMES[kind]
    assert json.loads(json.dumps(receipt)) == receipt
    number = {"unpay": PAID}.get(kind, UNPAID)
    assert task.xcoms["_link_CrmPaymentLink"] == f"{portal.url}/shop/orders/payment/details/{number}/"


@EACH
def test_a_second_attempt_finds_what_the_first_has_done(portal: Any, bank: Any, task: Task, kind: str) -> None:
    first = operator(kind, portal).execute(task.context)  # the worker dies here
    task.again()
    if kind == "delete" and not AIRFLOW_V_3_3_PLUS:  # nothing tells who has deleted it
        with pytest.raises(AirflowFailException, match="there is no journal"):
            operator(kind, portal).execute(task.context)
    else:
        again = operator(kind, portal).execute(task.context)
        outcome = OUTCOMES[kind] if AIRFLOW_V_3_3_PLUS else f"already_{OUTCOMES[kind]}"
        assert (again["outcome"], again["recovered"]) == (outcome, AIRFLOW_V_3_3_PLUS)
        assert again["idempotency_key"] == first["idempotency_key"]
    assert sent(portal, kind) == 1


@EACH
def test_a_lost_reply_is_resolved_by_reading(portal: Any, bank: Any, task: Task, kind: str) -> None:
    portal.fault("drop_after", WRITES[kind], times=1)
    receipt = operator(kind, portal).execute(task.context)
    assert (receipt["outcome"], receipt["evidence"]) == (OUTCOMES[kind], "portal_state")
    assert sent(portal, kind) == 1


@EACH
def test_what_gets_lost_again_and_again_fails_for_good(
    portal: Any, bank: Any, task: Task, kind: str, journal_conn_id: str
) -> None:
    portal.fault("drop_before", WRITES[kind])
    for _ in range(2):
        with raises_for_good(PaymentAmbiguous, r"sent twice"):
            operator(kind, portal, journal_conn_id=journal_conn_id).execute(task.context)
        task.again()
    assert (events(portal), sent(portal, kind)) == ([], 2)


@EACH
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_amount": "1.00"}, "max_amount"),
        ({"expected_amount": "1.00"}, "was expected"),
        ({"expected_currency": "USD"}, "was expected"),
        ({"payment_id": 999_999}, "There is no payment"),
        ({"payment_id": "two"}, "payment_id"),
        ({"payment_id": None}, "payment_id was given, but rendered to None"),
        ({"on_unknown": "guess"}, "on_unknown"),
    ],
)
def test_what_must_not_be_sent_is_refused(
    portal: Any, bank: Any, task: Task, kind: str, arguments: dict[str, Any], words: str
) -> None:
    made = operator(kind, portal)
    for name, value in arguments.items():
        setattr(made, name, value)  # as a template renders it
    with pytest.raises(AirflowFailException, match=words):
        made.execute(task.context)
    assert (events(portal), sent(portal, kind)) == ([], 0)


@EACH
def test_the_kill_switch_backfills_and_temporary_runs_stop_it(
    portal: Any, bank: Any, task: Task, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.run.run_type = "backfill"
    with pytest.raises(AirflowFailException, match="backfill run"):
        operator(kind, portal).execute(task.context)
    task.run.run_type, task.run.run_id = "manual", f"{TEMPORARY}1"
    with pytest.raises(AirflowFailException, match="temporary run"):
        operator(kind, portal).execute(task.context)
    task.run.run_id = "manual__1"
    monkeypatch.setenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT", "true")
    with pytest.raises(AirflowFailException, match="stopped all payments"):
        operator(kind, portal).execute(task.context)
    assert (portal.requests, portal.ledger) == ([], [])


@EACH
def test_the_payment_is_found_by_its_number(portal: Any, bank: Any, task: Task, kind: str) -> None:
    number = portal.portal.state.payments[PAID if kind == "unpay" else UNPAID].account_number
    receipt = operator(kind, portal, payment_id=None, account_number=number).execute(task.context)
    assert receipt["outcome"] == OUTCOMES[kind]


@pytest.mark.needs_task_state
@EACH
@pytest.mark.parametrize("keeps_state", [True, False])
def test_a_cleared_task_does_not_repeat_what_somebody_has_undone(
    portal: Any, bank: Any, task: Task, kind: str, keeps_state: bool
) -> None:
    operator(kind, portal).execute(task.context)
    if kind == "pay":
        portal.act.unpay_payment(UNPAID, user_id=7)
    elif kind == "unpay":
        portal.act.pay_payment(PAID)
    task.clear()
    if not keeps_state:  # as Airflow 3.4 clears a task
        task.store.kept.clear()
    if kind == "delete" and keeps_state:
        assert operator(kind, portal).execute(task.context)["outcome"] == "deleted"
    else:
        with pytest.raises(AirflowFailException, match=r"Nothing was sent by this attempt") as caught:
            operator(kind, portal).execute(task.context)
        lost = "The task was cleared, and what its earlier attempts had noted is gone" in str(caught.value)
        assert lost is not keeps_state
    assert sent(portal, kind) == 1


@pytest.mark.parametrize(("choice", "end"), [("skip", AirflowSkipException), ("fail", AirflowFailException)])
def test_what_is_unpaid_already_ends_as_the_author_says(portal: Any, task: Task, choice: str, end: Any) -> None:
    made = operator("unpay", portal, payment_id=UNPAID, if_unpaid=choice)
    with pytest.raises(end, match=r"payment_id 1001 .* is unpaid already"):
        made.execute(task.context)
    assert sent(portal, "unpay") == 0


def test_a_paid_payment_is_deleted_only_if_the_author_says_so(portal: Any, task: Task) -> None:
    with pytest.raises(AirflowFailException, match="is paid, and a paid payment is not deleted"):
        operator("delete", portal, payment_id=PAID).execute(task.context)
    task.again()
    assert operator("delete", portal, payment_id=PAID, allow_paid=True).execute(task.context)["outcome"] == "deleted"
    assert events(portal) == ["unpaid", "deleted"]


def test_pay_unpay_pay_are_operations_of_tasks_of_their_own(
    portal: Any, monkeypatch: pytest.MonkeyPatch, journal_conn_id: str
) -> None:
    from tests.operators.conftest import Task  # the class that the fixture makes

    monkeypatch.setenv("AIRFLOW__BITRIX24__JOURNAL_CONN_ID", journal_conn_id)
    tasks: list[Any] = []
    for number, make in enumerate((PayCrmPaymentOperator, UnpayCrmPaymentOperator, PayCrmPaymentOperator)):
        tasks.append(Task())
        tasks[-1].ti.task_id = f"step_{number}"
        make(task_id=f"step_{number}", payment_id=UNPAID).execute(tasks[-1].context)
    assert events(portal) == ["paid", "unpaid", "paid"]
    for number, make in enumerate((PayCrmPaymentOperator, UnpayCrmPaymentOperator, PayCrmPaymentOperator)):
        tasks[number].again()
        again = make(task_id=f"step_{number}", payment_id=UNPAID)
        if make is PayCrmPaymentOperator:
            assert again.execute(tasks[number].context)["outcome"] in ("paid", "already_paid")
        else:
            with pytest.raises(
                AirflowFailException, match=r"was unpaid before .* does not show that now: somebody has reverted it"
            ):
                again.execute(tasks[number].context)
    assert events(portal) == ["paid", "unpaid", "paid"]
