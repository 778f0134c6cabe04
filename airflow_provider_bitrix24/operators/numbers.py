"""Name an invoice or a payment by its id, or by the account number that customers write on transfers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.values import account_number, positive_id
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NOUNS = {"invoice_id": "legacy invoice", "payment_id": "payment"}
_FOUND = "_found_by_number"


def refuse_unless_one(task: Any, id_field: str) -> None:
    """Check in the constructor that exactly one of id and account number was given, as Python checks arguments.

    The constructor of a mapped task runs with rendered values: those are checked when the task runs.

    :raises TypeError: none was given, or both.
    """
    both = getattr(task, id_field), task.account_number
    if (both[0] is None) == (both[1] is None) and not getattr(task, "_BaseOperator__from_mapped", False):
        raise TypeError(f"{type(task).__name__} needs exactly one of {id_field} and account_number")


def by_number(task: Any, id_field: str) -> bool:
    """Whether the object is named by its number.

    :raises Bitrix24ConfigError: both were given, or none.
    """
    if (getattr(task, id_field) is None) == (task.account_number is None):
        raise Bitrix24ConfigError(f"Give exactly one of {id_field} and account_number.", NOT_SENT)
    return task.account_number is not None


def read_id(task: Any, id_field: str, find: Callable[[Sequence[str]], Mapping[str, Sequence[int]]]) -> int:
    """Return the id of the object that an operator is about; a number is looked up by one read.

    :param find: returns the ids that have each number.
    :raises Bitrix24ConfigError: the argument is wrong, nothing has the number, or several objects have it.
    """
    if not by_number(task, id_field):
        return positive_id(getattr(task, id_field), id_field)
    [found] = look_up(task, id_field, [account_number(task.account_number, "account_number")], find)
    return found


def look_up(
    task: Any, id_field: str, numbers: Sequence[str], find: Callable[[Sequence[str]], Mapping[str, Sequence[int]]]
) -> list[int]:
    """Return the id for each number; one instance of a task looks each up once.

    :raises Bitrix24ConfigError: nothing has a number, or several objects have it.
    """
    known = vars(task).setdefault(_FOUND, {})
    missing = [number for number in numbers if number not in known]
    for number, ids in find(missing).items() if missing else ():
        known[number] = only_id(id_field, number, ids)
        task.log.info("account_number %r is %s %s.", number, _NOUNS[id_field], known[number])
    return [known[number] for number in numbers]


def only_id(id_field: str, number: str, ids: Sequence[int], where: str = "") -> int:
    """Return the id of the only object that has an account number.

    :param ids: the objects that have it.
    :param where: the row that names it, for the error.
    :raises Bitrix24ConfigError: nothing has the number, or several objects have it.
    """
    noun = _NOUNS[id_field]
    if len(ids) > 1:
        raise Bitrix24ConfigError(
            f"{where}account_number {number!r} is that of {len(ids)} {noun}s: {', '.join(map(str, ids))}.",
            NOT_SENT,
            f"Give {id_field} instead.",
        )
    if not ids:
        raise Bitrix24ConfigError(
            f"{where}{'no' if where else 'No'} {noun} has the account_number {number!r}, as far as the connection's "
            "user may see them.",
            NOT_SENT,
            "The number is compared as a whole; capital and small letters are the same.",
        )
    return ids[0]
