"""Which payment came of a send without an answer: found out by reading, and believed only with evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NoReturn

from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentNotApplied,
    PaymentUnresolved,
)
from airflow_provider_bitrix24.journal import Entry
from airflow_provider_bitrix24.once.attempt import PortalUnreadable, Sent
from airflow_provider_bitrix24.once.complete import answer_words

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.once.addition import Addition

METHOD = "crm.item.payment.add"


def find_ours(addition: Addition, *, on_unknown: Literal["fail", "adopt"], sent: Sent | None = None) -> Payment | None:
    """Find the payment that came of the last send.

    :param addition: what was to be added.
    :param on_unknown: "adopt" if the author says that nobody else adds payments to this object.
    :param sent: the send of this attempt; None to find out about that of an earlier one.
    :return: the payment; None if there is none, and it may be sent again.
    :raises PaymentAmbiguous: nothing proves which one it is; or it was sent as often as it may be.
    :raises PaymentNotApplied: the portal responded unclearly, and does not show it.
    :raises PaymentUnresolved: the portal cannot be read now.
    :raises Bitrix24OutcomeUnknown: the same without a journal.
    """
    return _Search(addition, on_unknown, sent or _earlier(addition), again=sent is None).run()


def _earlier(addition: Addition) -> Sent:
    """What is known of the last send of an earlier attempt."""
    story = addition.story
    last = story.entry.last
    assert last is not None  # noqa: S101 - only what may have run is searched for
    if last.result == "open":
        return story.lost(last, METHOD)
    unclear = last.result in ("unclear", "not_shown")
    return story.ended(Bitrix24OutcomeUnknown(METHOD, answered=unclear, text=last.said or "no answer"))


class _Search:
    def __init__(self, addition: Addition, on_unknown: Literal["fail", "adopt"], sent: Sent, *, again: bool) -> None:
        self.addition = addition
        self.story = addition.story
        self.on_unknown = on_unknown
        self.sent = sent
        last = self.story.entry.last
        self.settled_before = again and last is not None and last.result in ("absent", "not_shown")
        doubt = sent.doubt
        assert doubt is not None  # noqa: S101 - only what is doubtful is searched for
        self.doubt = doubt
        by = f" by {last.by}" if again and last is not None else ""
        self.happened = f"{answer_words(doubt)} when a payment was added to {addition.of}{by}"

    def run(self) -> Payment | None:
        latest: list[Shown] = []

        def proved(shown: Shown) -> bool:
            latest[:] = [shown]
            return bool(shown.tagged)

        # Whatever may appear is waited for, so that two candidates are not taken for one.
        try:
            self.addition.attempt.find(self.addition.read_evidence, proved, self.sent)
        except PortalUnreadable as error:
            trouble = str(error)
        else:
            return self._judge(latest[0])
        self._not_readable(trouble)

    def _judge(self, shown: Shown) -> Payment | None:
        self.addition.judged = {payment.id for payment in shown.payments}
        tagged = self.addition.tagged(shown)
        if tagged is not None:
            self.story.identify(tagged.id, "tag")
            return tagged
        candidates = self.addition.candidates(shown)
        self._refuse_if_only_a_person_can_tell(candidates, shown)
        new = [payment for payment in shown.payments if payment.id in candidates]
        if not new:
            self._none()
            return None
        new = self._without_those_of_others(new)
        listed = ", ".join(f"{payment.id} of {payment.money}" for payment in new)
        if len(new) > 1:
            self._ambiguous(
                new,
                shown,
                f"{self.happened}, and {len(new)} new payments are there: {listed}. At most one of them is this "
                "key's, and nothing proves which.",
            )
        [one] = new
        strange = _why_not_ours(one, shown)
        if strange:
            self._ambiguous(
                new,
                shown,
                f"{self.happened}. One new payment is there, {listed}, but it cannot be the one this task sent, or "
                f"somebody is at work on it already: {strange}. This key's payment is added by the connection's user, "
                "unpaid and for 0. It is not used, whatever on_unknown says.",
            )
        return self._believe(one, shown)

    def _believe(self, one: Payment, shown: Shown) -> Payment:
        """Exactly one new payment that could be ours."""
        journal, story = self.story.journal, self.story
        rivals = self._rivals([one])
        listed = f"{one.id} of {one.money}"
        if journal.knows_rivals and not rivals and shown.fitting is not None:
            story.identify(one.id, "difference")
            story.attempt.log.warning(
                "%s. Exactly one new payment is there, %s, added by the connection's user in that time, and no other "
                "key wrote to %s then: it is this key's.",
                self.happened,
                listed,
                self.addition.of,
            )
            return one
        if self.on_unknown == "adopt":
            story.identify(one.id, "difference")
            story.attempt.log.warning(
                "%s. Exactly one new payment is there, %s: it is used, because on_unknown='adopt' says that nobody "
                "else adds payments to this object meanwhile.",
                self.happened,
                listed,
            )
            return one
        self._ambiguous(
            [one],
            shown,
            f"{self.happened}. One new payment is there, {listed}: probably this key's, but somebody else may have "
            "added it. If nobody else adds payments to such objects, on_unknown='adopt' uses it.",
        )

    def _refuse_if_only_a_person_can_tell(self, candidates: list[int], shown: Shown) -> None:
        """Refuse if a person was shown payments that are gone, or has decided wrongly: the rest proves nothing."""
        entry = self.story.entry
        if not self._gone(shown) and not (entry.decisions and entry.decisions[-1].refused):
            return
        if set(candidates) <= set(entry.candidates):
            self.story.refuse_undecided()

    def _gone(self, shown: Shown) -> set[int]:
        """The candidates that a person was shown and that are no longer on the portal."""
        asked = self.story.entry.candidates if self.story.entry.question is not None else ()
        return set(asked) - {payment.id for payment in shown.payments}

    def _without_those_of_others(self, new: list[Payment]) -> list[Payment]:
        """Leave out payments that people have given to other keys, if one candidate is left."""
        claims = self.story.page.claimed_by_others([payment.id for payment in new]) if len(new) > 1 else {}
        left = [payment for payment in new if claims.get(payment.id) != "person"]
        return left if len(left) == 1 else new

    def _rivals(self, new: list[Payment]) -> list[str]:
        """The other keys that may have added one of these payments."""
        if not self.story.journal.knows_rivals:
            return []
        found = self.story.page.rivals(self.story.entry.subject)
        return [
            key
            for key, entry in found.items()
            if not isinstance(entry, Entry) or any(entry.may_have_added(payment.id) for payment in new)
        ]

    def _ambiguous(self, new: list[Payment], shown: Shown, message: str) -> NoReturn:
        journal, rivals = self.story.journal, self._rivals(new)
        others = "".join(
            f" The key {key!r} may have added it as well, and its outcome is unknown too: decide about it first by "
            f"`{journal.command('resolve', key)}`."
            for key in rivals
        )
        self.story.park(
            f"{message}{others} Nothing is sent again automatically. {self.addition.what_to_do}",
            {*(payment.id for payment in new), *self._gone(shown)},
            rivals=rivals,
        )

    def _none(self) -> None:
        """Nothing new is there; returns if it may be sent again."""
        story, addition, last = self.story, self.addition, self.story.entry.last
        assert last is not None  # noqa: S101 - only what may have run is searched for
        story.refuse_undecided()
        if self.settled_before and (last.result == "absent" or story.task.was_cleared_since(last)):
            return
        if self.doubt.answered:
            story.settle("not_shown", self.doubt.words)
            if not story.sends_left:
                addition.leave_to_a_person(())
            sent_now = "" if story.sent_now else " Nothing was sent by this attempt."
            raise PaymentNotApplied(
                f"{self.happened}, and does not show a new payment that may be this key's: either the portal ignored "
                f"the call, or someone deleted the payment in the meantime.{story.set_aside}{sent_now} What to do "
                "depends on the portal's words; nothing is sent again automatically. When the cause is removed, clear "
                "this task: it reads first."
            )
        story.settle("absent", f"{self.doubt.words}{f';{story.set_aside}' if story.set_aside else ''}")
        if not story.sends_left:
            addition.leave_to_a_person(())
        story.attempt.log.warning(
            "%s, and no new payment that may be this key's is there, read twice after everything that was sent must "
            "have ended: it is added once more.%s",
            self.happened,
            story.set_aside,
        )

    def _not_readable(self, trouble: str) -> NoReturn:
        happened = (
            f"{self.happened}, and the portal could not be read afterwards ({trouble}): a payment may have been added."
        )
        if self.story.journal.durable:
            raise PaymentUnresolved(
                f"{happened} It is in the journal ({self.story.journal.name}): the next attempt reads the outcome "
                "before anything else. If there is none, clear this task when the portal is back: it will not add a "
                "second payment."
            )
        raise Bitrix24OutcomeUnknown(
            self.doubt.method,
            self.doubt.answered,
            self.doubt.portal_code,
            self.doubt.text,
            f"{happened} Nothing is sent again automatically. {self.addition.what_to_do}",
        )


def _why_not_ours(payment: Payment, shown: Shown) -> str:
    """What a payment that we have just added cannot be; empty if it may be ours, whatever its pay system."""
    not_ours = [
        *(["paid"] if payment.paid else []),
        *([f"for {payment.money}"] if not payment.money.is_zero else []),
        *(
            ["by somebody else, or at another time"]
            if shown.fitting is not None and payment.id not in shown.fitting
            else []
        ),
    ]
    return f"it is {' and '.join(not_ours)}" if not_ours else ""
