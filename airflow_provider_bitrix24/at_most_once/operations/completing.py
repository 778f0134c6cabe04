"""Complete a payment that is there: give it the tag and the pay system that were asked for, and save the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_update
from airflow_provider_bitrix24.api.calls.sale import sale_payment_update
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.filling import Filling
from airflow_provider_bitrix24.at_most_once.operations.step_write import StepWrite
from airflow_provider_bitrix24.at_most_once.write import PortalUnreadable
from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24RateLimited,
    Bitrix24StoreError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
    PaymentUnresolved,
)

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.add_write import AddWrite
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt


def complete(add: AddWrite, payment: Payment) -> Course[Receipt]:
    """Give the payment what was asked for, as far as it does not have it, and save that it is done.

    :raises PaymentNotApplied: the payment is there and cannot be completed.
    :raises PaymentMismatch: the portal keeps something else than was asked for; or other parameters are wanted now.
    :raises PaymentUnresolved: the portal is in trouble now, and the next attempt goes on.
    :raises Bitrix24RateLimited: the portal's working-time limit is reached, and the journal lets the task go on later.
    """
    attempt = add.attempt
    mismatch = passing = False
    try:
        receipt = yield from _with_waits(add, payment)
    except (Bitrix24StoreError, PaymentInProgress, PaymentAmbiguous, PaymentRefused):
        raise
    except (PaymentMismatch, PaymentNotApplied) as error:
        mismatch, trouble = isinstance(error, PaymentMismatch), str(error)
    except Bitrix24Error as error:
        if attempt.journal.durable and error.is_time_limit:  # rule: a time limit of a step is that of the operation
            raise
        trouble, passing = error.reason, not error.final
    except PortalUnreadable as error:
        trouble, passing = f"it could not be read ({error})", True
    else:
        attempt.refuse_other_parameters(f"Payment {payment.id} was added for it and is there.")
        return receipt
    happened = messages.incomplete(payment.id, add.subject, trouble, is_ours=add.is_ours)
    if passing and attempt.journal.durable:
        raise PaymentUnresolved(messages.in_journal(happened, attempt.journal.name))
    message = messages.complete_by_hand(happened)
    raise PaymentMismatch(message) if mismatch else PaymentNotApplied(message)


def _with_waits(add: AddWrite, payment: Payment) -> Course[Receipt]:
    """Complete the payment; without a journal, wait on the worker while the portal's working-time limit is reached.

    A later attempt would not know the payment, so it must be completed now. What the portal refused for that limit was
    not executed.
    """
    while True:
        try:
            return (yield from _complete(add, payment))
        except Bitrix24RateLimited as error:
            # rule: without a journal, a step that the time limit refused is waited for
            if not (yield from add.attempt.wait_for_time_limit(error)):
                raise


def _complete(add: AddWrite, payment: Payment) -> Course[Receipt]:
    """Do what is missing; what is done already is left as it is."""
    attempt = add.attempt
    if add.tag is not None:
        yield from _tag(add, payment, add.tag)
    if add.asked.pay_system_id is not None and add.asked.pay_system_id != payment.pay_system_id:
        payment = yield from _correct_pay_system(add, payment, add.asked.pay_system_id)
    if attempt.record.plan:
        payment = yield from Filling(add, payment).run()
    recovered = attempt.resumes and not attempt.sent_now
    receipt = add.receipt(payment, outcome="created" if add.is_ours else "existing", recovered=recovered)
    yield from attempt.finish(receipt)
    return receipt


class TagWrite(StepWrite):
    """The payment gets its tag."""

    def __init__(self, add: AddWrite, payment: Payment, tag: str) -> None:
        # An update must repeat the pay system.
        fields = {"paySystemId": payment.pay_system_id or 0, "xmlId": tag}
        query = add.asked.candidates(tag)
        super().__init__(add.attempt, payment.id, "tag", sale_payment_update(id=payment.id, fields=fields), query)
        self.payment_id = payment.id

    def shows(self, found: Shown) -> bool:
        """Whether the payment carries it."""
        return self.payment_id in found.tagged

    def check(self, found: Shown) -> None:
        """Refuse if other payments carry it: something has sent our request more than once."""
        record = self.attempt.record
        decided = {one for decision in record.decisions_carried_out for one in decision.candidates}
        others = sorted((found.tagged | found.tagged_elsewhere) - {self.payment_id, *record.dismissed, *decided})
        if others:  # rule: one too many with our tag is noticed
            raise PaymentMismatch(messages.tag_on_others(others))


class PaySystemWrite(StepWrite):
    """The payment gets the pay system that was asked for, where the portal chose another one."""

    def __init__(self, add: AddWrite, payment: Payment, wanted: int) -> None:
        call = crm_item_payment_update(id=payment.id, fields={"paySystemId": wanted})
        query = add.asked.payments(payment.id)
        super().__init__(add.attempt, payment.id, f"pay_system {wanted}", call, query)
        self.payment = payment
        self.wanted = wanted

    def shows(self, found: list[Payment]) -> bool:
        """Whether it has the pay system."""
        return any(one.pay_system_id == self.wanted for one in found)

    def check(self, found: list[Payment]) -> None:
        """Refuse if it was paid with the other one, which stays then."""
        if any(one.paid for one in found) and not self.shows(found):
            raise PaymentMismatch(messages.paid_with_pay_system(found[0].pay_system_id, self.wanted))
        self.payment = next(iter(found), self.payment)


def _tag(add: AddWrite, payment: Payment, tag: str) -> Course[None]:
    """Make sure that the payment carries the tag, which was sent together with it and read with it."""
    write = TagWrite(add, payment, tag)
    write.judge(add.tags)
    if not (yield from write.run()):
        raise PaymentMismatch(messages.not_tagged(write.doubt))


def _correct_pay_system(add: AddWrite, payment: Payment, wanted: int) -> Course[Payment]:
    """Change the pay system that the portal chose to the one that was asked for."""
    add.attempt.log.info(
        "The portal gave payment %s pay system %s; changing it to %s.", payment.id, payment.pay_system_id, wanted
    )
    write = PaySystemWrite(add, payment, wanted)
    if not (yield from write.run()):
        raise PaymentMismatch(messages.keeps_pay_system(payment, wanted, write.doubt))
    return write.payment
