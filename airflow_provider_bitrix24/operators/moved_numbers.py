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

NUMBERS: Final = "bitrix24_numbers_{}"
"""Names of the documents, counted from 1: ``{number: subject}``."""
IN_DOCUMENT: Final = 500


def refuse_moved(journal: TaskStateJournal, items: Sequence[Item]) -> None:
    """Compare what the account numbers of a list name with what they named before, and note it for later attempts.

    :raises Bitrix24ConfigError: an earlier attempt has sent something for the object that had a number then. It names
        every such row, up to ten.
    """
    named = [(spelling(item.number), item) for item in items if item.number is not None]
    if not named:
        return
    before = _noted(journal)
    moved = [pair for pair in named if before.get(pair[0], pair[1].operation.subject) != pair[1].operation.subject]
    if moved:
        sent = {record.subject for record in journal.noted() if not record.nothing_executed}

        def check(pair: tuple[str, Item]) -> None:
            number, item = pair
            if before[number] in sent:  # rule: a number that has moved pays nothing in the same task
                raise Bitrix24ConfigError(
                    f"{item.where}: account_number {item.number!r} is that of {item.operation.subject} now, and was "
                    f"that of {before[number]} when an earlier attempt of this task worked on it. If the row is right, "
                    "name the object by its id.",
                    NOT_SENT,
                )

        each(check, moved)
    known = before | {number: item.operation.subject for number, item in named}
    if known != before:
        pairs = iter(known.items())
        for place in range(1, -(-len(known) // IN_DOCUMENT) + 1):
            journal.keep(NUMBERS.format(place), dict(islice(pairs, IN_DOCUMENT)))


def _noted(journal: TaskStateJournal) -> dict[str, str]:
    noted: dict[str, str] = {}
    for place in count(1):
        document = journal.kept(NUMBERS.format(place))
        if not isinstance(document, dict):
            break
        noted |= document
    return noted
