"""Lists under the portal's working-time limit: minutes are waited for without a worker slot, and nobody sees a 429."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.providers.standard.triggers.temporal import DateTimeTrigger

from airflow_provider_bitrix24.drivers import with_requests
from airflow_provider_bitrix24.exceptions import PaymentListUnfinished
from airflow_provider_bitrix24.operators import limit_waits
from airflow_provider_bitrix24.operators.payment_lists import (
    AddCrmPaymentsOperator,
    PayCrmPaymentsOperator,
    PayInvoicesOperator,
)
from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.operators.conftest import PATIENT
from tests.tools.connections import connection_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Task

    LetPass = Callable[[float], None]

PAY = "sale.paysystem.pay.invoice"
ADD = "crm.item.payment.add"
PUT = "crm.item.payment.product.add"
READS = ("crm.item.payment.list", "crm.item.get", "crm.orderentity.list", "crm.invoice.get", "crm.invoice.list")
LIMIT = 6.0


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Portal]:
    """A portal with a clock of its own that counts 0.9 s for each write, and allows 6 s in ten minutes."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(limit_waits, "RESCHEDULES_ALL", True)
    monkeypatch.setenv("AIRFLOW__BITRIX24__RATE_LIMIT", "100000/100000")
    monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", f"sqlite:///{tmp_path / 'journal.db'}")
    costs = {**dict.fromkeys(READS, 0.0), PAY: 0.9, ADD: 0.9}
    portal = Portal(clock=ManualClock(time.time()), operating_limit=LIMIT, operating_costs=costs)
    with SandboxServer(portal) as server:
        monkeypatch.setenv(
            "AIRFLOW_CONN_BITRIX24_DEFAULT", connection_to(server, {**PATIENT, "working_time_limit": LIMIT})
        )
        yield portal


@pytest.fixture
def pass_time(limited: Portal, monkeypatch: pytest.MonkeyPatch) -> LetPass:
    """Let time pass for the portal and for the tasks."""
    passed, real = [0.0], time.time

    def let_pass(seconds: float) -> None:
        passed[0] += seconds
        limited.clock.advance(seconds)  # type: ignore[attr-defined]

    monkeypatch.setattr("time.time", lambda: real() + passed[0])
    return let_pass


def invoices(portal: Portal, count: int) -> list[int]:
    return [int(str(portal.create("invoice", {"price": "10.00"}))) for _ in range(count)]


def deals(portal: Portal, count: int) -> list[int]:
    return [int(str(portal.create("deal", {"title": "Deal"}))) for _ in range(count)]


def pay(ids: list[int], **options: Any) -> PayInvoicesOperator:
    return PayInvoicesOperator(task_id="pay", invoices=ids, pay_system_id=31, batch_size=4, **options)


def add(ids: list[int], **options: Any) -> AddCrmPaymentsOperator:
    return AddCrmPaymentsOperator(task_id="pay", items=ids, batch_size=4, **options)


def sleep_on_the_worker(monkeypatch: pytest.MonkeyPatch, pass_time: LetPass) -> list[float]:
    """Let the waits of a worker pass at once, and return how long they were."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        pass_time(seconds)

    monkeypatch.setattr(with_requests, "time", SimpleNamespace(sleep=sleep, time=time.time))
    return slept


def done(portal: Portal) -> list[Any]:
    events = ("invoice_paid", "payment_added")
    return [entry.get("invoice_id") or entry["entity_id"] for entry in portal.ledger if entry["event"] in events]


def refused(portal: Portal) -> int:
    return sum(request["error"] == "OPERATION_TIME_LIMIT" for request in portal.requests)


@pytest.mark.parametrize("journal", ["sql", "task state", "sql without task state"])
@pytest.mark.parametrize("kind", ["invoices", "adds"])
def test_a_list_leaves_the_worker_and_comes_back(
    limited: Portal, pass_time: LetPass, task: Task, forgetful_task: Task, kind: str, journal: str
) -> None:
    task = forgetful_task if journal == "sql without task state" else task
    if journal == "task state" and "task_state_store" not in task.context:
        pytest.skip("this Airflow keeps no task state")
    options = {} if journal == "task state" else {"journal_conn_id": "journal"}
    ids = invoices(limited, 15) if kind == "invoices" else deals(limited, 15)
    summary, waits = None, 0
    while summary is None and waits < 5:
        work = pay(ids, **options) if kind == "invoices" else add(ids, **options)
        try:
            summary = work.execute(task.context)
        except AirflowRescheduleException as leaves:
            wait = (leaves.reschedule_date - datetime.now(tz=UTC)).total_seconds()
            assert 59 < wait <= 602
            pass_time(wait + 1)
            task.reschedule()
            waits += 1
    assert summary is not None
    assert waits == 2
    assert (summary["succeeded"], summary["failed"]) == (15, 0)
    assert sorted(done(limited)) == sorted(ids)
    assert refused(limited) == 0


def test_a_deferrable_list_waits_in_the_triggerer(
    limited: Portal, pass_time: LetPass, task: Task, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = invoices(limited, 8)
    with pytest.raises(TaskDeferred) as leaves:
        pay(ids, journal_conn_id="journal", deferrable=True).execute(task.context)
    trigger = leaves.value.trigger
    assert isinstance(trigger, DateTimeTrigger)
    assert trigger.moment is not None
    assert 60 <= trigger.moment.timestamp() - time.time() <= 602
    assert leaves.value.method_name == "resumed"
    assert "holds no worker slot until then" in capfd.readouterr().out
    if "task_state_store" in task.context:
        progress = json.loads(task.store.kept["bitrix24_progress"])
        assert (progress["succeeded"], progress["remaining"], "waits_until" in progress) == (6, 2, True)
    pass_time(610)
    summary = pay(ids, journal_conn_id="journal", deferrable=True).resumed(task.context, trigger.moment)
    assert summary["statuses"] == {"paid": 8}
    assert sorted(done(limited)) == ids
    assert refused(limited) == 0
    # The wait was planned by the portal's clock, which was asked right before.
    assert "server.time" in [request["method"] for request in limited.requests]


@pytest.mark.parametrize("deferrable", [True, False])
def test_what_fails_after_the_wait_does_not_deny_what_was_sent_before_it(
    limited: Portal, pass_time: LetPass, forgetful_task: Task, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    work = pay(invoices(limited, 8), journal_conn_id="journal", deferrable=deferrable)
    with pytest.raises((TaskDeferred, AirflowRescheduleException)):
        work.execute(forgetful_task.context)
    assert len(done(limited)) == 6
    monkeypatch.setenv("AIRFLOW__BITRIX24__KILL_SWITCH", "true")
    pass_time(610)
    if not deferrable:
        forgetful_task.reschedule()
    with pytest.raises(AirflowFailException, match="An earlier attempt may have sent something") as failed:
        (work.resumed if deferrable else work.execute)(forgetful_task.context)
    assert failed.value.sent == "unknown"  # type: ignore[attr-defined]  # it is the provider's error, too


@pytest.mark.parametrize("why", ["no journal", "Airflow starts it again at once"])
def test_a_task_that_cannot_come_back_later_waits_on_the_worker(
    limited: Portal, pass_time: LetPass, forgetful_task: Task, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    slept = sleep_on_the_worker(monkeypatch, pass_time)
    monkeypatch.setattr(limit_waits, "RESCHEDULES_ALL", why == "no journal")
    ids = deals(limited, 8)
    options = {} if why == "no journal" else {"journal_conn_id": "journal"}
    summary = add(ids, **options).execute(forgetful_task.context)
    assert summary["statuses"] == {"created": 8}
    assert max(slept) > 60
    assert sorted(done(limited)) == ids
    assert refused(limited) == 0


def test_a_list_that_has_come_back_and_sent_nothing_does_not_leave_again(
    limited: Portal, pass_time: LetPass, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read again what is done may be what uses up the time: it would leave and come back without end."""
    ids = invoices(limited, 7)
    with pytest.raises(AirflowRescheduleException):
        pay(ids, journal_conn_id="journal").execute(task.context)
    task.reschedule()
    slept = sleep_on_the_worker(monkeypatch, pass_time)
    summary = pay(ids, journal_conn_id="journal").execute(task.context)
    assert summary["statuses"] == {"paid": 7}
    assert max(slept) > 60
    assert (sorted(done(limited)), refused(limited)) == (ids, 0)


def marks(portal: Portal, count: int) -> list[int]:
    return [int(portal.act.add_payment(2, deal)) for deal in deals(portal, count)]


@pytest.mark.parametrize("journal", ["sql", "none"])
def test_reading_counts_as_well_and_no_read_is_refused(
    limited: Portal,
    pass_time: LetPass,
    task: Task,
    forgetful_task: Task,
    monkeypatch: pytest.MonkeyPatch,
    journal: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Reading 120 payments once takes 18 s, more than the 12 s that are allowed, and marking them next to nothing."""
    costs = {**dict.fromkeys(READS, 0.0), "crm.item.payment.get": 0.15, "crm.item.payment.pay": 0.0}
    monkeypatch.setattr(limited.operating, "costs", costs)
    monkeypatch.setattr(limited.operating, "limit", 12.0)
    connection = json.loads(os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"])
    connection["extra"]["working_time_limit"] = 12.0
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    sleep_on_the_worker(monkeypatch, pass_time)
    task = forgetful_task if journal == "none" else task
    options = {} if journal == "none" else {"journal_conn_id": "journal"}
    ids, summary = marks(limited, 120), None
    PayCrmPaymentsOperator(task_id="pay", payments=ids[:3], allow_zero=True, **options).execute(task.context)
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    for _ in range(5):
        try:
            summary = PayCrmPaymentsOperator(
                task_id="pay", payments=ids, allow_zero=True, batch_size=20, **options
            ).execute(task.context)
            break
        except AirflowRescheduleException as leaves:
            pass_time((leaves.reschedule_date - datetime.now(tz=UTC)).total_seconds() + 1)
            task.reschedule()
    assert summary is not None
    assert summary["succeeded"] == 120
    assert refused(limited) == 0
    assert "min because of the portal's working-time limit" in capfd.readouterr().out


@pytest.mark.parametrize("known", [0, 6, 20])
def test_a_list_that_would_read_too_much_again_waits_on_the_worker(
    limited: Portal, pass_time: LetPass, task: Task, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    """What another run has marked is read again whenever the list comes back: 0.15 s each, and 12 s are allowed."""
    costs = {**dict.fromkeys(READS, 0.0), "crm.item.payment.get": 0.15, "crm.item.payment.pay": 0.9}
    monkeypatch.setattr(limited.operating, "costs", costs)
    slept = sleep_on_the_worker(monkeypatch, pass_time)
    ids = marks(limited, known + 8)
    options: dict[str, Any] = {"task_id": "pay", "allow_zero": True, "journal_conn_id": "journal", "batch_size": 4}
    for start in range(0, known, 6):  # as many as the limit allows at once
        task.ti.run_id = f"manual__{start}"
        task.store.kept.clear()
        PayCrmPaymentsOperator(payments=ids[start : min(start + 6, known)], **options).execute(task.context)
        pass_time(700)
    task.ti.run_id = "manual__last"
    task.store.kept.clear()
    slept.clear()
    work = PayCrmPaymentsOperator(payments=ids, **options)
    if known < 20:
        with pytest.raises(AirflowRescheduleException):
            work.execute(task.context)
        assert max(slept, default=0) < 60
    else:
        assert work.execute(task.context)["succeeded"] == len(ids)
        assert max(slept) >= 60
    assert refused(limited) == 0


def test_a_list_that_comes_back_is_still_refused_above_max_total(
    limited: Portal, pass_time: LetPass, task: Task
) -> None:
    costs = {**dict.fromkeys(READS, 0.0), "crm.item.payment.get": 0.0, "crm.item.payment.pay": 0.9}
    limited.operating.costs = costs
    ids = marks(limited, 8)
    for one in ids:
        limited.act.set_sum(one, "10.00")
    options: dict[str, Any] = {"journal_conn_id": "journal", "max_total": 80, "batch_size": 4}
    with pytest.raises(AirflowRescheduleException):
        PayCrmPaymentsOperator(task_id="pay", payments=ids, **options).execute(task.context)
    paid = [entry["payment_id"] for entry in limited.ledger if entry["event"] == "payment_paid"]
    assert len(paid) == 6
    limited.act.set_sum(next(one for one in ids if one not in paid), "500.00")
    pass_time(700)
    task.reschedule()
    with pytest.raises(AirflowFailException, match=r"adds up to 510.00 EUR; max_total is 80"):
        PayCrmPaymentsOperator(task_id="pay", payments=ids, **options).execute(task.context)
    assert sum(entry["event"] == "payment_paid" for entry in limited.ledger) == 6


def test_a_portal_that_only_refuses_is_waited_for_once(limited: Portal, pass_time: LetPass, task: Task) -> None:
    from airflow_provider_bitrix24.sandbox.faults import Fault

    ids = invoices(limited, 4)
    limited.faults.add(Fault(kind="operation_time_limit", method=PAY))
    with pytest.raises(AirflowRescheduleException):
        pay(ids, journal_conn_id="journal").execute(task.context)
    task.reschedule()
    pass_time(700)
    with pytest.raises(PaymentListUnfinished, match="4 not_started"):
        pay(ids, journal_conn_id="journal").execute(task.context)
    assert done(limited) == []


def test_a_portal_that_refuses_the_rest_of_a_batch_is_waited_for_again(
    limited: Portal, pass_time: LetPass, task: Task
) -> None:
    from airflow_provider_bitrix24.sandbox.faults import Fault

    for refused_call in (3, 4):
        limited.faults.add(Fault(kind="operation_time_limit", method=PAY, occurrence=refused_call))
    task.reschedule()
    with pytest.raises(AirflowRescheduleException):
        pay(invoices(limited, 4), journal_conn_id="journal").execute(task.context)
    assert len(done(limited)) == 2


@pytest.mark.parametrize("kind", ["invoices", "adds"])
def test_a_list_whose_payments_cannot_be_read_back_now_leaves_the_worker(
    limited: Portal, pass_time: LetPass, task: Task, kind: str
) -> None:
    from airflow_provider_bitrix24.sandbox.faults import Fault

    read_back = "crm.invoice.get" if kind == "invoices" else "crm.item.payment.list"
    ids = invoices(limited, 8) if kind == "invoices" else deals(limited, 8)

    def work() -> Any:
        make = pay if kind == "invoices" else add
        return make(ids, journal_conn_id="journal").execute(task.context)

    limited.faults.add(Fault(kind="operation_time_limit", method=read_back, occurrence=5, times=4))
    with pytest.raises(AirflowRescheduleException):
        work()
    assert (done(limited), refused(limited)) == (ids[:4], 4)
    pass_time(610)
    task.reschedule()
    summary = work()
    assert (summary["succeeded"], summary["failed"]) == (8, 0)
    assert done(limited) == ids


@pytest.mark.parametrize("journal", ["sql", "none"])
@pytest.mark.parametrize("tag", [True, False])
def test_a_refused_product_row_fails_no_item_of_a_list(
    limited: Portal,
    pass_time: LetPass,
    task: Task,
    forgetful_task: Task,
    monkeypatch: pytest.MonkeyPatch,
    journal: str,
    tag: bool,
) -> None:
    from airflow_provider_bitrix24.sandbox.faults import Fault

    for occurrence in (2, 3, 4):
        limited.faults.add(Fault(kind="operation_time_limit", method=PUT, occurrence=occurrence))
    slept = sleep_on_the_worker(monkeypatch, pass_time)
    ids = deals(limited, 4)
    for deal in ids:
        fields = {"ownerType": "D", "ownerId": deal, "productName": "Row", "price": "10.00", "quantity": "1"}
        limited.create("product_row", fields)
    task = forgetful_task if journal == "none" else task
    options = {} if journal == "none" else {"journal_conn_id": "journal"}
    summary = None
    for _ in range(4):
        try:
            summary = add(ids, fill_products=True, tag=tag, **options).execute(task.context)
            break
        except AirflowRescheduleException as leaves:
            pass_time((leaves.reschedule_date - datetime.now(tz=UTC)).total_seconds() + 1)
            task.reschedule()
    assert summary is not None
    assert (summary["succeeded"], summary["failed"]) == (4, 0)
    assert len({receipt["payment_id"] for receipt in summary["receipts"]}) == 4
    assert sorted(done(limited)) == ids
    assert sum(entry["event"] == "product_added" for entry in limited.ledger) == 4
    assert journal == "sql" or max(slept) >= 60


def test_the_estimate_says_which_limit_binds(limited: Portal, task: Task, capfd: pytest.CaptureFixture[str]) -> None:
    pay(invoices(limited, 4), journal_conn_id="journal").execute(task.context)
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    capfd.readouterr()
    with pytest.raises(AirflowRescheduleException):
        pay(invoices(limited, 20), journal_conn_id="journal").execute(task.context)
    printed = capfd.readouterr().out
    assert "20 invoices: 20 to send" in printed
    assert "about 15 requests, 30 min because of the portal's working-time limit" in printed
    assert "about 30 min left" in printed or "about 20 min left" in printed


def test_a_single_operator_comes_back_too(limited: Portal, pass_time: LetPass, task: Task) -> None:
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

    from airflow_provider_bitrix24.exceptions import Bitrix24RateLimited
    from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator

    pay(invoices(limited, 6), journal_conn_id="journal").execute(task.context)
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    [invoice] = invoices(limited, 1)
    single = PayInvoiceOperator(task_id="pay", invoice_id=invoice, pay_system_id=31, journal_conn_id="journal")
    # On Airflow 3.4, the retry policy makes the same of the error.
    expected = Bitrix24RateLimited if AIRFLOW_V_3_4_PLUS else AirflowRescheduleException
    with pytest.raises(expected):
        single.execute(task.context)
    assert (len(done(limited)), refused(limited)) == (6, 0)
    pass_time(610)
    task.reschedule()
    assert single.execute(task.context)["outcome"] == "paid"


def test_a_single_operator_without_a_journal_fails_and_does_not_leave(
    limited: Portal, task: Task, forgetful_task: Task
) -> None:
    from airflow_provider_bitrix24.exceptions import Bitrix24RateLimited
    from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator

    pay(invoices(limited, 6), journal_conn_id="journal").execute(task.context)
    [invoice] = invoices(limited, 1)
    with pytest.raises(Bitrix24RateLimited, match="working-time limit"):
        PayInvoiceOperator(task_id="pay", invoice_id=invoice, pay_system_id=31).execute(forgetful_task.context)
    assert (len(done(limited)), refused(limited)) == (6, 0)


@pytest.mark.parametrize("on_unknown", ["ask", "adopt"])
def test_a_list_asks_nobody(limited: Portal, task: Task, on_unknown: str) -> None:
    with pytest.raises(AirflowFailException, match=r"on_unknown must be 'fail' for a list.*Nothing was sent"):
        pay([2], on_unknown=on_unknown).execute(task.context)
    assert len(list(limited.requests)) == 0
