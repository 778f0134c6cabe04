"""Journal entries as documents: what people read, and what a damaged or newer one is told to be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.journal import Decision, Entry, Send


def entry(*results: Any, **facts: Any) -> Entry:
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
    return Entry(**values | facts)


DECISION = Decision(what="pay_again", candidates=(1033,), by="Anna", at="2026-11-22T10:00:00+00:00", through="Airflow")
GIVE_UP = DECISION.but(what="give_up")


@pytest.mark.parametrize(
    "made",
    [
        entry(),
        entry("open", seen=(1, 2), decided_at=1_763_800_000.1),
        entry(
            "absent",
            "answered",
            payment_id=1033,
            evidence="answer",
            steps={"row 7": entry("open").sends},
            plan={"7": 2},
        ),
        entry("open", question="Which one?", candidates=(1033,), decision=DECISION, decisions=(DECISION,)),
    ],
)
def test_nothing_is_lost_on_the_way_through_json(made: Entry) -> None:
    assert Entry.read(json.loads(json.dumps(made.document())), where="here") == made


def test_times_and_state_can_be_read_by_people() -> None:
    document = entry("open").document()
    assert next(iter(document)) == "state"
    assert document["state"] == "unknown"
    assert document["sends"][0]["at"] == "2025-11-22T08:26:40.250+00:00"


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (entry(), "nothing sent"),
        (entry("not_sent"), "nothing sent"),
        (entry("refused"), "nothing sent"),
        (entry("open"), "unknown"),
        (entry("unclear"), "unknown"),
        (entry("absent"), "absent"),
        (entry("not_shown"), "not_shown"),
        (entry("answered", payment_id=1033), "incomplete"),
        (entry("open", question="Which one?"), "parked"),
        (entry("open", question="Which one?", decision=DECISION), "decided"),
        (entry("open", decisions=(DECISION,)), "unknown"),
        (entry("open", decisions=(GIVE_UP,)), "given_up"),
        (entry("open", decisions=(GIVE_UP.but(refused="why"),)), "unknown"),
        (entry("open", decisions=(GIVE_UP, DECISION), question="Which one?"), "parked"),
        (entry("open", decisions=(GIVE_UP,), decision=DECISION), "decided"),
        (entry("answered", payment_id=1033, receipt={"outcome": "created"}), "done"),
    ],
)
def test_the_state_in_one_word(made: Entry, state: str) -> None:
    assert made.state == state


@pytest.mark.parametrize(
    ("results", "may_have_run"), [((), 0), (("refused", "not_sent"), 0), (("absent", "open"), 2), (("answered",), 1)]
)
def test_what_certainly_did_not_run_does_not_count(results: tuple[str, ...], may_have_run: int) -> None:
    made = entry(*results)
    assert made.may_have_run == may_have_run
    assert made.free is (may_have_run == 0)


def test_a_field_that_an_older_document_lacks_has_its_default() -> None:
    document = entry("open").document()
    for name in ("dismissed", "steps", "plan", "decisions", "amount", "state"):
        del document[name]
    assert Entry.read(document, where="here") == entry("open")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"v": 2}, "v: Input should be 1"),
        ({"sends": "none"}, "sends"),
        ({"operation": "refund"}, "operation"),
        ({"sends": [{"at": "yesterday"}]}, "sends.0.at"),
    ],
)
def test_a_damaged_document_is_told_and_nothing_is_sent(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match=words) as caught:
        Entry.read(entry("open").document() | change, where="the task's Storage tab")
    assert "the task's Storage tab" in str(caught.value)
    assert "Nothing was sent by this attempt; what earlier ones have sent MAY be on the books" in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("document", ["text", "{", 5, [], None])
def test_what_is_no_document_is_told(document: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match="cannot be read"):
        Entry.read(document, where="here")
