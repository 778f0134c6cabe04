"""What templates and native rendering make of arguments, read the way a person means it, before anything is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_bitrix24.api.values import money_amount, positive_id, shown
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_provider_bitrix24.once import Expected

T = TypeVar("T", bound=str)


def given(task: Any) -> frozenset[str]:
    """Return which templated arguments were given to the constructor, for :func:`refuse_lost`."""
    return frozenset(field for field in task.template_fields if getattr(task, field, None) is not None)


def refuse_lost(task: Any, were_given: frozenset[str]) -> None:
    """Refuse an argument that was given and rendered to None: a guard must not switch itself off.

    :raises Bitrix24ConfigError: names it.
    """
    for field in sorted(were_given):
        if getattr(task, field) is None:
            raise Bitrix24ConfigError(
                f"{field} was given, but rendered to None. Nothing was sent. Look at what its template or the task "
                "before returned; an argument that is not wanted is left out of the operator."
            )


def optional_id(value: Any, field: str) -> int | None:
    """Return an id, or None for None."""
    return None if value is None else positive_id(value, field)


def expected_money(amount: Any, currency: Any) -> Expected:
    """Return what the author expects; None stands for anything.

    :param amount: text ("1500.00"), Decimal or whole number; a float only because native rendering of templates makes
        one of "1500.00": its shortest decimal form is taken.
    :param currency: three letters.
    """
    from airflow_provider_bitrix24.once import Expected

    if isinstance(amount, float):
        amount = repr(amount)
    wanted: Decimal | None = None if amount is None else money_amount(amount, "expected_amount")
    if currency is None:
        return Expected(amount=wanted)
    if not isinstance(currency, str) or not re.fullmatch(r"[A-Za-z]{3}", currency.strip()):
        raise Bitrix24ConfigError(
            f"expected_currency must be three letters such as 'EUR', not {shown(currency)}. Nothing was sent."
        )
    return Expected(amount=wanted, currency=currency.strip().upper())


def one_of(value: Any, field: str, choices: tuple[T, ...]) -> T:
    """Return the choice that was made."""
    for choice in choices:
        if value == choice:
            return choice
    raise Bitrix24ConfigError(f"{field} must be one of {', '.join(choices)}, not {shown(value)}. Nothing was sent.")


def switch(value: Any, field: str) -> bool:
    """Return a switch; a text such as "False" would count as true, so only True and False are taken."""
    if not isinstance(value, bool):
        raise Bitrix24ConfigError(f"{field} must be True or False, not {shown(value)}. Nothing was sent.")
    return value
