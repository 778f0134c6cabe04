"""Save many keys in a SQL journal, in one transaction.

A row is written by compare-and-set: every write raises its ``epoch`` and must change exactly the row that was loaded.
The transaction decides on what it has read, and writes the rows in the order of their digests, so that transactions
with common keys do not wait for one another in a circle. If a row has changed meanwhile, it runs again from its
beginning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from airflow_provider_bitrix24.journal.protocol import Change, Saved
from airflow_provider_bitrix24.journal.tables import CLAIMS, KEYS, LATE_REPLIES, digest_of
from airflow_provider_bitrix24.sql import Collision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_bitrix24.at_most_once.record import Record
    from airflow_provider_bitrix24.journal.portals import Host
    from airflow_provider_bitrix24.sql import Database


@dataclass(frozen=True, slots=True)
class Version:
    """What this attempt knows of a row."""

    epoch: int | None = None
    """None if there is no row."""
    read_at: float | None = None
    """The database's clock when it was loaded last."""


@dataclass(frozen=True)
class Write:
    """One change, and the row that it is about."""

    change: Change
    version: Version

    @property
    def record(self) -> Record:
        """What is to be saved."""
        return self.change.record

    @cached_property
    def digest(self) -> str:
        """What stands for its key."""
        return digest_of(self.record.key)

    @cached_property
    def document(self) -> str:
        """The record as JSON."""
        return json.dumps(self.record.document(), ensure_ascii=False)

    @property
    def next_epoch(self) -> int:
        """The row's epoch after this write."""
        return (self.version.epoch or 0) + 1

    @property
    def payment_id(self) -> int | None:
        """The payment that is this key's alone: what was there before, and is only returned, is returned to many."""
        return self.record.payment_id if self.record.evidence != "portal_state" else None

    @property
    def named_by_reply(self) -> int | None:
        """The payment that the portal's reply named; all else is a conclusion that others may not share."""
        proved = self.record.evidence == "response"  # rule: a conclusion is no reply
        return self.record.payment_id if proved else None

    @property
    def may_share(self) -> bool:
        """Whether another key may have claimed the payment: a person is asked, or has abandoned this key."""
        record = self.record
        asked = record.question is not None and record.payment_id in record.candidates
        return asked or record.abandonment is not None


class Transaction:
    """Saves changes in one open transaction.

    :param host: the portal's host, if its name is to be locked while keys are inserted.
    """

    def __init__(self, connection: sa.Connection, database: Database, owner: str, host: Host | None = None) -> None:
        self._connection = connection
        self._now = database.now
        self._owner = owner
        self._host = host
        self._leased = sa.and_(KEYS.c.owner != owner, KEYS.c.lease_expires_at > self._now)
        self._updates: dict[tuple[str, ...], sa.Update] = {}

    def save(self, writes: Sequence[Write]) -> dict[str, Saved]:
        """Save what can be saved.

        :param writes: in the order of their digests.
        :raises Collision: another transaction has written a row since this one began.
        """
        portal = writes[0].record.portal
        inserts, updates, saved = self._decide(portal, writes)
        claims = _Claims(self._connection, portal)
        saved |= claims.settle([*inserts, *updates])
        inserts, updates = ([one for one in part if _is_saved(one, saved)] for part in (inserts, updates))
        if inserts and self._host is not None:
            self._host.hold(self._connection, portal)  # rule: a portal keeps its name while a key is written
        for write in updates:
            self._update(write)
        if inserts:
            self._connection.execute(KEYS.insert().values([self._new_row(write) for write in inserts]))
        claims.write()
        self.keep_late_replies([write for write in writes if saved[write.record.key].outcome == "overtaken"])
        return saved

    def _decide(self, portal: str, writes: Sequence[Write]) -> tuple[list[Write], list[Write], dict[str, Saved]]:
        """What is to be inserted, what is to be updated, and the outcome of all else."""
        query = sa.select(
            KEYS.c.key_digest, KEYS.c.epoch, KEYS.c.owner, KEYS.c.document, self._leased.label("leased")
        ).where(KEYS.c.portal == portal, KEYS.c.key_digest.in_([write.digest for write in writes]))
        rows = {row.key_digest: row for row in self._connection.execute(query)}
        inserts: list[Write] = []
        updates: list[Write] = []
        saved: dict[str, Saved] = {}
        for write in writes:
            row, key = rows.get(write.digest), write.record.key
            if row is None and write.version.epoch is None:
                inserts.append(write)
            elif write.change.opens:
                saved[key] = Saved(outcome="exists")
            elif row is None:
                saved[key] = self._overtaken(write, None)
            elif (row.epoch, row.owner, row.document) == (write.next_epoch, self._owner, write.document):
                saved[key] = Saved(outcome="saved")  # by a transaction whose confirmation was lost
            elif row.epoch == write.version.epoch and not row.leased:  # rule: epoch
                updates.append(write)
            else:
                saved[key] = self._overtaken(write, row.owner)
        return inserts, updates, saved

    @staticmethod
    def _overtaken(write: Write, owner: str | None) -> Saved:
        return Saved(
            outcome="overtaken",
            message=(
                f"Another task is at work on {write.record.key!r} ({write.record.subject}): {owner}. This attempt "
                "sends nothing more; what it knows is kept in the journal. The next attempt reads the outcome."
            ),
        )

    def _values(self, write: Write) -> dict[str, Any]:
        record = write.record
        values: dict[str, Any] = {
            "subject": record.subject,
            "state": record.state,
            "owner": self._owner,
            "unknown": int(_is_unknown(record)),
            "document": write.document,
        }
        if "settle_until" in _ends(write) and len(record.possible_sends) == 1:
            # The snapshot that the record holds was asked for after this.
            values["snapshot_after"] = write.version.read_at  # rule: other keys since the snapshot
        return values

    def _new_row(self, write: Write) -> dict[str, Any]:
        return {
            "portal": write.record.portal,
            "key_digest": write.digest,
            "journal_key": write.record.key,
            "epoch": 1,
            "lease_expires_at": self._now,
            "settle_until": None,
            "snapshot_after": None,
            "created_at": self._now,
            "updated_at": self._now,
            **dict.fromkeys(_ends(write), self._now + (write.change.lease or 0)),
            **self._values(write),
        }

    def _update(self, write: Write) -> None:
        ends = _ends(write)
        if ends not in self._updates:
            self._updates[ends] = self._update_of(ends)
        row = {"of_portal": write.record.portal, "digest": write.digest, "loaded_epoch": write.version.epoch}
        lease = {"lease": write.change.lease} if ends else {}
        if self._connection.execute(self._updates[ends], {**self._values(write), **row, **lease}).rowcount != 1:
            raise Collision

    def _update_of(self, ends: tuple[str, ...]) -> sa.Update:
        """The statement for all rows that change the same columns: it takes much longer to make than to execute."""
        unchanged = (
            KEYS.c.portal == sa.bindparam("of_portal"),
            KEYS.c.key_digest == sa.bindparam("digest"),
            KEYS.c.epoch == sa.bindparam("loaded_epoch"),
            sa.not_(self._leased),
        )
        times = {"updated_at": self._now, **dict.fromkeys(ends, self._now + sa.bindparam("lease"))}
        return KEYS.update().where(*unchanged).values(epoch=KEYS.c.epoch + 1, **times)

    def keep_late_replies(self, writes: Sequence[Write]) -> None:
        """Keep what is known of sends that were made; an intent that was not saved says nothing."""
        rows = [
            {
                "portal": write.record.portal,
                "key_digest": write.digest,
                "owner": self._owner,
                "at": self._now,
                "payment_id": write.named_by_reply,
                "document": write.document,
            }
            for write in writes
            if write.record.pending_send() is None and not write.change.opens
        ]
        if rows:
            self._connection.execute(LATE_REPLIES.insert().values(rows))


class _Claims:
    """The claims of one portal that a transaction reads and changes: payment -> digest and text of its key."""

    def __init__(self, connection: sa.Connection, portal: str) -> None:
        self._connection = connection
        self._portal = portal
        self._found: dict[int, tuple[str, str]] = {}
        self._owners: dict[int, tuple[str, str]] = {}

    def settle(self, writes: Sequence[Write]) -> dict[str, Saved]:
        """Decide which writes may claim their payments, each of which releases any other one."""
        wanted = {write.payment_id for write in writes} - {None}
        # A key releases a payment only by a person's decision.
        decided = {write.digest for write in writes if write.record.decisions}
        if wanted or decided:
            mine = sa.or_(CLAIMS.c.payment_id.in_(wanted), CLAIMS.c.key_digest.in_(decided))
            found = self._connection.execute(sa.select(CLAIMS).where(CLAIMS.c.portal == self._portal, mine))
            self._found = {row.payment_id: (row.key_digest, row.journal_key) for row in found}
        self._owners = dict(self._found)
        return {write.record.key: self._claim(write) for write in writes}

    def _claim(self, write: Write) -> Saved:
        payment_id, me = write.payment_id, (write.digest, write.record.key)
        owner = me if payment_id is None else self._owners.get(payment_id, me)
        if owner != me and not write.may_share:  # rule: claims
            return Saved(outcome="claimed", claimed_by=owner[1], payment_id=payment_id)
        if write.record.decisions:  # rule: claims end
            self._owners = {one: key for one, key in self._owners.items() if key != me or one == payment_id}
        if payment_id is not None:
            self._owners.setdefault(payment_id, me)
        return Saved(outcome="saved")

    def write(self) -> None:
        """Write the changes.

        :raises Collision: another transaction has changed a claim.
        """
        for payment_id, (digest, _) in sorted(self._found.items() - self._owners.items()):
            mine = CLAIMS.c.portal == self._portal, CLAIMS.c.payment_id == payment_id, CLAIMS.c.key_digest == digest
            if self._connection.execute(CLAIMS.delete().where(*mine)).rowcount != 1:
                raise Collision
        rows = [
            {"portal": self._portal, "payment_id": payment_id, "key_digest": digest, "journal_key": key}
            for payment_id, (digest, key) in sorted(self._owners.items() - self._found.items())
        ]
        if rows:
            self._connection.execute(CLAIMS.insert().values(rows))


def _ends(write: Write) -> tuple[str, ...]:
    """The columns that are set to the end of the lease."""
    if write.change.lease is None:
        return ()
    sends = write.change.lease and write.record.pending_send() is not None
    return ("lease_expires_at", "settle_until") if sends else ("lease_expires_at",)


def _is_saved(write: Write, saved: Mapping[str, Saved]) -> bool:
    return saved[write.record.key].outcome == "saved"


def _is_unknown(record: Record) -> bool:
    """Whether it is not known which payment, if any, is the outcome of the last send; a known one is claimed."""
    last = record.last_send()
    unknown = record.forgotten or (last is not None and last.result in ("pending", "inconclusive"))
    return unknown and record.payment_id is None
