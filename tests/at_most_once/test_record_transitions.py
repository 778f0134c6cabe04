"""How a journal record changes: each transition of its own, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bitrix24.at_most_once.record import Decision, Record, Send, Snapshot

SEND = Send(at=100.0, settle_until=256.0, by="task:try:1", result="pending")
LATER = Send(at=900.0, settle_until=1056.0, by="task:try:2", result="pending")
ROW = "row 17"
WANTED = Record(
    key="order-17",
    portal="acme.bitrix24.com",
    operation="add_crm_payment",
    subject="deal 4",
    parameters={"entity_id": 4, "pay_system_id": None},
    task="task",
)
BEFORE = Snapshot(at=99.0, payment_ids=(1, 2), plan={"17": 2})
SENT = WANTED.prepared(WANTED, BEFORE).sending(SEND)


def decision(what: Any = "send_again", **facts: Any) -> Decision:
    values: dict[str, Any] = {"what": what, "by": "Ada", "at": "2026-11-22T10:00:00+00:00", "through": "command line"}
    return Decision(**values | facts)


def changed(before: Record, after: Record) -> dict[str, Any]:
    names = before.__dataclass_fields__
    return {name: getattr(after, name) for name in names if getattr(before, name) != getattr(after, name)}


# -- sending


def test_the_snapshot_is_that_of_the_first_send_that_may_have_run() -> None:
    assert (SENT.snapshot_at, SENT.payment_ids_before, SENT.plan) == (99.0, (1, 2), {"17": 2})
    other = replace(WANTED, parameters={"entity_id": 4, "pay_system_id": 6})
    again = SENT.absent("no reply").prepared(other, Snapshot(at=800.0, payment_ids=(1, 2, 3)))
    assert (again.snapshot_at, again.payment_ids_before, again.plan) == (99.0, (1, 2), {"17": 2})
    assert again.parameters == other.parameters
    withdrawn = SENT.withdrawn("not_sent", "connection refused").prepared(other, Snapshot(at=800.0, payment_ids=(3,)))
    assert (withdrawn.snapshot_at, withdrawn.payment_ids_before) == (800.0, (3,))


def test_the_amount_is_that_of_the_last_send() -> None:
    first = WANTED.prepared(WANTED, Snapshot(at=1.0, amount="10.00", currency="EUR")).sending(SEND)
    second = first.absent().prepared(WANTED, Snapshot(at=2.0, amount="12.00", currency="USD"))
    assert (second.amount, second.currency, second.snapshot_at) == ("12.00", "USD", 1.0)
    assert first.absent().prepared(WANTED, BEFORE).amount == "10.00"


def test_what_certainly_did_not_run_leaves_the_list() -> None:
    refused = SENT.withdrawn("refused", "insufficient_scope")
    assert refused.nothing_executed
    assert refused.state == "new"
    assert refused.sends[0].portal_message == "insufficient_scope"
    assert refused.sending(LATER).sends == (LATER,)
    assert SENT.absent().sending(LATER).sends == (SENT.absent().sends[0], LATER)


@pytest.mark.parametrize("step", [None, ROW])
@pytest.mark.parametrize(
    ("transition", "result", "words", "pending"),
    [
        (lambda record, step: record, "pending", None, True),
        (lambda record, step: record.withdrawn("not_sent", "why", step=step), "not_sent", "why", False),
        (lambda record, step: record.acknowledged(step=step), "acknowledged", None, False),
        (lambda record, step: record.inconclusive("hm", step=step), "inconclusive", "hm", False),
        (lambda record, step: record.absent("hm", step=step), "absent", "hm", False),
        (lambda record, step: record.not_applied("hm", report_to=None, step=step), "not_applied", "hm", False),
    ],
)
def test_the_outcome_of_a_send(
    transition: Any, result: str, words: str | None, pending: bool, step: str | None
) -> None:
    before = SENT if step is None else SENT.acknowledged().sending(LATER, step=step)
    after = transition(before, step)
    [send] = after.sends_of(step)
    assert (send.result, send.portal_message) == (result, words)
    assert (after.pending_send(step) is not None) == pending
    assert (after.last_send(step) is None) == (result == "not_sent")
    assert set(changed(before, after)) <= {"sends" if step is None else "steps"}


def test_the_last_send_that_may_have_run_is_settled() -> None:
    twice = SENT.absent("first").sending(LATER).inconclusive("second")
    assert [(send.result, send.portal_message) for send in twice.sends] == [
        ("absent", "first"),
        ("inconclusive", "second"),
    ]
    with pytest.raises(ValueError, match="max"):
        WANTED.absent()


def test_a_task_is_reported_to_once() -> None:
    told = SENT.not_applied(report_to="task:max_tries:1")
    again = told.not_applied("hm", report_to="task:max_tries:1").not_applied(report_to="task:max_tries:2")
    assert again.sends[0].reported_to == ("task:max_tries:1", "task:max_tries:2")
    assert again.not_applied(report_to=None).sends[0].reported_to == again.sends[0].reported_to


def test_a_step_has_sends_of_its_own() -> None:
    record = SENT.acknowledged().identified(1033, "response")
    filled = record.sending(LATER, step=ROW).acknowledged(step=ROW).sending(LATER, step="tag")
    assert set(filled.steps) == {ROW, "tag"}
    assert filled.sends == record.sends
    assert (filled.pending_send(), filled.pending_send(ROW), filled.pending_send("tag")) == (None, None, LATER)
    assert filled.sends_of("no such step") == ()


# -- an attempt begins


def test_a_record_of_which_nothing_ran_takes_what_is_wanted_now() -> None:
    other = replace(WANTED, parameters={"entity_id": 5}, task="another task")
    asked = SENT.withdrawn("not_sent", "why").needs_decision("?", [3], unresolved_keys=["k"], task="task", refuse="")
    renewed = asked.decided(decision()).renewed(other)
    assert (renewed.parameters, renewed.task, renewed.payment_ids_before) == ({"entity_id": 5}, "another task", ())
    assert (renewed.question, renewed.candidates, renewed.unresolved_keys, renewed.decision) == (
        "?",
        (3,),
        ("k",),
        decision(),
    )
    assert len(renewed.sends) == 1
    assert SENT.renewed(other) is SENT
    assert WANTED.notes_lost("task").renewed(other) == WANTED.notes_lost("task")


def test_lost_notes() -> None:
    lost = WANTED.notes_lost("task 2")
    assert (lost.task, lost.nothing_executed, lost.state) == ("task 2", False, "unknown")
    noticed = lost.loss_noticed(5.0)
    assert changed(lost, noticed) == {"forgotten_since": 5.0}
    assert noticed.notes_lost("task 3").forgotten_since is None
    assert noticed.recalled().nothing_executed


def test_a_copy_names_its_journal() -> None:
    assert changed(SENT, SENT.copied_from("the database")) == {"kept_in": "the database"}
    assert SENT.copied_from("the database").copied_from(None) == SENT


@pytest.mark.parametrize(
    ("later", "continues"),
    [
        (SENT.acknowledged(), True),
        (SENT.acknowledged().identified(1033, "response").copied_from("db"), True),
        (SENT.absent(), True),
        (SENT, False),
        (SENT.absent().sending(LATER), False),
        (SENT.absent().sending(LATER).absent(), False),
        (SENT.absent().decided(decision()), False),
        (SENT.acknowledged().finished({"paid": True}), False),
        (replace(SENT.absent(), dismissed=(5,)), False),
    ],
)
def test_what_continues_an_earlier_record_differs_by_the_outcome_alone(later: Record, continues: bool) -> None:
    assert later.continues(SENT) is continues
    assert not SENT.continues(later)


def test_parameters_are_compared_one_by_one() -> None:
    wanted = {"entity_id": 5, "fill_products": False, "products": {"17": 1}}
    assert WANTED.differing(wanted) == {"entity_id": (4, 5), "products": (None, {"17": 1})}
    assert WANTED.differing(WANTED.parameters) == {}


# -- the outcome


def test_the_payment_is_known() -> None:
    asked = SENT.needs_decision("?", [1033], unresolved_keys=["k"], task="task", refuse="")
    known = asked.acknowledged().identified(1033, "response")
    assert (known.payment_id, known.evidence, known.plan, known.state) == (1033, "response", {"17": 2}, "incomplete")
    assert (known.question, known.candidates, known.unresolved_keys) == (None, (), ())
    assert known.identified(1033, "tag", plan={}).plan == {}
    done = known.finished({"payment_id": 1033})
    assert (done.state, done.reopened().state) == ("done", "incomplete")


# -- people


def test_a_question_refuses_the_decision_that_waits() -> None:
    record = SENT.decided(decision()).needs_decision("?", {3, 1}, task="task 2", refuse="another one appeared")
    assert (record.candidates, record.task, record.decision) == ((1, 3), "task 2", None)
    assert record.decisions == (decision(refused="another one appeared"),)
    assert record.state == "needs_decision"
    assert record.unasked().state == "unknown"


def test_a_decision_takes_the_place_of_one_that_waits() -> None:
    first, second = decision(), decision("abandon", by="Bob")
    record = SENT.decided(first).decided(second)
    assert (record.decision, record.decisions) == (second, (decision(refused="Bob has decided again"),))
    assert record.knows(first)
    assert record.knows(second)
    assert not record.knows(decision(at="2026-11-23"))
    assert record.has_refused(first)
    assert not record.has_refused(second)


def test_a_refused_decision_shows_new_candidates() -> None:
    record = replace(SENT.decided(decision()), candidates=(3,))
    assert record.decision_refused("why").candidates == (3,)
    assert record.decision_refused("why", [5, 4]).candidates == (4, 5)
    assert SENT.decision_refused("why") == SENT


def test_to_use_a_payment() -> None:
    chosen = decision("use_payment", payment_id=1034)
    known = SENT.acknowledged().identified(1033, "response").sending(LATER, step=ROW)
    other = replace(known.decided(chosen), forgotten=True).adopted(1034, {"17": 1})
    assert (other.payment_id, other.evidence, other.steps, other.plan) == (1034, "person", {}, {"17": 1})
    assert (other.forgotten, other.decision, other.decisions) == (False, None, (chosen,))
    same = known.finished({"a": 1}).decided(replace(chosen, payment_id=1033)).adopted(1033, {"17": 2})
    assert (same.evidence, same.steps, same.receipt) == ("response", known.steps, None)


@pytest.mark.parametrize(
    ("record", "result"),
    [
        (SENT, "pending"),
        (SENT.absent("a"), "absent"),
        (SENT.acknowledged(), "absent"),
        (SENT.inconclusive("a"), "absent"),
        (SENT.not_applied("a", report_to=None), "absent"),
    ],
)
def test_to_send_again(record: Record, result: str) -> None:
    known = record.identified(1033, "tag").sending(LATER, step=ROW).finished({"a": 1})
    asked = replace(known.needs_decision("?", [1, 2], task="task", refuse=""), forgotten=True)
    again = asked.decided(decision(candidates=(4,))).permitted_again([3])
    assert (again.payment_id, again.evidence, again.steps, again.receipt, again.question) == (
        None,
        None,
        {},
        None,
        None,
    )
    assert again.dismissed == (3, 4, 1033)
    assert again.decisions == (decision(candidates=(4,), set_aside=(3, 4, 1033)),)
    assert (again.sends[0].result, again.sends[0].portal_message) == (result, record.sends[0].portal_message)
    assert not again.forgotten


@pytest.mark.parametrize(
    ("evidence", "kept", "aside"),
    [
        ("response", True, ()),
        ("tag", True, ()),
        ("only_new_payment", False, ()),
        ("person", False, ()),
        ("portal_state", False, (1033,)),
    ],
)
def test_to_abandon(evidence: Any, kept: bool, aside: tuple[int, ...]) -> None:
    record = SENT.identified(1033, evidence).finished({"a": 1}).decided(decision("abandon", candidates=(5,)))
    left = record.abandoned()
    assert left.state == "abandoned"
    assert left.abandonment == decision("abandon", candidates=(5,), set_aside=aside)
    assert (left.payment_id, left.receipt is not None) == ((1033, True) if kept else (None, False))
    assert (left.dismissed, left.decision) == (aside, None)
    assert (left.may_have_added(5), left.may_have_added(6)) == (True, False)
    assert SENT.may_have_added(6)
    again = left.decided(decision()).permitted_again(())
    assert again.abandonment is None


def test_what_was_not_decided_cannot_be_carried_out() -> None:
    for carry_out in (SENT.abandoned, lambda: SENT.permitted_again(()), lambda: SENT.adopted(1, {})):
        with pytest.raises(ValueError, match="no decision about 'order-17' waits"):
            carry_out()


def test_decisions_beside_the_record_are_taken_over() -> None:
    right, late = decision(about=SENT.digest), decision(about="something else", by="Bob")
    abandon = decision("abandon", about="something else", by="Cid")
    record = SENT.with_decisions([right, late, abandon, decision(key="another key", by="Dan")])
    assert record.decision == abandon
    assert [(one.by, one.refused) for one in record.decisions] == [
        ("Bob", "the task had gone on before it saw the decision"),
        ("Ada", "Cid has decided again"),
    ]
    assert record.with_decisions([right, late, abandon]) == record
    done = SENT.finished({"a": 1})
    assert done.with_decisions([abandon]).decision is None


def test_decisions_do_not_change_the_digest() -> None:
    assert SENT.decided(decision()).decided(decision(by="Bob")).copied_from("db").digest == SENT.digest
    assert SENT.absent().digest != SENT.digest
