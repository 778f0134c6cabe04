"""What people give as ids, CRM types and amounts: exactly understood, or refused by the name of the field.

Light on purpose: operators import this when a DAG file is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal
from numbers import Integral, Rational, Real
from typing import Any, Final

from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.identifiers import hidden_character, normalised

DEAL: Final = 2
SMART_INVOICE: Final = 31
ENTITY_TYPES: Final = {"deal": DEAL, "smart_invoice": SMART_INVOICE}
"""The CRM objects that can have payments (facts of the portal: no others can)."""
ENTITY_NAMES: Final = {DEAL: "deal", SMART_INVOICE: "smart invoice"}
"""How a person names them."""

_MOST_PLACES = 8
"""Decimals that the portal keeps."""
_PLACES_OF_MONEY = 4
"""Decimals that an amount of many digits may have, and be exact."""
_DIGITS_OF_A_DOUBLE = 15
_EXACT = Context(prec=500)
_LONGEST_NUMBER = 100
_LARGEST_ID = 2**63 - 1
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")
_WRITTEN_BY_PEOPLE = re.compile(r"[0-9][0-9.,'\u2019\s]*[0-9]")
"""With commas, thousands separators, or both."""
_NUMBER = re.compile(r"[+-]?([0-9]{1,99}\.?[0-9]{0,99}|\.[0-9]{1,99})(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
"""What a portal writes; Python would also take 1_000 and digits of other scripts."""


def shown(value: object) -> str:
    """`repr` of a value for an error message, cut to 60 characters."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a number of thousands of digits, or whatever somebody's class does
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= 60 else f"{text[:57]}..."


def described(value: object) -> str:
    """Return `shown`, and, for an empty value, where it probably comes from."""
    if value is None or (isinstance(value, str) and value.strip() == "None"):
        return f"{shown(value)} (a template or the task before gave None)"
    if isinstance(value, str) and not value.strip():
        return f"{shown(value)} (an empty text)"
    return shown(value)


def whole(value: object) -> int | None:
    """Return a whole number of any class, such as numpy's, as an int; None for anything else, also True and False."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None


def positive_id(value: object, field: str) -> int:
    """A whole positive number from ``123`` or ``"123"``.

    :raises Bitrix24ConfigError: for anything else, naming the field.
    """
    number = whole(value) or 0
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value.strip()) < 20:
        number = int(value.strip())
    if not 0 < number <= _LARGEST_ID:
        raise Bitrix24ConfigError(
            f"{field} must be a whole positive number such as 123 or '123', not {described(value)}.", NOT_SENT
        )
    return number


def account_number(value: object, field: str) -> str:
    """The number of an invoice or a payment, as customers write it: a text such as ``"INV-12"`` or ``"161/1"``.

    Blanks around it do not count. A number is refused: it may have lost zeros at the front, or an underscore by native
    rendering, and would then be another invoice's.

    :raises Bitrix24ConfigError: for anything else, naming the field.
    """
    text = value.strip() if isinstance(value, str) else ""
    hidden = hidden_character(normalised(text))
    if hidden is not None:
        raise Bitrix24ConfigError(f"{field} {shown(value)} holds an invisible character, {hidden}.", NOT_SENT)
    if not 0 < len(text) <= _LONGEST_NUMBER or text == "None":
        raise Bitrix24ConfigError(
            f"{field} must be the number of an invoice or a payment as text, such as 'INV-12' or '161/1', not "
            f"{described(value)}.",
            NOT_SENT,
        )
    return text


def entity_type_id(value: object, field: str = "entity_type_id") -> int:
    """The number of a CRM type that can have payments: 2, 31, ``"deal"`` or ``"smart_invoice"``.

    :raises Bitrix24ConfigError: for anything else, naming the field.
    """
    number = ENTITY_TYPES.get(value.strip().lower()) if isinstance(value, str) else None
    if isinstance(value, str) and value.strip() in ("2", "31"):
        number = int(value)
    if whole(value) in ENTITY_NAMES:
        number = whole(value)
    if number is None:
        raise Bitrix24ConfigError(
            f"{field} must be 2 or 'deal', 31 or 'smart_invoice', not {described(value)}: no other CRM object has "
            "payments.",
            NOT_SENT,
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
            f"{field} must be an amount of 0 or more as text such as '1500.00', or a Decimal, not {described(value)}"
            f"{_why_no_amount(value)}.",
            NOT_SENT,
        )
    return amount


def _why_no_amount(value: object) -> str:
    """Say what is wrong with an amount, if that is known."""
    if isinstance(value, str) and _WRITTEN_BY_PEOPLE.fullmatch(value.strip()):
        return ": write it with a decimal point and without thousands separators, such as '1999.99'"
    if isinstance(value, Real) and not isinstance(value, Rational):
        return f": a {type(value).__name__} may have lost digits, so give a text"
    return ""


def _exact(value: object) -> Decimal | None:
    """Return a number of an exact class as a Decimal; None for anything else, and for fractions such as 1/3."""
    if isinstance(value, Decimal):
        return Decimal(value)
    if not isinstance(value, Rational) or isinstance(value, bool):
        return None
    over, under = int(value.numerator), int(value.denominator)
    number = _EXACT.divide(Decimal(over), Decimal(under)) if under != 1 else Decimal(over)
    return number if number.is_finite() and number.as_integer_ratio() == (over, under) else None


def portal_number(value: object) -> Decimal:
    """Return a number of the portal without the rounding error of a double: 99.900000000000006 is 99.9.

    The portal keeps up to 8 decimals. A double knows 15 digits for certain; what follows is noise where rounding by no
    more than a few of the last places gives a shorter number.
    """
    number = decimal_number(value)
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - the number is finite
    if len(digits) > _DIGITS_OF_A_DOUBLE and exponent < -_PLACES_OF_MONEY:
        noise = abs(number).scaleb(-_DIGITS_OF_A_DOUBLE)
        for places in range(_MOST_PLACES):
            shorter = rounded(number, places)
            if abs(_EXACT.subtract(shorter, number)) <= noise:
                return shorter
    return number if exponent >= -_MOST_PLACES else rounded(number, _MOST_PLACES)


def rounded(number: Decimal, places: int) -> Decimal:
    """Round a number to a number of decimals."""
    return number.quantize(Decimal(1).scaleb(-places), context=_EXACT)


def decimal_number(value: object) -> Decimal:
    """A finite number of a sane size, exactly as it was written."""
    if isinstance(value, str):
        value = Decimal(value.strip()) if _NUMBER.fullmatch(value.strip()) else None
    number = _exact(value)
    if number is None or not number.is_finite() or (number and abs(number.adjusted()) > 30):
        raise ValueError(f"not a number: {shown(value)}")
    return number


def plain(value: Any) -> Any:
    """Return a result as plain JSON; fractions become text, because a float cannot hold an amount exactly."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
