"""Carry out what a person has decided about a key, or refuse it and leave the key to a person again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentRefused
from airflow_provider_bitrix24.once.story import listed

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_bitrix24.journal import Decision, Entry
    from airflow_provider_bitrix24.once.story import Story


def heed(story: Story, candidates: Collection[int], shown: Collection[int] = ()) -> Decision | None:
    """Carry out what a person has decided, as far as it concerns sending.

    :param candidates: the payments that may be ours, read just now.
    :param shown: all payments of the object.
    :return: a decision that was carried out, or to adopt, which the caller has to carry out.
    :raises PaymentRefused: the person has given it up.
    :raises PaymentAmbiguous: the person was not shown everything.
    :raises PaymentMismatch: what is to be paid again is not what is wanted now.
    """
    decision = story.entry.decision
    if decision is None:
        _refuse_if_given_up(story)
        _refuse_if_turned_down(story)
        return None
    if decision.what == "give_up":
        story.keep(story.entry.give_up(), hold=0)
        _refuse_if_given_up(story)
    if decision.what == "pay_again":
        entry, unseen = story.entry, sorted(set(candidates) - set(decision.candidates))
        if entry.payment_id in shown and entry.evidence != "state":
            why = f"payment {entry.payment_id}, which is this key's, is still on {entry.subject}"
            turn_down(story, decision, why, candidates)
        if unseen:
            why = f"meanwhile {listed(unseen)} appeared on {entry.subject}, which {decision.by} was not shown"
            turn_down(story, decision, why, candidates)
        story.refuse_other_parameters(f"{decision.by} decided to pay again for the former ones.")
        story.entry = _as_if_not_there(story.entry, decision, candidates)
    story.attempt.log.info("%s decided (%s): %s.%s", decision.by, decision.through, decision.what, story.set_aside)
    return decision


def turn_down(story: Story, decision: Decision, why: str, candidates: Collection[int]) -> NoReturn:
    """Refuse a person's decision, and leave the key to a person again.

    :raises PaymentAmbiguous: always.
    """
    question = (
        f"{decision.by} {_decided(decision)}, but {why}. Nothing was sent by this attempt. Look at "
        f"{story.entry.subject} in Bitrix24, and decide again by {story.how_to_decide()}; then clear this task."
    )
    if story.entry.payment_id is None:
        story.park(question, candidates, why=why)
    # The next decision is one of somebody who has been shown them.
    seen = tuple(sorted(candidates))
    story.keep(story.entry.refuse(why).but(candidates=seen), hold=0)
    if story.entry.given_up is None:
        question += f" Without another decision, it goes on with payment {story.entry.payment_id}, if that is there."
    raise PaymentAmbiguous(question, seen)


def adopt(story: Story, payment_id: int, plan: dict[str, int]) -> None:
    """Take the payment that a person has chosen; what was put into another one does not count for it.

    :param plan: the product rows that it is to hold.
    :raises PaymentAmbiguous: another key has claimed it.
    """
    entry = story.entry
    same = payment_id == entry.payment_id
    story.identify(
        payment_id,
        entry.evidence if same and entry.evidence else "person",
        receipt=None,
        plan=plan,
        steps=entry.steps if same else {},
        forgotten=False,
        decision=None,
        decisions=entry.carry_out().decisions,
    )


def _as_if_not_there(entry: Entry, decision: Decision, candidates: Collection[int]) -> Entry:
    """The entry after a person has said that nothing on the portal is this key's."""
    known = [entry.payment_id] if entry.payment_id is not None else []
    entry = entry.carry_out({*candidates, *decision.candidates, *known})
    entry = entry.unasked().but(receipt=None, payment_id=None, evidence=None, steps={}, forgotten=False)
    if entry.last is not None and entry.last.result in ("answered", "unclear", "not_shown"):
        return entry.last_send(result="absent")
    return entry


def _refuse_if_turned_down(story: Story) -> None:
    """Refuse to go on if this attempt's decision was refused, and nothing else has settled the key."""
    entry = story.entry
    if story.turned_down is None or entry.receipt is not None or entry.payment_id is not None:
        return
    decision, why = story.turned_down
    raise PaymentAmbiguous(
        f"{decision.by} {_decided(decision)} ({decision.through}), but {why}. The decision is not carried out, and "
        f"nothing was sent by this attempt. {entry.known}".rstrip()
        + f" Look at {entry.subject} in Bitrix24, and decide again by {story.how_to_decide()}; then clear this task.",
        entry.candidates,
    )


def _decided(decision: Decision) -> str:
    return f"decided to adopt payment {decision.payment_id}" if decision.payment_id else "decided to pay again"


def _refuse_if_given_up(story: Story) -> None:
    decision = story.entry.given_up
    if decision is None:
        return
    raise PaymentRefused(
        f"{decision.by} has given {story.entry.subject} up for the key {story.entry.key!r} at {decision.at} "
        f"({decision.through}). Nothing was sent by this attempt. {story.entry.known}".rstrip()
        + f"{story.set_aside} To go on with this key, decide again by {story.how_to_decide()}; then clear this task."
    )
