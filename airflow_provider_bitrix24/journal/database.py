"""The journal in a SQL database: one row per portal and key, seen by all runs and all workers.

A row is written by compare-and-set: every write raises its ``epoch`` and must change exactly the row that was read. No
transaction is open while the portal is asked. Terms are by the database's clock, the only one that all workers share.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any, Final, NoReturn

import sqlalchemy as sa

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError, PaymentInProgress
from airflow_provider_bitrix24.journal import Busy, Claimed, portals
from airflow_provider_bitrix24.journal.commands import InDatabase
from airflow_provider_bitrix24.journal.entry import Entry, Unreadable, read_or_say
from airflow_provider_bitrix24.sql import Schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from airflow_provider_bitrix24.journal import Journal, Page
    from airflow_provider_bitrix24.journal.commands import Verb
    from airflow_provider_bitrix24.journal.entry import Evidence
    from airflow_provider_bitrix24.sql import Database

_METADATA = sa.MetaData()
_LONG = sa.Text().with_variant(sa.Text(2**24 - 1), "mysql").with_variant(sa.Text(2**24 - 1), "mariadb")
_KEYS = sa.Table(
    "bitrix24_journal",
    _METADATA,
    sa.Column("portal", sa.String(255), primary_key=True),
    sa.Column("key_digest", sa.String(64), primary_key=True),
    sa.Column("journal_key", sa.Text, nullable=False),
    sa.Column("subject", sa.String(100), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("held_until", sa.Float(53), nullable=False),
    sa.Column("snapshot_after", sa.Float(53)),
    sa.Column("settle_until", sa.Float(53)),
    sa.Column("unknown", sa.Integer, nullable=False),
    sa.Column("document", _LONG, nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("updated_at", sa.Float(53), nullable=False),
    sa.Index("bitrix24_journal_subject", "portal", "subject"),
)
_CLAIMS = sa.Table(
    "bitrix24_claim",
    _METADATA,
    sa.Column("portal", sa.String(255), primary_key=True),
    sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key_digest", sa.String(64), nullable=False),
    sa.Column("journal_key", sa.Text, nullable=False),
)
_OBSERVATIONS = sa.Table(
    "bitrix24_observation",
    _METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("portal", sa.String(255), nullable=False),
    sa.Column("key_digest", sa.String(64), nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("at", sa.Float(53), nullable=False),
    sa.Column("payment_id", sa.BigInteger),
    sa.Column("document", _LONG, nullable=False),
    sa.Index("bitrix24_observation_key", "portal", "key_digest"),
)
SCHEMA: Final = Schema("journal", (_METADATA.create_all, portals.create))


class SqlJournal:
    """Pages in a SQL database; its tables are made on first use.

    :param database: the database.
    :param owner: which attempt of which task this is, for others to read; see :func:`owner_of`.
    :param fence: the journal in the task state store, where there is one: written before each row, because Airflow
        refuses such a write to an attempt that it has given up.
    :param conn_id: the database's Airflow connection, for the commands in messages.
    :param host: the portal's host, which has one name in the journal; None if no portal is written to.
    """

    durable = True
    across_runs = True
    knows_rivals = True

    def __init__(
        self,
        database: Database,
        owner: str,
        fence: Journal | None = None,
        conn_id: str = "YOUR_JOURNAL",
        host: str | None = None,
    ) -> None:
        self._database = database
        self._owner = owner
        self._fence = fence
        self._place = InDatabase(conn_id)
        self._host = None if host is None else portals.Host(host, conn_id)
        self.name = database.name

    def page(self, portal: str, key: str) -> Page:
        """Return the page of a key."""
        self._require()
        if self._host is not None:
            self._host.register(self._database, portal)
        fence = self._fence.page(portal, key) if self._fence is not None else None
        return _Row(self._database, self._owner, portal, key, fence, self._host)

    def command(self, verb: Verb, key: str) -> str:
        """The command at a terminal about a key."""
        return self._place.command(verb, key)

    def entries(self, key: str | None = None, *, part: bool = False) -> Iterator[Entry | Unreadable]:
        """All entries, the ones written last first.

        :param key: only that of this key, on whatever portal.
        :param part: the key may go on, before or after what is given.
        :raises Bitrix24ConfigError: there is no journal in the database; none is made.
        """
        self.require()
        query = sa.select(_KEYS.c.portal, _KEYS.c.journal_key, _KEYS.c.document)
        if key is not None:
            column = _KEYS.c.journal_key
            whole = _KEYS.c.key_digest == _digest(key)
            goes_on = column.startswith(key, autoescape=True) | column.endswith(key, autoescape=True)
            query = query.where(goes_on if part else whole)
        with self._database.begin(reads=True) as connection:
            rows = connection.execute(query.order_by(_KEYS.c.updated_at.desc(), _KEYS.c.key_digest)).all()
        for row in rows:
            yield read_or_say(row.document, portal=row.portal, key=row.journal_key, where=self.name)

    def require(self) -> None:
        """Make sure that there is a journal, and that this release can read it.

        :raises Bitrix24ConfigError: there is none, and none is made; or it cannot.
        """
        if self._database.version(SCHEMA) is None:
            raise Bitrix24ConfigError(
                f"There is no journal in {self.name}: no operator has worked with it yet, or it is not the one that "
                "the operators use. Nothing was created or changed."
            )
        self._require()

    def _require(self) -> None:
        try:
            return self._database.require(SCHEMA)
        except Bitrix24ConfigError as error:
            unfit = error.after("What was sent before is in there, and MAY be on the books of the portal.")
        raise unfit


class _Row:
    """One key, as one attempt sees it."""

    def __init__(
        self,
        database: Database,
        owner: str,
        portal: str,
        key: str,
        fence: Page | None,
        host: portals.Host | None,
    ) -> None:
        self._database = database
        self._host = host
        self._owner = owner
        self._portal = portal
        self._key = key
        self._digest = _digest(key)
        self._fence = fence
        self._epoch: int | None = None
        self._read_at: float | None = None
        self.busy: Busy | None = None
        self.behind = False

    def read(self) -> Entry | None:
        with self._database.begin(reads=True) as connection:
            now = connection.execute(sa.select(self._database.now)).scalar_one()
            row = connection.execute(sa.select(_KEYS).where(*self._mine(_KEYS))).one_or_none()
        self._epoch, self.busy, self._read_at, entry = None, None, now, None
        if row is not None:
            self._epoch = row.epoch
            if row.owner != self._owner and row.held_until > now:
                self.busy = Busy(row.owner, row.held_until - now, row.epoch)
            entry = Entry.read(row.document, where=self._database.name)
        found = self._from_the_fence(entry)
        self.behind = found is not entry
        return found

    def _from_the_fence(self, entry: Entry | None) -> Entry | None:
        """What this task has noted in its task state, where the database does not know what was sent, or came of it.

        An earlier attempt may have had no database, or another one; or the database was away when the portal's response
        was to be written. But where it has noted nothing more, it does not know what people have decided since.
        """
        if self._fence is None or (entry is not None and not entry.free and not entry.open):
            return entry
        noted = self._fence.read()
        if noted is None or noted.free:
            return entry
        if entry is not None and entry.open:
            return noted if noted.goes_on_from(entry) else entry
        if entry is not None and len(entry.decisions) > len(noted.decisions) and {*noted.sends} <= {*entry.sends}:
            return entry
        return noted

    @property
    def forgot(self) -> str:
        return self._fence.forgot if self._fence is not None else ""

    def open(self, entry: Entry) -> bool:
        if self._fence is not None:
            self._fence.open(entry.but(kept_in=self._database.name))
        document = json.dumps(entry.document(), ensure_ascii=False)
        with self._database.begin() as connection:
            inserted = self._insert(connection, entry, document, 0)
            if not inserted:
                connection.rollback()
        if inserted:
            self._epoch = 1
        return inserted

    def write(self, entry: Entry, *, hold: float | None = None) -> None:
        document = json.dumps(entry.document(), ensure_ascii=False)
        if self._fence is not None:
            try:
                self._fence.write(entry.but(kept_in=self._database.name))
            except PaymentInProgress:
                self._observe(entry, document)
                raise
        with self._database.begin() as connection:
            self._claim(connection, entry)
            written = (
                self._insert(connection, entry, document, hold or 0)
                if self._epoch is None
                else (self._update(connection, entry, document, hold))
            )
            if not written:
                connection.rollback()
        if not written and not self._was_mine(document):
            self._overtaken(entry, document)
        self._epoch, self.behind = (self._epoch or 0) + 1, False

    def release(self) -> None:
        if self._epoch is None:
            return
        released = _KEYS.update().where(*self._mine(_KEYS), _KEYS.c.epoch == self._epoch, _KEYS.c.owner == self._owner)
        try:
            with self._database.begin() as connection:
                connection.execute(released.values(held_until=0))
        except Bitrix24StoreError:
            return  # its term ends by itself

    def observed_payment(self) -> int | None:
        query = sa.select(_OBSERVATIONS.c.payment_id).where(
            *self._mine(_OBSERVATIONS), _OBSERVATIONS.c.payment_id.is_not(None)
        )
        with self._database.begin(reads=True) as connection:
            found: int | None = connection.execute(query.order_by(_OBSERVATIONS.c.id)).scalars().first()
        return found

    def claimed_by_others(self, payment_ids: Collection[int]) -> Mapping[int, Evidence | None]:
        same_key = sa.and_(_KEYS.c.portal == _CLAIMS.c.portal, _KEYS.c.key_digest == _CLAIMS.c.key_digest)
        query = (
            sa.select(_CLAIMS.c.payment_id, _KEYS.c.document)
            .select_from(_CLAIMS.outerjoin(_KEYS, same_key))
            .where(
                _CLAIMS.c.portal == self._portal,
                _CLAIMS.c.payment_id.in_(payment_ids),
                _CLAIMS.c.key_digest != self._digest,
            )
        )
        with self._database.begin(reads=True) as connection:
            claims = connection.execute(query).all()
        return {claim.payment_id: _evidence_for(claim.payment_id, claim.document) for claim in claims}

    def rivals(self, subject: str) -> Mapping[str, Entry | Unreadable]:
        since = sa.select(_KEYS.c.snapshot_after).where(*self._mine(_KEYS)).scalar_subquery()
        query = sa.select(_KEYS.c.journal_key, _KEYS.c.document).where(
            _KEYS.c.portal == self._portal,
            _KEYS.c.subject == subject,
            _KEYS.c.key_digest != self._digest,
            _KEYS.c.unknown == 1,
            # A row that was taken over from the task state has no terms: when its key was at work is not known.
            sa.or_(since.is_(None), _KEYS.c.settle_until.is_(None), _KEYS.c.settle_until >= since),
        )
        with self._database.begin(reads=True) as connection:
            rows = connection.execute(query).all()
        return {
            row.journal_key: read_or_say(
                row.document, portal=self._portal, key=row.journal_key, where=self._database.name
            )
            for row in rows
        }

    # -- one transaction's parts

    def _mine(self, table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
        return table.c.portal == self._portal, table.c.key_digest == self._digest

    def _values(self, entry: Entry, document: str, hold: float | None) -> dict[str, Any]:
        now = self._database.now
        values: dict[str, Any] = {
            "state": entry.state,
            "owner": self._owner,
            "unknown": int(_is_unknown(entry)),
            "document": document,
            "updated_at": now,
        }
        if hold is not None:
            values["held_until"] = now + hold
        if hold and entry.open:
            values["settle_until"] = now + hold
            if entry.may_have_run == 1:
                # The snapshot that the entry holds was asked for after this.
                values["snapshot_after"] = self._read_at
        return values

    def _insert(self, connection: sa.Connection, entry: Entry, document: str, hold: float) -> bool:
        if self._host is not None:
            self._host.hold(connection, self._portal)
        taken = connection.execute(sa.select(_KEYS.c.epoch).where(*self._mine(_KEYS))).one_or_none()
        if taken is not None:
            return False
        values = self._values(entry, document, hold)
        try:
            connection.execute(
                _KEYS.insert().values(
                    portal=self._portal,
                    key_digest=self._digest,
                    journal_key=self._key,
                    subject=entry.subject,
                    epoch=1,
                    created_at=self._database.now,
                    **values,
                )
            )
        except sa.exc.IntegrityError:
            return False
        return True

    def _update(self, connection: sa.Connection, entry: Entry, document: str, hold: float | None) -> bool:
        held_by_others = sa.and_(_KEYS.c.owner != self._owner, _KEYS.c.held_until > self._database.now)
        changed = connection.execute(
            _KEYS.update()
            .where(*self._mine(_KEYS), _KEYS.c.epoch == self._epoch, sa.not_(held_by_others))
            .values(epoch=_KEYS.c.epoch + 1, subject=entry.subject, **self._values(entry, document, hold))
        )
        return changed.rowcount == 1

    def _claim(self, connection: sa.Connection, entry: Entry) -> None:
        """Claim the payment of the entry, and let go of any other one.

        :raises Claimed: another key has it, and no person is asked about that, or has given this key up.
        """
        payment_id = _claimed(entry)
        if entry.decisions:
            # Only for a person does a key let go. Looked up first: a deletion by search would lock the others' claims.
            held = connection.execute(sa.select(_CLAIMS.c.payment_id).where(*self._mine(_CLAIMS))).scalars().all()
            for one in set(held) - {payment_id}:
                connection.execute(_CLAIMS.delete().where(*self._mine(_CLAIMS), _CLAIMS.c.payment_id == one))
        if payment_id is None:
            return
        found = connection.execute(
            sa.select(_CLAIMS).where(_CLAIMS.c.portal == self._portal, _CLAIMS.c.payment_id == payment_id)
        ).one_or_none()
        if found is None:
            connection.execute(
                _CLAIMS.insert().values(
                    portal=self._portal, payment_id=payment_id, key_digest=self._digest, journal_key=self._key
                )
            )
        elif found.key_digest != self._digest and not _in_question(entry) and entry.given_up is None:
            raise Claimed(found.journal_key, payment_id)

    def _was_mine(self, document: str) -> bool:
        """Whether the write that seems to have failed was ours: its confirmation may have been lost."""
        with self._database.begin(reads=True) as connection:
            row = connection.execute(
                sa.select(_KEYS.c.epoch, _KEYS.c.owner, _KEYS.c.document).where(*self._mine(_KEYS))
            ).one_or_none()
        return row is not None and tuple(row) == ((self._epoch or 0) + 1, self._owner, document)

    def _overtaken(self, entry: Entry, document: str) -> NoReturn:
        owner = self._observe(entry, document)
        raise PaymentInProgress(
            f"Another task is at work on {self._key!r} ({entry.subject}): {owner}. This attempt sends nothing more; "
            "what it knows is kept in the journal. The next attempt reads the outcome."
        )

    def _observe(self, entry: Entry, document: str) -> str | None:
        """Keep what an attempt knows that may not write its row any more; return who has the row."""
        observation = _OBSERVATIONS.insert().values(
            portal=self._portal,
            key_digest=self._digest,
            owner=self._owner,
            at=self._database.now,
            # Only what the portal has answered is known of it; all else is a conclusion that others may not share.
            payment_id=entry.payment_id if entry.evidence == "answer" else None,
            document=document,
        )
        with self._database.begin() as connection:
            owner: str | None = connection.execute(sa.select(_KEYS.c.owner).where(*self._mine(_KEYS))).scalar()
            if entry.open is None:
                connection.execute(observation)
        return owner


def owner_of(who: str) -> str:
    """Return the unique name of one attempt as the owner of a row; no attempt of another Airflow has it either.

    :param who: which attempt of which task, for people.
    """
    return f"{who}:{secrets.token_hex(8)}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _claimed(entry: Entry) -> int | None:
    """The payment that is this key's alone: what was there before, and is only returned, is returned to many keys."""
    return entry.payment_id if entry.evidence != "state" else None


def _in_question(entry: Entry) -> bool:
    """Whether a person is asked if its payment is its own."""
    return entry.question is not None and entry.payment_id in entry.candidates


def _evidence_for(payment_id: int, document: str | None) -> Evidence | None:
    """On what evidence a key has this payment; None if its entry does not say."""
    try:
        entry = Entry.read(document, where="the journal")
    except Bitrix24ConfigError:
        return None
    return entry.evidence if entry.payment_id == payment_id else None


def _is_unknown(entry: Entry) -> bool:
    """Whether it is not known which payment, if any, came of the last send; a payment that is known is claimed."""
    unknown = entry.forgotten or (entry.last is not None and entry.last.result in ("open", "unclear"))
    return unknown and entry.payment_id is None
