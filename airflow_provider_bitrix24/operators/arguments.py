"""What templates and native rendering make of arguments, read the way a person means it, before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_bitrix24.api.values import decimal_number, described, money_amount, positive_id, shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.identifiers import hidden_character, normalised

if TYPE_CHECKING:
    from typing import Self

    from airflow_provider_bitrix24.at_most_once.receipt import Expected

T = TypeVar("T", bound=str)
LONGEST_KEY = 255


def given(task: Any) -> frozenset[str]:
    """Return which templated arguments were given to the constructor, for :func:`refuse_lost`."""
    return frozenset(field for field in task.template_fields if getattr(task, field, None) is not None)


_DEFAULTS_IF_EMPTY: dict[str, Any] = {
    "pay_system_id": None,
    "bx_rest_handler": None,
    "if_paid": "succeed",
    "if_unpaid": "succeed",
    "on_unknown": "fail",
}
"""Arguments that a template may leave empty -> their defaults. No guard is among them: without max_amount or the key, a
task would pay what the author wanted to be refused."""


def is_empty(value: Any) -> bool:
    """Tell whether a template rendered to nothing: None, the text "None", or empty text."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def leave_out_what_is_empty(task: Any) -> None:
    """Reset an optional argument that rendered to nothing to its default."""
    for field in set(task.template_fields) & _DEFAULTS_IF_EMPTY.keys():
        if is_empty(getattr(task, field)):
            setattr(task, field, _DEFAULTS_IF_EMPTY[field])


def refuse_lost(task: Any, were_given: frozenset[str]) -> None:
    """Refuse an argument that was given and rendered to None: a guard must not switch itself off.

    :raises Bitrix24ConfigError: names it.
    """
    for field in sorted((were_given | _mapped(task)) - _DEFAULTS_IF_EMPTY.keys()):
        if getattr(task, field) is None:
            raise Bitrix24ConfigError(
                f"{field} was given, but rendered to None.",
                NOT_SENT,
                "Look at what its template or the task before returned; an argument that is not wanted is left out of "
                "the operator.",
            )


class RemembersArguments:
    """A mixin for operators that forward arguments to the constructor of another operator of ours.

    Airflow keeps the arguments of both constructors together, so that a default which is forwarded looks like an
    argument that was given.

    :meta private:
    """

    named_by_author: frozenset[str]
    """The arguments of the call that made this object."""

    def __new__(cls, *_: Any, **arguments: Any) -> Self:
        """Remember the names of the arguments."""
        task = super().__new__(cls)
        vars(task)["named_by_author"] = frozenset(arguments)
        return task


def _mapped(task: Any) -> set[str]:
    """The arguments that a mapped task was given: their values are there before the constructor runs."""
    if not getattr(task, "_BaseOperator__from_mapped", False):
        return set()
    named = getattr(task, "named_by_author", None) or getattr(task, "_BaseOperator__init_kwargs", {})
    return set(named) & set(task.template_fields)


def optional_id(value: Any, field: str) -> int | None:
    """Return an id, or None for None."""
    return None if value is None else positive_id(value, field)


def optional_amount(value: Any, field: str) -> Decimal | None:
    """Return an amount, or None for None.

    :param value: text ("1500.00"), Decimal or whole number; a float only because native rendering of templates makes
        one of "1500.00": its shortest decimal form is taken.
    """
    if value is None:
        return None
    # Not `repr`: a subclass, such as numpy's, may write something around the number.
    return money_amount(float.__repr__(value) if isinstance(value, float) else value, field)


def business_key(value: Any, field: str = "idempotency_key") -> str | None:
    """Return the key that the author gave, or None for None.

    Two keys that look the same to a person are one: it is brought into Unicode's form NFKC, blanks around it do not
    count, and characters that nobody sees are refused. A number is refused, because the conversion from text may
    have changed it: native rendering makes 47111 of "4711_1" and of "471_11".
    """
    if value is None:
        return None
    text = normalised(value) if isinstance(value, str) else ""  # rule: keys that look the same are one
    hidden = hidden_character(text)
    if hidden is not None:
        raise Bitrix24ConfigError(
            f"{field} {shown(value)} holds an invisible character, {hidden}: two keys that look the same would "
            "be two payments.",
            NOT_SENT,
            "Remove the character where the key is built.",
        )
    if not 0 < len(text) <= LONGEST_KEY or text == "None":
        raise Bitrix24ConfigError(
            f"{field} must be a text of 1 to {LONGEST_KEY} printable characters that names the business case, "
            f"such as 'order-4711-deposit', not {described(value)}.",
            NOT_SENT,
        )
    return text


def time_span(value: Any, field: str) -> timedelta:
    """Return a time span above 0."""
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise Bitrix24ConfigError(f"{field} must be a timedelta above 0, not {described(value)}.", NOT_SENT)
    return value


def expected_money(amount: Any, currency: Any, *, where: str = "") -> Expected:
    """Return what the author expects; None stands for anything.

    :param amount: see :func:`optional_amount`.
    :param currency: three letters.
    :param where: what stands before the names of the fields in messages.
    """
    from airflow_provider_bitrix24.at_most_once.receipt import Expected

    wanted = optional_amount(amount, f"{where}expected_amount")
    if currency is None:
        return Expected(amount=wanted)
    if not isinstance(currency, str) or not re.fullmatch(r"[A-Za-z]{3}", currency.strip()):
        raise Bitrix24ConfigError(
            f"{where}expected_currency must be three letters such as 'EUR', not {described(currency)}.", NOT_SENT
        )
    return Expected(amount=wanted, currency=currency.strip().upper())


def chosen_products(value: Any, field: str) -> dict[int, int]:
    """Return quantity by product row.

    :param value: a sequence of ``{"row_id": 7, "quantity": 2}``.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        hint = ". Is it a template? It must give a list: render_template_as_native_obj, or the task's output"
        raise Bitrix24ConfigError(
            f"{field} must be a list such as [{{'row_id': 7, 'quantity': 2}}], not {described(value)}"
            f"{hint if isinstance(value, str) else ''}.",
            NOT_SENT,
        )
    chosen: dict[int, int] = {}
    for index, one in enumerate(value):
        if not isinstance(one, Mapping) or set(one) != {"row_id", "quantity"}:
            raise Bitrix24ConfigError(
                f"{field}[{index}] must have row_id and quantity and nothing else, not {shown(one)}.", NOT_SENT
            )
        row_id = positive_id(one["row_id"], f"{field}[{index}]: row_id")
        if row_id in chosen:
            raise Bitrix24ConfigError(
                f"{field}[{index}] names product row {row_id} a second time.",
                NOT_SENT,
                "Give one quantity for each row.",
            )
        chosen[row_id] = _whole_quantity(one["quantity"], f"{field}[{index}]: quantity")
    return chosen


def _whole_quantity(value: Any, field: str) -> int:
    """Return a quantity; a fraction is refused, because Bitrix24 would cut it off in a payment."""
    try:
        number = decimal_number(value)
    except ValueError:
        number = Decimal(0)
    if number <= 0 or number != number.to_integral_value():
        raise Bitrix24ConfigError(
            f"{field} must be a whole number above 0, not {described(value)}: Bitrix24 keeps only whole quantities in "
            "payments.",
            NOT_SENT,
        )
    return int(number)


def one_of(value: Any, field: str, choices: tuple[T, ...]) -> T:
    """Return the choice that was made."""
    for choice in choices:
        if value == choice:
            return choice
    raise Bitrix24ConfigError(f"{field} must be one of {', '.join(choices)}, not {described(value)}.", NOT_SENT)


def switch(value: Any, field: str) -> bool:
    """Return a switch; a text such as "False" would count as true, so only True and False are taken."""
    if not isinstance(value, bool):
        raise Bitrix24ConfigError(f"{field} must be True or False, not {described(value)}.", NOT_SENT)
    return value
