"""What the portal has shown in this round of a task: a list that comes back does not read it again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bitrix24.at_most_once.attempt import Tools
    from airflow_provider_bitrix24.at_most_once.operation import Operation
    from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
    from airflow_provider_bitrix24.journal.protocol import Loaded

KEYS_TOGETHER: Final = 500
"""How many keys are loaded or opened in one transaction."""


def shown_in_round(tools: Tools, operations: Sequence[Operation]) -> dict[int, Receipt]:
    """Return the receipts of what the portal has shown in this round, by its place in the list.

    :raises Bitrix24StoreError: the journal cannot be reached.
    """
    shown: dict[int, Receipt] = {}
    for start in range(0, len(operations), KEYS_TOGETHER):
        part = operations[start : start + KEYS_TOGETHER]
        loaded = tools.journal.load(tools.client.settings.portal, {one.key for one in part})
        for place, operation in enumerate(part, start):
            receipt = _receipt(operation, loaded[operation.key], tools.task)
            if receipt is not None:
                shown[place] = receipt
    return shown


def _receipt(operation: Operation, loaded: Loaded, task: TaskAttempt) -> Receipt | None:
    """The receipt of an operation; None if it has to be looked for on the portal."""
    record = loaded.record
    if record is None or record.receipt is None:
        return None
    # rule: what the portal has shown in another round is read again
    if task.shows_in is None or record.shown_in != task.shows_in:
        return None
    # rule: what a person has decided about is read again
    if record.state != "done":
        return None
    # rule: what another attempt works on, and what the journal does not hold itself, is read again
    if loaded.busy is not None or loaded.behind:
        return None
    # rule: what is forgotten is read again
    if record.forgotten:
        return None
    # rule: what is asked for in another way is read again
    if record.differing(operation.parameters):
        return None
    with suppress(KeyError, TypeError, ValueError, ArithmeticError):
        receipt = Receipt.read(record.receipt, recovered=bool(record.possible_sends))
        # rule: what is for other money than expected is read again
        return receipt if operation.expects(receipt) else None
    return None
