"""What paying, setting back to unpaid and deleting share: an object is its own key, and comes to a state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_bitrix24.api.models import Invoice, Payment
from airflow_provider_bitrix24.api.queries import OnePayment, PaymentBeforePaying, methods_of
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.operations.key_write import run_attempt
from airflow_provider_bitrix24.at_most_once.operations.state_write import StateWrite
from airflow_provider_bitrix24.at_most_once.receipt import Expected, Receipt
from airflow_provider_bitrix24.exceptions import PaymentRefused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.preflight import PaymentView
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.messages import Wording
    from airflow_provider_bitrix24.at_most_once.receipt import Outcome
    from airflow_provider_bitrix24.at_most_once.record import Parameter

Target: TypeAlias = Invoice | Payment


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is known of the send when it was permitted."""

    pay_system_id: int | None
    why_ignored: str
    """Why the portal may return ``true`` and do nothing."""


@dataclass(frozen=True, kw_only=True)
class StateChange:
    """Bring one object to a state, such as "paid": three requests in the normal case.

    :param portal: the portal's name in keys.
    :param expected: amount and currency, compared before and after.
    :param max_amount: the largest amount of the object.
    """

    portal: str
    expected: Expected = field(default_factory=Expected)
    max_amount: Decimal | None = None

    name: str = field(init=False)
    method: str = field(init=False)
    """REST method."""
    where: str = field(init=False)
    """Where a person looks."""
    words: Wording = field(init=False, default=messages.PAYING)
    """How messages speak of it."""
    outcomes: tuple[Outcome, Outcome] = field(init=False, default=("paid", "already_paid"))
    """Outcome if this key has done it, and if it was so already."""
    undone_by: tuple[str, ...] = field(init=False, default=())
    """Names of the operations that undo it."""
    verb: str = field(init=False, default="")
    """The end of the key, which tells the operations on one object apart."""
    alone: bool = field(init=False, default=False)
    """Whether no other operation is about the same object."""
    needs_shared_journal: bool = field(init=False, default=False)

    @property
    def key(self) -> str:
        """The idempotency key: the object is its own key."""
        return f"{self.portal}:{self.subject.replace(' ', ':')}{self.verb}"

    @property
    def subject(self) -> str:
        """The object: "invoice 2"."""
        raise NotImplementedError

    @property
    def writes(self) -> tuple[str, ...]:
        """The one call."""
        return (self.method,)

    @property
    def reads(self) -> tuple[str, ...]:
        """Before and after it."""
        return methods_of(self.before(), self.after())

    @property
    def ids(self) -> Mapping[str, int]:
        """The ids in the receipt."""
        raise NotImplementedError

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        raise NotImplementedError

    @property
    def what(self) -> str:
        """The object at the beginning of a sentence: "Invoice 2"."""
        return self.subject.capitalize()

    def before(self) -> Query[Any]:
        """Read everything that permits the call."""
        raise NotImplementedError

    def after(self) -> Query[Any]:
        """Read the object."""
        raise NotImplementedError

    def target(self, view: Any) -> Target:
        """The object in what was read before."""
        raise NotImplementedError

    def reached(self, target: Target) -> bool:
        """Whether the object is as it is to be."""
        return target.paid

    def is_ours(self, target: Target, user_id: int, since: float | None) -> bool:
        """Whether who and when say that this key has done it; the portal's times are whole seconds.

        :param user_id: the connection's user.
        :param since: the portal's clock before the first send; None if it did not tell.
        """
        if since is None or target.paid_at is None or target.paid_by_id != user_id:  # rule: who paid
            return False
        return bool(target.paid_at.timestamp() >= int(since))

    def call(self) -> Call[Any]:
        """The call."""
        raise NotImplementedError

    def choose(self, view: Any) -> Chosen:
        """Refuse what must not be done.

        :raises PaymentRefused: nothing was sent by this attempt.
        """
        raise NotImplementedError

    def refuse(self, view: Any) -> Chosen:
        """Refuse other money, what must not be done, and more than the limit.

        :raises PaymentMismatch: it is other money.
        :raises PaymentRefused: it must not be done.
        """
        money = self.target(view).money
        self.expected.check(money, what=self.what)
        chosen = self.choose(view)
        if self.max_amount is not None and money.exceeds(self.max_amount):
            raise PaymentRefused(*messages.above_the_limit(self.what, money, self.max_amount))
        return chosen

    def expects(self, receipt: Receipt) -> bool:
        """Whether it is for the money that is expected."""
        return self.expected.fits(receipt.money)

    def course(self, attempt: Attempt) -> Course[Receipt]:
        """What one attempt does."""
        return run_attempt(StateWrite(attempt, self))


@dataclass(frozen=True, kw_only=True)
class PaymentChange(StateChange):
    """Bring a payment of a deal or smart invoice to a state.

    :param payment_id: the payment.
    """

    payment_id: int

    where: str = field(init=False, default=messages.LOOK_AT_PAYMENT)

    @property
    def subject(self) -> str:
        """The object."""
        return f"payment {self.payment_id}"

    @property
    def ids(self) -> Mapping[str, int]:
        """The ids in the receipt."""
        return {"payment_id": self.payment_id}

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        return self.ids

    def before(self) -> Query[Any]:
        """Read the payment and the connection's user."""
        return PaymentBeforePaying(payment_id=self.payment_id)

    def after(self) -> Query[Any]:
        """Read the payment."""
        return OnePayment(payment_id=self.payment_id)

    def target(self, view: PaymentView) -> Payment:
        """The payment."""
        return view.payment
