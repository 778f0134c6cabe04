"""The rate limit slot of a write: booked before its intent, so that waiting takes nothing from its deadline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.io import Request, Reserve, Slot
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import Bitrix24NotSent, Bitrix24RateLimited
from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
from tests.tools.payments import ScriptedPayments

if TYPE_CHECKING:
    from conftest import World

PAY = "sale.paysystem.pay.invoice"
GET = "crm.invoice.get"


class Watched:
    """One attempt whose steps are written down: slots, waits, what is saved, what is sent."""

    def __init__(self, world: World, *slots: Slot, **extra: Any) -> None:
        self.world = world
        self.steps: list[str] = []
        self.saved: dict[str, Any] = {}
        world.slots = list(slots)
        world.connect(**extra)

    def get(self, key: str, default: Any = None) -> Any:
        return self.saved.get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.saved[key] = value
        self.steps.append("save")

    def run(self, flow: Any) -> Any:
        return self.world.run(self._watch(flow))

    def _watch(self, flow: Any) -> Any:
        answer = None
        while True:
            try:
                command = flow.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(command, Request):
                self.steps.append(command.method)
            else:
                self.steps.append("slot" if isinstance(command, Reserve) else f"{command.seconds:.0f} s")
            answer = yield command

    def payments(self, *, many: bool = False, **options: int) -> ScriptedPayments:
        journal = TaskStateJournal(self, many=many)
        task = TaskAttempt(identity="dag:d:run:r:task:t:map_index:-1", try_number=1)
        return ScriptedPayments(
            self.world.client,
            self.run,
            self.world,
            logging.getLogger("payments"),
            journal=journal,
            task=task,
            **options,
        )

    def pay(self) -> dict[str, Any]:
        return self.payments().pay_invoice(invoice_id=2, pay_system_id=31).as_dict()

    def pay_list(self, *invoice_ids: int, batch_size: int = 25) -> list[str]:
        engine = self.payments(many=True, batch_size=batch_size).engine
        operations = [PayInvoice(portal=engine.portal, invoice_id=one, pay_system_id=31) for one in invoice_ids]
        return [result.outcome for result in engine.run(operations)]  # type: ignore[union-attr]


def test_a_write_waits_for_its_slot_before_the_read_that_permits_it(world: World) -> None:
    watched = Watched(world, Slot(0.0), Slot(90.0))
    assert watched.pay()["outcome"] == "paid"
    read_again = ["slot", "batch"]
    begun = ["save", "slot", "batch"]
    assert watched.steps == [*begun, "slot", "90 s", *read_again, "save", PAY, "save", "slot", GET, "save"]
    assert [entry["event"] for entry in world.portal.ledger] == ["invoice_paid"]


def test_a_list_waits_for_its_slot_before_it_reads(world: World) -> None:
    watched = Watched(world, Slot(90.0))
    assert watched.pay_list(2, 7) == ["paid", "paid"]
    read, send, read_back = ["slot", "batch"], ["save", "batch", "save"], ["slot", "batch", "save"]
    assert watched.steps == ["save", "slot", "90 s", *read, *send, *read_back]


def test_the_slot_of_a_list_that_sends_nothing_is_kept_for_the_next_chunk(world: World) -> None:
    world.portal.act.pay_invoice(2)
    world.portal.act.pay_invoice(7)
    watched = Watched(world)
    assert watched.pay_list(2, 7, *range(8, 12), batch_size=2) == ["already_paid"] * 2 + ["paid"] * 4
    assert watched.steps.count("slot") == watched.steps.count("batch") == 7


def test_the_second_send_has_a_wait_of_its_own_for_its_slot(world: World) -> None:
    watched = Watched(world)
    world.fault("drop_before", PAY, times=1)

    def slow() -> None:
        watched.steps.append("slow")
        world.slots = [Slot(20.0)]

    # The second batch permits the second send, whose slot comes only then.
    world.before["batch"] = lambda: world.before.update(batch=slow)
    assert watched.pay()["outcome"] == "paid"
    assert "slow" in watched.steps
    assert watched.steps.count(PAY) == 2
    assert [entry["event"] for entry in world.portal.ledger] == ["invoice_paid"]


def test_what_is_waited_for_too_long_is_said(world: World) -> None:
    watched = Watched(world, Slot(0.0), Slot(1.0))
    late_once = {"late": True}
    advance = world.clock.advance

    def late(seconds: float) -> None:
        advance(300.0 if seconds == 1.0 and late_once.pop("late", False) else seconds)

    world.clock.advance = late  # type: ignore[method-assign]
    with pytest.raises(Bitrix24NotSent, match="its slot of the portal's rate limit came after 1 s"):
        watched.pay()
    assert world.portal.ledger == []


def test_even_a_short_wait_for_a_slot_is_followed_by_another_read(world: World) -> None:
    watched = Watched(world, Slot(0.0), Slot(2.0))
    assert watched.pay()["outcome"] == "paid"
    assert watched.steps[:7] == ["save", "slot", "batch", "slot", "2 s", "slot", "batch"]


def test_without_a_slot_in_time_nothing_is_saved_and_nothing_sent(world: World) -> None:
    watched = Watched(world, Slot(0.0), Slot(300.0, granted=False))
    with pytest.raises(Bitrix24RateLimited, match="Not sent: the portal's rate limit") as caught:
        watched.pay()
    assert (caught.value.final, caught.value.retry_after) == (False, 300.0)
    assert watched.steps == ["save", "slot", "batch", "slot"]
    assert ([document.get("sends", []) for document in watched.saved.values()], world.portal.ledger) == ([[]], [])
    assert watched.pay()["outcome"] == "paid", "the next attempt finds nothing in its way"


def test_each_new_deadline_has_a_slot_of_its_own(world: World) -> None:
    watched = Watched(world)
    world.not_sent = 4  # three repeats of the call before the first deadline, one before the second
    assert watched.pay()["outcome"] == "paid"
    answered = watched.steps.index("save", len(watched.steps) - watched.steps[::-1].index(PAY))
    sent = watched.steps[:answered]
    assert sent.count("slot") == sent.count(PAY) + sent.count("batch")
    assert len(world.portal.ledger) == 1


def test_a_portal_that_is_busy_all_the_same_takes_the_attempt_into_a_new_deadline(world: World) -> None:
    watched = Watched(world, Slot(0.0), Slot(0.0), Slot(20.0))
    world.fault("query_limit_exceeded", PAY, times=1)
    assert watched.pay()["outcome"] == "paid"
    assert watched.steps.count("20 s") == 1, "the read that permits the next send waits, outside of any deadline"
    assert len(world.portal.ledger) == 1
