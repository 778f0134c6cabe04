"""Wire to Python: payments, invoices, money; Y/N, numbers in strings, empty dates.

What the portal sends is tolerant (numeric strings, empty text for nothing), what these classes hold is exact:
`Decimal`, `int`, `bool`, `pendulum.DateTime`. `from_wire` raises `ValueError` for what cannot be read, and guesses
nothing; what is only shown to people, such as names and times, is empty instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import pendulum
from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf

from airflow_provider_bitrix24.api.values import decimal_number, portal_number, rounded, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)", re.ASCII)
"""With a zone: without one it does not say when that was."""
_CURRENCY_DIGITS = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in a currency."""

    amount: Decimal
    currency: str
    """ISO 4217 code."""

    @property
    def amount_text(self) -> str:
        """The exact amount as plain text with two decimals or more: ``"1500.00"``, ``"0.00"``, ``"0.125"``."""
        digits = max(2, -int(self.amount.normalize().as_tuple().exponent)) if self.amount else 2
        return f"{self.amount:.{digits}f}" if self.amount else "0.00"

    @property
    def tolerance(self) -> Decimal:
        """Half of the currency's smallest unit: the portal keeps up to 8 decimals, whatever the currency."""
        return Decimal(5).scaleb(-_CURRENCY_DIGITS.get(self.currency, 2) - 1)

    def same_as(self, other: Money) -> bool:
        """Whether both are the same money; different currencies never are."""
        return self.currency == other.currency and abs(self.amount - other.amount) < self.tolerance

    @property
    def is_zero(self) -> bool:
        """Whether the amount is 0."""
        return self.amount == 0

    @property
    def is_positive(self) -> bool:
        """Whether the amount is above 0."""
        return self.amount > 0

    def exceeds(self, limit: Decimal) -> bool:
        """Whether the amount, rounded to 6 decimals, is above a limit in the same currency."""
        return rounded(self.amount, 6) > limit

    def as_dict(self) -> dict[str, str]:
        """Return plain JSON, such as ``{"amount": "1500.00", "currency": "EUR"}``."""
        return {"amount": self.amount_text, "currency": self.currency}

    def __str__(self) -> str:
        return f"{self.amount_text} {self.currency}"


def _plain(value: object) -> Any:
    """A value of a model as JSON."""
    if isinstance(value, Money):
        return value.as_dict()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, pendulum.DateTime) else value


def _flag(value: object) -> bool:
    """``"Y"`` and ``"N"``, or a JSON boolean."""
    if isinstance(value, str) and value.strip().upper() in ("Y", "N"):
        return value.strip().upper() == "Y"
    if isinstance(value, bool):
        return value
    raise ValueError(f"neither Y nor N: {shown(value)}")


def _number(value: object) -> int:
    """An id as number or numeric text."""
    number = decimal_number(value)
    if number != int(number):
        raise ValueError(f"not a whole number: {shown(value)}")
    return int(number)


def _number_or_none(value: object) -> int | None:
    """An id, where null, empty text and 0 mean nothing."""
    return None if value in (None, "", 0, "0", False) else _number(value)


def _time_or_none(value: object) -> pendulum.DateTime | None:
    """Return a point in time from ISO 8601 with a time zone, or None if there is none or it has no zone.

    Nothing is refused: a portal may write times in the format of its site, such as 27.11.2026 14:05:00. Without a zone
    it is unknown when that was, and UTC would be a guess.
    """
    if not isinstance(value, str) or _ISO_TIME.fullmatch(value.strip()) is None:
        return None
    try:
        parsed = pendulum.parse(value.strip())
    except ValueError:
        return None
    return parsed if isinstance(parsed, pendulum.DateTime) else None


def _text(value: object) -> str:
    """Text, where null means empty and a number means its digits."""
    if value is None:
        return ""
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"not a text: {shown(value)}")


def _label(value: object) -> str:
    """Return text that is only displayed; a value that cannot be read becomes empty text."""
    try:
        return _text(value)
    except ValueError:
        return ""


def _who_or_none(value: object) -> int | None:
    """Return a user's id, or None if it is missing or cannot be read."""
    try:
        return _number_or_none(value)
    except ValueError:
        return None


def _money(amount: object, currency: object) -> Money:
    """Money from two fields of the wire."""
    number = portal_number(amount)  # rule: the tail of a double is no money
    # With two decimals at least, as people write it: invoices come as "990.00", payments as 990.
    two = number if int(number.as_tuple().exponent) <= -2 else rounded(number, 2)
    return Money(two, _text(currency).strip().upper())


Flag = Annotated[bool, BeforeValidator(_flag)]
Number = Annotated[int, BeforeValidator(_number)]
MaybeNumber = Annotated[int | None, BeforeValidator(_number_or_none)]
MaybeTime = Annotated[InstanceOf[pendulum.DateTime] | None, BeforeValidator(_time_or_none)]
MaybeWho = Annotated[int | None, BeforeValidator(_who_or_none)]
Text = Annotated[str, BeforeValidator(_text)]
Label = Annotated[str, BeforeValidator(_label)]
Quantity = Annotated[Decimal, BeforeValidator(portal_number)]


class _Wire(BaseModel):
    """Base of what is read from the portal: frozen, and blind to fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON, amounts and times as text: what a task can return, for the next task to read.

        Airflow's XCom takes the object itself, too, but gives it to nobody unless its class is listed in the option
        ``[core] allowed_deserialization_classes``.
        """
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields}


class Payment(_Wire):
    """A payment of a deal or smart invoice, as ``crm.item.payment.get`` and ``.list`` show it."""

    id: Number
    account_number: Label
    paid: Flag
    paid_at: MaybeTime
    paid_by_id: MaybeWho
    """User who marked it as paid."""
    pay_system_id: MaybeNumber
    pay_system_name: Label
    money: Money

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From one row of the portal."""
        return cls(
            id=wire.get("id"),
            account_number=wire.get("accountNumber"),
            paid=wire.get("paid"),
            paid_at=wire.get("datePaid"),
            paid_by_id=wire.get("empPaidId"),
            pay_system_id=wire.get("paySystemId"),
            pay_system_name=wire.get("paySystemName"),
            money=_money(wire.get("sum"), wire.get("currency")),
        )


class Invoice(_Wire):
    """A legacy invoice, as ``crm.invoice.get`` and ``.list`` show it."""

    id: Number
    account_number: Label
    subject: Label
    status_id: Text
    """``P`` is paid, ``D`` declined, ``N`` new; portals add their own."""
    paid: Flag
    paid_at: MaybeTime
    paid_by_id: MaybeWho
    cancelled: Flag
    money: Money
    pay_system_id: MaybeNumber

    FIELDS: ClassVar[tuple[str, ...]] = (
        "ID",
        "ACCOUNT_NUMBER",
        "ORDER_TOPIC",
        "STATUS_ID",
        "PAYED",
        "DATE_PAYED",
        "EMP_PAYED_ID",
        "CANCELED",
        "PRICE",
        "CURRENCY",
        "PAY_SYSTEM_ID",
    )
    """What to select in ``crm.invoice.list``."""

    @property
    def declined(self) -> bool:
        """Whether the invoice was declined (status ``D``)."""
        return self.status_id == "D"

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From one row of the portal."""
        return cls(
            id=wire.get("ID"),
            account_number=wire.get("ACCOUNT_NUMBER"),
            subject=wire.get("ORDER_TOPIC"),
            status_id=wire.get("STATUS_ID"),
            paid=wire.get("PAYED"),
            paid_at=wire.get("DATE_PAYED"),
            paid_by_id=wire.get("EMP_PAYED_ID"),
            cancelled=wire.get("CANCELED") or "N",
            money=_money(wire.get("PRICE"), wire.get("CURRENCY")),
            pay_system_id=wire.get("PAY_SYSTEM_ID"),
        )


class Numbered(_Wire):
    """An invoice or a payment, as a list that was asked for numbers shows it."""

    id: Number
    account_number: Text


class PaySystem(_Wire):
    """A pay system, as ``sale.paysystem.list`` shows it."""

    id: Number
    name: Label
    action_file: Text
    """Handler; a REST handler's code, or a built-in one such as ``cash``."""
    entity_registry_type: Text
    """``ORDER`` (payments of deals and smart invoices) or ``CRM_INVOICE`` (legacy invoices)."""
    active: Flag

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From one row of the portal."""
        return cls(
            id=wire.get("ID"),
            name=wire.get("NAME"),
            action_file=wire.get("ACTION_FILE"),
            entity_registry_type=wire.get("ENTITY_REGISTRY_TYPE"),
            active=wire.get("ACTIVE"),
        )


class ProductRow(_Wire):
    """A product row that is still available for payment, as ``crm.item.productrow.getAvailableForPayment`` shows it."""

    id: Number
    name: Label
    price: Quantity
    quantity: Quantity

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From one row of the portal."""
        return cls(
            id=wire.get("id"), name=wire.get("productName"), price=wire.get("price"), quantity=wire.get("quantity")
        )


class PayableProduct(_Wire):
    """A product row inside a payment, as ``crm.item.payment.product.list`` shows it."""

    id: Number
    payment_id: Number
    row_id: Number
    quantity: Quantity

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From one row of the portal."""
        return cls(
            id=wire.get("id"), payment_id=wire.get("paymentId"), row_id=wire.get("rowId"), quantity=wire.get("quantity")
        )


class Profile(_Wire):
    """Whom the connection acts as, as ``profile`` shows it."""

    user_id: Number
    name: str
    is_admin: bool

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """From the portal's response."""
        name = " ".join(part for part in (_label(wire.get("NAME")), _label(wire.get("LAST_NAME"))) if part)
        return cls(user_id=wire.get("ID"), name=name, is_admin=wire.get("ADMIN") in (True, "Y", "1", 1, "true"))
