"""Complete a payment that is there: give it the tag and the pay system that were asked for, and save the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_update
from airflow_provider_bitrix24.api.calls.sale import sale_payment_update
from airflow_provider_bitrix24.api.queries import CandidatePayments, PaymentsOfObject
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.engine import carry_out
from airflow_provider_bitrix24.at_most_once.next_step import Step
from airflow_provider_bitrix24.at_most_once.operations.filling import Filling
from airflow_provider_bitrix24.at_most_once.write import SETTING, PortalUnreadable, Write, step_key
from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24StoreError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
    PaymentUnresolved,
)

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.add_write import AddWrite
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt


def complete(add: AddWrite, payment: Payment) -> Course[Receipt]:
    """Give the payment what was asked for, as far as it does not have it, and save that it is done.

    :raises PaymentNotApplied: the payment is there and cannot be completed.
    :raises PaymentMismatch: the portal keeps something else than was asked for.
    :raises PaymentUnresolved: the portal is in trouble now, and the next attempt goes on.
    """
    attempt = add.attempt
    mismatch = passing = False
    try:
        if add.tag is not None:
            yield from _tag(add, payment, add.tag)
        if add.pay_system_id is not None and add.pay_system_id != payment.pay_system_id:
            payment = yield from _correct_pay_system(add, payment, add.pay_system_id)
        if attempt.record.plan:
            payment = yield from Filling(add, payment).run()
        recovered = attempt.found and not attempt.sent_now
        receipt = add.receipt(payment, outcome="created" if add.is_ours else "existing", recovered=recovered)
        return (yield from attempt.finish(receipt))
    except (Bitrix24StoreError, PaymentInProgress, PaymentAmbiguous, PaymentRefused):
        raise
    except (PaymentMismatch, PaymentNotApplied) as error:
        mismatch, trouble = isinstance(error, PaymentMismatch), str(error)
    except Bitrix24Error as error:
        trouble, passing = error.reason, not error.final
    except PortalUnreadable as error:
        trouble, passing = f"it could not be read ({error})", True
    happened = messages.incomplete(payment.id, add.of, trouble, is_ours=add.is_ours)
    if passing and attempt.journal.durable:
        raise PaymentUnresolved(messages.incomplete_in_journal(happened, attempt.journal.name))
    message = messages.complete_by_hand(happened)
    raise PaymentMismatch(message) if mismatch else PaymentNotApplied(message)


def refuse_unreadable(write: Write) -> None:
    """Raise if the outcome of a step could not be read.

    :raises PortalUnreadable: always then.
    """
    if write.watch is not None and write.watch.trouble is not None:
        raise PortalUnreadable(write.watch.trouble)


class TagWrite(Write):
    """The payment gets its tag."""

    policy = SETTING
    method = "sale.payment.update"

    def __init__(self, add: AddWrite, payment: Payment, tag: str) -> None:
        super().__init__(add.attempt, step_key(add.attempt, payment.id, "tag"), "tag")
        self.add = add
        self.payment = payment
        self.text = tag

    def call(self) -> Call[Any]:
        """The call; an update must repeat the pay system."""
        fields = {"paySystemId": self.payment.pay_system_id or 0, "xmlId": self.text}
        return sale_payment_update(id=self.payment.id, fields=fields)

    def look(self) -> Course[None]:
        """Read who carries the tag."""
        yield from self.take((yield from self.attempt.look(self.query())))

    def query(self) -> Query[Any]:
        """Read who carries the tag."""
        return CandidatePayments(
            entity_id=self.add.entity_id,
            entity_type_id=self.add.entity_type_id,
            user_id=self.add.user_id,
            since=0,
            until=0,
            tag=self.text,
        )

    def shows(self, found: Shown) -> bool:
        """Whether the payment carries it."""
        return self.payment.id in found.tagged

    def take(self, found: Shown) -> Course[None]:
        """Check that no other payment carries it.

        :raises PaymentMismatch: others do, so that something has sent our request more than once.
        """
        record = self.attempt.record
        decided = {one for decision in record.decisions_carried_out for one in decision.candidates}
        others = sorted((found.tagged | found.tagged_elsewhere) - {self.payment.id, *record.dismissed, *decided})
        if others:  # rule: one too many with our tag is noticed
            raise PaymentMismatch(messages.tag_on_others(others))
        self.shown = self.shows(found)
        yield from ()


class PaySystemWrite(Write):
    """The payment gets the pay system that was asked for, where the portal chose another one."""

    policy = SETTING
    method = "crm.item.payment.update"

    def __init__(self, add: AddWrite, payment: Payment, wanted: int) -> None:
        step = f"pay_system {wanted}"
        super().__init__(add.attempt, step_key(add.attempt, payment.id, step), step)
        self.add = add
        self.payment = payment
        self.wanted = wanted

    def call(self) -> Call[Any]:
        """The call."""
        return crm_item_payment_update(id=self.payment.id, fields={"paySystemId": self.wanted})

    def look(self) -> Course[None]:
        """Read the payment; the pay system of one that is paid stays.

        :raises PaymentMismatch: it is paid by now.
        """
        found = yield from self.attempt.look(self.query())
        if any(one.paid for one in found):
            raise PaymentMismatch(messages.paid_with_pay_system(found[0].pay_system_id, self.wanted))

    def query(self) -> Query[Any]:
        """Read the payment."""
        return PaymentsOfObject(
            entity_id=self.add.entity_id, entity_type_id=self.add.entity_type_id, payment_ids=(self.payment.id,)
        )

    def shows(self, found: list[Payment]) -> bool:
        """Whether it has the pay system."""
        return any(one.pay_system_id == self.wanted for one in found)

    def take(self, found: list[Payment]) -> Course[None]:
        """It has the pay system."""
        self.payment, self.shown = found[0], True
        yield from ()


def _tag(add: AddWrite, payment: Payment, tag: str) -> Course[None]:
    """Make sure that the payment carries the tag, which was sent together with it."""
    write = TagWrite(add, payment, tag)
    yield from write.look()
    if (yield from carry_out(add.attempt, write)) is not Step.DONE:
        refuse_unreadable(write)
        raise PaymentMismatch(messages.not_tagged(write.doubt))


def _correct_pay_system(add: AddWrite, payment: Payment, wanted: int) -> Course[Payment]:
    """Change the pay system that the portal chose to the one that was asked for."""
    add.attempt.log.info(
        "The portal gave payment %s pay system %s; changing it to %s.", payment.id, payment.pay_system_id, wanted
    )
    write = PaySystemWrite(add, payment, wanted)
    if (yield from carry_out(add.attempt, write)) is not Step.DONE:
        refuse_unreadable(write)
        raise PaymentMismatch(messages.keeps_pay_system(payment, wanted, write.doubt))
    return write.payment
