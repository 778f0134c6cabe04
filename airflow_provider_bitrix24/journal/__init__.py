"""The journal: what is written down before a payment is sent, so that a later attempt knows.

A `Journal` has a `Page` for each key. Two kinds outlive the attempt, Airflow's task state store and a SQL database; one
kind forgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_provider_bitrix24.journal.entry import Decision, Entry, Send

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_bitrix24.journal.commands import Verb
    from airflow_provider_bitrix24.journal.entry import Evidence, Unreadable

__all__ = ["Busy", "Claimed", "Decision", "Entry", "Forgetful", "Journal", "Page", "Send"]


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else is at work on the key."""

    owner: str
    seconds: float
    """How long it may still take until nothing of theirs can arrive any more; measured when the page was read."""
    epoch: int
    """Grows with everything that is written."""


class Claimed(Exception):
    """Another key has claimed the payment.

    :param key: the other key.
    :param payment_id: the payment.
    """

    def __init__(self, key: str, payment_id: int) -> None:
        super().__init__(key, payment_id)
        self.key = key
        self.payment_id = payment_id


class Page(Protocol):
    """One key in a journal, as one attempt sees it."""

    def read(self) -> Entry | None:
        """Return the entry; None if there is none.

        :raises Bitrix24StoreError: the journal cannot be reached.
        :raises Bitrix24ConfigError: the entry cannot be understood.
        """

    @property
    def busy(self) -> Busy | None:
        """Who else was at work on the key when it was last read; None if nobody was."""

    @property
    def behind(self) -> bool:
        """Whether what was last read is not kept here yet, but only in the task state of this task."""

    @property
    def forgot(self) -> str:
        """Why an entry must have been lost, if the last read found none; empty if there need not have been one."""

    def open(self, entry: Entry) -> bool:
        """Note, before the portal is read, that work on the key has begun, if the journal has no entry yet.

        A later attempt that finds no entry then knows that the journal has forgotten this one.

        :return: whether the entry is the journal's now; if not, somebody else's is, and has to be read.
        :raises PaymentInProgress: this attempt was overtaken.
        :raises Bitrix24StoreError: the journal cannot be reached.
        """

    def write(self, entry: Entry, *, hold: float | None = None) -> None:
        """Write the entry, and claim its payment, and no other, for this key. When this returns, it is kept.

        A payment of which a person is asked whether it is this key's is claimed only if no other key has claimed it.

        :param hold: for how many seconds, from now on, nobody else may take over; 0 lets go, None leaves it as it is.
        :raises PaymentInProgress: somebody has written since it was read, or this attempt was overtaken. What was to be
            written is kept as an observation where the journal can do that.
        :raises Claimed: another key has claimed the payment; nothing was written.
        :raises Bitrix24StoreError: the journal cannot be reached; whether it was written is not known.
        """

    def release(self) -> None:
        """Let go of the key, whatever state it is in; never raises."""

    def observed_payment(self) -> int | None:
        """Return the id of a payment that an overtaken attempt was told by the portal; None if there is none."""

    def claimed_by_others(self, payment_ids: Collection[int]) -> Mapping[int, Evidence | None]:
        """Return those payments that other keys have claimed, and on what evidence; None if that cannot be told."""

    def rivals(self, subject: str) -> Mapping[str, Entry | Unreadable]:
        """Return the keys that may have written to the same object since our snapshot, with an unknown result.

        A key whose payment is claimed is none: its payment is known.
        """


class Journal(Protocol):
    """A place where pages are kept."""

    name: str
    """What messages call it."""
    durable: bool
    """Whether it outlives the attempt."""
    across_runs: bool
    """Whether other runs see it: whether a key given by the author holds in all of them."""
    knows_rivals: bool
    """Whether it shows which other keys of ours wrote to an object."""

    def page(self, portal: str, key: str) -> Page:
        """Return the page of a key."""

    def command(self, verb: Verb, key: str) -> str | None:
        """The command at a terminal that shows a key or decides about it, whole; None where there is none."""


class Forgetful:
    """No journal: what one attempt knows is gone with it."""

    name = "no journal"
    durable = False
    across_runs = False
    knows_rivals = False

    def page(self, portal: str, key: str) -> Page:
        """Return an empty page."""
        return _Sheet()

    def command(self, verb: Verb, key: str) -> None:
        """There is nothing to show, and nobody would remember a decision."""


class _Sheet:
    """A page that nobody else will ever see."""

    busy = None
    behind = False
    forgot = ""

    def __init__(self) -> None:
        self._entry: Entry | None = None

    def read(self) -> Entry | None:
        return self._entry

    def open(self, entry: Entry) -> bool:
        return True

    def write(self, entry: Entry, *, hold: float | None = None) -> None:
        self._entry = entry

    def release(self) -> None:
        pass

    def observed_payment(self) -> int | None:
        return None

    def claimed_by_others(self, payment_ids: Collection[int]) -> Mapping[int, Evidence | None]:
        return {}

    def rivals(self, subject: str) -> Mapping[str, Entry | Unreadable]:
        return {}
