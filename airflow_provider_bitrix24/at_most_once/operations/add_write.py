"""The call that adds a payment: what permits it, how its outcome is found, and which payment came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_add
from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.api.products import choose_products, plan_products, value_of
from airflow_provider_bitrix24.api.queries import CandidatePayments, ObjectBeforeAdding, PaymentsOfObject
from airflow_provider_bitrix24.api.tags import tag_of
from airflow_provider_bitrix24.api.values import ENTITY_NAMES
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.attribution import (
    Ambiguous,
    Ours,
    attribute,
    find_candidates,
    tagged_payments,
)
from airflow_provider_bitrix24.at_most_once.next_step import Observation, Recorded
from airflow_provider_bitrix24.at_most_once.receipt import Receipt
from airflow_provider_bitrix24.at_most_once.record import Snapshot
from airflow_provider_bitrix24.at_most_once.write import ADDED_PAYMENT, Watch, Write, after_lost_attempt, after_reply
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24OutcomeUnknown, PaymentAmbiguous, PaymentRefused

if TYPE_CHECKING:
    from collections.abc import Collection
    from decimal import Decimal

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.preflight import ObjectView
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
    from airflow_provider_bitrix24.at_most_once.record import Record

METHOD: Final = "crm.item.payment.add"


class AddWrite(Write):
    """The call that adds the payment, as the key's first attempt wanted it."""

    policy = ADDED_PAYMENT
    method = METHOD

    def __init__(self, attempt: Attempt, wanted: AddCrmPayment) -> None:
        super().__init__(attempt, wanted.key)
        self.wanted = wanted
        self.tag = tag_of(wanted.portal, wanted.key) if wanted.tag else None
        self.view: ObjectView
        self.user_id = 0
        self.prices: Mapping[int, Decimal] = {}
        """What the product rows that are still available cost now, by row."""
        self.plan: dict[str, int] = {}
        self.payment: Payment | None = None
        """The payment that is this key's, once the portal has shown it."""
        self.listed: tuple[Payment, ...] = ()
        """All payments of the object when it was shown."""
        self._judged: set[int] = set()
        """The payments among which the last search has looked."""
        self._ambiguity: Ambiguous | None = None

    # -- what is wanted; of a key that has sent something already, what was wanted then

    @property
    def entity_id(self) -> int:
        """Deal or smart invoice."""
        return _whole(self.attempt.record.parameters["entity_id"])

    @property
    def entity_type_id(self) -> int:
        """2 or 31."""
        return _whole(self.attempt.record.parameters["entity_type_id"])

    @property
    def pay_system_id(self) -> int | None:
        """None leaves the choice to the portal."""
        found = self.attempt.record.parameters.get("pay_system_id")
        return None if found is None else _whole(found)

    @property
    def fill_products(self) -> bool:
        """Whether product rows go into the payment."""
        return bool(self.attempt.record.parameters.get("fill_products") or self.products)

    @property
    def products(self) -> dict[int, int]:
        """Quantity by product row, as the author has chosen them; empty otherwise."""
        chosen = self.attempt.record.parameters.get("products")
        return {int(row_id): _whole(many) for row_id, many in chosen.items()} if isinstance(chosen, Mapping) else {}

    @property
    def of(self) -> str:
        """The object, for messages: "deal 1"."""
        return f"{ENTITY_NAMES[self.entity_type_id]} {self.entity_id}"

    @property
    def portal_time(self) -> float | None:
        """The portal's clock when the object was read."""
        return self.view.at.timestamp() if self.view.at else None

    @property
    def is_ours(self) -> bool:
        """Whether this key has added the payment: it was not there before, and nobody else added it."""
        record = self.attempt.record
        return bool(record.possible_sends) and record.evidence != "portal_state"

    # -- what the table needs

    def recorded(self) -> Recorded:
        """What the journal says; a payment that is known was acknowledged."""
        if self.attempt.record.payment_id is not None:
            return Recorded(last="acknowledged")
        return super().recorded()

    def observation(self) -> Observation:
        """What the portal has shown."""
        self.replaced = not self.shown and self.existing() is not None
        return super().observation()

    # -- reading

    def before(self) -> ObjectBeforeAdding:
        """Read everything that permits the call."""
        return ObjectBeforeAdding(
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            with_rows=self.fill_products,
            with_pay_systems=self.pay_system_id is not None,
            tag=self.tag,
            known=self.attempt.record.payment_ids_before,
            with_orders=self.wanted.with_orders,
        )

    def look_at_object(self) -> Course[None]:
        """Read the object, its payments and what else permits the call."""
        self.view = yield from self.attempt.read_before_send(self.before())
        self.user_id = self.view.profile.user_id
        self.prices = {row.id: row.price for row in self.view.rows}
        self.listed = self.view.shown.payments

    def look(self) -> Course[None]:
        """Read everything again; a payment that has appeared since the last search is searched for."""
        yield from self.look_at_object()
        candidates = yield from find_candidates(self.attempt.record, self.view.shown)
        if not self._judged.issuperset(candidates):
            self.watch = None

    def recognise(self) -> None:
        """Recognise the payment that the journal knows among those that were read."""
        known = self.attempt.record.payment_id
        self.payment = next((one for one in self.view.shown.payments if one.id == known), None)
        self.shown = self.payment is not None

    def query(self) -> Query[Any]:
        """Read the payment that is known; else all payments, and which of them may be ours."""
        record = self.attempt.record
        if record.payment_id is not None:
            # All of them after a send, so that one too many is seen.
            only = () if self.attempt.sent_now else (record.payment_id,)
            return PaymentsOfObject(entity_id=self.entity_id, entity_type_id=self.entity_type_id, payment_ids=only)
        return self.evidence()

    def evidence(self) -> CandidatePayments:
        """Read all payments of the object, and which of them the connection's user has added since the first send."""
        record = self.attempt.record
        first, last = record.sends[0], record.sends[-1]
        return CandidatePayments(
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            user_id=self.user_id,
            since=first.at if record.snapshot_at is None else min(first.at, record.snapshot_at),
            until=last.settle_until,
            tag=self.tag,
            known=record.payment_ids_before,
        )

    def shows(self, found: Any) -> bool:
        """Whether the payment that is known is there; else whether one carries the tag."""
        known = self.attempt.record.payment_id
        if known is not None:
            return any(one.id == known for one in found)
        return bool(found.tagged)

    def take(self, found: Any) -> Course[None]:
        """The payment that is known is there, or one carries the tag."""
        record = self.attempt.record
        if record.payment_id is None:
            yield from self.conclude(found)
            return
        self.payment = next(one for one in found if one.id == record.payment_id)
        self.shown = True
        if self.attempt.sent_now:
            self.listed = tuple(found)

    def conclude(self, found: Any) -> Course[None]:
        """Judge whose the payments are."""
        attempt = self.attempt
        if attempt.record.payment_id is not None:
            return
        self._judged = {payment.id for payment in found.payments}
        tagged = yield from self.tagged(found)
        if tagged is not None:
            yield from self._identified(Ours(payment=tagged, evidence="tag"))
            return
        attribution = yield from attribute(attempt, found, self.wanted.on_unknown, self.happened, self.of)
        if isinstance(attribution, Ours):
            yield from self._identified(attribution)
        elif isinstance(attribution, Ambiguous):
            self._ambiguity, self.ambiguous = attribution, True
        elif attribution is None and attempt.record.question is None:
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
        tagged = tagged_payments(self.attempt.record, shown, self.of)
        if len(tagged) > 1:
            payment_ids = [payment.id for payment in tagged]
            yield from self._leave_to_a_person(messages.several_tagged(payment_ids, self.of), payment_ids)
        return tagged[0] if tagged else None

    # -- sending

    def existing(self) -> tuple[Payment, Literal["tag", "portal_state"]] | None:
        """The payment that is used instead of adding one: it carries the tag, or is unpaid and is to be returned."""
        record, shown = self.attempt.record, self.view.shown
        if record.payment_id is not None:
            return None
        if record.question is not None and record.possible_sends:
            return None  # rule: what was sent is a person's to decide about
        if record.nothing_executed:
            tagged = [one for one in shown.payments if one.id in shown.tagged - set(record.dismissed)]
            elsewhere = shown.tagged_elsewhere - set(record.dismissed)
            if len(tagged) == 1 and not elsewhere:
                return tagged[0], "tag"
            if tagged or elsewhere or self.attempt.may_be_forgotten:
                return None
        # rule: an unpaid payment counts before every send
        unpaid = self._unpaid() if self.wanted.if_unpaid_exists == "return" else []
        return (unpaid[0], "portal_state") if len(unpaid) == 1 else None

    def _unpaid(self) -> list[Payment]:
        dismissed = self.attempt.record.dismissed
        return [one for one in self.view.shown.payments if not one.paid and one.id not in dismissed]

    def refuse(self) -> Course[None]:
        """Refuse what must not be added, by what was read last."""
        attempt, view = self.attempt, self.view
        if attempt.found:
            attempt.refuse_other_parameters("No payment of it is on the portal.")
        if attempt.record.nothing_executed:
            yield from self.tagged(view.shown)
            if attempt.may_be_forgotten:
                raise PaymentAmbiguous(messages.earlier_add_unknown(attempt.task, self.of))
        unpaid = self._unpaid() if self.wanted.if_unpaid_exists != "add" else []
        if unpaid and self.wanted.if_unpaid_exists == "fail":
            raise PaymentRefused(messages.unpaid_exists(self.of, unpaid), NOT_SENT)
        if unpaid:
            raise PaymentAmbiguous(
                *messages.several_unpaid(self.of, unpaid), candidates=tuple(payment.id for payment in unpaid)
            )
        if self.pay_system_id is not None:
            view.pay_systems.check_for_payment(self.pay_system_id)
        self.plan = self._plan() if self.fill_products else {}
        self._warn_about_order()
        attempt.log.info("Adding a payment to %s on %s.", self.of, attempt.portal)

    def _plan(self) -> dict[str, int]:
        """The product rows to put in, as the journal keeps them."""
        rows, chosen, limit = self.view.rows, self.products, self.wanted.max_amount
        plan = choose_products(rows, chosen, of=self.of) if chosen else plan_products(rows, of=self.of)
        total = value_of(rows, plan)
        if limit is not None and Money(total, "").exceeds(limit):
            raise PaymentRefused(*messages.rows_above_the_limit(self.of, total, limit))
        return {str(row_id): quantity for row_id, quantity in plan.items()}

    def plan_for(self, payment: Payment) -> dict[str, int]:
        """The same for a payment that is there; nothing goes into one that has a sum, because it is another's."""
        fits = self.fill_products and payment.money.is_zero and not payment.paid
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
            messages.sentence(self.of),
            order,
        )

    def call(self) -> Call[Any]:
        """The call."""
        fields = None if self.pay_system_id is None else {"paySystemId": self.pay_system_id}
        return crm_item_payment_add(entity_id=self.entity_id, entity_type_id=self.entity_type_id, fields=fields)

    def absence(self) -> str:
        """What the log says when certainly none was added."""
        return messages.add_is_absent(self.happened, self.attempt.set_aside)

    def prepared(self, record: Record) -> Record:
        """The record with what the portal showed before."""
        before = tuple(payment.id for payment in self.view.shown.payments)
        return record.prepared(self.attempt.wanted, Snapshot(at=self.portal_time, payment_ids=before, plan=self.plan))

    def replied(self, result: int) -> Course[Bitrix24OutcomeUnknown | None]:
        """Save the id that the portal has replied, unless it is that of a payment that was there before."""
        attempt = self.attempt
        if any(payment.id == result for payment in self.view.shown.payments):
            return Bitrix24OutcomeUnknown(METHOD, answered=True, text=messages.id_was_there_before(result))
        # rule: reply before read back: a payment
        yield from attempt.keep(attempt.record.identified(result, "response").acknowledged())
        attempt.log.info("The portal added payment %s to %s; reading it back.", result, self.of)
        return None

    # -- the end

    def watch_earlier(self) -> Watch:
        """Watch the last send, or the payment that is known."""
        last = self.last
        if self.attempt.record.payment_id is not None or last is None:
            return after_reply(self.attempt)
        if last.result == "pending":
            return after_lost_attempt(self.attempt, last, METHOD)
        said, answered = last.portal_message or "no answer", last.result in ("inconclusive", "not_applied")
        watch = after_reply(self.attempt, Bitrix24OutcomeUnknown(METHOD, answered=answered, text=said))
        watch.confirms = last.result in ("absent", "not_applied")
        return watch

    @property
    def happened(self) -> str:
        """The outcome of the send, as the beginning of a sentence."""
        last = self.last
        by = "" if self.attempt.sent_now or last is None else last.by
        return messages.reply_to_add(self.doubt, self.of, by)

    def ask(self) -> Course[None]:
        """Leave it to a person.

        :raises PaymentAmbiguous: always.
        """
        attempt, ambiguity = self.attempt, self._ambiguity
        if ambiguity is not None:
            others = messages.unresolved_keys(
                {key: attempt.journal.command("resolve", key) for key in ambiguity.unresolved_keys}
            )
            question = f"{ambiguity.why}{others} {messages.NOT_AGAIN} {self.what_to_do}"
            yield from attempt.ask(question, ambiguity.payment_ids, unresolved_keys=ambiguity.unresolved_keys)
        yield from self.report()
        attempt.refuse_undecided()
        yield from self._leave_to_a_person(messages.added_too_often(self.of, attempt.record), ())

    def _leave_to_a_person(self, happened: str, candidates: Collection[int]) -> Course[None]:
        question = f"{happened}.{self.attempt.set_aside} {messages.NOT_AGAIN} {self.what_to_do}"
        yield from self.attempt.ask(question, candidates)

    @property
    def what_to_do(self) -> str:
        """Advice for a person."""
        return messages.what_to_do(self.of, self.attempt.how_to_decide_if_kept())

    def receipt(self, payment: Payment, *, outcome: Literal["created", "existing"], recovered: bool) -> Receipt:
        """Return the receipt for what the portal shows."""
        attempt = self.attempt
        return Receipt(
            operation="add_crm_payment",
            outcome=outcome,
            portal=attempt.portal,
            subject={"entity_type_id": self.entity_type_id, "entity_id": self.entity_id, "payment_id": payment.id},
            pay_system_id=payment.pay_system_id,
            money=payment.money,
            paid_at=None,
            idempotency_key=attempt.key,
            evidence=attempt.record.evidence or "portal_state",
            sent=attempt.sent_now,
            recovered=recovered,
        )


def _whole(value: object) -> int:
    """A parameter of the journal that is a whole number."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} in the journal is no whole number")
    return value
