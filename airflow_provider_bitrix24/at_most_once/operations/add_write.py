"""The call that adds a payment: what permits it, how its outcome is found, and which payment came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_add
from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.api.products import choose_products, plan_products, value_of
from airflow_provider_bitrix24.api.tags import tag_of
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.attribution import Ambiguous, Ours, attribute, find_candidates
from airflow_provider_bitrix24.at_most_once.course import find_late_reply
from airflow_provider_bitrix24.at_most_once.operations.found_payment import (
    find_existing,
    use_chosen,
    use_ours,
    use_tagged,
)
from airflow_provider_bitrix24.at_most_once.operations.key_write import KeyWrite
from airflow_provider_bitrix24.at_most_once.receipt import Receipt
from airflow_provider_bitrix24.at_most_once.record import Snapshot
from airflow_provider_bitrix24.at_most_once.write import ADDED_PAYMENT
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentRefused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from decimal import Decimal

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.preflight import ObjectView
    from airflow_provider_bitrix24.api.queries import CandidatePayments, ObjectBeforeAdding, Query
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.next_step import Observation
    from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
    from airflow_provider_bitrix24.at_most_once.record import Record
    from airflow_provider_bitrix24.at_most_once.write import Watch

METHOD: Final = "crm.item.payment.add"


class AddWrite(KeyWrite):
    """The call that adds the payment, as the key's first attempt wanted it."""

    policy = ADDED_PAYMENT
    method = METHOD
    words = messages.ADDING

    def __init__(self, attempt: Attempt, wanted: AddCrmPayment) -> None:
        super().__init__(attempt, wanted.key)
        self.wanted = wanted
        self.tag = tag_of(wanted.portal, wanted.key) if wanted.tag else None
        self.view: ObjectView
        self.prices: Mapping[int, Decimal] = {}
        """What the product rows that are still available cost now, by row."""
        self.plan: dict[str, int] = {}
        self.payment: Payment | None = None
        """The payment that is this key's, once the portal has shown it."""
        self.listed: tuple[Payment, ...] = ()
        """All payments of the object when it was shown."""
        self.tags: Shown
        """The same with their tags; only if this key has one."""
        self._judged: set[int] = set()
        """The payments among which the last search has looked."""
        self._has_seen_new = False
        """Whether a read has shown a new payment, so that the next one asks whose it may be."""
        self._asked_whose = False
        """Whether the last read asked that."""
        self._ambiguity: Ambiguous | None = None

    # -- what is known

    @property
    def asked(self) -> AddCrmPayment:
        """What is asked for; of a key that has sent something already, what was asked for then."""
        return self.wanted.with_parameters(self.attempt.record.parameters)

    @property
    def subject(self) -> str:
        """The object: "deal 1"."""
        return self.attempt.record.subject

    @property
    def where(self) -> str:
        """Where a person looks."""
        return f"look at the payments of {self.subject} in Bitrix24"

    @property
    def is_ours(self) -> bool:
        """Whether this key has added the payment: it was not there before, and nobody else added it."""
        record = self.attempt.record
        return bool(record.possible_sends) and record.evidence != "portal_state"

    # -- what the table needs

    @property
    def is_known(self) -> bool:
        """Whether it is known which payment is this key's."""
        return self.attempt.record.payment_id is not None

    def observation(self) -> Observation:
        """What the portal has shown."""
        if self.payment is None and self.is_known:
            known = self.attempt.record.payment_id
            self.payment = next((one for one in self.view.shown.payments if one.id == known), None)
            self.shown = self.payment is not None
        self.replaced = not self.shown and find_existing(self) is not None
        return super().observation()

    # -- reading

    def before(self) -> ObjectBeforeAdding:
        """Read everything that permits the call."""
        return self.asked.before(self.tag, self.attempt.record.payment_ids_before)

    def read(self) -> Course[None]:
        """Read the object, its payments and what else permits the call."""
        self.view = yield from self.attempt.read_before_send(self.before())
        self.prices = {row.id: row.price for row in self.view.rows}
        self.tags, self.listed = self.view.shown, self.view.shown.payments

    def look(self) -> Course[None]:
        """Read everything again; a payment that has appeared since the last search is searched for."""
        yield from self.read()
        candidates = yield from find_candidates(self.attempt.record, self.view.shown)
        if not self._judged.issuperset(candidates):
            self.watch = None

    def query(self) -> Query[Any]:
        """Read the payment that is known; else all payments, and which of them may be ours."""
        known = self.attempt.record.payment_id
        if known is None:
            self._has_seen_new |= self._has_new(self.view.shown)
            self._asked_whose = self._has_seen_new
            return self.evidence(whose=self._asked_whose)
        if self.tag is not None:
            return self.asked.candidates(self.tag)  # what completes it needs the tags
        # All of them after a send, so that one too many is seen.
        return self.asked.payments(*(() if self.attempt.sent_now else (known,)))

    def evidence(self, *, whose: bool = True) -> CandidatePayments:
        """Read all payments of the object, and which of them the connection's user has added since the first send.

        :param whose: whether the latter is asked: it takes two commands more, and says nothing if no payment is new.
        """
        record = self.attempt.record
        first, last = record.sends[0], record.sends[-1]
        return self.asked.candidates(
            self.tag,
            user_id=self.user_id,
            since=first.at if record.snapshot_at is None else min(first.at, record.snapshot_at),
            until=last.settle_until,
            known=record.payment_ids_before,
            whose=whose,
        )

    def _has_new(self, shown: Shown) -> bool:
        """Whether a payment is there that was not there before the first send."""
        record = self.attempt.record
        return not {payment.id for payment in shown.payments} <= {*record.payment_ids_before, *record.dismissed}

    def watch_earlier(self) -> Watch:
        """Watch the last send. What was read before may show already that it is absent."""
        watch, last, asked_at = super().watch_earlier(), self.last, self.attempt.asked_at
        pending = last is not None and last.result == "pending" and not self.is_known
        # rule: what was read before it could not arrive any more shows no absence
        if pending and asked_at is not None and asked_at >= watch.absent_after and not self.shows(self.view.shown):
            watch.begun, watch.absences = True, 1
        return watch

    def shows(self, found: Any) -> bool:
        """Whether the payment that is known is there; else whether one carries the tag."""
        known = self.attempt.record.payment_id
        if known is not None:
            return any(one.id == known for one in _payments(found))
        self._has_seen_new |= self._has_new(found)
        return bool(found.tagged)

    def take(self, found: Any) -> Course[None]:
        """The payment that is known is there, or one carries the tag."""
        record = self.attempt.record
        if record.payment_id is None:
            yield from self.conclude(found)
            return
        payments = _payments(found)
        self.payment = next(one for one in payments if one.id == record.payment_id)
        self.shown = True
        if self.tag is not None:
            self.tags = found
        if self.attempt.sent_now:
            self.listed = tuple(payments)

    def conclude(self, found: Any) -> Course[None]:
        """Judge whose the payments are."""
        attempt = self.attempt
        if attempt.record.payment_id is not None:
            return
        self._judged = {payment.id for payment in found.payments}
        self.tags = found
        tagged = yield from self.tagged(found)
        if tagged is not None:
            yield from self._identified(Ours(payment=tagged, evidence="tag"))
            return
        # rule: whose a new payment is the portal is asked
        if self.watch is not None and not self._asked_whose and self._has_new(found):
            self.watch.absences = max(0, self.watch.absences - 1)
            return
        attribution = yield from attribute(attempt, found, self.wanted.on_unknown, self.happened)
        if isinstance(attribution, Ours):
            yield from self._identified(attribution)
        elif isinstance(attribution, Ambiguous):
            self._ambiguity, self.ambiguous = attribution, True
        elif attempt.record.question is None:
            last = self.last
            if last is not None and last.result not in ("absent", "not_applied"):
                yield from self.save_absence()

    def _identified(self, ours: Ours) -> Course[None]:
        attempt = self.attempt
        yield from attempt.keep(attempt.record.identified(ours.payment.id, ours.evidence))
        if ours.because:
            attempt.log.warning("%s", ours.because)
        self.payment, self.shown = ours.payment, True

    def tagged(self, shown: Shown) -> Course[Payment | None]:
        """The payment that carries this key's tag.

        :raises PaymentAmbiguous: several do.
        :raises PaymentMismatch: one of another object does.
        """
        known = set(self.attempt.record.dismissed)
        elsewhere = sorted(shown.tagged_elsewhere - known)
        if elsewhere:
            raise PaymentMismatch(messages.tag_of_another_object(self.attempt.key, elsewhere, self.subject))
        tagged = [payment for payment in shown.payments if payment.id in shown.tagged - known]
        if len(tagged) > 1:
            payment_ids = [payment.id for payment in tagged]
            yield from self.leave_to_a_person(messages.several_tagged(payment_ids, self.subject), payment_ids)
        return tagged[0] if tagged else None

    # -- sending

    def unpaid(self) -> list[Payment]:
        """The unpaid payments of the object of which nobody has said that they are not this key's."""
        dismissed = self.attempt.record.dismissed
        return [one for one in self.view.shown.payments if not one.paid and one.id not in dismissed]

    def refuse(self) -> Course[None]:
        """Refuse what must not be added, by what was read last."""
        attempt, view = self.attempt, self.view
        if attempt.resumes:
            attempt.refuse_other_parameters("No payment of it is on the portal.")
        if attempt.record.nothing_executed:
            yield from self.tagged(view.shown)
            if attempt.may_be_forgotten:
                raise PaymentAmbiguous(messages.earlier_add_unknown(attempt.known, self.what_to_do))
        unpaid = self.unpaid() if self.wanted.if_unpaid_exists != "add" else []
        if unpaid and self.wanted.if_unpaid_exists == "fail":
            raise PaymentRefused(*messages.unpaid_exists(self.subject, unpaid))
        if unpaid:
            raise PaymentAmbiguous(
                *messages.several_unpaid(self.subject, unpaid), candidates=tuple(payment.id for payment in unpaid)
            )
        if self.asked.pay_system_id is not None:
            view.pay_systems.check_for_payment(self.asked.pay_system_id)
        self.plan = self._plan() if self.asked.fills else {}
        self._warn_about_order()
        attempt.log.info("Adding a payment to %s on %s.", self.subject, attempt.portal)

    def _plan(self) -> dict[str, int]:
        """The product rows to put in, as the journal keeps them."""
        rows, chosen, limit = self.view.rows, self.asked.products, self.wanted.max_amount
        plan = choose_products(rows, chosen, of=self.subject) if chosen else plan_products(rows, of=self.subject)
        total = value_of(rows, plan)
        if limit is not None and Money(total, "").exceeds(limit):
            raise PaymentRefused(
                *messages.above_the_limit(f"A payment with the product rows of {self.subject}", f"{total:f}", limit)
            )
        return {str(row_id): quantity for row_id, quantity in plan.items()}

    def plan_for(self, payment: Payment) -> dict[str, int]:
        """The same for a payment that is there; nothing goes into one that has a sum, because it is another's."""
        fits = self.asked.fills and payment.money.is_zero and not payment.paid
        return self._plan() if fits else {}

    def _warn_about_order(self) -> None:
        view = self.view
        if not view.shown.payments and not view.order_ids:
            return
        order = f"order {view.order_ids[0]}" if view.order_ids else "an order"
        self.attempt.log.warning(
            "%s has %s already. By adding a payment through REST, Bitrix24 rewrites that order: its responsible "
            "user becomes the webhook's user, and its client may be cleared. Check the order if people or automation "
            "rules rely on either.",
            messages.sentence(self.subject),
            order,
        )

    def call(self) -> Call[Any]:
        """The call."""
        asked = self.asked
        fields = None if asked.pay_system_id is None else {"paySystemId": asked.pay_system_id}
        return crm_item_payment_add(entity_id=asked.entity_id, entity_type_id=asked.entity_type_id, fields=fields)

    def prepared(self, record: Record) -> Record:
        """The record with what the portal showed before."""
        before = tuple(payment.id for payment in self.view.shown.payments)
        return record.prepared(
            self.attempt.wanted, Snapshot(at=self.attempt.portal_clock.told, payment_ids=before, plan=self.plan)
        )

    def replied(self, result: int) -> Course[Bitrix24OutcomeUnknown | None]:
        """Save the id that the portal has replied, unless it is that of a payment that was there before."""
        attempt = self.attempt
        if any(payment.id == result for payment in self.view.shown.payments):
            return Bitrix24OutcomeUnknown(METHOD, answered=True, text=messages.id_was_there_before(result))
        # rule: reply before read back: a payment
        yield from attempt.keep(attempt.record.identified(result, "response").acknowledged())
        attempt.log.info("The portal added payment %s to %s; reading it back.", result, self.subject)
        return None

    # -- the beginning of an attempt

    def begin(self) -> Course[None]:
        """An attempt that was overtaken may have been told the payment's id: it was added, whether it shows or not."""
        attempt, record = self.attempt, self.attempt.record
        if self.is_known or not record.possible_sends:
            return
        payment_id = yield from find_late_reply()
        if payment_id is not None and payment_id not in record.dismissed:
            yield from attempt.keep(record.identified(payment_id, "response").acknowledged())

    @property
    def has_proof(self) -> bool:
        """Whether the tag of this key is on a payment of which nobody has decided."""
        return self._is_tagged(self.view)

    def proof(self) -> tuple[Query[Any], Callable[[Any], bool]]:
        """Read the object until the tag is on a payment."""
        return self.before(), self._is_tagged

    def _is_tagged(self, view: ObjectView) -> bool:
        record = self.attempt.record
        judged = {*record.dismissed, *(record.decision.candidates if record.decision else ())}
        return bool((view.shown.tagged | view.shown.tagged_elsewhere) - judged)

    def candidates(self) -> Course[list[int]]:
        """The new payments of the object that are not known to be another's."""
        return (yield from find_candidates(self.attempt.record, self.view.shown))

    @property
    def shown_payments(self) -> Collection[int]:
        """All payments of the object."""
        return {payment.id for payment in self.view.shown.payments}

    # -- the end

    use = use_chosen
    judge_without_notes = use_tagged
    done = use_ours

    def ask(self) -> Course[None]:
        """Leave it to a person."""
        attempt, ambiguity = self.attempt, self._ambiguity
        if ambiguity is not None:
            others = messages.unresolved_keys(
                {key: attempt.journal.command("resolve", key) for key in ambiguity.unresolved_keys}
            )
            happened = f"{ambiguity.why}{others}"
            yield from self.leave_to_a_person(happened, ambiguity.payment_ids, ambiguity.unresolved_keys)
        yield from super().ask()

    @property
    def noted(self) -> tuple[str, str]:
        """The payment, and what the journal says of it."""
        record = self.attempt.record
        was = "was added according to the portal's reply"
        if record.receipt is not None:
            was = "existed when the task of this key succeeded"
        return f"Payment {record.payment_id} of {record.subject}", was

    @property
    def then(self) -> str:
        """What a person does where no decision is kept: another attempt could not tell whose a payment is."""
        return "if the payment is there, go on with it by hand; if not, start a new run of the DAG"

    def receipt(self, payment: Payment, *, outcome: Literal["created", "existing"], recovered: bool) -> Receipt:
        """Return the receipt for what the portal shows."""
        attempt, asked = self.attempt, self.asked
        return Receipt(
            operation="add_crm_payment",
            outcome=outcome,
            portal=attempt.portal,
            subject={"entity_type_id": asked.entity_type_id, "entity_id": asked.entity_id, "payment_id": payment.id},
            pay_system_id=payment.pay_system_id,
            money=payment.money,
            paid_at=None,
            idempotency_key=attempt.key,
            evidence=attempt.record.evidence or "portal_state",
            sent=attempt.sent_now,
            recovered=recovered,
        )


def _payments(found: Shown | Sequence[Payment]) -> Sequence[Payment]:
    """The payments in what was read: with their tags, or alone."""
    return found if isinstance(found, Sequence) else found.payments
