"""What a person has decided about a key: carried out, or turned down and left to a person anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentRefused
from airflow_provider_bitrix24.once.story import listed

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_bitrix24.journal import Decision, Entry
    from airflow_provider_bitrix24.once.story import Story


def heed(story: Story, candidates: Collection[int]) -> Decision | None:
    """Carry out what a person has decided, as far as it concerns sending.

    :param candidates: the payments that may be ours, read just now.
    :return: a decision that was carried out, or to adopt, which the caller has to carry out.
    :raises PaymentRefused: the person has given it up.
    :raises PaymentAmbiguous: the person was not shown everything.
    """
    decision = story.entry.decision
    if decision is None:
        _refuse_if_given_up(story)
        return None
    if decision.what == "give_up":
        story.keep(story.entry.give_up(), hold=0)
        _refuse_if_given_up(story)
    if decision.what == "pay_again":
        unseen = sorted(set(candidates) - set(decision.candidates))
        if unseen:
            subject, known = story.entry.subject, story.entry.payment_id
            why = f"meanwhile {listed(unseen)} appeared on {subject}, which {decision.by} was not shown"
            if known in unseen:
                why = f"payment {known}, which is this key's, is still on {subject}"
            turn_down(story, decision, why, candidates)
        story.entry = _as_if_not_there(story.entry, decision, candidates)
    story.attempt.log.info("%s decided (%s): %s.%s", decision.by, decision.through, decision.what, story.set_aside)
    return decision


def turn_down(story: Story, decision: Decision, why: str, candidates: Collection[int]) -> NoReturn:
    """Do not carry out what a person has decided, and leave it to a person anew.

    :raises PaymentAmbiguous: always.
    """
    decided = f"decided to adopt payment {decision.payment_id}" if decision.payment_id else "decided to pay again"
    question = (
        f"{decision.by} {decided}, but {why}. Nothing was sent by this attempt. Look at {story.entry.subject} "
        f"in Bitrix24, and decide anew by {story.how_to_decide()}; then clear this task."
    )
    if story.entry.payment_id is None:
        story.park(question, candidates, why=why)
    story.keep(story.entry.refuse(why), hold=0)
    raise PaymentAmbiguous(
        f"{question} Without another decision, it goes on with payment {story.entry.payment_id}, if that is there.",
        tuple(sorted(candidates)),
    )


def adopt(story: Story, payment_id: int) -> None:
    """Take the payment that a person has chosen; what was put into another one does not count for it.

    :raises PaymentAmbiguous: another key has claimed it.
    """
    entry = story.entry
    story.identify(
        payment_id,
        "person",
        question=None,
        candidates=(),
        receipt=None,
        steps=entry.steps if payment_id == entry.payment_id else {},
        decision=None,
        decisions=entry.carry_out().decisions,
    )


def _as_if_not_there(entry: Entry, decision: Decision, candidates: Collection[int]) -> Entry:
    """The entry after a person has said that nothing on the portal is this key's."""
    known = [entry.payment_id] if entry.payment_id is not None else []
    entry = entry.carry_out({*candidates, *decision.candidates, *known})
    entry = entry.but(receipt=None, payment_id=None, evidence=None, steps={})
    if entry.last is not None and entry.last.result == "answered":
        return entry.last_send(result="not_shown")
    return entry


def _refuse_if_given_up(story: Story) -> None:
    decision = story.entry.given_up
    if decision is None:
        return
    raise PaymentRefused(
        f"{decision.by} has given {story.entry.subject} up for the key {story.entry.key!r} at {decision.at} "
        f"({decision.through}). Nothing was sent by this attempt.{story.set_aside} To take it up again, decide anew by "
        f"{story.how_to_decide()}; then clear this task."
    )
