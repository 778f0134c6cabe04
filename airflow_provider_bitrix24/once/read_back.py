"""Read back a payment that the portal says it has added, and notice other new payments on the object."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from airflow_provider_bitrix24.api.tags import Shown
from airflow_provider_bitrix24.exceptions import PaymentMismatch, PaymentNotApplied, PaymentUnresolved
from airflow_provider_bitrix24.once.attempt import PortalUnreadable
from airflow_provider_bitrix24.once.story import listed as listed_ids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.once.addition import Addition
    from airflow_provider_bitrix24.once.story import Story


def read_back(addition: Addition, payment_id: int, *, on_unknown: Literal["fail", "adopt"]) -> Payment:
    """Read until the portal shows the payment.

    :param on_unknown: "adopt" if the author says that nobody else adds payments to this object.
    :raises PaymentNotApplied: the portal does not show it; or cannot be read, and there is no journal.
    :raises PaymentUnresolved: the portal cannot be read now.
    :raises PaymentMismatch: more payments of ours have appeared than were sent.
    """
    happened = f"The portal answered that payment {payment_id} was added to {addition.of}, but"

    def shows(listed: list[Payment]) -> bool:
        return any(one.id == payment_id for one in listed)

    try:
        # All of them, so that one too many is seen.
        listed = addition.attempt.find(addition.read_payments, shows, addition.story.ended())
    except PortalUnreadable as error:
        trouble = str(error)
    else:
        if listed is None:
            raise PaymentNotApplied(
                f"{happened} the portal does not show it among the object's payments. {addition.look_for(payment_id)}"
            )
        refuse_one_too_many(addition, payment_id, listed, on_unknown)
        return next(one for one in listed if one.id == payment_id)
    happened = f"{happened} it could not be read afterwards ({trouble})."
    if addition.story.journal.durable:
        raise unresolved(addition.story, happened)
    raise PaymentNotApplied(f"{happened} {addition.look_for(payment_id)}")


def unresolved(story: Story, happened: str) -> PaymentUnresolved:
    """Return the error for a payment that is known but cannot be read now."""
    return PaymentUnresolved(
        f"{happened} It is in the journal ({story.journal.name}): the next attempt reads first and adds no second one. "
        "If there is none, clear this task when the portal is back."
    )


def refuse_one_too_many(
    addition: Addition, payment_id: int, listed: Iterable[Payment], on_unknown: Literal["fail", "adopt"]
) -> None:
    """Refuse if more payments have appeared than were sent; there is a second request only if other payments are new.

    :raises PaymentMismatch: nobody else can have added them, as far as is known here.
    """
    story, attempt = addition.story, addition.attempt
    if any(decision.what == "adopt" and decision.payment_id == payment_id for decision in story.entry.carried_out):
        return  # a person has seen them all
    if not _others(addition, payment_id, Shown.of(listed)):
        return
    evidence = attempt.run(addition.read_evidence())
    others = _others(addition, payment_id, evidence)
    ours = [one for one in others if evidence.fitting is not None and one in evidence.fitting]
    if on_unknown == "adopt":
        # A later attempt also sees what others have added since.
        unexplained = others if story.sent_now else ours
    else:
        unexplained = ours if story.journal.knows_rivals and not story.page.rivals(story.entry.subject) else []
    if unexplained:
        decide = f" If all of them are right, adopt payment {payment_id} by {story.how_to_decide()} before."
        either = decide if story.journal.durable else ""
        raise PaymentMismatch(
            f"Payment {payment_id} HAS been added to {addition.of}, and {listed_ids(unexplained)} appeared with it. "
            "One was sent, so something between Airflow and the portal (a proxy that repeats requests) or somebody who "
            f"works as the connection's user has added one too many. Look at the payments of {addition.of} in "
            "Bitrix24, and delete the one that is too many. Then clear this task: it goes on with payment "
            f"{payment_id} and adds none.{either}"
        )
    if ours:
        attempt.log.warning(
            "With payment %s, %s of the connection's user appeared on %s. If no other task added that, a proxy has "
            "repeated the request: look at the payments in Bitrix24.",
            payment_id,
            listed_ids(ours),
            addition.of,
        )


def _others(addition: Addition, payment_id: int, shown: Shown) -> list[int]:
    return addition.candidates(replace(shown, payments=tuple(one for one in shown.payments if one.id != payment_id)))
