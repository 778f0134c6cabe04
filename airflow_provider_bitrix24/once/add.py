"""Add a payment to a deal or smart invoice, at most once for one key."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from airflow_provider_bitrix24.api import payments, tags
from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.api.preflight import ObjectView, read_before_add
from airflow_provider_bitrix24.api.products import choose_products, plan_products, value_of
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.once.addition import Addition
from airflow_provider_bitrix24.once.attempt import PortalUnreadable
from airflow_provider_bitrix24.once.complete import complete
from airflow_provider_bitrix24.once.decisions import adopt, heed, turn_down
from airflow_provider_bitrix24.once.evidence import find_ours
from airflow_provider_bitrix24.once.read_back import read_back, refuse_one_too_many, unresolved

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_provider_bitrix24.api.io import Flow, SendDeadline
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.journal import Decision
    from airflow_provider_bitrix24.once.receipt import Receipt
    from airflow_provider_bitrix24.once.story import Story

IfUnpaidExists = Literal["add", "return", "fail"]


def add_crm_payment(
    story: Story,
    *,
    if_unpaid_exists: IfUnpaidExists,
    on_unknown: Literal["fail", "adopt"],
    tag: bool,
    max_amount: Decimal | None,
) -> Receipt:
    """Add one payment: three requests if nothing is odd and it stays empty.

    :param story: what is known about the key; says what is wanted.
    :param if_unpaid_exists: what to do if the object has an unpaid payment already.
    :param on_unknown: what to do if the answer is lost and exactly one new payment appeared.
    :param tag: write the key into the payment.
    :param max_amount: what the product rows that are filled in may add up to.
    :return: outcome ``created`` or ``existing``.
    :raises PaymentRefused: nothing was sent: no such object, an unpaid payment exists, no products, more than the
        limit, an unfit pay system; or a person has given it up.
    :raises PaymentAmbiguous: new payments are there, and nothing proves which one is ours; several are unpaid; or it
        was sent as often as it may be without a person.
    :raises PaymentMismatch: the key was used with other parameters; or the payment is not as wanted: says which.
    :raises PaymentNotApplied: the portal answered, but does not show the payment (any more), or it was added and is not
        complete.
    :raises PaymentUnresolved: a payment may have been added, and the portal cannot be read now.
    :raises Bitrix24OutcomeUnknown: the same without a journal.
    :raises Bitrix24Error: whatever else reading, sending and the journal raise.
    """
    return _Adding(story, if_unpaid_exists, on_unknown, tag, max_amount).run()


class _Adding:
    def __init__(
        self,
        story: Story,
        if_unpaid_exists: IfUnpaidExists,
        on_unknown: Literal["fail", "adopt"],
        tag: bool,
        max_amount: Decimal | None,
    ) -> None:
        self.story = story
        self.attempt = story.attempt
        self.if_unpaid_exists = if_unpaid_exists
        self.on_unknown = on_unknown
        self.max_amount = max_amount
        self.addition = Addition(story, tag, max_amount)
        self.view: ObjectView

    def run(self) -> Receipt:
        """Do it."""
        self._look()
        self._await_forgotten()
        self._learn_from_the_overtaken()
        decision = heed(
            self.story, self.addition.candidates(self.view.shown), {one.id for one in self.view.shown.payments}
        )
        if decision is not None and decision.what == "adopt":
            self._adopt(decision)
        if self.story.entry.receipt is not None:
            return self._done_before()
        if self.story.entry.payment_id is not None:
            return self._go_on(self._read_again(self.story.entry.payment_id))
        if self.story.entry.forgotten:
            return self._go_on(self._tagged_or_ask())
        return self._find_or_send()

    def _learn_from_the_overtaken(self) -> None:
        """An attempt that was overtaken may have been told the payment's id: it was added, whether it shows or not."""
        entry = self.story.entry
        if entry.payment_id is not None or not entry.may_have_run:
            return
        observed = self.story.page.observed_payment()
        if observed is not None and observed not in entry.dismissed:
            self.story.identify(observed, "answer", sends=entry.last_send(result="answered").sends)

    def _await_forgotten(self) -> None:
        """Wait for what an attempt whose notes are lost may have sent just now, unless its tag shows earlier."""
        sent, entry = self.story.forgotten(), self.story.entry
        judged = {*entry.dismissed, *(entry.decision.candidates if entry.decision else ())}

        def tagged(view: ObjectView) -> bool:
            return bool((view.shown.tagged | view.shown.tagged_elsewhere) - judged)

        if sent is None or tagged(self.view):
            return
        with suppress(PortalUnreadable):  # the next look says so
            self.attempt.find(self._read_before_add, tagged, sent)
        self._look()

    def _tagged_or_ask(self) -> Payment:
        """Find the payment by its tag, or ask a person: the journal has lost what was sent."""
        tagged = self.addition.tagged(self.view.shown)
        if tagged is None:
            self.story.leave_forgotten(
                f"look at the payments of {self.addition.of} in Bitrix24", self.addition.candidates(self.view.shown)
            )
        self.story.identify(tagged.id, "tag", forgotten=False, plan=self._plan_for(tagged))
        return tagged

    def _find_or_send(self) -> Receipt:
        """Find what was sent before; send what certainly is not there, until it is."""
        story = self.story
        look_for_ours = story.found
        while True:
            if look_for_ours:
                found = find_ours(self.addition, on_unknown=self.on_unknown)
                if found is not None:
                    return self._go_on(found)
                story.refuse_other_parameters("No payment of it is on the portal.")
            if not self.attempt.is_fresh:
                self._look()
            # It was absent, and may have appeared after all.
            look_for_ours = not self.addition.judged.issuperset(self.addition.candidates(self.view.shown))
            if look_for_ours:
                continue
            existing = self._existing() if story.entry.free else self._return_unpaid()
            if existing is not None:
                return existing
            sent = self._send()
            if sent is not None:
                return self._go_on(sent)

    def _look(self) -> None:
        addition = self.addition
        self.view = self.story.ask(self._read_before_add())
        addition.user_id = self.view.profile.user_id
        addition.prices = {row.id: row.price for row in self.view.rows}

    def _read_before_add(self) -> Flow[ObjectView]:
        addition = self.addition
        return read_before_add(
            self.attempt.client,
            entity_id=addition.entity_id,
            entity_type_id=addition.entity_type_id,
            with_rows=addition.fill_products,
            with_pay_systems=addition.pay_system_id is not None,
            tag=addition.tag,
            known=self.story.entry.seen,
        )

    # -- what is there -----------------------------------------------------------------------------------------------

    def _go_on(self, payment: Payment) -> Receipt:
        """The payment is known to be this key's: complete it."""
        receipt = complete(self.addition, payment)
        self.story.refuse_other_parameters(f"Payment {payment.id} was added for it and is there.")
        return receipt

    def _done_before(self) -> Receipt:
        """The journal knows the payment; the portal is asked whether it is still there."""
        payment_id = self.story.entry.payment_id
        assert payment_id is not None  # noqa: S101 - a receipt is about a payment
        self.story.refuse_other_parameters(f"Payment {payment_id} was added for it then.")
        payment = self._read_back(payment_id)
        return self.addition.receipt(payment, outcome="existing", recovered=True)

    def _read_again(self, payment_id: int) -> Payment:
        """The payment that the journal knows and that is not complete: an attempt may have ended before it read back.

        :raises PaymentMismatch: more payments of ours have appeared than were sent.
        """
        payment = self._read_back(payment_id)
        if self.story.entry.evidence == "answer":
            refuse_one_too_many(self.addition, payment_id, self.view.shown.payments, self.on_unknown)
        return payment

    def _read_back(self, payment_id: int) -> Payment:
        """The payment that the journal knows.

        :raises PaymentNotApplied: it is not there (any more).
        """
        shown = next((one for one in self.view.shown.payments if one.id == payment_id), None)
        if shown is not None:
            return shown
        addition, story = self.addition, self.story
        try:
            listed = self.attempt.find(lambda: addition.read_payments(payment_id), bool, story.ended())
        except PortalUnreadable as error:
            trouble = str(error)
        else:
            if listed:
                return listed[0]
            said = "was added, as the portal answered"
            if story.entry.receipt:
                said = "was there when the task of this key succeeded"
            raise PaymentNotApplied(
                f"Payment {payment_id} of {addition.of} {said}, and the portal does not show it now: somebody has "
                "deleted it, or it was never kept. Nothing was sent by this attempt, and nothing is sent again "
                f"automatically. Look at the payments of {addition.of} in Bitrix24: if another one has taken its "
                f"place, adopt that; if one must be added again, pay again. Decide by {story.how_to_decide()}; then "
                "clear this task."
            )
        raise unresolved(story, f"Payment {payment_id} of {addition.of} could not be read ({trouble}).")

    def _adopt(self, decision: Decision) -> None:
        """Take the payment that a person has chosen."""
        story, shown = self.story, {one.id for one in self.view.shown.payments}
        wanted, known = decision.payment_id or 0, story.entry.payment_id
        candidates = self.addition.candidates(self.view.shown)
        if wanted not in shown:
            turn_down(story, decision, f"{self.addition.of} has no such payment now", candidates)
        if known != wanted and known in shown:
            why = f"payment {known}, which is this key's, is still on {self.addition.of}"
            turn_down(story, decision, why, candidates)
        plan = dict(story.entry.plan)
        if not story.entry.may_have_run:
            # Of what was there before, and is only returned, nothing was planned but for that one.
            [payment] = [one for one in self.view.shown.payments if one.id == wanted]
            plan = self._plan_for(payment)
        adopt(story, wanted, plan)

    def _existing(self) -> Receipt | None:
        """Nothing of ours was sent, as far as the journal knows: a tagged or an unpaid payment may be there."""
        view, addition = self.view, self.addition
        tagged = addition.tagged(view.shown)
        if tagged is not None:
            return self._return_existing(tagged, "tag")
        if not self.story.journal.durable and self.story.task.try_number > 1:
            raise PaymentAmbiguous(
                f"This is attempt {self.story.task.try_number} of {self.story.task.identity}, and without a journal it "
                f"cannot tell whether an earlier one has added a payment to {addition.of} already. Nothing was sent by "
                f"this attempt. Look at the payments of {addition.of} in Bitrix24: if the payment is there, go on with "
                "it; if not, start a new run of the DAG. With Airflow 3.3 or newer, or with journal_conn_id, later "
                "attempts find out without a person."
            )
        return self._return_unpaid()

    def _return_unpaid(self) -> Receipt | None:
        """Return the unpaid payment of the object, if there is one and it is to be returned."""
        existing = None if self.if_unpaid_exists == "add" else self._unpaid()
        return None if existing is None else self._return_existing(existing, "state")

    def _unpaid(self) -> Payment | None:
        """The unpaid payment of the object, if there is one to return."""
        dismissed = self.story.entry.dismissed
        unpaid = [one for one in self.view.shown.payments if not one.paid and one.id not in dismissed]
        if not unpaid:
            return None
        listed = ", ".join(f"{payment.id} of {payment.money}" for payment in unpaid)
        if self.if_unpaid_exists == "fail":
            raise PaymentRefused(
                f"The {self.addition.of} has an unpaid payment already ({listed}), and if_unpaid_exists is 'fail'. "
                "Nothing was sent."
            )
        if len(unpaid) > 1:
            raise PaymentAmbiguous(
                f"The {self.addition.of} has {len(unpaid)} unpaid payments ({listed}), and if_unpaid_exists='return' "
                "can return only one. Nothing was sent. Delete in Bitrix24 those that are not needed.",
                tuple(payment.id for payment in unpaid),
            )
        return unpaid[0]

    def _return_existing(self, payment: Payment, evidence: Literal["tag", "state"]) -> Receipt:
        """Return a payment that is there; only an empty one is filled, because nobody else's sum is changed."""
        addition = self.addition
        if evidence == "state" and addition.pay_system_id not in (None, payment.pay_system_id):
            raise PaymentMismatch(
                f"The {addition.of} has the unpaid payment {payment.id} of {payment.money}, but with pay system "
                f"{payment.pay_system_id} {payment.pay_system_name!r} instead of {addition.pay_system_id}. Nothing was "
                "sent. Change it in Bitrix24, or ask for its pay system."
            )
        if self.story.entry.free:
            self.story.entry = self.story.afresh(decided_at=self._at())
        self.story.identify(payment.id, evidence, plan=self._plan_for(payment))
        return self._go_on(payment)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _plan(self) -> dict[str, int]:
        """The product rows to put in, as the journal keeps them."""
        rows, chosen, of = self.view.rows, self.addition.products, self.addition.of
        plan = choose_products(rows, chosen, of=of) if chosen else plan_products(rows, of=of)
        total = value_of(rows, plan)
        if self.max_amount is not None and Money(total, "").exceeds(self.max_amount):
            raise PaymentRefused(
                f"The product rows of {of} that would go into the payment add up to {total:f}, which is more "
                f"than the max_amount {self.max_amount:f} of this task. Nothing was sent. Raise max_amount if that is "
                "right."
            )
        return {str(row_id): quantity for row_id, quantity in plan.items()}

    def _plan_for(self, payment: Payment) -> dict[str, int]:
        """The same for a payment that is there; nothing goes into one that has a sum, because it is somebody else's."""
        fits = self.addition.fill_products and payment.money.is_zero and not payment.paid
        return self._plan() if fits else {}

    def _at(self) -> float | None:
        return self.view.at.timestamp() if self.view.at else None

    def _send(self) -> Payment | None:
        """Send the one CREATE and find the payment that came of it; None if it may be sent again."""
        story, attempt, addition, view = self.story, self.attempt, self.addition, self.view
        if addition.pay_system_id is not None:
            view.pay_systems.check_for_payment(addition.pay_system_id)
        plan = self._plan() if addition.fill_products else {}
        if not story.sends_left:
            addition.leave_to_a_person(())
        self._warn_about_order()
        attempt.log.info("Adding a payment to %s on %s.", addition.of, attempt.portal)
        before = tuple(payment.id for payment in view.shown.payments)
        intent = story.intent(decided_at=self._at(), seen=before, plan=plan)
        sent = attempt.send(self._write, key=story.entry.key, intent=intent)
        if sent is None:
            return None
        doubt = sent.doubt
        if doubt is None and sent.answer in before:
            text = f"the id {sent.answer}, which is that of a payment that was there before"
            doubt = Bitrix24OutcomeUnknown("crm.item.payment.add", answered=True, text=text)
        if doubt is not None:
            if doubt.answered:
                story.settle("unclear", doubt.words)
            return find_ours(addition, on_unknown=self.on_unknown, sent=sent.because(doubt))
        payment_id = int(sent.answer)
        story.identify(payment_id, "answer", sends=story.entry.last_send(result="answered").sends)
        attempt.log.info("The portal added payment %s to %s; reading it back.", payment_id, addition.of)
        return read_back(addition, payment_id, on_unknown=self.on_unknown)

    def _write(self, deadline: SendDeadline, digest: str) -> Flow[int]:
        addition = self.addition
        if addition.tag is None:
            return payments.add_crm_payment(
                self.attempt.client,
                entity_id=addition.entity_id,
                entity_type_id=addition.entity_type_id,
                pay_system_id=addition.pay_system_id,
                deadline=deadline,
                idempotency=digest,
            )
        return tags.add_tagged_crm_payment(
            self.attempt.client,
            entity_id=addition.entity_id,
            entity_type_id=addition.entity_type_id,
            pay_system_id=addition.pay_system_id,
            tag=addition.tag,
            deadline=deadline,
            idempotency=digest,
        )

    def _warn_about_order(self) -> None:
        view = self.view
        if not view.shown.payments and not view.order_ids:
            return
        order = f"order {view.order_ids[0]}" if view.order_ids else "an order"
        self.attempt.log.warning(
            "The %s has %s already. By adding a payment through REST, Bitrix24 rewrites that order: its responsible "
            "user becomes the webhook's user, and its client may be cleared. Check the order if people or automation "
            "rules rely on either.",
            self.addition.of,
            order,
        )
