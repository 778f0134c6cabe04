"""Attacks on lists: the trouble of one operation, or an old observation, must not reach the others."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.queries import OnePayment
from airflow_provider_bitrix24.api.tags import tag_of
from airflow_provider_bitrix24.at_most_once.attempt import Tools
from airflow_provider_bitrix24.at_most_once.chunks import ChunkSize
from airflow_provider_bitrix24.at_most_once.course import load, read
from airflow_provider_bitrix24.at_most_once.lockstep import Lockstep
from airflow_provider_bitrix24.at_most_once.operations.delete_crm_payment import DeleteCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.state_change import StateWrite
from airflow_provider_bitrix24.at_most_once.operations.unpay_crm_payment import UnpayCrmPayment
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import Bitrix24StoreError
from airflow_provider_bitrix24.journal.protocol import NullJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
from tests.at_most_once.test_lists import ADD, PORTAL, Run, Store, adds, digest, outcomes, pays, run
from tests.at_most_once.test_recovery import Killed, die

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bitrix24.api.batch import BatchReply, Commands
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
    from airflow_provider_bitrix24.journal.protocol import Change

__all__ = ["run"]


def states(run: Run, keys: list[str]) -> list[str]:
    found = SqlJournal(run.database, "reader").load(PORTAL, keys)
    return [record.state if (record := found[key].record) is not None else "none" for key in keys]


def test_an_unexpected_error_in_one_course_leaves_the_replies_of_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoices = run.invoices(4)
    keys = [f"{PORTAL}:invoice:{one}" for one in invoices]
    replied = StateWrite.replied

    def broken(self: StateWrite, result: Any) -> Any:
        if self.change.key == keys[0]:
            raise ZeroDivisionError
        return replied(self, result)

    monkeypatch.setattr(StateWrite, "replied", broken)
    with pytest.raises(ZeroDivisionError):
        run.engine().run(pays(invoices))
    assert states(run, keys) == ["unknown", "done", "done", "done"]


class Unforeseen:
    """A query whose reply nobody can read."""

    def commands(self) -> Commands:
        return {"user": ("profile", {})}

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[None]:
        yield from ()
        raise ZeroDivisionError


def test_a_reply_that_nobody_foresaw_is_the_trouble_of_its_course_alone(run: Run) -> None:
    world, found = run.world, []

    def other() -> Course[None]:
        found.append((yield from read(OnePayment(payment_id=1001))))

    log, task = logging.getLogger("payments"), TaskAttempt(identity="me")
    tools = Tools(client=world.client, clock=world, log=log, journal=NullJournal(), task=task)
    lockstep = Lockstep(tools, world.run, ChunkSize(1), safeguard=None, check=None)
    with pytest.raises(ZeroDivisionError):
        lockstep.run({"a": read(Unforeseen()), "b": other()})
    assert [payment.id for payment in found] == [1001]


def test_replies_to_one_batch_are_saved_before_the_next_one_leaves(run: Run) -> None:
    deals = run.deals(20)
    second = digest(f"{PORTAL}:key:18")
    run.world.before[f"batch:{second}"] = die
    with pytest.raises(Killed):
        run.engine().run(adds(deals, tag=True))
    assert "unknown" not in states(run, [f"{PORTAL}:key:{number}" for number in range(16)])


def test_each_batch_has_its_slot_and_asks_the_safeguard(run: Run) -> None:
    deals = run.deals(20)
    asked = []
    run.engine(safeguard=lambda: asked.append(len(run.world.ledger("payment_added")))).run(adds(deals, tag=True))
    assert asked == [0, 16]


def test_what_is_the_same_for_all_is_read_again_for_each_chunk(run: Run) -> None:
    run.batch_size = 2
    invoices = run.invoices(4)
    engine = run.engine()
    chunks = engine.run_in_chunks(dict(enumerate(pays(invoices))))
    assert outcomes(list(next(chunks).values())) == ["paid", "paid"]
    run.world.portal.state.pay_systems[31].active = False
    assert outcomes(list(next(chunks).values())) == ["payment.refused", "payment.refused"]
    assert run.paid() == Counter(invoices[:2])


def test_others_that_halt_a_batch_do_not_use_up_the_tries_of_the_rest(run: Run) -> None:
    deals = run.deals(9)
    for occurrence in range(1, 8):
        run.world.fault("error", ADD, occurrence=occurrence, code="ACCESS_DENIED", text="Access denied", status=403)
    results = run.engine().run(adds(deals, tag=True))
    assert outcomes(results) == [*["portal.permission"] * 7, "created", "created"]


def test_two_keys_of_one_task_never_share_a_payment(run: Run) -> None:
    """The first add never came; while its outcome cannot be read, the second key adds its payment."""
    [deal] = run.deals(1)
    store, world = Store(), run.world
    operations = adds([deal, deal], on_unknown="adopt")

    def engine() -> PaymentEngine:
        return run.engine(journal=TaskStateJournal(store, many=True))

    world.before[ADD] = die
    with pytest.raises(Killed):
        engine().run(operations)
    world.fault("drop_before", "batch", times=10_000)
    second = engine()
    assert outcomes(second.run(operations[:1])) == ["payment.unresolved"]
    world.portal.faults.clear()
    assert outcomes(second.run(operations[1:])) == ["created"]
    results = engine().run(operations)
    assert outcomes(results) == ["created", "existing"]
    assert len({result.subject["payment_id"] for result in results}) == 2  # type: ignore[union-attr,index]
    assert run.added() == Counter({deal: 2})


def test_a_reply_that_cannot_be_saved_is_tried_again_before_others_are_asked(run: Run) -> None:
    deals = run.deals(2)
    journal = SqlJournal(run.database, "me")
    save, saves, seen = journal.save, [0], []

    def fails(changes: Sequence[Change]) -> Any:
        if any(change.record.payment_id is not None and change.record.receipt is None for change in changes):
            saves[0] += 1
            seen.append(len(run.world.sent))
            if saves[0] < 3:
                raise Bitrix24StoreError("the database", "it is away")
        return save(changes)

    journal.save = fails  # type: ignore[method-assign]
    operations = [*adds(deals[:1], tag=True), *pays(run.invoices(2))]
    assert outcomes(run.engine(journal=journal).run(operations)) == ["created", "paid", "paid"]
    assert len(set(seen[:3])) == 1


def test_a_read_that_is_always_too_old_ends_without_a_send(run: Run) -> None:
    invoices = run.invoices(2)
    look = StateWrite.look

    def slow(self: StateWrite) -> Any:
        yield from look(self)
        yield from load()
        run.world.clock.advance(20)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StateWrite, "look", slow)
        assert outcomes(run.engine().run(pays(invoices))) == ["portal.not_sent"] * 2
    assert run.paid() == Counter()


@pytest.mark.parametrize(
    ("name", "method", "code", "outcome", "times"),
    [
        ("handlers", "sale.paysystem.handler.list", "ACCESS_DENIED", "paid", 1),
        ("handlers", "sale.paysystem.handler.list", "QUERY_LIMIT_EXCEEDED", "portal.rate_limited", 2),
        ("scope", "scope", "ACCESS_DENIED", "portal.permission", 1),
    ],
)
def test_what_is_refused_to_all_for_good_is_asked_once(
    run: Run, name: str, method: str, code: str, outcome: str, times: int
) -> None:
    run.batch_size, world, asked = 2, run.world, []

    def ask() -> None:
        asked.append(len(world.sent))
        world.before[f"batch:{name}_0"] = ask

    world.before[f"batch:{name}_0"] = ask
    world.fault("error", method, code=code, text="no", status=403)
    assert outcomes(run.engine().run(pays(run.invoices(4)))) == [outcome] * 4
    assert len(asked) == times


def test_operations_on_one_payment_are_carried_out_one_after_another(run: Run) -> None:
    operations = [
        PayCrmPayment(portal=PORTAL, payment_id=1001),
        UnpayCrmPayment(portal=PORTAL, payment_id=1001),
        DeleteCrmPayment(portal=PORTAL, payment_id=1001),
    ]
    assert outcomes(run.engine().run(operations)) == ["paid", "unpaid", "deleted"]
    assert 1001 not in run.world.portal.state.payments


def test_a_key_that_needs_a_decision_does_not_return_another_payment(run: Run) -> None:
    [deal] = run.deals(1)
    world, store = run.world, Store()
    other = world.person(ADD, {"entityId": deal, "entityTypeId": 2})
    world.person("crm.item.payment.pay", {"id": other})
    operations = adds([deal], if_unpaid_exists="return")
    world.fault("drop_after", ADD, times=1)
    first = run.engine(journal=TaskStateJournal(store, many=True)).run(operations)
    assert outcomes(first) == ["payment.ambiguous"]
    [candidate] = first[0].candidates  # type: ignore[union-attr]
    world.person("crm.item.payment.delete", {"id": candidate})
    world.person("crm.item.payment.unpay", {"id": other})
    second = run.engine(journal=TaskStateJournal(store, many=True)).run(operations)
    assert outcomes(second) == ["payment.ambiguous"]


def test_other_parameters_are_refused_before_an_existing_payment_is_used(run: Run) -> None:
    [deal] = run.deals(1)
    world, store = run.world, Store()
    other = world.person(ADD, {"entityId": deal, "entityTypeId": 2})
    world.person("crm.item.payment.pay", {"id": other})
    world.before[ADD] = die
    with pytest.raises(Killed):
        run.engine(journal=TaskStateJournal(store, many=True)).run(adds([deal], if_unpaid_exists="return"))
    world.person("crm.item.payment.unpay", {"id": other})
    journal = TaskStateJournal(store, many=True)
    second = run.engine(journal=journal).run(adds([deal], if_unpaid_exists="return", pay_system_id=31))
    assert outcomes(second) == ["payment.mismatch"]
    key = f"{PORTAL}:key:0"
    record = journal.load(PORTAL, [key])[key].record
    assert record is not None
    assert (record.payment_id, run.added()) == (None, Counter({deal: 1}))


def test_a_tag_on_another_object_is_refused_before_an_existing_payment_is_used(run: Run) -> None:
    [deal, elsewhere] = run.deals(2)
    world = run.world
    world.person(ADD, {"entityId": deal, "entityTypeId": 2})
    moved = world.person(ADD, {"entityId": elsewhere, "entityTypeId": 2})
    [operation] = adds([deal], tag=True, if_unpaid_exists="return")
    world.portal.state.payments[moved].xml_id = tag_of(PORTAL, operation.key)
    assert outcomes(run.engine().run([operation])) == ["payment.mismatch"]
    record = SqlJournal(run.database, "reader").load(PORTAL, [operation.key])[operation.key].record
    assert record is not None
    assert record.payment_id is None


def test_a_journal_for_one_key_refuses_a_list_before_anything_is_sent(run: Run) -> None:
    with pytest.raises(ValueError, match="many"):
        run.engine(journal=TaskStateJournal(Store())).run(pays(run.invoices(2)))
    assert run.paid() == Counter()
