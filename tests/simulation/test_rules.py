"""Each rule of the protocol, in the story that goes wrong without it; `make test-mutation` takes them out in turn."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.exceptions import (
    Bitrix24NoAnswer,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.task_state import DOCUMENT
from airflow_provider_bitrix24.sandbox.faults import Fault
from tests.simulation.campaign import IDENTITY, KEY, OPERATIONS, Case, Operation, tell
from tests.simulation.judge import Judge
from tests.simulation.stories import ADD, Script, added, adding, decision, receipt_of, writes
from tests.simulation.strikes import READ_STRIKES
from tests.simulation.virtual_journals import Accessor, VirtualDatabase
from tests.simulation.world import Strand, World

IN_THE_WAY = ("killed before", "killed after", "timeout after", "slow after")


def told(operation: str, journal: str, strikes: dict[int, str], database: VirtualDatabase) -> str:
    """How a case ended; the judge has judged it."""
    return tell(Case(OPERATIONS[operation], journal, strikes), database).ended


# -- the steps


@pytest.mark.parametrize("journal", ["task state", "sql"])
@pytest.mark.parametrize("operation", ["add", "invoice", "payment"])
def test_a_worker_that_dies_after_sending_has_left_its_intent(
    operation: str, journal: str, database: VirtualDatabase
) -> None:
    calm = tell(Case(OPERATIONS[operation], journal, {}), database)
    told(operation, journal, {calm.effects.index("send"): "killed after"}, database)


@pytest.mark.parametrize("journal", ["task state", "sql"])
@pytest.mark.parametrize("operation", ["add", "fill", "tag", "invoice", "payment"])
def test_the_answer_is_written_before_anything_else_is_asked(
    operation: str, journal: str, database: VirtualDatabase
) -> None:
    assert told(operation, journal, {}, database) == "green"


@pytest.mark.parametrize("operation", ["add", "tag", "invoice", "payment"])
def test_who_wakes_up_after_the_deadline_sends_nothing(operation: str, database: VirtualDatabase) -> None:
    told(operation, "task state", {3: "frozen before"}, database)


def test_two_reads_after_the_settle_window_prove_an_absence() -> None:
    world = World("task state")

    def read_lag_beyond_its_term() -> None:
        world.portal.faults.add(Fault(kind="read_lag", method=ADD, occurrence=1, seconds=3.5))

    world.director = Script({"a": {2: read_lag_beyond_its_term, 3: "commit_latest"}})
    world.worker("a", 1).attempt(adding())
    assert len(added(world)) == 1


@pytest.mark.parametrize("journal", ["task state", "sql"])
@pytest.mark.parametrize("operation", ["add", "tag"])
@pytest.mark.parametrize("late", ["commit_latest, lagging", "orphan latest lagging"])
def test_nothing_is_absent_before_the_settle_window_is_over(
    operation: str, journal: str, late: str, database: VirtualDatabase
) -> None:
    told(operation, journal, {3: late}, database)


def test_the_settle_window_begins_when_the_portal_may_have_answered(database: VirtualDatabase) -> None:
    """The answer to the read before was slow: the portal's clock has gone on meanwhile."""
    told("add", "task state", {1: "slow after", 3: "orphan latest lagging"}, database)


@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_what_is_absent_is_sent_once_more_and_then_a_person_decides(journal: str, database: VirtualDatabase) -> None:
    world = World(journal, database)
    world.portal.faults.add(Fault(kind="drop_before", method=ADD))
    for attempt in (1, 2, 3):
        outcome = world.worker("a", attempt).attempt(adding())
        assert isinstance(outcome.error, PaymentAmbiguous)
    assert writes(world) == [ADD, ADD]


# -- evidence


def test_the_snapshot_stays_that_of_the_first_intent(database: VirtualDatabase) -> None:
    world = World("sql and task state", database)
    # Another key adds its payment while the first send of ours is being looked for.
    world.director = Script(
        {"a": {3: "drop_before", 5: lambda: world.worker("b", 1).attempt(adding("key-b"))}, "b": {}}
    )
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    assert added(world, "key-b") == [1033]
    entry = Accessor(world.states["a"], 1).get(DOCUMENT)
    assert "payment_ids_before" not in entry
    assert len(entry["sends"]) == 2


@pytest.mark.parametrize("rule", ["fail", "return"])
def test_an_unpaid_payment_of_another_key_counts_before_the_second_send(rule: Any, database: VirtualDatabase) -> None:
    world = World("sql and task state", database)
    world.director = Script(
        {"a": {3: "drop_before", 5: lambda: world.worker("b", 1).attempt(adding("key-b"))}, "b": {}}
    )
    outcome = world.worker("a", 1).attempt(adding(if_unpaid_exists=rule))
    assert (added(world), added(world, "key-b")) == ([], [1033])
    assert writes(world) == [ADD]
    if rule == "fail":
        assert isinstance(outcome.error, PaymentRefused)
    else:
        assert receipt_of(outcome) == ("existing", "portal_state", 1033)


def test_a_repeated_request_is_noticed_where_no_other_key_explains_it(
    database: VirtualDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World("sql", database)
    handle = world.portal.handle

    def twice(method: str, params: dict[str, Any], **options: Any) -> Any:
        if method == ADD:
            handle(method, params, **options)
        return handle(method, params, **options)

    monkeypatch.setattr(world.portal, "handle", twice)
    for number in (1, 2):
        error = world.worker("a", number).attempt(adding()).error
        assert isinstance(error, PaymentMismatch)
        assert "Payment 1034 was added to deal 1, but payment 1033 appeared as well" in str(error)
    world.portal.act.delete_payment(1033)
    assert receipt_of(world.worker("a", 3).attempt(adding())) == ("created", "response", 1034)


def test_a_payment_that_fits_no_filter_still_counts() -> None:
    world = World("task state")

    def an_exchange_writes_its_own_id() -> None:
        world.portal.state.payments[1033].xml_id = "1C-77"

    world.director = Script({"a": {3: "drop_after", 4: an_exchange_writes_its_own_id}})
    outcome = world.worker("a", 1).attempt(adding())
    assert isinstance(outcome.error, PaymentAmbiguous)
    assert outcome.error.candidates == (1033,)
    assert writes(world) == [ADD]


@pytest.mark.parametrize("journal", ["sql", "task state"])
def test_what_somebody_else_adds_is_not_taken_for_ours(journal: str, database: VirtualDatabase) -> None:
    world = World(journal, database)
    world.director = Script({"a": {3: "drop_before", 4: "people: adds"}})
    outcome = world.worker("a", 1).attempt(adding(on_unknown="adopt"))
    assert isinstance(outcome.error, PaymentAmbiguous)
    assert added(world) == []


def test_what_our_own_user_adds_by_hand_is_an_assumption(database: VirtualDatabase) -> None:
    """Nothing tells it from ours: without SQL a person is asked; with SQL it is believed, and the receipt says why."""
    for journal in ("task state", "sql"):
        world = World(journal, database)
        world.director = Script({"a": {3: "drop_before", 4: "people: the connection's user adds"}})
        outcome = world.worker("a", 1).attempt(adding())
        assert (added(world), len(world.portal.state.payments)) == ([], 5)
        if journal == "task state":
            assert isinstance(outcome.error, PaymentAmbiguous)
        else:
            assert outcome.receipt is not None
            assert outcome.receipt.as_dict()["evidence"] == "only_new_payment"


def test_rows_of_a_dropped_filter_are_not_tagged(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("task state")
    handle = world.portal.handle

    def without_filter(method: str, params: dict[str, Any], **options: Any) -> Any:
        if "cmd" in params:
            commands = {
                name: command.replace("filter[%3DxmlId]", "filter[%3Dxmlid]").replace("filter", "filtre")
                if command.startswith("sale.payment.list")
                else command
                for name, command in params["cmd"].items()
            }
            params = {**params, "cmd": commands}
        return handle(method, params, **options)

    world.portal.act.add_payment(2, 1, user_id=7)
    monkeypatch.setattr(world.portal, "handle", without_filter)
    outcome = world.worker("a", 1).attempt(adding(tag=True))
    assert isinstance(outcome.error, Bitrix24NoAnswer)
    assert added(world) == []


def test_who_paid_decides_whose_mark_it_is() -> None:
    world = World("task state")
    world.director = Script({"a": {3: "drop_before", 4: "people: pays"}})
    outcome = world.worker("a", 1).attempt(lambda payments: payments.pay_invoice(invoice_id=2, pay_system_id=31))
    assert outcome.receipt is not None
    assert outcome.receipt.as_dict()["outcome"] == "already_paid"


# -- several keys, several workers


def test_other_parameters_are_refused(database: VirtualDatabase) -> None:
    world = World("sql", database)
    assert world.worker("a", 1).attempt(adding()).receipt is not None
    outcome = world.worker("b", 1).attempt(adding(fill_products=True))
    assert isinstance(outcome.error, PaymentMismatch)
    assert "fill_products was False, now True" in str(outcome.error)
    assert writes(world) == [ADD]


def test_an_open_intent_is_resolved_with_its_own_parameters_first(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "killed after"}})
    world.worker("a", 1).attempt(adding())
    outcome = world.worker("b", 1).attempt(adding(pay_system_id=8))
    assert isinstance(outcome.error, PaymentMismatch)
    assert "Payment 1033 was added for it" in str(outcome.error)
    assert added(world) == [1033]
    assert world.portal.state.payments[1033].pay_system_id == 6


def test_a_payment_of_another_key_is_not_claimed(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script(
        {"a": {3: "drop_before", 4: lambda: world.worker("b", 1).attempt(adding("key-b"))}, "b": {}}
    )
    outcome = world.worker("a", 1).attempt(adding())
    assert outcome.receipt is not None
    assert added(world, "key-b") == [1033]
    assert [outcome.receipt.as_dict()["payment_id"]] == added(world) == [1034]


def test_what_a_rival_may_have_added_is_for_a_person(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script({"b": {3: "killed after"}, "a": {3: "drop_before", 4: lambda: rival()}})

    def rival() -> None:
        world.worker("b", 1).attempt(adding("key-b"))

    outcome = world.worker("a", 1).attempt(adding())
    assert isinstance(outcome.error, PaymentAmbiguous)
    assert "key-b" in str(outcome.error)
    assert (added(world), added(world, "key-b")) == ([], [1033])


def test_a_rival_counts_from_the_snapshot_on(database: VirtualDatabase) -> None:
    """Its payment may have arrived after the snapshot was taken and before the intent was written."""
    world = World("sql", database)
    world.director = Script({"b": {3: "orphan latest"}, "a": {1: "slow after", 3: "drop_before"}})
    world.worker("b", 1).attempt(adding("key-b"))
    world.advance(10.0)
    outcome = world.worker("a", 1).attempt(adding())
    assert isinstance(outcome.error, PaymentAmbiguous)
    assert (added(world), added(world, "key-b")) == ([], [1033])


def test_a_refusal_is_not_believed_if_the_key_has_gone_on(database: VirtualDatabase) -> None:
    """Two runs with one key: the other one has put all rows into its payment before this one looks."""
    world = World("sql", database)
    filling = adding(fill_products=True)
    world.director = Script({"b": {1: lambda: world.worker("a", 1).attempt(filling)}, "a": {}})
    outcome = world.worker("b", 1).attempt(filling)
    assert outcome.receipt is not None
    assert outcome.receipt.as_dict()["outcome"] == "existing"
    assert added(world) == [1033]


def test_who_is_overtaken_in_sql_sends_nothing(database: VirtualDatabase) -> None:
    told("add", "sql", {2: "frozen before"}, database)
    told("invoice", "sql", {2: "frozen before"}, database)
    # The same where the row is there already, because an attempt before was refused.
    told("add", "sql", {3: "expired_token", 7: "frozen before"}, database)


def test_whom_airflow_has_given_up_sends_nothing(database: VirtualDatabase) -> None:
    told("add", "task state", {2: "frozen before"}, database)
    told("invoice", "task state", {2: "frozen before"}, database)


def test_the_task_state_is_a_fence_for_sql_too(database: VirtualDatabase) -> None:
    """The next attempt has begun, but has not come to the journal yet."""
    world = World("sql and task state", database)
    world.director = Script({"a": {2: "frozen before"}})
    zombie, ends = world.worker("a", 1), []
    zombie.strand = Strand(lambda: ends.append(zombie.attempt(adding())))
    zombie.strand.resume()
    world.states["a"].accessor(2)
    zombie.strand.resume()
    assert isinstance(ends[0].error, PaymentInProgress)
    assert writes(world) == []


def test_an_answer_that_came_too_late_is_an_observation(database: VirtualDatabase) -> None:
    """Frozen with the answer in hand; the next attempt knows the payment all the same."""
    world = World("sql", database)
    world.director = Script({"a": {4: "frozen before"}, "c": {}})
    zombie, ends = world.worker("a", 1), []
    zombie.strand = Strand(lambda: ends.append(zombie.attempt(adding())))
    zombie.strand.resume()
    assert world.worker("c", 1).attempt(adding()).receipt is not None
    zombie.strand.resume()
    assert len(added(world)) == 1
    assert len(ends) == 1


# -- rows


def test_a_row_that_was_answered_is_not_sent_again(database: VirtualDatabase) -> None:
    told("fill", "task state", {7: "read_lag", 8: "killed after"}, database)


def test_the_plan_of_the_first_intent_is_filled_in(database: VirtualDatabase) -> None:
    """Rows that are added to the deal meanwhile are another payment's business."""
    world = World("task state")
    world.director = Script({"a": {6: "killed after"}})
    world.worker("a", 1).attempt(adding(fill_products=True))
    fields = {"ownerType": "D", "ownerId": 1, "productName": "More", "price": "5", "quantity": "1"}
    world.portal.create("product_row", fields)
    outcome = world.worker("a", 2).attempt(adding(fill_products=True))
    assert outcome.receipt is not None
    assert outcome.receipt.as_dict()["amount"] == "1020.00"


# -- people


def parked(world: World) -> PaymentAmbiguous:
    """A key of which a person is asked: it was sent, the answer was lost, and one payment is there."""
    world.director = Script({"a": {3: "drop_after"}})
    error = world.worker("a", 1).attempt(adding()).error
    assert isinstance(error, PaymentAmbiguous)
    return error


def test_a_person_adopts() -> None:
    world = World("task state")
    [candidate] = parked(world).candidates
    outcome = world.worker("a", 2).attempt(adding(decision=decision("use_payment", candidate, payment_id=candidate)))
    assert outcome.receipt is not None
    assert outcome.receipt.as_dict()["evidence"] == "person"
    assert writes(world) == [ADD]


def test_a_person_adopts_what_is_not_there() -> None:
    world = World("task state")
    [candidate] = parked(world).candidates
    world.people("deletes")
    outcome = world.worker("a", 2).attempt(adding(decision=decision("use_payment", candidate, payment_id=candidate)))
    assert isinstance(outcome.error, PaymentAmbiguous)
    assert "anna decided to use payment 1033, but deal 1 has no such payment now" in str(outcome.error)
    assert writes(world) == [ADD]


def test_a_person_adds_again_and_the_dismissed_one_stays_so() -> None:
    world = World("task state")
    candidates = parked(world).candidates
    outcome = world.worker("a", 2).attempt(adding(decision=decision("send_again", *candidates)))
    assert outcome.receipt is not None
    assert outcome.receipt.as_dict()["payment_id"] == 1034
    assert writes(world) == [ADD, ADD]


def test_paying_again_is_void_if_another_candidate_has_appeared() -> None:
    world = World("task state")
    candidates = parked(world).candidates
    world.people("adds")
    outcome = world.worker("a", 2).attempt(adding(decision=decision("send_again", *candidates)))
    assert isinstance(outcome.error, PaymentAmbiguous)
    assert outcome.error.candidates == (1033, 1034)
    assert writes(world) == [ADD]


def test_what_is_given_up_stays_given_up() -> None:
    world = World("task state")
    parked(world)
    for attempt, decided in ((2, decision("abandon")), (3, None)):
        outcome = world.worker("a", attempt).attempt(adding(decision=decided))
        assert isinstance(outcome.error, PaymentRefused)
        assert "anna has abandoned deal 1" in str(outcome.error)
    assert writes(world) == [ADD]


def test_a_key_parked_for_a_person_is_an_error_at_once_for_others(database: VirtualDatabase) -> None:
    world = World("sql", database)
    world.director = Script({"a": {3: "drop_after", 4: "people: adds"}})
    assert isinstance(world.worker("a", 1).attempt(adding()).error, PaymentAmbiguous)
    now = world.time()
    outcome = world.worker("b", 1).attempt(adding())
    assert isinstance(outcome.error, PaymentAmbiguous)
    assert world.time() == now
    assert writes(world) == [ADD]


@pytest.mark.parametrize(
    ("operation", "undo"), [("add", "deletes"), ("invoice", "takes back"), ("payment", "takes back")]
)
@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_what_somebody_has_undone_is_never_sent_again(
    operation: str, undo: str, journal: str, database: VirtualDatabase
) -> None:
    world = World(journal, database)
    made: Operation = OPERATIONS[operation]
    assert world.worker(IDENTITY, 1).attempt(made.do).receipt is not None
    world.people(undo)
    for attempt in (2, 3):
        outcome = world.worker(IDENTITY, attempt).attempt(made.do)
        assert isinstance(outcome.error, PaymentNotApplied)
    assert len(writes(world, made.key(world))) == 1


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("what", ["use_payment", "send_again"])
@pytest.mark.parametrize("journal", ["task state", "sql"])
def test_trouble_while_a_decision_is_carried_out(what: str, journal: str, database: VirtualDatabase) -> None:
    """At every effect of the attempt that carries it out; the attempts after it know nothing of the decision."""
    cases, effects = 0, 1
    while cases // len(IN_THE_WAY) < effects:
        effect, strike = cases // len(IN_THE_WAY), IN_THE_WAY[cases % len(IN_THE_WAY)]
        world = World(journal, database)
        world.director = Script({"a": {3: "drop_after", 4: "people: adds"}})
        error = world.worker("a", 1).attempt(adding()).error
        assert isinstance(error, PaymentAmbiguous)
        judge = Judge(world, KEY, "add_crm_payment", granted=int(what == "send_again"))
        decided = decision(what, *error.candidates, payment_id=1033 if what == "use_payment" else None)
        world.director = script = Script({"a": {effect: strike}})
        judge.attempt(world.worker("a", 2).attempt(adding(decision=decided)))
        effects = max(effects, script.seen["a"] if not effect else 0)
        world.director = Script({})
        for attempt in (3, 4):
            judge.attempt(world.worker("a", attempt).attempt(adding()))
        world.advance(2 * world.settle_window)
        judge.end()
        cases += 1
    assert effects >= 4


@pytest.mark.parametrize("strike", READ_STRIKES)
def test_our_payment_is_named_if_those_of_others_cannot_be_told_apart(strike: str, database: VirtualDatabase) -> None:
    """Somebody adds one before ours, and the read that asks whose they are fails; the judge looks at the message."""
    assert told("add", "sql", {2: "people: adds", 7: strike}, database).endswith("green")
