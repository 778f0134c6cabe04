"""Other operations on the same object: pay, set back to unpaid and delete are keys of their own for one payment.

Two things are read from them, if the journal knows them (a SQL journal does; the task state is that of one task):
a send that may still arrive keeps everything else from being sent, and an operation that undid this one lets another
task do it once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.course import find_keys
from airflow_provider_bitrix24.at_most_once.record import CorruptEntry
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, PaymentInProgress, PaymentNotApplied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.operations.state_change import StateChange
    from airflow_provider_bitrix24.at_most_once.record import Record


class OtherOperations:
    """The other operations on the object of one."""

    def __init__(self, attempt: Attempt, change: StateChange) -> None:
        self.attempt = attempt
        self.change = change
        self._found: Mapping[str, Record | CorruptEntry] = {}

    def begin(self, *, shown: bool) -> Course[None]:
        """Begin once more if an operation of ours has undone what another task did.

        :param shown: whether the portal shows what this key has done.
        :raises PaymentInProgress: an operation may be undoing it just now.
        :raises Bitrix24ConfigError: an entry cannot be read.
        """
        record = self.attempt.record
        if shown or record.receipt is None or self.attempt.task.identity in {record.task, *record.earlier_tasks}:
            return
        yield from self.refuse_unsettled()
        undone = [
            other
            for other in self._found.values()
            if not isinstance(other, CorruptEntry)
            and other.operation in self.change.undone_by
            and other.receipt is not None
            and (other.place or 0) > (record.place or 0)
        ]
        if undone:
            self.attempt.log.info("%s, and %s has undone that since.", messages.known(record), undone[0].task)
            self.attempt.record = record.repeated(self.attempt.wanted)

    def before_send(self) -> Course[None]:
        """Refuse to send while something else may still arrive, or for a task whose operation was undone.

        :raises PaymentInProgress: it may still arrive.
        :raises PaymentNotApplied: this task has done it, and it was undone: that is not repeated by the same task.
        :raises Bitrix24ConfigError: an entry cannot be read, so that nobody knows what may still arrive.
        """
        if self.attempt.task.identity in self.attempt.record.earlier_tasks:
            raise PaymentNotApplied(*messages.undone_since(self.change.subject, self.change.words))
        yield from self.refuse_unsettled()

    def refuse_unsettled(self) -> Course[None]:
        """Refuse to go on while a send of another operation may still arrive.

        :raises PaymentInProgress: one may.
        :raises Bitrix24ConfigError: an entry cannot be read.
        """
        attempt = self.attempt
        if not self.change.alone and attempt.journal.is_shared:
            self._found = yield from find_keys("on_object", self.change.subject)
        for key, other in self._found.items():
            if isinstance(other, CorruptEntry):
                raise Bitrix24ConfigError(*messages.other_is_corrupt(self.change.subject, key, other.why))
            pending = other.pending_send()
            if pending is not None and pending.settle_until > attempt.portal_clock.at_the_earliest:
                raise PaymentInProgress(*messages.other_may_arrive(self.change.subject, pending.by, key))

    def place(self, record: Record) -> Record:
        """Return the record that is about to be sent with its place after all that has ended."""
        if record.possible_sends or not self._found:
            return record
        places = [other.place or 1 for other in self._found.values() if not isinstance(other, CorruptEntry)]
        return record.placed(1 + max(places, default=0))
