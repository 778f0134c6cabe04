"""What people give as ids, CRM types and amounts: exactly understood, or refused by the name of the field.

Light on purpose: operators import this when a DAG file is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

DEAL: Final = 2
SMART_INVOICE: Final = 31
ENTITY_TYPES: Final = {"deal": DEAL, "smart_invoice": SMART_INVOICE}
"""The CRM objects that can have payments (facts of the portal: no others can)."""
ENTITY_NAMES: Final = {DEAL: "deal", SMART_INVOICE: "smart invoice"}
"""How a person names them."""

_LARGEST_ID = 2**63 - 1
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")
_NUMBER = re.compile(r"[+-]?([0-9]{1,99}\.?[0-9]{0,99}|\.[0-9]{1,99})(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
"""What a portal writes; Python would also take 1_000 and digits of other scripts."""


def shown(value: object) -> str:
    """`repr` of a value for an error message, cut to 60 characters."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a number of thousands of digits, or whatever somebody's class does
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= 60 else f"{text[:57]}..."


def positive_id(value: object, field: str) -> int:
    """A whole positive number from ``123`` or ``"123"``.

    :raises Bitrix24ConfigError: for anything else, naming the field.
    """
    number = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value.strip()) < 20:
        number = int(value)
    if not 0 < number <= _LARGEST_ID:
        raise Bitrix24ConfigError(
            f"{field} must be a whole positive number such as 123 or '123', not {shown(value)}. Nothing was sent."
        )
    return int(number)


def entity_type_id(value: object, field: str = "entity_type_id") -> int:
    """The number of a CRM type that can have payments: 2, 31, ``"deal"`` or ``"smart_invoice"``.

    :raises Bitrix24ConfigError: for anything else, naming the field.
    """
    number = ENTITY_TYPES.get(value.strip().lower()) if isinstance(value, str) else None
    if isinstance(value, str) and value.strip() in ("2", "31"):
        number = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value in ENTITY_NAMES:
        number = int(value)
    if number is None:
        raise Bitrix24ConfigError(
            f"{field} must be 2 or 'deal', 31 or 'smart_invoice', not {shown(value)}: no other CRM object has "
            "payments. Nothing was sent."
        )
    return number


def money_amount(value: object, field: str) -> Decimal:
    """An amount, 0 or more, from a `Decimal`, an `int` or a text such as ``"1500.00"``; a `float` has lost digits.

    :raises Bitrix24ConfigError: for anything else, naming the field.
    """
    amount: Decimal | None = None
    if not isinstance(value, str) or _AMOUNT.fullmatch(value.strip()):
        try:
            amount = decimal_number(value)
        except ValueError:
            amount = None
    if amount is None or amount < 0:
        raise Bitrix24ConfigError(
            f"{field} must be an amount of 0 or more as text such as '1500.00', or a Decimal, not {shown(value)}. "
            "Nothing was sent."
        )
    return amount


def decimal_number(value: object) -> Decimal:
    """A finite number of a sane size, exactly as it was written."""
    if isinstance(value, str):
        value = Decimal(value.strip()) if _NUMBER.fullmatch(value.strip()) else None
    number = Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else Decimal("NaN")
    if not number.is_finite() or (number and abs(number.adjusted()) > 30):
        raise ValueError(f"not a number: {shown(value)}")
    return number


def plain(value: Any) -> Any:
    """A result as JSON can hold it exactly: fractions become text, because floats are no place for money."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
