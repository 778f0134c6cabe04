"""One id or many, in every form in which Airflow hands arguments over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from airflow_provider_bitrix24.api.values import account_number, positive_id
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

OneOrMany: TypeAlias = int | str | Sequence[int | str]
"""An id (``123``, ``"123"``) or a sequence of ids; a text may also be a rendered list (``"[1, 2]"``)."""


T = TypeVar("T")


def read_ids(value: Any, field: str) -> tuple[list[int], bool]:
    """Return the ids, each once and in the order given, and whether there were many (a sequence, even of one).

    :param value: a whole positive number, a sequence of them (Airflow's lazy ones included), or the text of either.
    :param field: name of the argument, for the error.
    :raises Bitrix24ConfigError: anything else, an empty sequence included.
    """
    return _read(value, field, positive_id)


def read_numbers(value: Any, field: str) -> tuple[list[str], bool]:
    """Return account numbers, each once and in the order given, and whether there were many (a sequence, even of one).

    :param value: a text, a sequence of texts (Airflow's lazy ones included), or the text of a list.
    :raises Bitrix24ConfigError: anything else, an empty sequence included.
    """
    return _read(value, field, account_number)


def _read(value: Any, field: str, read: Callable[[Any, str], T]) -> tuple[list[T], bool]:
    value = _unwrap_text(value)
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return [read(value, field)], False
    ids = [read(one, field) for one in value]
    if not ids:
        raise Bitrix24ConfigError(
            f"{field} is an empty list: there is nothing to wait for, and a task that succeeded would claim that "
            "something was paid.",
            "Skip the sensor when its list is empty (for example with @task.short_circuit before it).",
        )
    return list(dict.fromkeys(ids)), True


def _unwrap_text(value: Any) -> Any:
    """Read a list that a template rendered as text; leave everything else as it is."""
    text = value.strip() if isinstance(value, str) else ""
    if text[:1] + text[-1:] not in ("[]", "()"):
        return value
    # Not by Python's own rules, to which 1_2 is 12.
    inside = text[1:-1].strip()
    return [_unquoted(one.strip()) for one in inside.removesuffix(",").split(",")] if inside else []


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text
