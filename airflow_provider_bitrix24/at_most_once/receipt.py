"""What is expected of the money, and the receipt of the outcome."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import pendulum

from airflow_provider_bitrix24.api.models import Money
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.exceptions import NOT_SENT, Denial, PaymentMismatch

Outcome: TypeAlias = Literal[
    "paid", "already_paid", "created", "existing", "unpaid", "already_unpaid", "deleted", "already_deleted"
]
SUBJECTS: Final = ("invoice_id", "payment_id", "entity_type_id", "entity_id")
"""The names of ids in receipts."""

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.at_most_once.record import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the author of the DAG expects; None is not compared."""

    amount: Decimal | None = None
    currency: str | None = None

    def check(self, money: Money, *, what: str, happened: str | Denial = NOT_SENT, already: str = "") -> None:
        """Compare.

        :param what: the thing, for the message: "Invoice 2".
        :param happened: whether anything was recorded.
        :param already: what the portal showed before anything was sent, as a sentence.
        :raises PaymentMismatch: it is other money.
        """
        if not self.fits(money):
            wanted = self._instead_of(money)
            raise PaymentMismatch(messages.other_money(what, money, wanted), *filter(None, (already, happened)))

    def fits(self, money: Money) -> bool:
        """Whether the money is what is expected."""
        return self._instead_of(money).same_as(money)

    def _instead_of(self, money: Money) -> Money:
        return Money(
            money.amount if self.amount is None else self.amount,
            money.currency if self.currency is None else self.currency,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The outcome of one attempt that succeeded.

    :param sent: whether this attempt sent the write; not part of the receipt on paper.
    :param by_our_user: whether it was paid by the user that we act as; not part of it either.
    :param forgotten: whether the journal has lost what earlier attempts have sent; nor is this.
    """

    operation: str
    outcome: Outcome
    portal: str
    subject: Mapping[str, int]
    """The ids, by name."""
    pay_system_id: int | None
    money: Money
    paid_at: pendulum.DateTime | None
    idempotency_key: str
    evidence: Evidence
    """``response``: the portal replied and shows it. ``tag``: it carries the tag of this key. ``only_new_payment``: it
    is the only one that appeared, and nothing else of ours explains it. ``portal_state``: only what the portal shows
    says so. ``person``: a person has decided it."""
    sent: bool
    recovered: bool = False
    """Whether an earlier attempt sent it, and this one found it."""
    by_our_user: bool = False
    forgotten: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as plain JSON, money and times as strings."""
        times = {"paid_at": self.paid_at.isoformat() if self.paid_at else None}
        return {
            "operation": self.operation,
            "outcome": self.outcome,
            "portal": self.portal,
            **self.subject,
            "pay_system_id": self.pay_system_id,
            "amount": self.money.amount_text,
            "currency": self.money.currency,
            **(times if self.operation.startswith("pay_") else {}),
            "idempotency_key": self.idempotency_key,
            "evidence": self.evidence,
            "recovered": self.recovered,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any], *, recovered: bool) -> Receipt:
        """Read what :meth:`as_dict` has made in an earlier attempt.

        :param recovered: whether an earlier attempt sent the write.
        :raises KeyError: it is something else.
        :raises TypeError: the same.
        :raises ValueError: the same.
        :raises ArithmeticError: the same.
        """
        paid_at = document.get("paid_at")
        return cls(
            operation=document["operation"],
            outcome=document["outcome"],
            portal=document["portal"],
            subject={name: int(document[name]) for name in document if name in SUBJECTS},
            pay_system_id=document["pay_system_id"],
            money=Money(Decimal(document["amount"]), document["currency"]),
            paid_at=None if paid_at is None else pendulum.instance(datetime.fromisoformat(paid_at)),
            idempotency_key=document["idempotency_key"],
            evidence=document["evidence"],
            sent=False,
            recovered=recovered,
        )
