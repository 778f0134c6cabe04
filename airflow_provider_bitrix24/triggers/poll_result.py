"""What one look at the portal means: paid, keep waiting, or never to be paid. Read by sensors and by triggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24NotFound

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.models import Invoice, Payment


class Reason(StrEnum):
    """Why a wait ends or goes on; crosses the database between triggerer and worker, so values never change."""

    PAID = "paid"
    MET = "met"
    WAITING = "waiting"
    DELETED = "deleted"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNREADABLE = "unreadable"
    REFUSED = "refused"

    @property
    def hopeless(self) -> bool:
        """Whether waiting longer, or trying again, cannot help."""
        return self in (Reason.DELETED, Reason.CANCELLED, Reason.DECLINED, Reason.FAILED, Reason.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollResult:
    """The meaning of one look.

    :param reason: machine-readable.
    :param message: the same for a person.
    :param items: one plain dictionary for each id, in the order asked for; only when everything is paid.
    """

    reason: Reason
    message: str
    items: list[dict[str, Any]] = field(default_factory=list)

    def as_event(self) -> dict[str, Any]:
        """Return what a trigger reports: JSON, without a secret."""
        return {"reason": self.reason.value, "message": self.message, "items": self.items}

    @classmethod
    def from_event(cls, event: Any, *, id_field: str, ids: Sequence[int]) -> PollResult:
        """Take a trigger's event apart again.

        :raises ValueError: it is not an event of ours for just these ids; a trigger of another version may have sent
            it.
        """
        if not isinstance(event, Mapping):
            event = {}
        try:
            result = cls(reason=Reason(event["reason"]), message=str(event["message"]), items=list(event["items"]))
            confirmed = [item[id_field] for item in result.items if item["paid"] is True]
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"The trigger's event is not of this version's form: {event!r}. Nothing is decided."
            ) from None
        if result.reason is Reason.WAITING or (result.reason is Reason.PAID and confirmed != list(ids)):
            raise ValueError(f"The trigger's event does not answer for {id_field} {list(ids)}: {event!r}.")
        return result


def evaluate_invoices(ids: Sequence[int], found: Mapping[int, Invoice | Bitrix24Error]) -> PollResult:
    """Judge legacy invoices: one that was deleted, cancelled or declined will not be paid.

    :param found: by id; what is missing does not exist, an error is why it could not be read.
    :raises Bitrix24Error: one of them could not be read.
    """
    invoices: dict[int, Invoice] = {}
    for invoice_id in ids:
        invoice = found.get(invoice_id)
        if isinstance(invoice, Bitrix24Error):
            raise invoice.with_traceback(None)  # it may be raised in many triggers
        if invoice is None:
            return PollResult(
                reason=Reason.DELETED,
                message=f"Invoice {invoice_id} is not among the legacy invoices that this connection can see: it was "
                "deleted, or there never was one with this id, or its user may not read it, or the number is a smart "
                "invoice's (those have payments: use CrmPaymentPaidSensor). Waiting for it would not end.",
            )
        invoices[invoice_id] = invoice
        if invoice.paid:
            continue
        if invoice.cancelled:
            return PollResult(
                reason=Reason.CANCELLED, message=f"Invoice {invoice_id} was cancelled; it will not be paid."
            )
        if invoice.declined:
            return PollResult(
                reason=Reason.DECLINED, message=f"Invoice {invoice_id} was declined; it will not be paid."
            )
    return _paid_or_waiting("invoice_id", "invoice", invoices)


def evaluate_payments(ids: Sequence[int], found: Mapping[int, Payment | Bitrix24Error], where: str = "") -> PollResult:
    """Judge payments of CRM objects: one that was deleted will not be paid.

    :param found: by id; what is missing was not listed, an error is what the portal said to that id.
    :param where: " of deal 1", if only one object's payments were looked at.
    :raises Bitrix24Error: one of them could not be read.
    """
    payments: dict[int, Payment] = {}
    for payment_id in ids:
        payment = found.get(payment_id)
        if payment is None or isinstance(payment, Bitrix24NotFound):
            elsewhere = ", or it belongs to another object" if where else ", or it is the payment of a legacy invoice"
            return PollResult(
                reason=Reason.DELETED,
                message=f"Payment {payment_id} is not among the payments{where} that this connection can see: it was "
                f"deleted, or there never was one with this id{elsewhere}. Waiting for it would not end.",
            )
        if isinstance(payment, Bitrix24Error):
            raise payment.with_traceback(None)  # it may be raised in many triggers
        payments[payment_id] = payment
    return _paid_or_waiting("payment_id", "payment", payments)


def evaluate_failure(error: Bitrix24Error, *, failures: int, allowed: int | None) -> PollResult:
    """Judge a look that failed: a final error ends the wait, a passing one only when it has passed too often.

    :param failures: in a row, this one included.
    :param allowed: how many are; None for any number.
    """
    if error.final:
        return PollResult(reason=Reason.REFUSED, message=f"{type(error).__name__}: {error}")
    message = f"Look {failures} in a row failed: {type(error).__name__}: {error.reason}"
    if allowed is not None and failures > allowed:
        return PollResult(reason=Reason.UNREADABLE, message=message)
    return PollResult(reason=Reason.WAITING, message=message)


def _count(number: int, what: str) -> str:
    """``1 payment``, ``2 payments``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _paid_or_waiting(id_field: str, what: str, found: Mapping[int, Invoice | Payment]) -> PollResult:
    waiting = [number for number, thing in found.items() if not thing.paid]
    if waiting:
        listed = ", ".join(map(str, waiting[:20])) + (" ..." if len(waiting) > 20 else "")
        unpaid = "is" if len(waiting) == 1 else "are"
        return PollResult(
            reason=Reason.WAITING, message=f"{len(waiting)} of {_count(len(found), what)} {unpaid} unpaid: {listed}"
        )
    items = [
        {
            id_field: number,
            "paid": True,
            "amount": thing.money.amount_text,
            "currency": thing.money.currency,
            "paid_at": thing.paid_at.isoformat() if thing.paid_at else None,
            "paid_by_id": thing.paid_by_id,
        }
        for number, thing in found.items()
    ]
    return PollResult(reason=Reason.PAID, message=f"{_count(len(items), what)} paid", items=items)
