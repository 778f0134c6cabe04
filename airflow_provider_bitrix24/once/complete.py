"""Complete a payment that is there: give it the pay system and the products that were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_bitrix24.api import payments
from airflow_provider_bitrix24.api.products import add_payment_product, read_contents
from airflow_provider_bitrix24.api.values import ENTITY_NAMES
from airflow_provider_bitrix24.exceptions import Bitrix24Error, PaymentMismatch, PaymentNotApplied
from airflow_provider_bitrix24.once.attempt import Attempt, Sent, Unreadable
from airflow_provider_bitrix24.once.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_bitrix24.api.effects import Flow, Lease
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.products import Contents
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown

Evidence = Literal["answer", "state", "difference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What is to be added to which object."""

    attempt: Attempt
    entity_id: int
    entity_type_id: int
    key: str
    pay_system_id: int | None
    rows: Mapping[int, int]
    """Quantity by product row; empty if the payment is to stay empty."""

    @property
    def of(self) -> str:
        """The object, for messages: "deal 1"."""
        return f"{ENTITY_NAMES[self.entity_type_id]} {self.entity_id}"

    def list(self, *payment_ids: int) -> Flow[list[Payment]]:
        """Read payments of the object; without ids all of them, unfiltered."""
        return payments.list_crm_payments(
            self.attempt.caller,
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            filter={"@id": list(payment_ids)} if payment_ids else None,
        )

    def receipt(self, payment: Payment, *, evidence: Evidence, sent: bool) -> Receipt:
        """Return the receipt for what the portal shows."""
        return Receipt(
            operation="add_crm_payment",
            outcome="created" if sent else "existing",
            portal=self.attempt.portal,
            subject={"entity_type_id": self.entity_type_id, "entity_id": self.entity_id, "payment_id": payment.id},
            pay_system_id=payment.pay_system_id,
            money=payment.money,
            paid_at=None,
            idempotency_key=self.key,
            evidence=evidence,
            sent=sent,
        )


def complete(addition: Addition, payment: Payment, *, evidence: Evidence, sent: bool) -> Receipt:
    """Give the payment the pay system and the products that were asked for."""
    try:
        if addition.pay_system_id is not None and addition.pay_system_id != payment.pay_system_id:
            payment = _correct_pay_system(addition, payment, addition.pay_system_id)
        if addition.rows:
            payment = _fill(addition, payment, assume_empty=evidence == "answer")
        return addition.receipt(payment, evidence=evidence, sent=sent)
    except (PaymentMismatch, PaymentNotApplied) as error:
        mismatch, trouble = isinstance(error, PaymentMismatch), str(error)
    except Bitrix24Error as error:
        mismatch, trouble = False, error.reason
    except Unreadable as error:
        mismatch, trouble = False, f"it could not be read ({error})"
    state = "HAS been added to" if sent else "is a payment of"
    message = (
        f"Payment {payment.id} {state} {addition.of}, but is not complete: {trouble}. Complete or delete it in "
        "Bitrix24; do not add another one before."
    )
    raise PaymentMismatch(message) if mismatch else PaymentNotApplied(message)


def _correct_pay_system(addition: Addition, payment: Payment, wanted: int) -> Payment:
    """Change the pay system that the portal chose to the one that was asked for."""
    attempt = addition.attempt
    attempt.log.info(
        "The portal gave payment %s pay system %s; changing it to %s.", payment.id, payment.pay_system_id, wanted
    )

    def write(lease: Lease, digest: str) -> Flow[None]:
        return payments.update_crm_payment(
            attempt.caller, payment_id=payment.id, pay_system_id=wanted, lease=lease, idempotency=digest
        )

    sent = attempt.send(write, key=f"{addition.key}:pay_system:{wanted}")
    shown = attempt.find(
        lambda: addition.list(payment.id), lambda listed: any(one.pay_system_id == wanted for one in listed), sent
    )
    if shown is None:
        raise PaymentMismatch(
            f"the portal keeps pay system {payment.pay_system_id} {payment.pay_system_name!r} instead of {wanted}"
            f"{_portal_said(sent)}"
        )
    return shown[0]


def _fill(addition: Addition, payment: Payment, *, assume_empty: bool) -> Payment:
    """Put the product rows into the payment, each at most once, and check what it holds then."""
    attempt = addition.attempt

    def read() -> Flow[Contents]:
        return read_contents(attempt.caller, payment_id=payment.id)

    if not assume_empty:
        _check_untouched(attempt.run(read()), addition)
    for row_id, quantity in addition.rows.items():
        _put(addition, payment.id, row_id, quantity, read)

    def complete(contents: Contents) -> bool:
        full = all(contents.quantities.get(row_id) == quantity for row_id, quantity in addition.rows.items())
        return full and contents.payment.money.amount > 0

    lag = attempt.caller.settings.read_lag
    answered = Sent(answer=None, doubt=None, absent_after=attempt.clock.monotonic() + lag, proofs=1)
    contents = attempt.find(read, complete, answered)
    if contents is None:
        raise PaymentMismatch(
            "the portal does not show all product rows with their quantities in it, or its sum is not above 0 (wanted: "
            f"{', '.join(f'row {row_id} x {quantity}' for row_id, quantity in addition.rows.items())})"
        )
    return contents.payment


def _check_untouched(found: Contents, addition: Addition) -> None:
    """Refuse to write into a payment that we did not add and that somebody is at work on."""
    partly_in = ", ".join(map(str, found.quantities.keys() & addition.rows.keys()))
    if found.payment.paid or found.payment.money.amount or partly_in:
        rows = f" and holds a part of product row {partly_in}" if partly_in else ""
        raise PaymentMismatch(
            f"it is {'paid' if found.payment.paid else 'unpaid'} and over {found.payment.money} now{rows}, so somebody "
            "else is at work on it, and no product rows were put in by this task"
        )


def _put(addition: Addition, payment_id: int, row_id: int, quantity: int, read: Callable[[], Flow[Contents]]) -> None:
    """Put one row in. What is proved to be absent after a lost answer is sent once more, then it is over."""
    attempt = addition.attempt

    def write(lease: Lease, digest: str) -> Flow[Any]:
        return add_payment_product(
            attempt.caller,
            payment_id=payment_id,
            row_id=row_id,
            quantity=quantity,
            lease=lease,
            idempotency=digest,
        )

    def is_in(sent: Sent) -> bool:
        return sent.doubt is None or attempt.find(read, lambda shown: row_id in shown.quantities, sent) is not None

    key = f"{addition.key}:row:{row_id}"
    sent = attempt.send(write, key=key)
    if is_in(sent):
        return
    if sent.doubt and not sent.doubt.answered:
        sent = attempt.send(write, key=key)
        if is_in(sent):
            return
    raise PaymentNotApplied(f"product row {row_id} x {quantity} is not in it{_portal_said(sent)}")


def _portal_said(sent: Sent) -> str:
    return f" ({answer_words(sent.doubt)})" if sent.doubt else ""


def answer_words(doubt: Bitrix24OutcomeUnknown) -> str:
    """Return what came instead of a clear answer, as the beginning of a sentence."""
    if doubt.answered:
        return f"The portal answered unclearly ({portal_words(doubt)})"
    return f"The portal gave no usable answer ({doubt.text})"


def portal_words(doubt: Bitrix24OutcomeUnknown) -> str:
    """Return the portal's own code and text."""
    return f"with code {doubt.code!r}, {doubt.text!r}" if doubt.code is not None else f"{doubt.text!r}"
