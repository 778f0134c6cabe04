"""Attempts that die, and the ones after them: what the journal says is gone on with, in virtual time."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from email.utils import formatdate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.io import Response
from airflow_provider_bitrix24.api.tags import tag_of
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    Bitrix24RateLimited,
    Bitrix24StoreError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentUnresolved,
)
from airflow_provider_bitrix24.journal.task_state import DOCUMENT, TaskStateJournal
from airflow_provider_bitrix24.sandbox.portal import Auth
from tests.tools.payments import ScriptedPayments

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import World

ADD = "crm.item.payment.add"
LIST = "crm.item.payment.list"
PAY = "sale.paysystem.pay.invoice"
GET = "crm.invoice.get"
PUT = "crm.item.payment.product.add"
PRODUCTS = "crm.item.payment.product.list"
KEY = "acme.bitrix24.com:key:order-17"


class Killed(BaseException):
    """The worker is gone."""


def die() -> None:
    raise Killed


@dataclass
class Job:
    """One task instance with its task state; each attempt is a new one."""

    world: World
    documents: dict[str, str] = field(default_factory=dict)
    tries: int = 0
    away: int = 0
    """How many of the next writes into the journal fail."""

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.documents[key]) if key in self.documents else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionError("the API server is away")
        self.documents[key] = json.dumps(value)

    @property
    def entry(self) -> Any:
        return self.get(DOCUMENT)

    @property
    def payments(self) -> ScriptedPayments:
        self.tries += 1
        world, task = self.world, TaskAttempt(identity="task", try_number=self.tries)
        journal = TaskStateJournal(self)
        return ScriptedPayments(
            world.client, world.run, world, logging.getLogger("payments"), journal=journal, task=task
        )

    def add(self, **options: Any) -> dict[str, Any]:
        payments = self.payments
        return payments.add_crm_payment(**{"entity_id": 1, "entity_type_id": 2, "key": KEY, **options}).as_dict()

    def pay(self, **options: Any) -> dict[str, Any]:
        payments = self.payments
        return payments.pay_invoice(invoice_id=2, pay_system_id=31, **options).as_dict()

    def killed(self, work: Callable[[], Any]) -> None:
        with pytest.raises(Killed):
            work()


@pytest.fixture
def job(world: World) -> Job:
    world.connect(scopes=("crm", "sale", "pay_system"))
    return Job(world)


# -- a payment


def test_a_payment_that_reads_are_behind_with_is_waited_for(job: Job) -> None:
    job.world.fault("read_lag", ADD, seconds=5)
    job.world.before[LIST] = die
    job.killed(job.add)
    receipt = job.add()
    assert (receipt["payment_id"], receipt["outcome"], receipt["recovered"]) == (1033, "created", True)
    assert job.world.writes() == [ADD]


@pytest.mark.parametrize(("later", "reads"), [(0, 2), (300, 1)])
def test_a_read_before_nothing_could_arrive_any_more_shows_no_absence(job: Job, later: float, reads: int) -> None:
    """Two reads after that prove an absence; the one that every attempt begins with is one of them, if it is late."""
    world, answer, asked = job.world, job.world._answer, []
    world.before[ADD] = die
    job.killed(job.add)
    nothing_arrives = datetime.fromisoformat(job.entry["sends"][0]["settle_until"]).timestamp()
    world.clock.advance(later)

    def noted(request: Any) -> Any:
        if request.method == LIST:
            asked.append(world.clock.time())
        return answer(request)

    world._answer = noted  # type: ignore[method-assign]
    assert job.add()["payment_id"] == 1033
    assert sum(at >= nothing_arrives for at in asked[:-1]) == reads, "the last one reads the payment back"
    assert len(world.ledger("payment_added")) == 1


def test_a_payment_that_appears_at_the_last_read_is_asked_about(job: Job) -> None:
    """Only with a new payment the portal is asked whose it is, but then it is."""
    other = job.world.portal.add_webhook(user_id=7)

    def somebody_adds() -> None:
        auth = Auth(user_id=other.user_id, secret=other.secret)
        job.world.portal.handle(ADD, {"entityTypeId": 2, "entityId": 1}, auth=auth)

    job.world.before[ADD] = die
    job.killed(job.add)
    job.world.clock.advance(300)
    job.world.before[LIST] = somebody_adds
    with pytest.raises(PaymentAmbiguous, match="by somebody else, or at another time"):
        job.add(on_unknown="adopt")
    assert [entry["user_id"] for entry in job.world.ledger("payment_added")] == [7]


def test_a_payment_that_appears_before_the_second_send_is_asked_about(job: Job) -> None:
    """What was absent is sent once more, but not beside a payment that nobody has looked at."""
    act, before = job.world.portal.act, job.world.before
    job.world.fault("drop_before", ADD, times=1)
    before[ADD] = lambda: before.update({"batch": lambda: act.add_payment(2, 1, user_id=7)})
    with pytest.raises(PaymentAmbiguous, match="by somebody else, or at another time"):
        job.add()
    assert job.world.writes() == [ADD]


def test_a_known_payment_that_cannot_be_read_now_is_left_to_the_next_attempt(job: Job) -> None:
    job.add()
    job.world.portal.act.delete_payment(1033)
    job.world.before[LIST] = lambda: job.world.fault("drop_before", LIST)
    with pytest.raises(PaymentUnresolved, match=r"Payment 1033 of deal 1 .* cannot be read now .*It is in the journal"):
        job.add()


def test_product_rows_that_cannot_be_read_now_are_left_to_the_next_attempt(job: Job) -> None:
    job.world.before[PUT] = lambda: job.world.fault("drop_before", "batch")
    with pytest.raises(PaymentUnresolved, match=r"Payment 1033 .* could not be read .*It is in the journal"):
        job.add(fill_products=True)
    job.world.portal.faults.clear()
    receipt = job.add(fill_products=True)
    assert (receipt["payment_id"], receipt["outcome"]) == (1033, "created")
    assert job.world.writes().count(ADD) == 1


def test_an_answer_that_cannot_be_read_back_is_left_to_the_next_attempt(job: Job) -> None:
    job.world.before[ADD] = lambda: job.world.fault("drop_before", LIST)
    with pytest.raises(
        PaymentUnresolved,
        match="Payment 1033 of deal 1 was added according to the portal's reply, but the portal cannot be read",
    ):
        job.add()
    job.world.portal.faults.clear()
    assert job.add()["payment_id"] == 1033
    assert job.world.writes() == [ADD]


def test_a_lost_answer_that_nothing_can_be_read_after_is_left_to_the_next_attempt(job: Job) -> None:
    job.world.fault("drop_after", ADD, times=1)
    job.world.before[ADD] = lambda: job.world.fault("drop_before", "batch")
    with pytest.raises(PaymentUnresolved, match="a payment may have been added"):
        job.add()
    assert len(job.world.ledger("payment_added")) == 1


def test_a_portal_that_is_away_before_anything_is_read_denies_nothing(job: Job) -> None:
    job.world.before[LIST] = die
    job.killed(job.add)
    job.world.fault("drop_before", "batch", times=50)
    with pytest.raises(PaymentUnresolved, match=r"^Payment 1033 of deal 1 belongs to this key .*cannot be read now"):
        job.add()
    job.world.portal.faults.clear()
    job.world.fault("overload_limit", "batch")
    with pytest.raises(Bitrix24OutcomeUnknown, match=r"^Payment 1033 of deal 1 belongs to this key"):
        job.add()


# -- tags


def test_a_lost_answer_is_found_by_its_tag(job: Job) -> None:
    job.world.fault("drop_after", "batch", occurrence=2, times=1)
    receipt = job.add(tag=True)
    assert (receipt["payment_id"], receipt["evidence"]) == (1033, "tag")
    assert len(job.world.ledger("payment_added")) == 1


def tagged(job: Job, entity_id: int) -> int:
    """A payment that somebody has given the tag of our key."""
    number = int(job.world.portal.act.add_payment(2, entity_id, user_id=7))
    job.world.portal.state.payments[number].xml_id = tag_of("acme.bitrix24.com", KEY)
    return number


def test_a_key_whose_tag_another_object_has_is_refused(job: Job) -> None:
    number = tagged(job, 3)
    with pytest.raises(PaymentMismatch, match=f"is on payment {number} of another object than deal 1"):
        job.add(tag=True)
    assert job.world.writes() == []


def test_a_tag_that_two_payments_have_is_left_to_a_person(job: Job) -> None:
    numbers = (tagged(job, 1), tagged(job, 1))
    with pytest.raises(PaymentAmbiguous, match=r"The payments \d+, \d+ of deal 1 all carry the tag") as caught:
        job.add(tag=True)
    assert caught.value.candidates == numbers
    assert job.world.writes() == []


def test_a_tag_that_the_portal_does_not_keep_is_told(job: Job) -> None:
    job.world.fault("true_not_applied", "sale.payment.update")
    with pytest.raises(PaymentMismatch, match=r"Payment 1033 was added .* does not carry the tag of its key"):
        job.add(tag=True)


def test_another_run_finds_the_payment_by_its_tag(job: Job) -> None:
    first = job.add(tag=True)
    later = Job(job.world).add(tag=True)
    assert (later["payment_id"], later["outcome"], later["evidence"]) == (first["payment_id"], "existing", "tag")
    assert len(job.world.ledger("payment_added")) == 1


# -- product rows


def test_rows_go_on_where_an_attempt_has_died(job: Job) -> None:
    def at_the_second() -> None:
        job.world.before[PUT] = die

    job.world.before[PUT] = at_the_second
    job.killed(lambda: job.add(fill_products=True))
    receipt = job.add(fill_products=True)
    assert receipt["amount"] == "1020.00"
    assert len(job.world.ledger("product_added")) == 2


def test_a_row_that_reads_are_behind_with_is_not_put_in_twice(job: Job) -> None:
    job.world.fault("read_lag", PUT, times=1, seconds=5)
    job.world.fault("drop_after", PUT, times=1)
    job.world.before["batch:products"] = die
    job.killed(lambda: job.add(fill_products=True))
    assert job.add(fill_products=True)["amount"] == "1020.00"
    assert len(job.world.ledger("product_added")) == 2


def test_a_row_that_somebody_has_taken_out_is_not_put_in_again(job: Job) -> None:
    def at_the_second() -> None:
        job.world.before[PUT] = die

    job.world.before[PUT] = at_the_second
    job.killed(lambda: job.add(fill_products=True))
    job.world.portal.state.payable_items.clear()
    with pytest.raises(PaymentNotApplied, match="row 1 x 2 is not in it, although the portal accepted it"):
        job.add(fill_products=True)
    assert len(job.world.ledger("product_added")) == 1


def test_a_row_that_must_wait_is_left_to_the_next_attempt(job: Job) -> None:
    job.world.fault("operation_time_limit", PUT, times=1)
    with pytest.raises(Bitrix24RateLimited, match="Payment 1033 of deal 1 belongs to this key and may be incomplete"):
        job.add(fill_products=True)
    job.world.clock.advance(600)
    assert job.add(fill_products=True)["amount"] == "1020.00"
    assert len(job.world.ledger("payment_added")) == 1


def test_a_price_that_rises_at_the_last_moment_is_told(job: Job) -> None:
    def rise() -> None:
        for row in job.world.portal.state.product_rows.values():
            row.price = Decimal(50_000)

    job.world.before[PUT] = rise
    with pytest.raises(
        PaymentMismatch, match=r"was added .* the max_amount of this task is 2000\. Prices have changed"
    ):
        job.add(fill_products=True, max_amount=Decimal(2000))


# -- marks


def test_what_somebody_pays_before_it_is_marked_once_more_is_not_marked(job: Job) -> None:
    world = job.world

    def pays() -> None:
        world.portal.act.pay_invoice(2, by="person", user_id=7)

    world.fault("drop_before", PAY, times=1)
    world.before[PAY] = lambda: world.before.update(batch=pays)
    assert job.pay()["outcome"] == "already_paid"
    assert [entry["by"] for entry in world.ledger("invoice_paid")] == ["person"]
    assert world.writes() == [PAY]


@pytest.mark.parametrize("fault", ["true_not_applied", "error"])
def test_an_answer_that_was_not_read_back_is_judged_by_the_next_attempt(job: Job, fault: str) -> None:
    job.world.fault(fault, PAY, times=1, **({"code": 0, "text": "Strange", "status": 400} if fault == "error" else {}))
    job.world.before[GET] = die
    job.killed(job.pay)
    words = "accepted the request to mark invoice 2 as paid" if fault == "true_not_applied" else "Strange"
    with pytest.raises(PaymentNotApplied, match=words):
        job.pay()
    # ScriptedPayments that is known, and the reason may be gone, a cleared task marks it.
    assert job.pay()["outcome"] == "paid"


def test_what_was_marked_as_often_as_it_may_be_waits_for_a_person(job: Job) -> None:
    job.world.fault("drop_before", PAY)
    for _ in range(3):
        with pytest.raises(PaymentAmbiguous, match=r"as paid was sent twice .* `bitrix24-airflow journal resolve "):
            job.pay()
    assert job.world.writes() == [PAY, PAY]


def test_a_mark_after_which_nothing_can_be_read_is_left_to_the_next_attempt(job: Job) -> None:
    job.world.fault("drop_after", PAY, times=1)
    job.world.before[GET] = lambda: job.world.fault("drop_before", GET)
    with pytest.raises(PaymentUnresolved, match=r"may have been marked as paid.*It is in the journal"):
        job.pay()
    job.world.portal.faults.clear()
    receipt = job.pay()
    assert (receipt["outcome"], receipt["recovered"]) == ("paid", True)
    assert job.world.writes() == [PAY]


def test_an_older_document_without_the_sum_before_is_gone_on_with(job: Job) -> None:
    job.world.before[GET] = die
    job.killed(job.pay)
    document = job.entry
    job.set(DOCUMENT, {name: value for name, value in document.items() if name not in ("amount", "currency")})
    assert job.pay()["outcome"] == "paid"
    assert job.world.writes() == [PAY]


def test_a_mark_that_is_there_again_is_found(job: Job) -> None:
    act = job.world.portal.act
    job.pay()
    act.unpay_invoice(2, user_id=7)
    job.world.before[GET] = lambda: act.pay_invoice(2, by="person", user_id=7)
    assert job.pay()["outcome"] == "paid"
    act.unpay_invoice(2, user_id=7)
    job.world.before[GET] = lambda: job.world.fault("drop_before", GET)
    with pytest.raises(PaymentUnresolved, match=r"Invoice 2 was paid before .* the portal cannot be read now"):
        job.pay()
    assert job.world.writes() == [PAY]


# -- the journal


def test_a_journal_that_is_away_for_a_moment_is_waited_for(job: Job) -> None:
    def a_moment() -> None:
        job.away = 2

    job.world.before[ADD] = a_moment
    assert job.add()["outcome"] == "created"
    assert job.entry["state"] == "done"


def test_an_attempt_that_airflow_has_given_up_does_not_read_the_portal(job: Job) -> None:
    gone = ConnectionError("409")
    gone.error = SimpleNamespace(detail={"status_code": 409, "detail": {"reason": "not_running"}})  # type: ignore[attr-defined]

    def refuse(key: str, value: Any, *, retention: Any = None) -> None:
        raise gone

    job.set = refuse  # type: ignore[method-assign]
    with pytest.raises(PaymentInProgress, match="given this attempt up"):
        job.pay()
    assert job.world.sent == []


def test_a_journal_that_stays_away_is_told_and_the_payment_is_not_sent_again(job: Job) -> None:
    def for_long() -> None:
        job.away = 100

    job.world.before[LIST] = for_long
    with pytest.raises(Bitrix24StoreError):
        job.add()
    job.away = 0
    assert job.add()["payment_id"] == 1033
    assert job.world.writes() == [ADD]


# -- without a journal


def forgetful(job: Job) -> ScriptedPayments:
    """A second attempt in an Airflow that keeps no task state."""
    task = TaskAttempt(identity="task", try_number=2)
    return ScriptedPayments(job.world.client, job.world.run, job.world, logging.getLogger("payments"), task=task)


def test_a_later_attempt_without_a_journal_adds_nothing(job: Job) -> None:
    with pytest.raises(
        PaymentAmbiguous, match=r"This is attempt 2, and there is no journal\. An earlier attempt may have sent"
    ):
        forgetful(job).add_crm_payment(entity_id=1, entity_type_id=2, key=KEY)
    job.world.fault("drop_before", "batch")
    with pytest.raises(PaymentUnresolved, match=r"there is no journal\. .* money may have been recorded"):
        forgetful(job).add_crm_payment(entity_id=1, entity_type_id=2, key=KEY)
    assert job.world.writes() == []


def test_a_lost_answer_without_a_journal_says_what_to_do_by_hand(job: Job) -> None:
    job.world.fault("drop_after", ADD, times=1)
    with pytest.raises(PaymentAmbiguous, match=r"There is no journal that would keep a decision\. .*by hand"):
        job.world.payments.add_crm_payment(entity_id=1, entity_type_id=2, key=KEY, on_unknown="fail")
    job.world.fault("drop_after", PAY, times=1)
    job.world.before[GET] = lambda: job.world.fault("drop_before", GET)
    with pytest.raises(Bitrix24OutcomeUnknown, match="may have been marked as paid"):
        job.world.payments.pay_invoice(invoice_id=2, pay_system_id=31)


def test_a_journal_whose_parameters_are_not_ours_sends_nothing(job: Job) -> None:
    job.world.before[ADD] = die
    job.killed(job.add)
    entry = job.documents[DOCUMENT]
    job.documents[DOCUMENT] = entry.replace('"entity_id": 1', '"entity_id": "1"')
    assert job.documents[DOCUMENT] != entry
    with pytest.raises(TypeError, match="'1' in the journal is no whole number"):
        job.add()
    assert job.world.ledger("payment_added") == []


def test_no_key_is_that_of_a_step(world: World) -> None:
    """The portal, or a proxy, that knows the header Idempotency-Key must not take another payment for a step."""
    world.payments.add_crm_payment(entity_id=1, entity_type_id=2, key=KEY, fill_products=True)
    rows = [digest for method, digest in zip(world.sent, world.keys, strict=True) if method == PUT]
    assert rows
    made = world.ledger("payment_added")[0]["payment_id"]
    for row in (1, 2, 3):
        key = f"{KEY}:payment:{made}:row:{row}"
        assert hashlib.sha256(key.encode()).hexdigest() not in rows


def test_the_clock_of_a_gateway_is_not_that_of_the_portal(job: Job) -> None:
    """Its header Date, ten minutes behind, would make the settle window look over."""
    world, answer = job.world, job.world._answer

    def without_time(request: Any) -> Any:
        response = answer(request)
        if not isinstance(response, Response):
            return response
        body = json.loads(response.body)
        body.pop("time", None)
        date = formatdate(world.clock.time() - 600, usegmt=True)
        return replace(response, headers={**response.headers, "date": date}, body=json.dumps(body).encode())

    world._answer = without_time  # type: ignore[method-assign]
    world.fault("commit_later", ADD, seconds=60, occurrence=1)
    world.before[LIST] = die
    job.killed(job.add)
    world._answer = answer  # type: ignore[method-assign]
    with pytest.raises(PaymentAmbiguous):
        job.add()
    world.clock.advance(300)
    world.person(LIST, {"entityId": 1, "entityTypeId": 2})
    assert len(world.ledger("payment_added")) == 1
