"""Notice an account number that belongs to another object than in an earlier attempt of the same task."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.api.account_numbers import spelling
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.operators.rows import each

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
    from airflow_provider_bitrix24.operators.list_report import Item

DOCUMENT: Final = "bitrix24_numbers_{}"
"""Name of each document, counted from 1; it holds how many there are, and ``{number: subject}``."""
NUMBERS_PER_DOCUMENT: Final = 500
_SHOWN: Final = 10


def refuse_moved(journal: TaskStateJournal, items: Sequence[Item]) -> None:
    """Refuse account numbers that named other objects in an earlier attempt; note what they name for later attempts.

    :raises Bitrix24ConfigError: an earlier attempt has sent something for the object that had such a number then; it
        names every such row, up to ten. Or some notes of the numbers are gone, and that may be so.
    """
    named = {spelling(item.number): item for item in items if item.number is not None}
    if not named:
        return
    before, gone = _noted(journal)
    moved = [
        number for number, item in named.items() if before.get(number, item.operation.subject) != item.operation.subject
    ]
    sent = set()
    if moved or gone is not None:
        sent = {record.subject for record in journal.noted() if not record.nothing_executed}
    if gone is not None and not named.keys() <= before.keys():
        _refuse_without_notes(sent, items, gone)

    def check(number: str) -> None:
        item = named[number]
        earlier, present = before[number], item.operation.subject
        if earlier in sent:  # rule: a number that has moved pays nothing in the same task
            raise Bitrix24ConfigError(
                f"{item.where}: account_number {item.number!r} is that of {present} now; in an earlier "
                f"attempt of this task, it was that of {earlier}. That attempt may have recorded money for "
                f"{earlier}: look at it in Bitrix24. If {present} is the one to be paid, name it by its id in the "
                "list, and clear this task.",
                NOT_SENT,
            )

    each(check, moved)
    known = before | {number: item.operation.subject for number, item in named.items()}
    # rule: notes that are gone stay gone once something was sent
    if known != before and (gone is None or not sent):
        _note(journal, known)


def _refuse_without_notes(sent: AbstractSet[str], items: Sequence[Item], gone: str) -> None:
    absent = sorted(sent - {item.operation.subject for item in items})
    if absent:  # rule: numbers that are not noted any more pay nothing if one may have moved
        raise Bitrix24ConfigError(
            f"An earlier attempt of this task may have recorded money for {', '.join(absent[:_SHOWN])}, which the list "
            "does not name now, and no note says which account number it had then: "
            f"{gone} is not in the task's Storage tab, or was changed by hand.",
            NOT_SENT,
            "Look in Bitrix24 whether a number of the list was moved from there. If not, name the rows by their ids "
            "in the list, and clear this task.",
        )


def _note(journal: TaskStateJournal, known: Mapping[str, str]) -> None:
    pairs = iter(known.items())
    parts = [dict(islice(pairs, NUMBERS_PER_DOCUMENT)) for _ in range(0, len(known), NUMBERS_PER_DOCUMENT)]
    for place in range(len(parts), 0, -1):  # the first says how many there are: it is written when the others are there
        journal.keep(DOCUMENT.format(place), {"documents": len(parts), "numbers": parts[place - 1]})


def _noted(journal: TaskStateJournal) -> tuple[dict[str, str], str | None]:
    """Return what is noted, and the name of the first document that is gone or was changed by hand, or None."""
    noted: dict[str, str] = {}
    place, documents = 1, 1
    while place <= documents:
        name = DOCUMENT.format(place)
        match journal.kept(name):
            case {"documents": int(count), "numbers": dict(numbers)}:
                noted |= numbers
                documents = count if place == 1 else documents
                place += 1
            case _:
                return noted, name
    return noted, None
