"""What permits a send is judged on what the portal showed after the last wait, for every send, in virtual time."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from airflow_provider_bitrix24.api.queries import PaymentBeforePaying
from airflow_provider_bitrix24.at_most_once.attempt import Attempt, Tools
from airflow_provider_bitrix24.at_most_once.chunks import ChunkSize
from airflow_provider_bitrix24.at_most_once.lockstep import Lockstep
from airflow_provider_bitrix24.at_most_once.receipt import Expected
from airflow_provider_bitrix24.at_most_once.record import Decision, Record
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    Bitrix24NotSent,
    Bitrix24StoreError,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.cli import refuse_senseless
from airflow_provider_bitrix24.journal.protocol import NullJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.sql import Database
from tests.at_most_once.test_recovery import Job, Killed, die
from tests.tools.payments import JournalPage, ScriptedPayments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import World

ADD = "crm.item.payment.add"
LIST = "crm.item.payment.list"
GET = "crm.item.payment.get"
PAY = "crm.item.payment.pay"
PAY_INVOICE = "sale.paysystem.pay.invoice"
GET_INVOICE = "crm.invoice.get"
PUT = "crm.item.payment.product.add"
UPDATE = "crm.item.payment.update"
LIMITS: dict[str, Any] = {
    "max_amount": {"max_amount": Decimal(500)},
    "expected_amount": {"expected": Expected(amount=Decimal("350.00"))},
}


@pytest.fixture
def job(world: World) -> Job:
    world.connect(scopes=("crm", "sale", "pay_system"))
    return Job(world)


def mark(payments: ScriptedPayments, **options: Any) -> Any:
    return payments.pay_crm_payment(payment_id=1001, **options)


def add(payments: ScriptedPayments, **options: Any) -> Any:
    return payments.add_crm_payment(**{"entity_id": 1, "entity_type_id": 2, "key": "key", **options})


def dearer(world: World) -> None:
    world.portal.act.set_sum(1001, "99999.00")


# -- the sum, and the other guards of a mark


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("moment", ["in the settle window", "not sent", "too many requests"])
def test_a_sum_that_changes_during_a_wait_is_seen(world: World, limit: str, moment: str) -> None:
    if moment == "in the settle window":
        world.fault("drop_before", PAY, times=1)
        world.before[GET] = lambda: dearer(world)
    elif moment == "not sent":
        world.not_sent = 1
        world.before["batch:payment"] = lambda: world.before.update({"batch:payment": lambda: dearer(world)})
    else:
        world.fault("query_limit_exceeded", PAY, times=1)
        world.before[PAY] = lambda: dearer(world)
    with pytest.raises((PaymentRefused, PaymentMismatch), match=r"for 99999\.00 EUR"):
        mark(world.payments, **LIMITS[limit])
    assert world.ledger("payment_paid") == []
    assert len(world.writes()) == (0 if moment == "not sent" else 1)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_later_attempt_that_has_waited_reads_the_sum_again(job: Job, limit: str) -> None:
    """It finds a send without an answer, waits until nothing can arrive, and would send on what it read before."""
    job.world.fault("drop_before", PAY, times=1)
    job.world.before[GET] = die
    job.killed(lambda: mark(job.payments, **LIMITS[limit]))
    job.world.before[GET] = lambda: dearer(job.world)
    with pytest.raises((PaymentRefused, PaymentMismatch), match=r"for 99999\.00 EUR") as caught:
        mark(job.payments, **LIMITS[limit])
    assert "Nothing was sent by this attempt" in str(caught.value)
    assert job.world.writes() == [PAY]
    assert job.world.ledger("payment_paid") == []


@pytest.mark.parametrize(
    ("happens", "words"),
    [("cancel_invoice", "is cancelled"), ("decline_invoice", "is declined")],
)
def test_an_invoice_that_is_withdrawn_during_a_wait_is_not_paid(job: Job, happens: str, words: str) -> None:
    job.world.fault("drop_before", PAY_INVOICE, times=1)
    job.world.before[GET_INVOICE] = die
    job.killed(job.pay)
    job.world.before[GET_INVOICE] = lambda: getattr(job.world.portal.act, happens)(2)
    with pytest.raises(PaymentRefused, match=words):
        job.pay()
    assert job.world.writes() == [PAY_INVOICE]
    assert job.world.ledger("invoice_paid") == []


def test_what_somebody_pays_while_it_does_not_leave_is_not_ours(world: World) -> None:
    world.not_sent = 1
    pay = lambda: world.portal.act.pay_payment(1001, user_id=1)  # noqa: E731 - even as the connection's user
    world.before["batch:payment"] = lambda: world.before.update({"batch:payment": pay})
    receipt = mark(world.payments)
    assert (receipt.outcome, receipt.sent, receipt.evidence) == ("already_paid", False, "portal_state")
    assert world.writes() == []


# -- unpaid payments


def another(world: World) -> int:
    number = world.portal.act.add_payment(2, 1)
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize("moment", ["not sent", "too many requests"])
def test_an_unpaid_payment_that_appears_during_a_wait_is_seen(world: World, moment: str) -> None:
    def waits() -> None:
        if moment == "not sent":
            world.not_sent = 1
            world.before["batch:object"] = lambda: world.before.update({"batch:object": lambda: another(world)})
        else:
            world.fault("query_limit_exceeded", ADD, times=1)
            world.before[ADD] = lambda: another(world)

    waits()
    with pytest.raises(PaymentRefused, match=r"Deal 1 has an unpaid payment already \(1033"):
        add(world.payments, if_unpaid_exists="fail")
    world.portal.act.delete_payment(1033)
    waits()
    receipt = add(world.payments, if_unpaid_exists="return")
    assert (receipt.outcome, receipt.subject["payment_id"], receipt.evidence) == ("existing", 1034, "portal_state")
    assert world.ledger("payment_added")[-1]["by"] != "rest"


def test_a_tagged_payment_that_appears_during_a_wait_is_ours(job: Job) -> None:
    """Another run with the same key was faster."""
    world = job.world
    world.not_sent = 1
    other = Job(world)
    world.before["batch:object"] = lambda: world.before.update({"batch:object": lambda: other.add(tag=True)})

    def not_again() -> None:
        world.not_sent = 0

    world.before["batch:add"] = not_again
    receipt = job.add(tag=True)
    assert (receipt["outcome"], receipt["payment_id"], receipt["evidence"]) == ("existing", 1033, "tag")


# -- product rows


def dear_rows(world: World) -> None:
    for row in world.portal.state.product_rows.values():
        row.price = Decimal(99999)


def filling(payments: ScriptedPayments, **options: Any) -> Any:
    return add(payments, fill_products=True, **options)


def test_a_price_that_changes_while_a_row_waits_is_seen(world: World) -> None:
    world.fault("query_limit_exceeded", PUT, occurrence=2)
    world.before[PUT] = lambda: world.before.update({PUT: lambda: dear_rows(world)})
    with pytest.raises(PaymentMismatch, match=r"was added to deal 1.*the max_amount of this task is 2000"):
        filling(world.payments, max_amount=Decimal(2000))
    assert len(world.ledger("product_added")) == 1


@pytest.mark.parametrize("waits", [False, True])
def test_a_payment_that_is_paid_between_two_rows_says_so(world: World, waits: bool) -> None:
    """The portal itself calls it a right that is missing."""
    if waits:
        world.fault("query_limit_exceeded", PUT, occurrence=2)
    world.before[PUT] = lambda: world.before.update({PUT: lambda: world.portal.act.pay_payment(1033)})
    with pytest.raises(PaymentMismatch) as caught:
        filling(world.payments)
    assert "Payment 1033 was added to deal 1, but it is incomplete: it is already paid, for 900.00 EUR" in str(
        caught.value
    )
    assert "missing: 2" in str(caught.value)
    assert "ACCESS_DENIED" not in str(caught.value)
    assert len(world.ledger("product_added")) == 1


def test_a_later_attempt_says_that_the_payment_is_paid_by_now(job: Job) -> None:
    job.world.before[PUT] = lambda: job.world.before.update({PUT: die})
    job.killed(lambda: filling(job.payments))
    job.world.portal.act.pay_payment(1033)
    with pytest.raises(PaymentMismatch, match=r"already paid.*missing: 2"):
        filling(job.payments)
    assert job.world.writes().count(PUT) == 1


def test_a_row_that_somebody_puts_in_while_it_waits_is_not_put_in_again(world: World) -> None:
    def by_hand() -> None:
        world.person(PUT, {"paymentId": 1033, "rowId": 2, "quantity": 1})

    world.fault("query_limit_exceeded", PUT, occurrence=2)
    world.before[PUT] = lambda: world.before.update({PUT: lambda: world.before.update({"batch:rows": by_hand})})
    assert filling(world.payments).money.amount == 1020


def test_a_right_that_is_missing_stays_one(world: World) -> None:
    world.fault("error", PUT, occurrence=1, code="ACCESS_DENIED", text="Access denied", status=403)
    with pytest.raises(PaymentNotApplied, match=r"was added to deal 1.*Access denied"):
        filling(world.payments)


# -- the pay system


def test_the_pay_system_of_a_payment_that_is_paid_during_a_wait_stays(world: World) -> None:
    world.before[LIST] = lambda: world.person(UPDATE, {"id": 1033, "fields": {"paySystemId": 6}})
    world.fault("query_limit_exceeded", UPDATE, occurrence=2)
    world.before[UPDATE] = lambda: world.portal.act.pay_payment(1033)
    with pytest.raises(PaymentMismatch, match=r"already paid, with pay system 6 instead of 8"):
        add(world.payments, pay_system_id=8)


def test_the_pay_system_is_changed_after_a_wait(world: World) -> None:
    world.before[LIST] = lambda: world.person(UPDATE, {"id": 1033, "fields": {"paySystemId": 6}})
    world.fault("query_limit_exceeded", UPDATE, occurrence=2)
    assert add(world.payments, pay_system_id=8).pay_system_id == 8


# -- the kill switch


class Switch:
    """Somebody may stop all payments at some moment."""

    def __init__(self, trouble: Exception) -> None:
        self.trouble = trouble
        self.set = False
        self.asked = 0

    def on(self) -> None:
        self.set = True

    def __call__(self) -> None:
        self.asked += 1
        if self.set:
            raise self.trouble


STOPPED = PaymentRefused("Somebody has stopped all payments.", NOT_SENT)
UNREADABLE = Bitrix24StoreError("the Airflow Variable", "the API server is away", NOT_SENT, "The next one looks.")


@pytest.mark.parametrize("trouble", [STOPPED, UNREADABLE], ids=["stopped", "unreadable"])
@pytest.mark.parametrize("moment", ["settle window", "rate limit", "not sent"])
@pytest.mark.parametrize(
    ("work", "method", "read"),
    [(mark, PAY, GET), (add, ADD, LIST)],
    ids=["mark", "add"],
)
def test_a_switch_that_is_set_during_a_wait_stops_the_next_send(
    world: World, work: Callable[..., Any], method: str, read: str, moment: str, trouble: Exception
) -> None:
    switch = world.safeguard = Switch(trouble)
    if moment == "settle window":
        world.fault("drop_before", method, times=1)
        world.before[read] = switch.on
    elif moment == "rate limit":
        world.fault("query_limit_exceeded", method, times=1)
        world.before[method] = switch.on
    else:
        world.not_sent = 1
        name = "batch:payment" if work is mark else "batch:object"
        world.before[name] = lambda: world.before.update({name: switch.on})
    with pytest.raises(type(trouble)) as caught:
        work(world.payments)
    assert caught.value.final is trouble.final
    assert world.portal.ledger == []
    assert len(world.writes()) == (0 if moment == "not sent" else 1)
    if moment == "settle window":
        assert "money may have been recorded" in str(caught.value) or "did not show it then" in str(caught.value)


def test_the_switch_is_read_right_before_each_send_and_step(world: World) -> None:
    switch = world.safeguard = Switch(STOPPED)
    filling(world.payments)
    assert switch.asked == 3
    assert world.writes() == [ADD, PUT, PUT]


def test_a_switch_that_is_set_between_two_rows_names_the_payment(world: World) -> None:
    switch = world.safeguard = Switch(STOPPED)
    world.before[PUT] = switch.on
    with pytest.raises(PaymentRefused, match=r"stopped all payments\. Nothing more was sent\. Payment 1033 of deal 1"):
        filling(world.payments)
    assert world.writes() == [ADD, PUT]


def test_a_switch_that_takes_longer_than_the_deadline_to_read_sends_nothing(world: World) -> None:
    world.safeguard = lambda: world.clock.advance(6)
    with pytest.raises(Bitrix24NotSent, match="longer than its deadline"):
        mark(world.payments)
    assert world.writes() == []


def test_a_switch_that_is_slow_once_is_followed_by_another_look(world: World) -> None:
    slow = [6.0]
    world.safeguard = lambda: world.clock.advance(slow.pop() if slow else 0)
    assert mark(world.payments).outcome == "paid"
    assert world.sent == ["batch", "batch", PAY, GET]


# -- one too many


def tell_twice(world: World, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """A proxy that repeats each request with this method in it."""
    handle = world.portal.handle

    def repeating(asked: str, params: dict[str, Any], **options: Any) -> Any:
        if asked == method or any(command.startswith(method) for command in params.get("cmd", {}).values()):
            handle(asked, params, **options)
        return handle(asked, params, **options)

    monkeypatch.setattr(world.portal, "handle", repeating)


def test_two_payments_with_our_tag_fail_and_are_named(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_twice(job.world, monkeypatch, ADD)
    for _ in range(2):
        with pytest.raises(PaymentMismatch, match=r"Payment 1034 was added.*payment 1033 carries the tag") as caught:
            job.add(tag=True)
        assert caught.value.final
    assert len(job.world.ledger("payment_added")) == 2
    job.world.portal.act.delete_payment(1033)
    assert job.add(tag=True)["payment_id"] == 1034


def test_one_too_many_of_ours_fails_with_adopt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_twice(world, monkeypatch, ADD)
    with pytest.raises(PaymentMismatch, match=r"Payment 1034 was added to deal 1, but payment 1033 appeared"):
        add(world.payments, on_unknown="adopt")


def test_one_more_that_another_task_may_have_added_is_warned_about(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tell_twice(world, monkeypatch, ADD)
    assert add(world.payments).subject["payment_id"] == 1034
    assert "payment 1033 of the connection's user appeared on deal 1" in caplog.text


def sql(world: World, file: Path, number: int) -> ScriptedPayments:
    journal = SqlJournal(Database(sqlalchemy.engine.URL.create("sqlite", database=str(file)), "the database"), "me")
    task = TaskAttempt(identity="task", try_number=number)
    return ScriptedPayments(world.client, world.run, world, logging.getLogger("payments"), journal=journal, task=task)


@pytest.mark.parametrize("on_unknown", ["fail", "adopt"])
def test_one_too_many_is_noticed_by_the_attempt_after_one_that_died(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_unknown: str
) -> None:
    tell_twice(world, monkeypatch, ADD)
    world.before[LIST] = die
    with pytest.raises(Killed):
        add(sql(world, tmp_path / "j.db", 1), on_unknown=on_unknown)
    world.portal.act.add_payment(2, 1, user_id=7)  # by somebody else, in the meantime
    for number in (2, 3):
        with pytest.raises(PaymentMismatch, match=r"Payment 1034 was added to deal 1, but payment 1033 appeared"):
            add(sql(world, tmp_path / "j.db", number), on_unknown=on_unknown)
    world.portal.act.delete_payment(1033)
    assert add(sql(world, tmp_path / "j.db", 4), on_unknown=on_unknown).subject["payment_id"] == 1034
    assert world.writes() == [ADD]


def test_one_too_many_that_is_right_is_adopted(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tell_twice(world, monkeypatch, ADD)
    with pytest.raises(PaymentMismatch, match="If all of them are right, use payment 1034 by"):
        add(sql(world, tmp_path / "j.db", 1))
    database = Database(sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / "j.db")), "the database")
    page = JournalPage(SqlJournal(database, "ann"), "acme.bitrix24.com", "key")
    entry = page.read()
    assert entry is not None
    decided = Decision(what="use_payment", payment_id=1034, by="ann", at="2026-11-27T10:00:00Z", through="command line")
    refuse_senseless(entry, decided)
    page.write(entry.decided(decided), lease=0)
    receipt = add(sql(world, tmp_path / "j.db", 2))
    assert (receipt.subject["payment_id"], receipt.evidence) == (1034, "response")
    assert world.writes() == [ADD]


def test_one_more_of_somebody_else_is_nothing_of_ours(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.before[LIST] = lambda: world.portal.act.add_payment(2, 1, user_id=7)
    assert add(world.payments).subject["payment_id"] == 1033
    assert "appeared" not in caplog.text


# -- lists that are cut


def fill_up(world: World, many: int, entity_id: int = 1) -> list[int]:
    return [world.portal.act.add_payment(2, entity_id, user_id=7) for _ in range(many)]


@pytest.fixture
def cut(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the portal, or something before it, cut the lists of payments."""

    def at(most: int, *, told: str | None = None) -> None:
        handle = world.portal.handle

        def page(rows: list[Any], body: dict[str, Any], key: str | None) -> list[Any]:
            if told and len(rows) > most:
                said = {"next": most, "total": len(rows)}[told]
                if key is None:
                    body[told] = said
                else:
                    said_of = body["result"][f"result_{told}"]
                    body["result"][f"result_{told}"] = {**(said_of or {}), key: said}
            return rows[:most]

        def cutting(method: str, params: dict[str, Any], **options: Any) -> Any:
            reply = handle(method, params, **options)
            body = reply.body
            if isinstance(body, dict) and "result" in body:
                if method == LIST:
                    body["result"] = page(body["result"], body, None)
                for key, command in params.get("cmd", {}).items() if method == "batch" else ():
                    if command.startswith(LIST) and key in (body["result"]["result"] or {}):
                        body["result"]["result"][key] = page(body["result"]["result"][key], body, key)
            return reply

        monkeypatch.setattr(world.portal, "handle", cutting)

    return at


@pytest.mark.parametrize("told", [None, "next", "total"])
@pytest.mark.parametrize("there", [49, 50, 59, 110])
def test_a_payment_behind_the_first_page_is_found(
    world: World, cut: Callable[..., None], told: str | None, there: int
) -> None:
    fill_up(world, there)
    cut(50, told=told)
    world.fault("drop_after", ADD, times=1)
    receipt = add(world.payments, on_unknown="adopt")
    assert (receipt.outcome, receipt.subject["payment_id"]) == ("created", 1033 + there)
    assert world.writes() == [ADD]


def test_a_payment_behind_the_first_page_is_read_back(world: World, cut: Callable[..., None]) -> None:
    fill_up(world, 60)
    cut(50)
    assert add(world.payments).subject["payment_id"] == 1093


@pytest.mark.parametrize("there", [50, 60])
def test_an_object_with_a_full_page_of_payments_is_no_trouble(world: World, there: int) -> None:
    fill_up(world, there)
    assert add(world.payments).subject["payment_id"] == 1033 + there


def test_a_list_that_leaves_out_what_was_there_proves_no_absence(world: World, cut: Callable[..., None]) -> None:
    fill_up(world, 20)
    world.before[ADD] = lambda: cut(10)
    world.fault("drop_after", ADD, times=1)
    with pytest.raises((PaymentAmbiguous, Exception), match="the list is not complete: it leaves out"):
        add(world.payments)
    assert world.writes() == [ADD]


def test_payments_that_are_deleted_meanwhile_do_not_make_a_list_incomplete(world: World) -> None:
    one, *_ = fill_up(world, 3)
    world.before[ADD] = lambda: world.portal.act.delete_payment(one)
    world.fault("drop_before", ADD, times=1)
    assert add(world.payments).outcome == "created"
    assert len(world.ledger("payment_deleted")) == 1


def test_a_filter_that_is_dropped_proves_nothing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes back without our tag says nothing about who has it."""
    fill_up(job.world, 3, entity_id=5)
    handle = job.world.portal.handle
    dropped = [True]

    def dropping(method: str, params: dict[str, Any], **options: Any) -> Any:
        if dropped and method == "batch" and "tagged" in params["cmd"]:
            params = {**params, "cmd": {**params["cmd"], "tagged": "sale.payment.list?select[0]=id&select[1]=xmlId"}}
        return handle(method, params, **options)

    job.add(tag=True)
    other = Job(job.world)  # the same key, with nothing in its task state
    monkeypatch.setattr(job.world.portal, "handle", dropping)
    with pytest.raises(Exception, match="its filter was dropped"):
        other.add(tag=True)
    assert len(job.world.ledger("payment_added")) == 1 + 3
    dropped.clear()
    assert other.add(tag=True)["payment_id"] == 1036


# -- a journal that dies after the reply


def away_after(job: Job, method: str) -> None:
    job.world.before[method] = lambda: setattr(job, "away", 99)


def test_a_journal_that_dies_after_the_reply_does_not_hide_the_payment(job: Job) -> None:
    away_after(job, ADD)
    with pytest.raises(Bitrix24StoreError) as caught:
        job.add()
    assert "The portal replied that payment 1033 of deal 1 was added" in str(caught.value)
    assert "According to the reply, the payment exists: do not add it again." in str(caught.value)
    assert not caught.value.final


def test_a_journal_that_dies_after_a_mark_says_so(job: Job) -> None:
    away_after(job, PAY_INVOICE)
    with pytest.raises(Bitrix24StoreError, match="The portal replied that invoice 2 was marked as paid") as caught:
        job.pay()
    assert "the money is recorded" in str(caught.value)


def test_a_journal_that_dies_between_two_rows_names_the_payment(job: Job) -> None:
    away_after(job, PUT)
    with pytest.raises(Bitrix24StoreError, match="Payment 1033 of deal 1 belongs to this key"):
        job.add(fill_products=True)


# -- a redirect after the portal has executed it


@pytest.mark.parametrize("status", [302, 303, 304, 307])
def test_a_redirect_after_an_add_is_resolved_by_reading(job: Job, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = job.world.portal.handle

    def gateway(method: str, params: dict[str, Any], **options: Any) -> Any:
        reply = handle(method, params, **options)
        if method == ADD:
            reply.status, reply.body = status, ""
        return reply

    monkeypatch.setattr(job.world.portal, "handle", gateway)
    with pytest.raises(PaymentAmbiguous, match=rf"HTTP {status}: .*redirect") as caught:
        job.add()
    assert caught.value.candidates == (1033,)
    with pytest.raises(PaymentAmbiguous):
        job.add()
    assert job.world.writes() == [ADD]


def test_what_the_add_says_after_executing_is_looked_into(job: Job) -> None:
    job.world.fault("error_after_executing", ADD, times=1, code=0, text="Payment has not been found", status=400)
    with pytest.raises(PaymentAmbiguous) as caught:
        job.add()
    assert caught.value.candidates == (1033,)
    with pytest.raises(PaymentAmbiguous):
        job.add()
    assert job.world.writes() == [ADD]


def test_even_a_short_wait_ends_what_permits_a_send(world: World) -> None:
    tools = Tools(
        client=world.client,
        clock=world,
        log=logging.getLogger("payments"),
        journal=NullJournal(),
        task=TaskAttempt(identity="task"),
    )
    wanted = Record(
        key="key", portal="p", operation="pay_crm_payment", subject="payment 1001", parameters={}, task="task"
    )
    attempt = Attempt(tools, wanted)

    def course() -> Any:
        assert not attempt.is_fresh
        yield from attempt.read_before_send(PaymentBeforePaying(payment_id=1001))
        assert attempt.is_fresh
        yield from attempt.wait(0.1, "a moment")
        assert not attempt.is_fresh

    ended = Lockstep(tools, world.run, ChunkSize(1), safeguard=None, check=None).run({"key": course()})
    assert ended["key"].result is None
