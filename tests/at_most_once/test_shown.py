"""What the portal has shown in this round of a task: only that is not read again."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest

from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.receipt import Expected, Receipt
from airflow_provider_bitrix24.at_most_once.record import Decision, Record, Send
from airflow_provider_bitrix24.at_most_once.shown import KEYS_TOGETHER, shown_in_round
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.journal.protocol import Busy, Loaded

PORTAL = "acme.bitrix24.com"
TASK = TaskAttempt(identity="task", try_number=2, max_tries=3, run_began="run:1")
PAY = PayInvoice(portal=PORTAL, invoice_id=2, pay_system_id=31)
PAID = Receipt(
    operation="pay_invoice",
    outcome="paid",
    portal=PORTAL,
    subject={"invoice_id": 2},
    pay_system_id=31,
    money=Money(Decimal("1500.00"), "EUR"),
    paid_at=pendulum.datetime(2026, 1, 2, 3, 4, 5, tz="Europe/Berlin"),
    idempotency_key=PAY.key,
    evidence="response",
    sent=True,
)
ADDED = replace(
    PAID,
    operation="add_crm_payment",
    outcome="created",
    subject={"entity_type_id": 2, "entity_id": 7, "payment_id": 1033},
    pay_system_id=None,
    money=Money(Decimal(0), "JPY"),
    paid_at=None,
    evidence="tag",
)
SENT = Send(at=1.0, settle_until=2.0, by="task:try:1", result="acknowledged")
DECISION = Decision(what="send_again", by="Ann", at="2026-01-01T00:00:00+00:00", through="Airflow")


def record(operation: Any = PAY, receipt: Receipt = PAID, shown_in: str | None = TASK.shows_in) -> Record:
    wanted = Record(
        key=operation.key,
        portal=PORTAL,
        operation=operation.name,
        subject=operation.subject,
        parameters=operation.parameters,
        task="task",
    )
    return replace(wanted, sends=(SENT,)).finished(receipt.as_dict(), shown_in)


DONE = record()


def shown(loaded: Loaded, operation: Any = PAY, task: TaskAttempt = TASK) -> dict[int, Receipt]:
    settings = SimpleNamespace(portal=PORTAL)
    journal = SimpleNamespace(load=lambda portal, keys: dict.fromkeys(keys, loaded))
    tools: Any = SimpleNamespace(client=SimpleNamespace(settings=settings), journal=journal, task=task)
    return shown_in_round(tools, [operation])


@pytest.mark.parametrize(("receipt", "recovered"), [(PAID, True), (ADDED, True), (ADDED, False)])
def test_a_receipt_is_read_as_it_was_written(receipt: Receipt, recovered: bool) -> None:
    read = Receipt.read(receipt.as_dict(), recovered=recovered)
    assert read == replace(receipt, sent=False, recovered=recovered)
    assert read.as_dict() == {**receipt.as_dict(), "recovered": recovered}
    assert type(read.paid_at) is type(receipt.paid_at)


@pytest.mark.parametrize("try_number", [1, 2, 3])
def test_what_was_shown_in_this_round_is_known(try_number: int) -> None:
    known = shown(Loaded(record=DONE), task=replace(TASK, try_number=try_number))
    assert known == {0: replace(PAID, sent=False, recovered=True)}


def test_what_was_found_and_not_sent_is_not_said_to_be_sent() -> None:
    add = AddCrmPayment(portal=PORTAL, key="key", entity_id=7, entity_type_id=2)
    existing = replace(ADDED, outcome="existing", sent=False)
    [known] = shown(Loaded(record=replace(record(add, existing), sends=(), payment_id=1033)), add).values()
    assert (known.outcome, known.sent, known.recovered) == ("existing", False, False)


@pytest.mark.parametrize(
    "loaded",
    [
        pytest.param(Loaded(), id="no record"),
        pytest.param(Loaded(error=Bitrix24ConfigError("damaged")), id="damaged"),
        pytest.param(Loaded(record=replace(DONE, receipt=None)), id="no receipt"),
        pytest.param(Loaded(record=replace(DONE, shown_in=None)), id="of an older release"),
        pytest.param(Loaded(record=replace(DONE, shown_in="task:max_tries:2:run:1")), id="before a clear"),
        pytest.param(Loaded(record=replace(DONE, shown_in="task:max_tries:3:run:2")), id="another run of that name"),
        pytest.param(Loaded(record=replace(DONE, shown_in="other:max_tries:3:run:1")), id="another task"),
        pytest.param(Loaded(record=DONE.decided(DECISION)), id="a decision waits"),
        pytest.param(Loaded(record=replace(DONE, decisions=(replace(DECISION, what="abandon"),))), id="abandoned"),
        pytest.param(Loaded(record=DONE, busy=Busy("other", 10.0, 5)), id="held by another attempt"),
        pytest.param(Loaded(record=DONE, behind=True), id="not in the database"),
        pytest.param(Loaded(record=replace(DONE, forgotten=True)), id="notes lost"),
        pytest.param(Loaded(record=replace(DONE, parameters={**PAY.parameters, "pay_system_id": 8})), id="parameters"),
        pytest.param(Loaded(record=replace(DONE, receipt={"outcome": "paid"})), id="half a receipt"),
        pytest.param(Loaded(record=replace(DONE, receipt={**PAID.as_dict(), "amount": "x"})), id="a wrong amount"),
        pytest.param(Loaded(record=replace(DONE, receipt={**PAID.as_dict(), "paid_at": 5})), id="a wrong time"),
    ],
)
def test_all_else_is_read_again(loaded: Loaded) -> None:
    assert shown(loaded) == {}


def test_what_is_for_other_money_than_is_expected_now_is_read_again() -> None:
    for expected, known in ((Expected(amount=Decimal(1500), currency="EUR"), 1), (Expected(amount=Decimal(1400)), 0)):
        assert len(shown(Loaded(record=DONE), replace(PAY, expected=expected))) == known


@pytest.mark.parametrize("unknown", ["max_tries", "run_began"])
def test_a_round_that_is_not_known_is_no_round(unknown: str) -> None:
    task: TaskAttempt = replace(TASK, **{unknown: None})
    assert task.shows_in is None
    assert shown(Loaded(record=record(shown_in=None)), task=task) == {}
    assert shown(Loaded(record=DONE), task=task) == {}


def test_the_round_leaves_the_record_with_the_receipt() -> None:
    asked = replace(DONE, payment_id=1033, evidence="portal_state").decided(DECISION)
    for changed in (DONE.reopened(), asked.adopted(1034, {}), asked.permitted_again([]), asked.abandoned()):
        assert (changed.receipt, changed.shown_in) == (None, None)


def test_a_long_list_is_loaded_in_parts() -> None:
    loads: list[int] = []

    def load(portal: str, keys: Any) -> dict[str, Loaded]:
        loads.append(len(keys))
        return {key: Loaded(record=replace(DONE, key=key)) for key in keys}

    settings = SimpleNamespace(portal=PORTAL)
    tools: Any = SimpleNamespace(
        client=SimpleNamespace(settings=settings), journal=SimpleNamespace(load=load), task=TASK
    )
    operations = [AddCrmPayment(portal=PORTAL, key=str(one), entity_id=7, entity_type_id=2) for one in range(501)]
    assert shown_in_round(tools, operations) == {}  # they are records of another operation's parameters
    assert loads == [KEYS_TOGETHER, 1]
