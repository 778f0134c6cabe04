"""Read what was paid since a moment, and remember what has been reported.

Payments have no "changed at": what is watched is the date on which they were marked as paid. Both list methods drop a
filter that they do not understand, and return everything; so each row is compared with what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_bitrix24.api.models import Invoice, Payment
from airflow_provider_bitrix24.api.paging import row_id
from airflow_provider_bitrix24.api.payments import read
from airflow_provider_bitrix24.api.reading import ListReader
from airflow_provider_bitrix24.exceptions import Bitrix24NoAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow

Kind = Literal["payment", "invoice"]
OVERLAP: Final = timedelta(seconds=120)
"""How long after its date a paid row may appear: the portal writes the date before it commits, in whole seconds."""
_DAY: Final = timedelta(days=1)
"""A row that is older than asked for by more than this proves that the filter was dropped."""


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment or an invoice that was marked as paid."""

    id: int
    at: datetime
    """When, by the portal."""
    pay_system_id: int | None
    item: Mapping[str, Any]
    """What is reported: JSON, without data of the customer."""

    @property
    def mark(self) -> tuple[int, str]:
        """What tells this mark from an earlier one: a payment may be set back to unpaid and paid again."""
        return self.id, self.at.isoformat()


@dataclass(frozen=True, slots=True)
class PaidRows:
    """What was read at once."""

    rows: tuple[Paid, ...]
    at: datetime | None
    """When the portal began to answer, by its clock."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to when everything has been reported, and what of the overlap has been."""

    since: datetime
    seen: frozenset[tuple[int, str]] = frozenset()

    @property
    def read_from(self) -> datetime:
        """The date from which on rows must be read again."""
        return self.since - OVERLAP

    def advance(self, read: PaidRows) -> tuple[list[Paid], Cursor]:
        """Return what was not reported before, and where to go on.

        A date may lie in the future, because a person or a gateway can give it: the portal's clock moves the cursor.
        """
        mine = [row for row in read.rows if row.at >= self.read_from]
        since = self.since if read.at is None else max(self.since, read.at)
        seen = frozenset(row.mark for row in mine if row.at >= since - OVERLAP)
        return [row for row in mine if row.mark not in self.seen], Cursor(since, seen)

    def dump(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"v": 1, "since": self.since.isoformat(), "seen": sorted(map(list, self.seen))}

    @classmethod
    def load(cls, stored: Any) -> Cursor:
        """Read it from JSON.

        :raises ValueError: it is not what `dump` has returned.
        """
        try:
            version, since = stored["v"], datetime.fromisoformat(stored["since"])
            seen = frozenset((int(number), str(at)) for number, at in stored["seen"])
        except (KeyError, TypeError, ValueError):
            version, since, seen = None, datetime.min.replace(tzinfo=UTC), frozenset()
        if version != 1 or since.tzinfo is None:
            raise ValueError(f"The stored cursor is not of this version's form: {stored!r}")
        return cls(since, seen)


def read_paid_since(client: ApiClient, kind: Kind, since: datetime) -> Flow[PaidRows]:
    """Read all payments or legacy invoices that were marked as paid since a moment.

    :raises Bitrix24NoAnswer: among others if the portal has ignored the filter.
    """
    method = "sale.payment.list" if kind == "payment" else "crm.invoice.list"
    reader = ListReader(method, _asked(kind, since))
    found: list[Paid] = []
    while not reader.done:
        rows = yield from reader.read(client)
        found += _paid(method, kind, since, rows)
    return PaidRows(tuple(found), reader.began_at)


def _asked(kind: Kind, since: datetime) -> dict[str, Any]:
    moment = since.isoformat(timespec="seconds")
    if kind == "payment":
        return {"filter": {"=paid": "Y", ">=datePaid": moment}}
    return {"filter": {"=PAYED": "Y", ">=DATE_PAYED": moment}, "select": list(Invoice.FIELDS)}


def _paid(method: str, kind: Kind, since: datetime, rows: Iterable[Mapping[str, Any]]) -> list[Paid]:
    """Convert rows, and check that each was asked for."""
    found: list[Paid] = []
    for row in rows:
        thing: Payment | Invoice
        thing = read(method, Payment.from_wire, row) if kind == "payment" else read(method, Invoice.from_wire, row)
        if not thing.paid or thing.paid_at is None:
            raise Bitrix24NoAnswer(method, f"row {thing.id} is not paid, or does not say when; the filter was ignored")
        if thing.paid_at < since - _DAY:
            raise Bitrix24NoAnswer(method, f"row {thing.id} was paid at {thing.paid_at}; the filter was ignored")
        order = {"order_id": row_id(row, "orderId")} if kind == "payment" else {"account_number": thing.account_number}
        item = {
            f"{kind}_id": thing.id,
            **order,
            "amount": thing.money.amount_text,
            "currency": thing.money.currency,
            "paid_at": thing.paid_at.isoformat(),
            "paid_by_id": thing.paid_by_id,
            "pay_system_id": thing.pay_system_id,
        }
        found.append(Paid(thing.id, thing.paid_at, thing.pay_system_id, item))
    return found
