"""Complete a payment that is there: give it the tag, the pay system and the products that were asked for."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_bitrix24.api import payments
from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.api.products import Contents, add_payment_product, read_contents
from airflow_provider_bitrix24.api.tags import read_evidence, tag_crm_payment
from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24PermissionError,
    Bitrix24StoreError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
    PaymentUnresolved,
)
from airflow_provider_bitrix24.once.attempt import PortalUnreadable, Sent
from airflow_provider_bitrix24.once.story import listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.api.io import Flow, SendDeadline
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown
    from airflow_provider_bitrix24.journal import Send
    from airflow_provider_bitrix24.once.addition import Addition
    from airflow_provider_bitrix24.once.intent import Intent
    from airflow_provider_bitrix24.once.receipt import Receipt

SENDS_OF_A_ROW = 2
"""How often a product row may be sent: the first time, and once more after a proven absence."""


def complete(addition: Addition, payment: Payment) -> Receipt:
    """Give the payment what was asked for, as far as it has not got it, and write down that it is done.

    :raises PaymentNotApplied: the payment is there and cannot be completed.
    :raises PaymentMismatch: the portal keeps something else than was asked for.
    :raises PaymentUnresolved: the portal is in trouble now, and the next attempt goes on.
    """
    story = addition.story
    passing = False
    try:
        if addition.tag is not None:
            _tag(addition, payment, addition.tag)
        if addition.pay_system_id is not None and addition.pay_system_id != payment.pay_system_id:
            payment = _correct_pay_system(addition, payment, addition.pay_system_id)
        if addition.rows:
            payment = _Filling(addition, payment).run()
        outcome: Literal["created", "existing"] = "created" if addition.is_ours else "existing"
        return story.finish(addition.receipt(payment, outcome=outcome, recovered=story.found and not story.sent_now))
    except (Bitrix24StoreError, PaymentInProgress, PaymentAmbiguous, PaymentRefused):
        raise
    except (PaymentMismatch, PaymentNotApplied) as error:
        mismatch, trouble = isinstance(error, PaymentMismatch), str(error)
    except Bitrix24Error as error:
        mismatch, trouble, passing = False, error.reason, not error.final
    except PortalUnreadable as error:
        mismatch, trouble, passing = False, f"it could not be read ({error})", True
    state = "HAS been added to" if addition.is_ours else "is a payment of"
    happened = f"Payment {payment.id} {state} {addition.of}, but is not complete: {trouble}."
    if passing and story.journal.durable:
        raise PaymentUnresolved(
            f"{happened} It is in the journal ({story.journal.name}): the next attempt completes this payment and adds "
            "no second one. If there is none, clear this task when the portal is back."
        )
    message = f"{happened} Complete or delete it in Bitrix24; do not add another one before."
    raise PaymentMismatch(message) if mismatch else PaymentNotApplied(message)


def _tag(addition: Addition, payment: Payment, tag: str) -> None:
    """Make sure that the payment carries the tag, which was sent together with it."""
    attempt = addition.attempt

    def read() -> Flow[Shown]:
        return read_evidence(
            attempt.client,
            entity_id=addition.entity_id,
            entity_type_id=addition.entity_type_id,
            user_id=addition.user_id,
            since=0,
            until=0,
            tag=tag,
        )

    if payment.id in _only_ours(addition, attempt.observe(read()), payment.id):
        return

    def write(deadline: SendDeadline, digest: str) -> Flow[None]:
        return tag_crm_payment(
            attempt.client,
            payment_id=payment.id,
            pay_system_id=payment.pay_system_id or 0,
            tag=tag,
            deadline=deadline,
            idempotency=digest,
        )

    sent = _set(addition, payment, write, name="tag", look=read)
    shown = attempt.find(read, lambda shown: payment.id in shown.tagged, sent)
    if shown is None:
        raise PaymentMismatch(
            f"it does not carry the tag of its key, so another run with this key would not find it{_portal_said(sent)}"
        )

    _only_ours(addition, shown, payment.id)


def _only_ours(addition: Addition, shown: Shown, payment_id: int) -> frozenset[int]:
    """Return the payments that carry the tag, after checking that no other payment does.

    :raises PaymentMismatch: others do, so that something has sent our request more than once.
    """
    entry = addition.story.entry
    decided = {one for decision in entry.carried_out for one in decision.candidates}
    others = sorted((shown.tagged | shown.tagged_elsewhere) - {payment_id, *entry.dismissed, *decided})
    if others:
        raise PaymentMismatch(
            f"{listed(others)} {'carries' if len(others) == 1 else 'carry'} the tag of its key as well. One key stands "
            "for one payment, so something between Airflow and the portal (a proxy that repeats requests) or another "
            "run has added one too many. Look at them in Bitrix24, delete what is too many, and clear this task"
        )
    return shown.tagged


def _correct_pay_system(addition: Addition, payment: Payment, wanted: int) -> Payment:
    """Change the pay system that the portal chose to the one that was asked for."""
    attempt = addition.attempt
    attempt.log.info(
        "The portal gave payment %s pay system %s; changing it to %s.", payment.id, payment.pay_system_id, wanted
    )

    def write(deadline: SendDeadline, digest: str) -> Flow[None]:
        return payments.update_crm_payment(
            attempt.client, payment_id=payment.id, pay_system_id=wanted, deadline=deadline, idempotency=digest
        )

    def look() -> Flow[Any]:
        shown = yield from addition.read_payments(payment.id)
        if any(one.paid for one in shown):
            system = shown[0].pay_system_id
            raise PaymentMismatch(f"it is paid by now, with pay system {system} instead of {wanted}, which stays so")

    sent = _set(addition, payment, write, name=f"pay_system {wanted}", look=look)
    shown = attempt.find(
        lambda: addition.read_payments(payment.id),
        lambda listed: any(one.pay_system_id == wanted for one in listed),
        sent,
    )
    if shown is None:
        raise PaymentMismatch(
            f"the portal keeps pay system {payment.pay_system_id} {payment.pay_system_name!r} instead of {wanted}"
            f"{_portal_said(sent)}"
        )
    return shown[0]


def _set(addition: Addition, payment: Payment, write: Any, *, name: str, look: Callable[[], Flow[Any]]) -> Sent:
    """Send something that may be repeated, because it only sets a value.

    :param look: reads what permits it, and raises what forbids it.
    """
    intent = addition.story.step(name)
    sent: Sent | None = None
    while sent is None:
        if not addition.attempt.is_fresh:
            addition.attempt.observe(look())
        sent = addition.attempt.send(write, key=_key(addition, payment.id, name), intent=intent)
    if sent.doubt is None:
        intent.settle("answered")
    return sent


def _key(addition: Addition, payment_id: int, step: str) -> str:
    """The key of a step: its own for each payment, because a person may let another one take its place.

    No key has a line break, so none is that of a step.
    """
    return f"{addition.story.entry.key}\npayment:{payment_id}:{step.replace(' ', ':')}"


class _Filling:
    """Put the product rows into the payment, each at most once, and check what it holds then."""

    def __init__(self, addition: Addition, payment: Payment) -> None:
        self.addition = addition
        self.attempt = addition.attempt
        self.payment_id = payment.id
        self.amount = payment.money.amount
        """What the payment was for when the portal was observed."""
        self.inside: set[int] = set()
        """The product rows that were in it then."""

    def run(self) -> Payment:
        rows, entry = self.addition.rows, self.addition.story.entry
        begun = any(name.startswith("row ") for name in entry.steps)
        if begun or entry.evidence != "answer":
            found = self._observe()
            if not begun:
                self._check_untouched(found)
            elif found.payment.paid and not rows.keys() <= self.inside:
                raise self._paid_meanwhile(found.payment)
        self._check_limit()
        for row_id, quantity in rows.items():
            if row_id not in self.inside:
                self._put(row_id, quantity)

        def full(contents: Contents) -> bool:
            complete = all(contents.quantities.get(row_id) == quantity for row_id, quantity in rows.items())
            return complete and contents.payment.money.is_positive

        contents = self.attempt.find(self._read, full, self.addition.story.ended())
        if contents is None:
            raise PaymentMismatch(
                "the portal does not show all product rows with their quantities in it, or its sum is not above 0 "
                f"(wanted: {', '.join(f'row {row_id} x {quantity}' for row_id, quantity in rows.items())})"
            )
        limit = self.addition.max_amount
        if limit is not None and contents.payment.money.exceeds(limit):
            raise PaymentMismatch(
                f"it is for {contents.payment.money} now, which is more than the max_amount {limit:f} of this task: "
                "prices have changed meanwhile"
            )
        return contents.payment

    def _observe(self) -> Contents:
        """Read the rows in the payment, and the present prices of the rows that are still to be added."""
        owner = self.addition.entity_type_id, self.addition.entity_id
        found = self.attempt.observe(read_contents(self.attempt.client, payment_id=self.payment_id, prices_of=owner))
        self.amount, self.inside = found.payment.money.amount, set(found.quantities)
        self.addition.prices = {row.id: row.price for row in found.available}
        return found

    def _check_limit(self) -> None:
        """Refuse to put in what has become too expensive since it was planned."""
        missing = {row_id: many for row_id, many in self.addition.rows.items() if row_id not in self.inside}
        total = sum(
            (self.addition.prices.get(row_id, Decimal(0)) * many for row_id, many in missing.items()), self.amount
        )
        limit = self.addition.max_amount
        if missing and limit is not None and Money(total, "").exceeds(limit):
            raise PaymentMismatch(
                f"with the product rows that go in, it would be for {total:f} now, which is more than the max_amount "
                f"{limit:f} of this task, and they were not put in"
            )

    def _permit(self) -> None:
        """Check that the next row may be added, with a new read of the portal if there was a wait."""
        if not self.attempt.is_fresh:
            found = self._observe()
            if found.payment.paid:
                raise self._paid_meanwhile(found.payment)
            self._check_limit()

    def _paid_meanwhile(self, payment: Payment) -> PaymentMismatch:
        missing = [str(row_id) for row_id in self.addition.rows if row_id not in self.inside]
        return PaymentMismatch(
            f"it is paid by now, for {payment.money}, so no more product rows can go in; missing: "
            f"{', '.join(missing) or 'none'}"
        )

    def _read(self) -> Flow[Contents]:
        return read_contents(self.attempt.client, payment_id=self.payment_id)

    def _check_untouched(self, found: Contents) -> None:
        """Refuse to write into a payment of which no answer says that we added it, if somebody is at work on it."""
        partly_in = ", ".join(map(str, found.quantities.keys() & self.addition.rows.keys()))
        if found.payment.paid or not found.payment.money.is_zero or partly_in:
            rows = f" and holds a part of product row {partly_in}" if partly_in else ""
            raise PaymentMismatch(
                f"it is {'paid' if found.payment.paid else 'unpaid'} and for {found.payment.money} now{rows}, so "
                "somebody else is at work on it, and no product rows were put in by this task"
            )

    def _put(self, row_id: int, quantity: int) -> None:
        """Put one row in. What is proved to be absent after a lost answer is sent once more, then it is over."""
        row = f"product row {row_id} x {quantity}"
        intent = self.addition.story.step(f"row {row_id}")
        sent, is_in = self._find_earlier(row_id, row, intent)
        if is_in:
            return None
        while _may_be_sent(intent):
            sent = self._send(row_id, quantity, intent)
            if row_id in self.inside:
                return None
            if sent is None:
                continue
            if sent.doubt is None or self._is_in(row_id, sent):
                return intent.settle("answered")
            intent.settle("not_shown" if sent.doubt.answered else "absent", sent.doubt.words)
            if sent.doubt.answered:
                break
        raise PaymentNotApplied(f"{row} is not in it{_portal_said(sent) or _said_then(intent)}")

    def _find_earlier(self, row_id: int, row: str, intent: Intent) -> tuple[Sent | None, bool]:
        """Find out the outcome of an earlier attempt's send, and whether the row is in the payment."""
        if intent.open is not None:
            sent = self.addition.story.lost(intent.open, "crm.item.payment.product.add")
            is_in = self._is_in(row_id, sent)
            intent.settle("answered" if is_in else "absent")
            return sent, is_in
        if intent.answered:
            if self._is_in(row_id, self.addition.story.ended()):
                return None, True
            intent.settle("not_shown")
            raise PaymentNotApplied(
                f"{row} is not in it, although the portal had accepted it: somebody has "
                "taken it out, or it was never kept"
            )
        if intent.last is not None and intent.last.result == "not_shown" and _may_be_sent(intent):
            self._refuse_if_nobody_has_looked(intent, intent.last, row)
        return None, False

    def _send(self, row_id: int, quantity: int, intent: Intent) -> Sent | None:
        """Send a row, if that is permitted. None if it was not executed, or if the row is in the payment by now."""
        self._permit()
        if row_id in self.inside:
            return None

        def write(deadline: SendDeadline, digest: str) -> Flow[Any]:
            return add_payment_product(
                self.attempt.client,
                payment_id=self.payment_id,
                row_id=row_id,
                quantity=quantity,
                deadline=deadline,
                idempotency=digest,
            )

        try:
            return self.attempt.send(write, key=_key(self.addition, self.payment_id, f"row {row_id}"), intent=intent)
        except Bitrix24PermissionError as error:
            refused = error
        # A payment that is paid by now is no longer to be changed, which the portal calls a right that is missing.
        found = self._observe()
        raise self._paid_meanwhile(found.payment) if found.payment.paid else refused

    def _refuse_if_nobody_has_looked(self, intent: Intent, last: Send, row: str) -> None:
        if not self.addition.story.task.was_cleared_since(last):
            intent.settle("not_shown", last.said)
            raise PaymentNotApplied(
                f"{row} is not in it: {last.by} has sent it, and the portal answered ({last.said or 'true'}). It was "
                "not sent by this attempt; clearing this task sends it once more"
            )

    def _is_in(self, row_id: int, sent: Sent) -> bool:
        return self.attempt.find(self._read, lambda shown: row_id in shown.quantities, sent) is not None


def _may_be_sent(row: Intent) -> bool:
    return sum(send.may_have_run for send in row.sends) < SENDS_OF_A_ROW


def _portal_said(sent: Sent | None) -> str:
    """What there was instead of a clear answer."""
    return f" ({answer_words(sent.doubt)})" if sent is not None and sent.doubt is not None else ""


def _said_then(row: Intent) -> str:
    """What there was instead of a clear answer, when an earlier attempt used up the sends."""
    last = row.last
    return (
        f", and it was sent {SENDS_OF_A_ROW} times, the last time by {last.by} ({last.said or 'true'})" if last else ""
    )


def answer_words(doubt: Bitrix24OutcomeUnknown) -> str:
    """Return what came instead of a clear answer, as the beginning of a sentence."""
    return f"The portal {'responded unclearly' if doubt.answered else 'gave no usable response'} ({doubt.words})"
