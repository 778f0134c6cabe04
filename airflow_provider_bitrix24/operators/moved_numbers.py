"""Notice an account number that belongs to another object than in an earlier attempt of the same task."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.api.account_numbers import spelling
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.operators.rows import each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
    from airflow_provider_bitrix24.operators.list_report import Item

DOCUMENT: Final = "bitrix24_numbers_{}"
"""Name of each document, counted from 1; it holds ``{number: subject}``."""
NUMBERS_PER_DOCUMENT: Final = 500
_SHOWN: Final = 10


def refuse_moved(journal: TaskStateJournal, items: Sequence[Item]) -> None:
    """Refuse account numbers that named other objects in an earlier attempt; note what they name for later attempts.

    :raises Bitrix24ConfigError: an earlier attempt has sent something for the object that had such a number then; it
        names every such row, up to ten. Or the notes of the numbers are gone, and that may be so.
    """
    named = [(spelling(item.number), item) for item in items if item.number is not None]
    if not named:
        return
    before = _noted(journal)
    if not before:
        _refuse_without_notes(journal, items)
    moved = [pair for pair in named if before.get(pair[0], pair[1].operation.subject) != pair[1].operation.subject]
    if moved:
        sent = {record.subject for record in journal.noted() if not record.nothing_executed}

        def check(pair: tuple[str, Item]) -> None:
            number, item = pair
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
    known = before | {number: item.operation.subject for number, item in named}
    if known != before:
        pairs = iter(known.items())
        for place in range(1, -(-len(known) // NUMBERS_PER_DOCUMENT) + 1):
            journal.keep(DOCUMENT.format(place), dict(islice(pairs, NUMBERS_PER_DOCUMENT)))


def _refuse_without_notes(journal: TaskStateJournal, items: Sequence[Item]) -> None:
    present = {item.operation.subject for item in items}
    sent = sorted({record.subject for record in journal.noted() if not record.nothing_executed} - present)
    if sent:  # rule: numbers that are not noted any more pay nothing if one may have moved
        raise Bitrix24ConfigError(
            f"An earlier attempt of this task may have recorded money for {', '.join(sent[:_SHOWN])}, which the list "
            "does not name now, and the notes that say which account number it had then "
            f"({DOCUMENT.format(1)} in the task's Storage tab) are gone.",
            NOT_SENT,
            "Look in Bitrix24 whether a number of the list was moved from there. If not, name the rows by their ids "
            "in the list, and clear this task.",
        )


def _noted(journal: TaskStateJournal) -> dict[str, str]:
    noted: dict[str, str] = {}
    for place in count(1):
        document = journal.kept(DOCUMENT.format(place))
        if not isinstance(document, dict):
            break
        noted |= document
    return noted
