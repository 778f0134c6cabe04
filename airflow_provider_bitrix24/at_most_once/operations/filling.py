"""Put product rows into a payment, each at most once, and check what it holds then."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.calls.payments import crm_item_payment_product_add
from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.api.queries import ContentsOfPayment
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.step_write import StepWrite
from airflow_provider_bitrix24.at_most_once.write import PRODUCT_ROW, after_reply, find
from airflow_provider_bitrix24.exceptions import Bitrix24PermissionError, PaymentMismatch, PaymentNotApplied

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.products import Contents
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.add_write import AddWrite
    from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown


class Filling:
    """Put the product rows into the payment."""

    def __init__(self, add: AddWrite, payment: Payment) -> None:
        self.add = add
        self.attempt = add.attempt
        self.payment_id = payment.id
        self.rows = {int(row_id): quantity for row_id, quantity in add.attempt.record.plan.items()}
        """Quantity by product row."""
        self.amount = payment.money.amount
        """What the payment was for when it was read."""
        self.inside: set[int] = set()
        """The product rows that were in it then."""

    def run(self) -> Course[Payment]:
        """Do it.

        :return: the payment as it is then.
        :raises PaymentMismatch: the payment is not as wanted, or somebody else is at work on it.
        :raises PaymentNotApplied: a row is not in it, although the portal has replied.
        """
        record = self.attempt.record
        begun = any(name.startswith("row ") for name in record.steps)
        if begun or record.evidence != "response":
            found = yield from self.read_contents()
            if not begun:
                self._refuse_if_touched(found)
            elif found.payment.paid and not self.rows.keys() <= self.inside:
                raise self.paid_meanwhile(found.payment)
        self.refuse_above_limit()
        for row_id, quantity in self.rows.items():
            if row_id not in self.inside:
                yield from self._put(RowWrite(self, row_id, quantity))
        query = ContentsOfPayment(payment_id=self.payment_id)
        contents = yield from find(self.attempt, after_reply(self.attempt), query, self._is_full)
        if contents is None:
            raise PaymentMismatch(messages.not_all_rows(self.rows))
        limit = self.add.wanted.max_amount
        if limit is not None and contents.payment.money.exceeds(limit):
            raise PaymentMismatch(messages.filled_above_the_limit(contents.payment.money, limit))
        return contents.payment

    def _is_full(self, contents: Contents) -> bool:
        complete = all(contents.quantities.get(row_id) == quantity for row_id, quantity in self.rows.items())
        return complete and contents.payment.money.is_positive

    def read_contents(self) -> Course[Contents]:
        """Read the rows in the payment, and the present prices of the rows that are still to be added."""
        owner = self.add.asked.entity_type_id, self.add.asked.entity_id
        found = yield from self.attempt.look(ContentsOfPayment(payment_id=self.payment_id, prices_of=owner))
        self.amount, self.inside = found.payment.money.amount, set(found.quantities)
        self.add.prices = {row.id: row.price for row in found.available}
        return found

    def refuse_above_limit(self) -> None:
        """Refuse to put in what has become too expensive since it was planned.

        :raises PaymentMismatch: it has.
        """
        missing = {row_id: many for row_id, many in self.rows.items() if row_id not in self.inside}
        total = sum((self.add.prices.get(row_id, Decimal(0)) * many for row_id, many in missing.items()), self.amount)
        limit = self.add.wanted.max_amount
        if missing and limit is not None and Money(total, "").exceeds(limit):
            raise PaymentMismatch(messages.would_be_above_the_limit(total, limit))

    def paid_meanwhile(self, payment: Payment) -> PaymentMismatch:
        """The error for a payment that is paid before all rows are in it."""
        missing = [row_id for row_id in self.rows if row_id not in self.inside]
        return PaymentMismatch(messages.paid_before_filled(payment.money, missing))

    def _refuse_if_touched(self, found: Contents) -> None:
        """Refuse to write into a payment of which no reply says that we added it, if somebody is at work on it."""
        partly_in = sorted(found.quantities.keys() & self.rows.keys())
        if found.payment.paid or not found.payment.money.is_zero or partly_in:
            raise PaymentMismatch(messages.somebody_fills_it(found.payment, partly_in))

    def _put(self, write: RowWrite) -> Course[None]:
        """Put one row in. What is proved to be absent after a lost reply is sent once more, then it is over."""
        try:
            done = yield from write.run()
        except Bitrix24PermissionError as error:
            refused = error
        else:
            if done:
                return
            yield from write.report()
            watch, by = write.watch or write.watch_earlier(), write.last.by if write.last else ""
            may_be_sent = write.times < PRODUCT_ROW.sends
            raise PaymentNotApplied(
                messages.row_is_not_in(write.what, watch.doubt, by, write.times, may_be_sent=may_be_sent)
            )
        # A payment that is paid by now is no longer to be changed, which the portal calls a right that is missing.
        found = yield from self.read_contents()
        raise self.paid_meanwhile(found.payment) if found.payment.paid else refused


class RowWrite(StepWrite):
    """One product row is put in."""

    policy = PRODUCT_ROW

    def __init__(self, filling: Filling, row_id: int, quantity: int) -> None:
        payment_id = filling.payment_id
        call = crm_item_payment_product_add(payment_id=payment_id, row_id=row_id, quantity=quantity)
        super().__init__(filling.attempt, payment_id, f"row {row_id}", call, ContentsOfPayment(payment_id=payment_id))
        self.filling = filling
        self.row_id = row_id
        self.quantity = quantity

    @property
    def what(self) -> str:
        """The row, for messages."""
        return f"product row {self.row_id} x {self.quantity}"

    def look(self) -> Course[None]:
        """Read the payment and its rows again.

        :raises PaymentMismatch: it is paid by now, or the rows have become too expensive.
        """
        found = yield from self.filling.read_contents()
        if found.payment.paid:
            raise self.filling.paid_meanwhile(found.payment)
        self.filling.refuse_above_limit()
        self.shown = self.row_id in self.filling.inside

    def shows(self, found: Contents) -> bool:
        """Whether the row is in it."""
        return self.row_id in found.quantities

    def take(self, found: Contents) -> Course[None]:
        """The row is in it."""
        self.shown = True
        if self.last is not None and self.last.result in ("pending", "inconclusive"):
            yield from self.attempt.keep(self.attempt.record.acknowledged(step=self.step))

    def replied(self, result: Any) -> Course[Bitrix24OutcomeUnknown | None]:
        """Save the reply; what is in the payment is read when all rows are."""
        doubt = yield from super().replied(result)
        self.shown = True
        return doubt
