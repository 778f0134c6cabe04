"""What a list that comes back from a wait for the working-time limit need not read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bitrix24.journal import Journal
    from airflow_provider_bitrix24.operators.list_report import Item

_LOADED_TOGETHER: Final = 500


def shown_before(journal: Journal, portal: str, task: str, items: Sequence[Item]) -> dict[int, Receipt]:
    """Return what the portal has shown to this task since its list began; to read it once more uses up working time.

    An entry of another task, one about which a person has decided, and one that asks for something else are read again.

    :param task: its identity.
    :return: receipt by the item's place in the list.
    """
    found: dict[int, Receipt] = {}
    for begin in range(0, len(items), _LOADED_TOGETHER):
        part = {begin + place: item.operation for place, item in enumerate(items[begin : begin + _LOADED_TOGETHER])}
        loaded = journal.load(portal, [operation.key for operation in part.values()])
        for number, operation in part.items():
            record = loaded[operation.key].record
            if record is None or record.receipt is None or record.decision is not None or record.task != task:
                continue
            if dict(record.parameters) == dict(operation.parameters):
                found[number] = Receipt.of(record.receipt)
    return found
