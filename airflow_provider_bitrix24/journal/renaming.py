"""Give a portal another name in a SQL journal: in one transaction, for all its keys, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from airflow_provider_bitrix24.at_most_once.record import CorruptEntry, read_or_corrupt
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.journal.tables import CLAIMS, KEYS, LATE_REPLIES, PORTALS, digest_of

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sql import Database


def rename_portal(database: Database, old: str, new: str) -> tuple[int, int]:
    """Rename a portal and all its keys.

    :param old: its name in the journal.
    :param new: what the connections' portal_id, or their host, is from now on.
    :return: how many keys and how many hosts have the new name now.
    :raises Bitrix24ConfigError: nothing was changed: there is no such portal, an attempt is at work on one of its keys,
        the outcome of a send is unknown, or both names have the same key or payment.
    """
    return database.transact(lambda connection: _rename(connection, database, old, new))


def _rename(connection: sa.Connection, database: Database, old: str, new: str) -> tuple[int, int]:
    # First: from now on, no attempt can write a new key under the old name.
    hosts = connection.execute(PORTALS.update().where(PORTALS.c.portal == old).values(portal=new)).rowcount
    rows = connection.execute(
        sa.select(KEYS).where(KEYS.c.portal == old).order_by(KEYS.c.key_digest).with_for_update()
    ).all()
    if not rows and not hosts:
        raise _not_renamed(f"the journal has no portal {old!r}; it has {_names(connection)}")
    now = connection.execute(sa.select(database.now)).scalar_one()
    _refuse_open(rows, now)  # rule: nothing that may still arrive is renamed
    keys = {row.key_digest: _renamed(row.journal_key, old, new) for row in rows}
    _refuse_doubles(connection, old, new, set(map(digest_of, keys.values())))
    for row in rows:
        key = keys[row.key_digest]
        # An attempt that has read the row before does not find it any more.
        connection.execute(
            KEYS.update()
            .where(KEYS.c.portal == old, KEYS.c.key_digest == row.key_digest)
            .values(
                portal=new,
                key_digest=digest_of(key),
                journal_key=key,
                epoch=KEYS.c.epoch + 1,
                document=_document(row, new, key),
            )
        )
    for row in connection.execute(sa.select(LATE_REPLIES).where(LATE_REPLIES.c.portal == old)).all():
        known = keys.get(row.key_digest)
        digest = row.key_digest if known is None else digest_of(known)
        connection.execute(
            LATE_REPLIES.update().where(LATE_REPLIES.c.id == row.id).values(portal=new, key_digest=digest)
        )
    for row in connection.execute(sa.select(CLAIMS).where(CLAIMS.c.portal == old)).all():
        key = _renamed(row.journal_key, old, new)
        connection.execute(
            CLAIMS.update()
            .where(CLAIMS.c.portal == old, CLAIMS.c.payment_id == row.payment_id)
            .values(portal=new, journal_key=key, key_digest=digest_of(key))
        )
    return len(rows), hosts


def _document(row: Any, new: str, key: str) -> str:
    """Return the document with the new names."""
    record = read_or_corrupt(row.document, portal=row.portal, key=row.journal_key, where="the journal")
    if isinstance(record, CorruptEntry):
        raise _not_renamed(f"the entry of {row.journal_key!r} cannot be read; see `journal show`")
    receipt = None if record.receipt is None else {**record.receipt, "portal": new, "idempotency_key": key}
    return json.dumps(replace(record, portal=new, key=key, receipt=receipt).document(), ensure_ascii=False)


def _renamed(key: str, old: str, new: str) -> str:
    """The key with the new name in front; keys that name no portal stay as they are."""
    return f"{new}{key[len(old) :]}" if key.startswith(f"{old}:") else key


def _refuse_open(rows: Any, now: float) -> None:
    """Refuse while a request may still arrive, or a payment has to be found by its tag, which contains the old name."""
    busy = [row.journal_key for row in rows if row.lease_expires_at > now]
    if busy:
        raise _not_renamed(f"an attempt is at work on {_listed(busy)}; stop the DAGs of this portal, and try again")
    unknown = [row.journal_key for row in rows if row.unknown]
    if unknown:
        raise _not_renamed(
            f"the outcome of a send is unknown for {_listed(unknown)}; clear the tasks, or decide with "
            "`journal resolve`, and try again"
        )


def _refuse_doubles(connection: sa.Connection, old: str, new: str, digests: set[str]) -> None:
    """Refuse if both names have the same key or the same payment."""
    there = connection.execute(sa.select(KEYS.c.key_digest, KEYS.c.journal_key).where(KEYS.c.portal == new)).all()
    double = [row.journal_key for row in there if row.key_digest in digests]
    if double:
        raise _not_renamed(
            f"there are entries of {_listed(double)} under both names, so there may be two payments for one key. "
            "Compare them by `journal show` and on the portal, and keep the two names apart"
        )
    claimed = sa.select(CLAIMS.c.payment_id)
    mine, theirs = ({*connection.execute(claimed.where(CLAIMS.c.portal == name)).scalars()} for name in (old, new))
    payments = sorted(mine & theirs)
    if payments:
        raise _not_renamed(f"keys under both names have claimed the payment {_listed(payments)}: they are two portals")


def _names(connection: sa.Connection) -> str:
    names = sa.union(sa.select(KEYS.c.portal), sa.select(PORTALS.c.portal))
    return _listed(sorted(connection.execute(names).scalars())) or "none"


def _listed(things: Any) -> str:
    more = f" and {len(things) - 5} more" if len(things) > 5 else ""
    return ", ".join(str(thing) for thing in things[:5]) + more


def _not_renamed(why: str) -> Bitrix24ConfigError:
    return Bitrix24ConfigError(f"The portal was not renamed: {why}.", "Nothing was changed.")
