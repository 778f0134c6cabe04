"""Add a payment to a deal or smart invoice, at most once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NoReturn

from airflow_provider_bitrix24.api import payments
from airflow_provider_bitrix24.api.preflight import ObjectView, read_before_add
from airflow_provider_bitrix24.api.products import plan_products
from airflow_provider_bitrix24.exceptions import (
    Bitrix24OutcomeUnknown,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.once.attempt import Attempt, Sent, Unreadable
from airflow_provider_bitrix24.once.complete import Addition, Evidence, answer_words, complete

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.effects import Flow, Lease
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.once.receipt import Receipt


def add_crm_payment(
    attempt: Attempt,
    *,
    entity_id: int,
    entity_type_id: int,
    key: str,
    pay_system_id: int | None,
    fill_products: bool,
    if_unpaid_exists: Literal["add", "return", "fail"],
    on_unknown: Literal["fail", "adopt"],
) -> Receipt:
    """Add one payment: three requests if nothing is odd and it stays empty.

    :param attempt: the tools.
    :param entity_id: deal or smart invoice.
    :param entity_type_id: 2 or 31.
    :param key: whose payment it is.
    :param pay_system_id: None leaves the choice to the portal.
    :param fill_products: put all product rows that are still available for payment into it.
    :param if_unpaid_exists: what to do if the object has an unpaid payment already.
    :param on_unknown: what to do if the answer is lost and exactly one new payment appeared.
    :return: outcome ``created`` or ``existing``.
    :raises PaymentRefused: nothing was sent: no such object, an unpaid payment exists, no products, an unfit pay
        system.
    :raises PaymentAmbiguous: new payments are there, and nothing proves which one is ours; or several are unpaid.
    :raises PaymentMismatch: the payment to return, or the one added, is not as wanted; says which.
    :raises PaymentNotApplied: the portal answered, but does not show the payment, or it was added and is not complete.
    :raises Bitrix24OutcomeUnknown: no answer, and the portal shows nothing new.
    :raises Bitrix24Error: whatever else reading and sending raise.
    """
    view = attempt.run(
        read_before_add(
            attempt.caller,
            entity_id=entity_id,
            entity_type_id=entity_type_id,
            with_rows=fill_products,
            with_pay_systems=pay_system_id is not None,
        )
    )
    addition = Addition(
        attempt=attempt,
        entity_id=entity_id,
        entity_type_id=entity_type_id,
        key=key,
        pay_system_id=pay_system_id,
        rows={},
    )
    if if_unpaid_exists != "add":
        existing = _unpaid(addition, view, if_unpaid_exists)
        if existing is not None:
            return _return_existing(addition, view, existing, fill_products)
    if pay_system_id is not None:
        view.pay_systems.check_for_payment(pay_system_id)
    if fill_products:
        addition = replace(addition, rows=plan_products(view.rows, of=addition.of))
    _warn_about_order(addition, view)
    payment, evidence = _create(addition, view, on_unknown)
    return complete(addition, payment, evidence=evidence, sent=True)


def _unpaid(addition: Addition, view: ObjectView, if_unpaid_exists: Literal["return", "fail"]) -> Payment | None:
    """The unpaid payment of the object, if there is one to return."""
    unpaid = [payment for payment in view.payments if not payment.paid]
    if not unpaid:
        return None
    listed = ", ".join(f"{payment.id} over {payment.money}" for payment in unpaid)
    if if_unpaid_exists == "fail":
        raise PaymentRefused(
            f"The {addition.of} has an unpaid payment already ({listed}), and if_unpaid_exists is 'fail'. Nothing was "
            "sent."
        )
    if len(unpaid) > 1:
        raise PaymentAmbiguous(
            f"The {addition.of} has {len(unpaid)} unpaid payments ({listed}), and if_unpaid_exists='return' can "
            "return only one. Nothing was sent. Delete in Bitrix24 those that are not needed.",
            tuple(payment.id for payment in unpaid),
        )
    return unpaid[0]


def _return_existing(addition: Addition, view: ObjectView, payment: Payment, fill_products: bool) -> Receipt:
    """Return a payment that is there; only an empty one is filled, because nobody else's sum is changed."""
    if addition.pay_system_id not in (None, payment.pay_system_id):
        raise PaymentMismatch(
            f"The {addition.of} has the unpaid payment {payment.id} over {payment.money}, but with pay system "
            f"{payment.pay_system_id} {payment.pay_system_name!r} instead of {addition.pay_system_id}. Nothing was "
            "sent. Change it in Bitrix24, or ask for its pay system."
        )
    if fill_products and payment.money.amount == 0:
        addition = replace(addition, rows=plan_products(view.rows, of=addition.of))
    return complete(addition, payment, evidence="state", sent=False)


def _warn_about_order(addition: Addition, view: ObjectView) -> None:
    if not view.payments and not view.order_ids:
        return
    order = f"order {view.order_ids[0]}" if view.order_ids else "an order"
    addition.attempt.log.warning(
        "The %s has %s already. By adding a payment through REST, Bitrix24 rewrites that order: its responsible user "
        "becomes the webhook's user, and its client may be cleared. Check the order if people or automation rules "
        "rely on either.",
        addition.of,
        order,
    )


def _create(addition: Addition, view: ObjectView, on_unknown: Literal["fail", "adopt"]) -> tuple[Payment, Evidence]:
    """Send the one CREATE and find the payment that came of it."""
    attempt = addition.attempt
    attempt.log.info("Adding a payment to %s on %s.", addition.of, attempt.portal)

    def write(lease: Lease, digest: str) -> Flow[int]:
        return payments.add_crm_payment(
            attempt.caller,
            entity_id=addition.entity_id,
            entity_type_id=addition.entity_type_id,
            pay_system_id=addition.pay_system_id,
            lease=lease,
            idempotency=digest,
        )

    sent = attempt.send(write, key=addition.key)
    if sent.doubt is not None:
        return _difference(addition, view, sent, sent.doubt, on_unknown), "difference"
    payment_id = int(sent.answer)
    if any(payment.id == payment_id for payment in view.payments):
        text = f"the id {payment_id}, which is that of a payment that was there before"
        doubt = Bitrix24OutcomeUnknown("crm.item.payment.add", answered=True, text=text)
        return _difference(addition, view, sent, doubt, on_unknown), "difference"
    attempt.log.info("The portal added payment %s to %s; reading it back.", payment_id, addition.of)
    try:
        listed = attempt.find(lambda: addition.list(payment_id), bool, sent)
    except Unreadable as error:
        trouble = f"it could not be read afterwards ({error})"
    else:
        if listed:
            return listed[0], "answer"
        trouble = "the portal does not show it among the object's payments"
    raise PaymentNotApplied(
        f"The portal answered that payment {payment_id} was added to {addition.of}, but {trouble}. Look at the "
        f"payments of {addition.of} in Bitrix24: if payment {payment_id} is there, go on with it; add another one only "
        "if it is not."
    )


def _difference(
    addition: Addition,
    view: ObjectView,
    sent: Sent,
    doubt: Bitrix24OutcomeUnknown,
    on_unknown: Literal["fail", "adopt"],
) -> Payment:
    """Judge what appeared on the object after an answer that was lost or unclear.

    Everything that appears is waited for, so the reads only end when nothing can still arrive.
    """
    before = {payment.id for payment in view.payments}
    latest: list[Payment] = []

    def never(listed: list[Payment]) -> bool:
        latest[:] = [payment for payment in listed if payment.id not in before]
        return False

    try:
        addition.attempt.find(addition.list, never, sent)
    except Unreadable as error:
        trouble = str(error)
    else:
        return _judge_difference(addition, latest, doubt, on_unknown)
    raise Bitrix24OutcomeUnknown(
        doubt.method,
        doubt.answered,
        doubt.code,
        doubt.text,
        f"{answer_words(doubt)} when a payment was added to {addition.of}, and the portal could not be read afterwards "
        f"({trouble}): a payment may have been added. Nothing is sent again by itself. {_what_to_do(addition)}",
    )


def _judge_difference(
    addition: Addition, new: list[Payment], doubt: Bitrix24OutcomeUnknown, on_unknown: Literal["fail", "adopt"]
) -> Payment:
    if not new:
        _nothing_new(addition, doubt)
    listed = ", ".join(f"{payment.id} over {payment.money}" for payment in new)
    candidates = tuple(payment.id for payment in new)
    if len(new) > 1:
        raise PaymentAmbiguous(
            f"{answer_words(doubt)} when a payment was added to {addition.of}, and {len(new)} new payments are there: "
            f"{listed}. At most one of them is ours, and nothing proves which. Nothing is sent again by itself. "
            f"{_what_to_do(addition)}",
            candidates,
        )
    strange = _why_not_ours(new[0])
    if strange:
        raise PaymentAmbiguous(
            f"{answer_words(doubt)} when a payment was added to {addition.of}. One new payment is there, {listed}, but "
            f"it cannot be the one this task sent, or somebody is at work on it already: it is {strange}, and a "
            "payment of ours is added unpaid and over 0. It is left alone, whatever on_unknown says. Nothing is sent "
            f"again by itself. {_what_to_do(addition)}",
            candidates,
        )
    if on_unknown == "adopt":
        addition.attempt.log.warning(
            "%s when a payment was added to %s. Exactly one new payment is there, %s: it is taken for ours, because "
            "on_unknown='adopt' vouches that nobody else adds payments to this object meanwhile.",
            answer_words(doubt),
            addition.of,
            listed,
        )
        return new[0]
    raise PaymentAmbiguous(
        f"{answer_words(doubt)} when a payment was added to {addition.of}. One new payment is there, {listed}: "
        "probably ours, but somebody else may have added it. Nothing is sent again by itself. "
        f"{_what_to_do(addition)} Where nobody else adds payments to such objects, on_unknown='adopt' takes it.",
        candidates,
    )


def _why_not_ours(payment: Payment) -> str:
    """What a payment that we have just added cannot be; empty if it may be ours, whatever its pay system."""
    not_ours = [*(["paid"] if payment.paid else []), *([f"over {payment.money}"] if payment.money.amount else [])]
    return " and ".join(not_ours)


def _nothing_new(addition: Addition, doubt: Bitrix24OutcomeUnknown) -> NoReturn:
    if doubt.answered:
        raise PaymentNotApplied(
            f"{answer_words(doubt)} when a payment was added to {addition.of}, and does not show a new payment: either "
            "it did nothing with the call, or somebody deleted the payment meanwhile. What to do depends on the "
            "portal's words; nothing is sent again by itself."
        )
    raise Bitrix24OutcomeUnknown(
        doubt.method,
        False,
        doubt.code,
        doubt.text,
        f"{answer_words(doubt)} when a payment was added to {addition.of}, and does not show a new payment, read twice "
        "after everything that was sent must have ended: either none was added, or somebody deleted it meanwhile. "
        f"Nothing is sent again by itself. {_what_to_do(addition)}",
    )


def _what_to_do(addition: Addition) -> str:
    return (
        f"What to do: look at the payments of {addition.of} in Bitrix24. If the payment is there, go on with it by "
        "hand; if not, start a new run of the DAG."
    )
