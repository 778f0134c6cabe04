"""What an attempt may ask of a journal: load, save and release many keys at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_provider_bitrix24.at_most_once.record import CorruptEntry, Evidence, Record
    from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
    from airflow_provider_bitrix24.journal.terminal import Verb


@dataclass(frozen=True, slots=True)
class Busy:
    """Another attempt is at work on the key."""

    owner: str
    seconds: float
    """How long it may still take until nothing of theirs can arrive any more; measured when the key was loaded."""
    epoch: int
    """Grows with everything that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the journal has of one key."""

    record: Record | None = None
    error: Bitrix24ConfigError | None = None
    """Why nobody may work on the key: its entry cannot be read, or the task instance works on another key."""
    busy: Busy | None = None
    """Who else is at work on it; None if nobody is."""
    behind: bool = False
    """Whether the record is not kept in the journal itself yet, but only in the task state of this task."""
    forgot: str = ""
    """Why a record must have been lost, if there is none; empty if there need not have been one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One record to save.

    :param lease: for how many seconds, from now on, no other attempt may take over; 0 ends the lease, None leaves it.
    :param opens: note that work on the key has begun, before the portal is read, if the journal has no record of it.
        A later attempt that finds no record then knows that the journal has forgotten this one. Its lease is 0.
    """

    record: Record
    lease: float | None = None
    opens: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """The outcome of one change.

    ``saved``: it is kept. Its payment, and no other, is claimed for its key.
    ``exists``: the key was to be opened, and another attempt has done so: load it.
    ``overtaken``: another attempt has written since the key was loaded, or is at work on it, or Airflow has given this
    attempt up. Nothing was written; what was to be written is kept as a late reply where the journal can do that.
    ``claimed``: another key has claimed the payment; nothing was written.
    """

    outcome: Literal["saved", "exists", "overtaken", "claimed"]
    message: str = ""
    """What happened, in words, if it was overtaken."""
    claimed_by: str = ""
    """The other key, if that has claimed the payment."""
    payment_id: int | None = None
    """The payment that the other key has claimed."""


class Journal(Protocol):
    """A journal, as one attempt sees it. It remembers which version of each key the attempt has loaded or saved.

    Each method but :meth:`release` raises :class:`Bitrix24StoreError` if the journal cannot be reached. It is not known
    then whether anything was written; saving the same change again tells.

    What has a body here is that of a journal which knows no other keys and attempts.
    """

    name: str
    """What messages call it."""
    durable: bool
    """Whether it outlives the attempt."""
    is_shared: bool = False
    """Whether it shows which other keys of ours wrote to an object."""

    def load(self, portal: str, keys: Collection[str]) -> Mapping[str, Loaded]:
        """Return what the journal has of each key; every key is in the answer.

        :raises Bitrix24ConfigError: the journal itself is not fit: its tables are of another release, or it knows the
            portal by another name.
        :raises PaymentInProgress: Airflow has given this attempt up.
        """

    def save(self, changes: Sequence[Change]) -> Mapping[str, Saved]:
        """Save records, at most one of each key, all of one portal, in one transaction.

        A change that cannot be saved is left out; all others are saved. When this returns, they are kept.
        Nothing is saved if the portal was given another name in the journal.

        A payment of which a person is asked whether it is this key's is claimed only if no other key has claimed it.

        :raises Bitrix24ConfigError: the journal itself is not fit, as in :meth:`load`.
        """

    def release(self, portal: str, keys: Collection[str]) -> None:
        """End this attempt's leases of the keys, whatever state they are in; never raises."""
        return

    def late_replies(self, portal: str, keys: Collection[str]) -> Mapping[str, int]:
        """Return, by key, the payment that the portal's reply named to an attempt that was overtaken."""
        return {}

    def claims_of_others(
        self, portal: str, payment_ids: Mapping[str, Collection[int]]
    ) -> Mapping[str, Mapping[int, Evidence | None]]:
        """Return, for each key, those of its payments that other keys have claimed, and on what evidence.

        The evidence is None if the other key's record does not tell.

        :param payment_ids: payments by key.
        """
        return {key: {} for key in payment_ids}

    def unresolved_keys(
        self, portal: str, subjects: Mapping[str, str]
    ) -> Mapping[str, Mapping[str, Record | CorruptEntry]]:
        """Return, for each key, the keys that may have written to the same object since its snapshot.

        Their outcome is unknown. A key whose payment is known, and so claimed, is none of them.

        :param subjects: the object of each key.
        """
        return {key: {} for key in subjects}

    def keys_on_object(
        self, portal: str, subjects: Mapping[str, str]
    ) -> Mapping[str, Mapping[str, Record | CorruptEntry]]:
        """Return, for each key, what the journal has of all other keys about the same object.

        :param subjects: the object of each key.
        """
        return {key: {} for key in subjects}

    def command(self, verb: Verb, key: str) -> str | None:
        """The command at a terminal that shows a key or decides about it, whole; None where there is none."""
        return None


class NullJournal(Journal):
    """No journal: what one attempt knows is gone with it."""

    name = "no journal"
    durable = False

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}

    def load(self, portal: str, keys: Collection[str]) -> Mapping[str, Loaded]:
        """Return what this attempt has saved."""
        return {key: Loaded(record=self._records.get((portal, key))) for key in keys}

    def save(self, changes: Sequence[Change]) -> Mapping[str, Saved]:
        """Remember the records as long as the attempt lasts."""
        self._records |= {(change.record.portal, change.record.key): change.record for change in changes}
        return {change.record.key: Saved(outcome="saved") for change in changes}
