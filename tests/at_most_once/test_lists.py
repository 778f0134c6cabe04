"""Lists of operations: what shares a request, and each outcome when a batch goes wrong, in virtual time."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.operations.unpay_crm_payment import UnpayCrmPayment
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import (
    Bitrix24NotSent,
    Bitrix24RateLimited,
    PaymentInProgress,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.protocol import Change, NullJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
from airflow_provider_bitrix24.sql import Database
from tests.at_most_once.test_recovery import Killed, die

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conftest import World

PAY = "sale.paysystem.pay.invoice"
GET = "crm.invoice.get"
ADD = "crm.item.payment.add"
PORTAL = "acme.bitrix24.com"


@dataclass
class Run:
    """One task with a list, and its journal; each attempt is a new one."""

    world: World
    database: Database
    tries: int = 0
    batch_size: int = 25

    def engine(self, owner: str = "me", **options: Any) -> PaymentEngine:
        self.tries += 1
        return PaymentEngine(
            self.world.client,
            self.world.run,
            self.world,
            logging.getLogger("payments"),
            **{
                "journal": SqlJournal(self.database, f"{owner}:{self.tries}"),
                "task": TaskAttempt(identity=owner, try_number=self.tries, max_tries=self.tries),
                "batch_size": self.batch_size,
                **options,
            },
        )

    def invoices(self, count: int) -> list[int]:
        return [int(str(self.world.portal.create("invoice", {"price": "10.00"}))) for _ in range(count)]

    def deals(self, count: int) -> list[int]:
        return [int(str(self.world.portal.create("deal", {"title": "Deal"}))) for _ in range(count)]

    def paid(self) -> Counter[Any]:
        return Counter(entry["invoice_id"] for entry in self.world.ledger("invoice_paid"))

    def added(self) -> Counter[Any]:
        return Counter(entry["entity_id"] for entry in self.world.ledger("payment_added"))


@pytest.fixture
def run(world: World, tmp_path: Path) -> Run:
    world.connect(scopes=("crm", "sale", "pay_system"))
    return Run(world, Database(sqlalchemy.engine.URL.create("sqlite", database=str(tmp_path / "j.db")), "the database"))


def pays(invoices: Sequence[int], **options: Any) -> list[PayInvoice]:
    return [PayInvoice(portal=PORTAL, invoice_id=one, pay_system_id=31, **options) for one in invoices]


def adds(deals: Sequence[int], **options: Any) -> list[AddCrmPayment]:
    return [
        AddCrmPayment(portal=PORTAL, key=f"{PORTAL}:key:{number}", entity_id=deal, entity_type_id=2, **options)
        for number, deal in enumerate(deals)
    ]


def outcomes(results: Sequence[Any]) -> list[str]:
    return [one.code if isinstance(one, Failure) else one.outcome for one in results]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


# -- nothing goes wrong


def test_a_list_shares_requests_and_each_is_paid_once(run: Run) -> None:
    run.batch_size = 50
    invoices = run.invoices(120)
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["paid"] * 120
    assert [result.subject["invoice_id"] for result in results] == invoices  # type: ignore[union-attr]
    assert run.paid() == Counter(invoices)
    # Three for each chunk; what is asked once is read with the first one.
    assert run.world.sent == ["batch"] * 9


def test_each_command_is_named_by_the_digest_of_its_key(run: Run) -> None:
    invoices = run.invoices(3)
    run.engine().run(pays(invoices))
    named = {entry["invoice_id"]: entry["command"] for entry in run.world.ledger("invoice_paid")}
    assert named == {one: digest(f"{PORTAL}:invoice:{one}") for one in invoices}


def test_a_list_of_one_sends_what_a_single_operation_sends(run: Run) -> None:
    assert outcomes(run.engine().run(pays([2]))) == ["paid"]
    assert run.world.sent == ["batch", PAY, GET]
    assert run.world.keys == [None, digest(f"{PORTAL}:invoice:2"), None]


def test_a_chunk_needs_one_transaction_for_each_step(run: Run) -> None:
    invoices = run.invoices(46)
    run.batch_size = 50
    run.engine().run(pays(run.invoices(1)))  # the tables are there
    commits: list[Any] = []
    sqlalchemy.event.listen(run.database.engine, "commit", commits.append)
    assert outcomes(run.engine().run(pays(invoices))) == ["paid"] * 46
    # Begun, intents, replies, outcomes, and what ends the leases.
    assert len(commits) <= 6


def test_different_operations_share_a_chunk(run: Run) -> None:
    deals = run.deals(2)
    operations = [
        *pays(run.invoices(1)),
        PayCrmPayment(portal=PORTAL, payment_id=1001),
        *adds(deals),
    ]
    assert outcomes(run.engine().run(operations)) == ["paid", "paid", "created", "created"]
    assert run.added() == Counter(deals)


def test_what_was_done_before_sends_nothing(run: Run) -> None:
    invoices = run.invoices(4)
    run.engine().run(pays(invoices[:2]))
    run.world.sent.clear()
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["paid"] * 4
    assert [result.recovered for result in results] == [True, True, False, False]  # type: ignore[union-attr]
    assert run.paid() == Counter(invoices)


def test_products_are_filled_in_for_many(run: Run) -> None:
    deals = run.deals(3)
    for deal in deals:
        row = {"ownerType": "D", "ownerId": deal, "productName": "One", "price": "10.00", "quantity": 1}
        run.world.portal.create("product_row", row)
    results = run.engine().run(adds(deals, fill_products=True))
    assert outcomes(results) == ["created"] * 3
    assert [str(result.money) for result in results] == ["10.00 EUR"] * 3  # type: ignore[union-attr]
    assert len(run.world.ledger("product_added")) == 3
    # One batch adds, and one puts all rows in.
    assert len(run.world.sent) <= 6


# -- what shares a chunk


def test_two_payments_are_never_added_to_one_object_in_one_batch(run: Run) -> None:
    deal, other = run.deals(2)
    results = run.engine().run(adds([deal, deal, other, deal]))
    assert outcomes(results) == ["created"] * 4
    assert run.added() == Counter({deal: 3, other: 1})
    # The first of the deal's shares a batch with the other deal's, and the next two travel alone.
    assert run.world.sent.count(ADD) == 2


def test_the_same_key_twice_is_carried_out_once(run: Run) -> None:
    [invoice] = run.invoices(1)
    results = run.engine().run([*pays([invoice]), *pays([invoice])])
    assert outcomes(results) == ["paid", "paid"]
    assert run.paid() == Counter([invoice])


@pytest.mark.parametrize("tag", [True, False])
def test_untagged_payments_travel_alone_where_the_journal_does_not_know_the_others(run: Run, tag: bool) -> None:
    journal = TaskStateJournal(Store(), many=True)
    deals = run.deals(3)
    assert outcomes(run.engine(journal=journal).run(adds(deals, tag=tag))) == ["created"] * 3
    assert run.added() == Counter(deals)
    assert (ADD in run.world.sent) is not tag


def test_the_replies_of_one_batch_are_saved_before_the_next_one(run: Run) -> None:
    """Three commands for each tagged payment: 20 of them do not fit into one batch."""
    journal, steps = SqlJournal(run.database, "watched"), list[str]()
    save, answer = journal.save, run.world._answer

    def saves(changes: Sequence[Change]) -> Any:
        steps.append("save")
        return save(changes)

    def answers(request: Any) -> Any:
        steps.append("read" if request.not_after is None else "send")
        return answer(request)

    journal.save = saves  # type: ignore[method-assign]
    run.world._answer = answers  # type: ignore[method-assign]
    assert outcomes(run.engine(journal=journal).run(adds(run.deals(20), tag=True))) == ["created"] * 20
    sent = [number for number, step in enumerate(steps) if step == "send"]
    assert len(sent) == 2
    assert steps[sent[0] + 1 : sent[1]] == ["save", "save"]  # the replies, and the intents of the next batch
    assert steps[sent[1] + 1] == "save"


def test_operations_on_one_payment_are_not_sent_in_one_batch(run: Run) -> None:
    pay = PayCrmPayment(portal=PORTAL, payment_id=1001)
    unpay = UnpayCrmPayment(portal=PORTAL, payment_id=1001)
    chunks = list(run.engine().run_in_chunks(dict(enumerate([pay, unpay, *pays(run.invoices(2))]))))
    assert [sorted(chunk) for chunk in chunks] == [[0, 2, 3], [1]]
    assert outcomes([chunks[0][0], chunks[1][1]]) == ["paid", "unpaid"]


def test_tagged_payments_are_added_in_linked_batches(run: Run) -> None:
    deals = run.deals(20)  # three commands for each
    results = run.engine().run(adds(deals, tag=True))
    assert outcomes(results) == ["created"] * 20
    tags = {run.world.portal.state.payments[one.subject["payment_id"]].xml_id for one in results}  # type: ignore[union-attr]
    assert len(tags) == 20
    assert run.added() == Counter(deals)


# -- one of many goes wrong


def test_one_that_is_refused_does_not_stop_the_others(run: Run) -> None:
    invoices = run.invoices(3)
    run.world.portal.act.cancel_invoice(invoices[1])
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["paid", "payment.refused", "paid"]
    failure = results[1]
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, PaymentRefused)
    assert (failure.sent, failure.subject) == ("no", f"invoice {invoices[1]}")
    assert run.paid() == Counter([invoices[0], invoices[2]])


def test_a_command_that_fails_inside_the_batch_is_that_keys_own_outcome(run: Run) -> None:
    invoices = run.invoices(3)
    run.world.fault("error", PAY, occurrence=2, code="ACCESS_DENIED", text="Access denied", status=403)
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["paid", "portal.permission", "paid"]
    assert run.paid() == Counter([invoices[0], invoices[2]])


def test_a_command_that_does_nothing_is_found_by_reading(run: Run) -> None:
    invoices = run.invoices(3)
    run.world.fault("true_not_applied", PAY, occurrence=3)
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["paid", "paid", "payment.not_applied"]
    failure = results[2]
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, PaymentNotApplied)
    assert run.paid() == Counter(invoices[:2])


def test_what_comes_after_a_halt_was_not_sent_and_is_sent_next(run: Run) -> None:
    """Tagged payments are linked, so the portal stops at the first error."""
    deals = run.deals(4)
    run.world.fault("error", ADD, occurrence=2, code="ACCESS_DENIED", text="Access denied", status=403)
    results = run.engine().run(adds(deals, tag=True))
    assert outcomes(results) == ["created", "portal.permission", "created", "created"]
    assert run.added() == Counter([deals[0], deals[2], deals[3]])


def test_a_time_limit_in_the_middle_is_told_to_the_rest(run: Run) -> None:
    run.batch_size = 4
    invoices = run.invoices(10)
    world = run.world
    world.fault("operation_time_limit", PAY, occurrence=3)
    world.fault("operation_time_limit", PAY, occurrence=4)
    results = run.engine().run(pays(invoices))
    assert len(world.sent) == 3  # one chunk: the portal is not read for the others
    assert outcomes(results) == ["paid", "paid", *["portal.rate_limited"] * 8]
    for failure in results[2:]:
        assert isinstance(failure, Failure)
        assert isinstance(failure.error, Bitrix24RateLimited)
        assert (failure.error.final, failure.sent) == (False, "no")
    assert run.paid() == Counter(invoices[:2])
    world.portal.faults.clear()
    world.clock.advance(600)
    assert outcomes(run.engine().run(pays(invoices))) == ["paid"] * 10
    assert run.paid() == Counter(invoices)


def test_a_time_limit_that_is_told_to_the_rest_says_nothing_of_another_key(run: Run) -> None:
    """In a second attempt without a journal, each key may have been sent before."""
    run.batch_size, run.tries = 1, 1
    run.world.fault("operation_time_limit", PAY, occurrence=1)
    for failure in run.engine(journal=NullJournal()).run(pays(run.invoices(3))):
        assert isinstance(failure, Failure)
        assert f"may have sent a write for {failure.subject}," in str(failure.error)


# -- a batch whose reply is lost


@pytest.mark.parametrize("fault", ["drop_after", "drop_before"])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_lost_reply_leaves_every_key_pending_and_each_is_resolved_by_reading(
    run: Run, fault: str, count: int
) -> None:
    invoices = run.invoices(count)
    run.world.before[f"batch:{digest(f'{PORTAL}:invoice:{invoices[0]}')}"] = lambda: run.world.fault(
        fault, "batch", times=1
    )
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["paid"] * count
    assert run.paid() == Counter(invoices)
    assert {result.evidence for result in results} == {  # type: ignore[union-attr]
        "portal_state" if fault == "drop_after" else "response"
    }


@pytest.mark.parametrize("fault", ["drop_after", "drop_before"])
def test_a_lost_reply_to_many_adds_is_resolved_for_each_object(run: Run, fault: str) -> None:
    deals = run.deals(3)
    run.world.before[f"batch:{digest(f'{PORTAL}:key:0')}"] = lambda: run.world.fault(fault, "batch", times=1)
    results = run.engine().run(adds(deals))
    assert outcomes(results) == ["created"] * 3
    assert run.added() == Counter(deals)


def test_a_batch_is_halved_after_an_unknown_outcome_and_grows_again(run: Run) -> None:
    run.batch_size = 8
    invoices = run.invoices(24)
    run.world.before[f"batch:{digest(f'{PORTAL}:invoice:{invoices[0]}')}"] = lambda: run.world.fault(
        "drop_after", "batch", times=1
    )
    chunks = list(run.engine().run_in_chunks(dict(enumerate(pays(invoices)))))
    assert [len(chunk) for chunk in chunks] == [8, 4, 5, 6, 1]
    assert run.paid() == Counter(invoices)


def test_an_attempt_that_dies_with_the_reply_in_its_hands_is_gone_on_with(run: Run) -> None:
    invoices = run.invoices(5)
    journal = SqlJournal(run.database, "dies")
    save, saves = journal.save, [0]

    def dies(changes: Sequence[Change]) -> Any:
        saves[0] += 1
        if saves[0] == 3:  # begun, intents, replies
            die()
        return save(changes)

    journal.save = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        run.engine(journal=journal).run(pays(invoices))
    run.world.clock.advance(1000)
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["paid"] * 5
    assert all(result.recovered for result in results)  # type: ignore[union-attr]
    assert run.paid() == Counter(invoices)


# -- another process


def test_a_key_that_another_task_holds_is_revisited_at_the_end(run: Run) -> None:
    run.batch_size = 2
    invoices = run.invoices(4)
    held = f"{PORTAL}:invoice:{invoices[0]}"
    run.engine("other").run(pays(invoices[:1], max_amount=0))  # refused: the row is there
    other = SqlJournal(run.database, "holder")
    record = other.load(PORTAL, [held])[held].record
    assert record is not None
    assert other.save([Change(record=record, lease=2)])[held].outcome == "saved"
    waited: list[int] = []
    chunks = []
    for chunk in run.engine().run_in_chunks(dict(enumerate(pays(invoices)))):
        chunks.append(sorted(chunk))
        waited.append(len(run.world.slept))
    assert chunks == [[1], [2, 3], [0]]
    assert waited[:2] == [0, 0]
    assert run.paid() == Counter(invoices)


@pytest.mark.parametrize(
    ("holder", "who"),
    [
        ("me:try:1", "An earlier attempt of this task (try 1)"),
        ("other:try:2", "Another task (other:try:2)"),
    ],
)
def test_a_wait_for_other_attempts_is_logged_once_for_all_keys(
    run: Run, holder: str, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    invoices = run.invoices(3)
    keys = [f"{PORTAL}:invoice:{one}" for one in invoices]
    run.engine("before").run(pays(invoices, max_amount=0))  # refused: the rows are there
    other = SqlJournal(run.database, holder)
    records = [loaded.record for loaded in other.load(PORTAL, keys).values()]
    other.save([Change(record=record, lease=600) for record in records if record is not None])
    sleep, slept = run.world.clock.advance, []

    def advance(seconds: float) -> None:
        sleep(seconds)
        slept.append(seconds)
        if len(slept) == 3:
            other.release(PORTAL, keys)

    run.world.clock.advance = advance  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO):
        assert outcomes(run.engine().run(pays(invoices))) == ["paid"] * 3
    (told,) = [line for line in caplog.messages if "at work" in line]
    assert told.startswith(f"{who} may still be at work on invoice {invoices[0]} and 2 more. Waiting for up to ")
    assert len(slept) >= 3


def test_a_key_that_another_task_goes_on_with_is_left_to_it(run: Run) -> None:
    invoices = run.invoices(3)
    held = f"{PORTAL}:invoice:{invoices[0]}"
    run.engine("other").run(pays(invoices[:1], max_amount=0))
    other = SqlJournal(run.database, "holder")
    record = other.load(PORTAL, [held])[held].record
    assert record is not None

    def goes_on() -> None:
        other.load(PORTAL, [held])
        other.save([Change(record=record, lease=60)])

    goes_on()
    sleep = run.world.clock.advance

    def advance(seconds: float) -> None:
        sleep(seconds)
        goes_on()

    run.world.clock.advance = advance  # type: ignore[method-assign]
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["payment.in_progress", "paid", "paid"]
    failure = results[0]
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, PaymentInProgress)
    assert run.paid() == Counter(invoices[1:])


# -- safeguards and limits


def test_a_switch_that_is_set_stops_all_later_chunks(run: Run) -> None:
    run.batch_size = 2
    invoices = run.invoices(6)
    sent = [0]

    def switch() -> None:
        sent[0] += 1
        if sent[0] > 1:
            raise PaymentRefused("Somebody has stopped all payments. Nothing was sent.")

    results = run.engine(safeguard=switch).run(pays(invoices))
    assert outcomes(results) == ["paid", "paid", *["payment.refused"] * 4]
    assert run.paid() == Counter(invoices[:2])


def test_a_batch_that_does_not_leave_is_tried_again_on_new_observations(run: Run) -> None:
    invoices = run.invoices(3)
    run.world.not_sent = 1
    cancelled = invoices[1]
    run.world.before["batch:invoice_0"] = lambda: run.world.before.update(
        {"batch:invoice_0": lambda: run.world.portal.act.cancel_invoice(cancelled)}
    )
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["paid", "payment.refused", "paid"]
    assert run.paid() == Counter([invoices[0], invoices[2]])


def test_a_portal_that_is_away_fails_every_operation_and_sends_nothing(run: Run) -> None:
    invoices = run.invoices(3)
    run.world.not_sent = 99
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["portal.not_sent"] * 3
    assert all(isinstance(one, Failure) and isinstance(one.error, Bitrix24NotSent) for one in results)
    assert {one.sent for one in results} == {"no"}
    assert run.paid() == Counter()


class Store(dict[str, Any]):
    """A task state store."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = value


def test_an_entry_that_cannot_be_read_stops_its_own_key_alone(run: Run) -> None:
    invoices = run.invoices(3)
    run.engine("other").run(pays(invoices[:1], max_amount=0))  # refused: the row is there
    with run.database.begin() as connection:
        connection.execute(sqlalchemy.text("update bitrix24_journal set document = '{}'"))
    results = run.engine().run(pays(invoices))
    assert outcomes(results) == ["config.invalid", "paid", "paid"]
    assert run.paid() == Counter(invoices[1:])


def test_a_failure_as_data_says_what_the_exception_says(run: Run) -> None:
    [deal] = run.deals(1)
    run.world.before[ADD] = lambda: run.world.fault("drop_after", ADD, times=1)
    journal = TaskStateJournal(Store())
    result = run.engine(journal=journal).run_one(adds([deal])[0])
    assert isinstance(result, Failure)
    assert (result.code, result.sent, result.subject) == ("payment.ambiguous", "unknown", f"deal {deal}")
    assert result.candidates == (1033,)
    assert result.command is not None
    assert result.command.startswith("bitrix24-airflow journal resolve ")
    assert result.retry_after is None
