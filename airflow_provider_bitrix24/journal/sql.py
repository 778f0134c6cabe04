"""The journal in a SQL database: one row per portal and key, seen by all runs and all workers.

No transaction is open while the portal is asked. Leases are by the database's clock, the only one that all workers
share.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from airflow_provider_bitrix24.at_most_once.record import CorruptEntry, Record, read_or_corrupt
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError
from airflow_provider_bitrix24.journal import portals
from airflow_provider_bitrix24.journal.protocol import Busy, Journal, Loaded
from airflow_provider_bitrix24.journal.sql_transaction import Transaction, Version, Write
from airflow_provider_bitrix24.journal.tables import CLAIMS, KEYS, LATE_REPLIES, SCHEMA, digest_of
from airflow_provider_bitrix24.journal.terminal import key_command

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from airflow_provider_bitrix24.at_most_once.record import Evidence
    from airflow_provider_bitrix24.journal.protocol import Change, Saved
    from airflow_provider_bitrix24.journal.terminal import Verb
    from airflow_provider_bitrix24.sql import Database


class SqlJournal(Journal):
    """A journal in a SQL database; its tables are created on first use.

    :param database: the database.
    :param owner: which attempt of which task this is, for others to read; see :func:`owner_of`.
    :param conn_id: the database's Airflow connection, for the commands in messages.
    :param host: the portal's host, which has one name in the journal; None if no portal is written to.
    """

    durable = True
    is_shared = True

    def __init__(self, database: Database, owner: str, conn_id: str = "YOUR_JOURNAL", host: str | None = None) -> None:
        self._database = database
        self._owner = owner
        self._conn_id = conn_id
        self._host = None if host is None else portals.Host(host, conn_id)
        self._registered: set[str] = set()
        self._versions: dict[tuple[str, str], Version] = {}
        self._leased: set[tuple[str, str]] = set()
        self.name = database.name

    # -- load, save, release

    def load(self, portal: str, keys: Collection[str]) -> Mapping[str, Loaded]:
        """Return the rows of the keys, by one SELECT, which also reads the clock."""
        self._prepare(portal)
        digests = {digest_of(key): key for key in keys}
        one = sa.select(sa.literal(1).label("one")).subquery()
        here = sa.and_(KEYS.c.portal == portal, KEYS.c.key_digest.in_(digests))
        query = sa.select(self._database.now.label("read_at"), KEYS).select_from(one.outerjoin(KEYS, here))
        with self._database.begin(reads=True) as connection:
            rows = connection.execute(query).all()
        read_at = min(row.read_at for row in rows)
        found = {digests[row.key_digest]: row for row in rows if row.key_digest is not None}
        for key in keys:
            epoch = found[key].epoch if key in found else None
            self._versions[portal, key] = Version(epoch, read_at)
        return {key: self._loaded(found[key], read_at) if key in found else Loaded() for key in keys}

    def _loaded(self, row: Any, now: float) -> Loaded:
        busy = None
        if row.owner != self._owner and row.lease_expires_at > now:
            busy = Busy(row.owner, row.lease_expires_at - now, row.epoch)
        try:
            return Loaded(record=Record.read(row.document, where=self.name), busy=busy)
        except Bitrix24ConfigError as error:
            return Loaded(error=error, busy=busy)

    def save(self, changes: Sequence[Change]) -> Mapping[str, Saved]:
        """Save in one transaction."""
        if not changes:
            return {}
        writes = sorted((self._write(change) for change in changes), key=lambda write: write.digest)
        leases = {(write.record.portal, write.record.key) for write in writes if write.change.lease}
        self._leased |= leases  # also if it is not known whether they were saved
        [portal] = {write.record.portal for write in writes}
        self._prepare(portal)
        saved = self._database.transact(
            lambda connection: Transaction(connection, self._database, self._owner, self._host).save(writes)
        )
        for write in writes:
            name = write.record.portal, write.record.key
            if saved[write.record.key].outcome == "saved":
                self._versions[name] = Version(write.next_epoch, write.version.read_at)
                if write.change.lease == 0:
                    self._leased.discard(name)
        return saved

    def _write(self, change: Change) -> Write:
        return Write(change, self._versions.get((change.record.portal, change.record.key), Version()))

    def keep_late_replies(self, changes: Iterable[Change]) -> None:
        """Keep what an attempt knows that Airflow has given up, and that may not write its rows any more."""
        writes = [self._write(change) for change in changes]
        if writes:
            self._database.transact(
                lambda connection: Transaction(connection, self._database, self._owner).keep_late_replies(writes)
            )

    def release(self, portal: str, keys: Collection[str]) -> None:
        """End the leases of this attempt; those that it has ended already need no transaction."""
        digests = [digest_of(key) for key in keys if (portal, key) in self._leased]
        if not digests:
            return
        mine = (KEYS.c.portal == portal, KEYS.c.key_digest.in_(digests), KEYS.c.owner == self._owner)
        try:
            self._database.transact(
                lambda connection: connection.execute(KEYS.update().where(*mine).values(lease_expires_at=0))
            )
        except Bitrix24StoreError:
            return  # a lease ends by itself
        self._leased -= {(portal, key) for key in keys}

    # -- evidence

    def late_replies(self, portal: str, keys: Collection[str]) -> Mapping[str, int]:
        """Return the payments that were named to overtaken attempts."""
        digests = {digest_of(key): key for key in keys}
        query = sa.select(LATE_REPLIES.c.key_digest, LATE_REPLIES.c.payment_id).where(
            LATE_REPLIES.c.portal == portal,
            LATE_REPLIES.c.key_digest.in_(digests),
            LATE_REPLIES.c.payment_id.is_not(None),
        )
        with self._database.begin(reads=True) as connection:
            # The first one counts, so it comes last here.
            rows = connection.execute(query.order_by(LATE_REPLIES.c.id.desc())).all()
        return {digests[row.key_digest]: row.payment_id for row in rows}

    def claims_of_others(
        self, portal: str, payment_ids: Mapping[str, Collection[int]]
    ) -> Mapping[str, Mapping[int, Evidence | None]]:
        """Return the claims of other keys on these payments."""
        wanted = {one for each in payment_ids.values() for one in each}
        same_key = sa.and_(KEYS.c.portal == CLAIMS.c.portal, KEYS.c.key_digest == CLAIMS.c.key_digest)
        query = (
            sa.select(CLAIMS.c.payment_id, CLAIMS.c.journal_key, KEYS.c.document)
            .select_from(CLAIMS.outerjoin(KEYS, same_key))
            .where(CLAIMS.c.portal == portal, CLAIMS.c.payment_id.in_(wanted))
        )
        with self._database.begin(reads=True) as connection:
            claims = connection.execute(query).all()
        return {
            key: {
                claim.payment_id: _evidence_for(claim.payment_id, claim.document)
                for claim in claims
                if claim.payment_id in mine and claim.journal_key != key
            }
            for key, mine in payment_ids.items()
        }

    def unresolved_keys(
        self, portal: str, subjects: Mapping[str, str]
    ) -> Mapping[str, Mapping[str, Record | CorruptEntry]]:
        """Return the other keys with an unknown outcome on the same objects, by one SELECT."""
        return self._other_keys(portal, subjects, unresolved=True)

    def keys_on_object(
        self, portal: str, subjects: Mapping[str, str]
    ) -> Mapping[str, Mapping[str, Record | CorruptEntry]]:
        """Return the other keys about the same objects, by one SELECT."""
        return self._other_keys(portal, subjects, unresolved=False)

    def _other_keys(
        self, portal: str, subjects: Mapping[str, str], *, unresolved: bool
    ) -> Mapping[str, Mapping[str, Record | CorruptEntry]]:
        here = KEYS.c.portal == portal, KEYS.c.subject.in_(set(subjects.values()))
        with self._database.begin(reads=True) as connection:
            rows = connection.execute(sa.select(KEYS).where(*here).order_by(KEYS.c.key_digest)).all()
        since = {row.journal_key: row.snapshot_after for row in rows}
        return {
            key: {
                row.journal_key: read_or_corrupt(row.document, portal=portal, key=row.journal_key, where=self.name)
                for row in rows
                if row.subject == subject and row.journal_key != key
                if not unresolved or (row.unknown == 1 and _may_be_later(row.settle_until, since.get(key)))
            }
            for key, subject in subjects.items()
        }

    # -- for the command line

    def command(self, verb: Verb, key: str) -> str:
        """The command at a terminal about a key."""
        return key_command(verb, key, self._conn_id)

    def entries(self, key: str | None = None, *, part: bool = False) -> Iterator[Record | CorruptEntry]:
        """All entries, the ones written last first.

        :param key: only that of this key, on whatever portal.
        :param part: the key may go on, before or after what is given.
        :raises Bitrix24ConfigError: there is no journal in the database; none is created.
        """
        self.require()
        query = sa.select(KEYS.c.portal, KEYS.c.journal_key, KEYS.c.document)
        if key is not None:
            column = KEYS.c.journal_key
            whole = KEYS.c.key_digest == digest_of(key)
            goes_on = column.startswith(key, autoescape=True) | column.endswith(key, autoescape=True)
            query = query.where(goes_on if part else whole)
        with self._database.begin(reads=True) as connection:
            rows = connection.execute(query.order_by(KEYS.c.updated_at.desc(), KEYS.c.key_digest)).all()
        for row in rows:
            yield read_or_corrupt(row.document, portal=row.portal, key=row.journal_key, where=self.name)

    def require(self) -> None:
        """Make sure that there is a journal, and that this release can read it.

        :raises Bitrix24ConfigError: there is none, and none is created; or it cannot.
        """
        if self._database.version(SCHEMA) is None:
            raise Bitrix24ConfigError(
                f"There is no journal in {self.name}: no operator has worked with it yet, or it is not the one that "
                "the operators use.",
                "Nothing was created or changed.",
            )
        self._require()

    def _prepare(self, portal: str) -> None:
        """Make sure that the tables are there, and that the portal has this name in them."""
        self._require()
        if self._host is not None and portal not in self._registered:
            self._host.register(self._database, portal)
            self._registered.add(portal)

    def _require(self) -> None:
        try:
            return self._database.require(SCHEMA)
        except Bitrix24ConfigError as error:
            unfit = error.after("What was sent before is in there: money may have been recorded.")
        raise unfit


def owner_of(who: str) -> str:
    """Return the unique name of one attempt as the owner of a row; no attempt of another Airflow has it either.

    :param who: which attempt of which task, for people.
    """
    return f"{who}:{secrets.token_hex(8)}"  # rule: the owner of a row is one attempt


def _evidence_for(payment_id: int, document: str | None) -> Evidence | None:
    """On what evidence a key has this payment; None if its entry does not say."""
    try:
        record = Record.read(document, where="the journal")
    except Bitrix24ConfigError:
        return None
    return record.evidence if record.payment_id == payment_id else None


def _may_be_later(settle_until: float | None, since: float | None) -> bool:
    """Whether something of a key may have arrived after a time.

    A row that was taken over from the task state has no times: when its key was at work is not known.
    """
    return settle_until is None or since is None or settle_until >= since  # rule: a key without times counts
