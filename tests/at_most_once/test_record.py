"""Journal entries as documents: what people read, and what a damaged or newer one is told to be."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bitrix24.at_most_once.record import Decision, Record, Send
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError


def entry(*results: Any, **facts: Any) -> Record:
    sends = tuple(
        Send(at=1_763_800_000.25, settle_until=1_763_800_156.25, by="task:try:1", result=one) for one in results
    )
    values: dict[str, Any] = {
        "key": "order-17",
        "portal": "acme.bitrix24.com",
        "operation": "add_crm_payment",
        "subject": "deal 4",
        "parameters": {"entity_id": 4, "entity_type_id": 2},
        "task": "task",
        "sends": sends,
    }
    return Record(**values | facts)


DECISION = Decision(what="send_again", candidates=(1033,), by="Anna", at="2026-11-22T10:00:00+00:00", through="Airflow")
GIVE_UP = replace(DECISION, what="abandon")


@pytest.mark.parametrize(
    "made",
    [
        entry(),
        entry("pending", payment_ids_before=(1, 2), snapshot_at=1_763_800_000.1),
        entry(
            parameters={"n": 1, "x": 1.5, "yes": True, "no": False, "none": None, "products": {"17": 2}, "text": "1"}
        ),
        entry(
            "absent",
            "acknowledged",
            payment_id=1033,
            evidence="response",
            steps={"row 7": entry("pending").sends},
            plan={"7": 2},
        ),
        entry("pending", question="Which one?", candidates=(1033,), decision=DECISION, decisions=(DECISION,)),
    ],
)
def test_nothing_is_lost_on_the_way_through_json(made: Record) -> None:
    assert Record.read(json.loads(json.dumps(made.document())), where="here") == made


def test_times_and_state_can_be_read_by_people() -> None:
    document = entry("pending").document()
    assert next(iter(document)) == "state"
    assert document["state"] == "unknown"
    assert document["sends"][0]["at"] == "2025-11-22T08:26:40.250+00:00"


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (entry(), "new"),
        (entry("not_sent"), "new"),
        (entry("refused"), "new"),
        (entry("not_sent", steps={"set back to unpaid": entry("acknowledged").sends}), "incomplete"),
        (entry(steps={"set back to unpaid": entry("not_sent").sends}), "new"),
        (entry("pending"), "unknown"),
        (entry("inconclusive"), "unknown"),
        (entry("absent"), "absent"),
        (entry("not_applied"), "not_applied"),
        (entry("acknowledged", payment_id=1033), "incomplete"),
        (entry("pending", question="Which one?"), "needs_decision"),
        (entry("pending", question="Which one?", decision=DECISION), "decision_pending"),
        (entry("pending", decisions=(DECISION,)), "unknown"),
        (entry("pending", decisions=(GIVE_UP,)), "abandoned"),
        (entry("pending", decisions=(replace(GIVE_UP, refused="why"),)), "unknown"),
        (entry("pending", decisions=(GIVE_UP, DECISION), question="Which one?"), "needs_decision"),
        (entry("pending", decisions=(GIVE_UP,), decision=DECISION), "decision_pending"),
        (entry("acknowledged", payment_id=1033, receipt={"outcome": "created"}), "done"),
    ],
)
def test_the_state_in_one_word(made: Record, state: str) -> None:
    assert made.state == state


@pytest.mark.parametrize(
    ("results", "possible"),
    [((), 0), (("refused", "not_sent"), 0), (("absent", "pending"), 2), (("acknowledged",), 1)],
)
def test_what_certainly_did_not_run_does_not_count(results: tuple[str, ...], possible: int) -> None:
    made = entry(*results)
    assert len(made.possible_sends) == possible
    assert made.nothing_executed is (possible == 0)


def test_a_field_that_an_older_document_lacks_has_its_default() -> None:
    document = entry("pending").document()
    assert list(document) == [
        *("state", "v", "key", "portal", "operation", "subject", "parameters", "task", "sends"),
    ]
    del document["state"]
    del document["v"]
    assert Record.read(document, where="here") == entry("pending")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"v": 2}, "v: Input should be 1"),
        ({"sends": "none"}, "sends"),
        ({"operation": 5}, "operation"),
        ({"payment_id": "5"}, "payment_id"),
        ({"forgotten": 1}, "forgotten"),
        ({"refunded": True}, "refunded: Unexpected keyword argument"),
        ({"sends": [{"at": "yesterday"}]}, "sends.0.at"),
    ],
)
def test_a_damaged_document_is_told_and_nothing_is_sent(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match=words) as caught:
        Record.read(entry("pending").document() | change, where="the task's Storage tab")
    assert "the task's Storage tab" in str(caught.value)
    assert "Nothing was sent by this attempt; money may have been recorded by earlier ones" in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("document", ["text", "{", 5, [], None])
def test_what_is_no_document_is_told(document: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match="cannot be read"):
        Record.read(document, where="here")


def test_a_number_is_no_truth_value_in_parameters() -> None:
    made = Record.read(entry(parameters={"a": 1, "b": True, "c": 1.0}).document(), where="here")
    assert [type(value) for value in made.parameters.values()] == [int, bool, float]
