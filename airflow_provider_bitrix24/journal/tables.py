"""The tables of the SQL journal."""

from __future__ import annotations

import hashlib
from typing import Final

import sqlalchemy as sa

from airflow_provider_bitrix24.sql import Schema

_METADATA = sa.MetaData()
_LONG = sa.Text().with_variant(sa.Text(2**24 - 1), "mysql").with_variant(sa.Text(2**24 - 1), "mariadb")
KEYS: Final = sa.Table(
    "bitrix24_journal",
    _METADATA,
    sa.Column("portal", sa.String(255), primary_key=True),
    sa.Column("key_digest", sa.String(64), primary_key=True),
    sa.Column("journal_key", sa.Text, nullable=False),
    sa.Column("subject", sa.String(100), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("lease_expires_at", sa.Float(53), nullable=False),
    sa.Column("snapshot_after", sa.Float(53)),
    sa.Column("settle_until", sa.Float(53)),
    sa.Column("unknown", sa.Integer, nullable=False),
    sa.Column("document", _LONG, nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("updated_at", sa.Float(53), nullable=False),
    sa.Index("bitrix24_journal_subject", "portal", "subject"),
)
"""One row for each key. ``epoch`` grows with each write; ``owner`` is the attempt that wrote last; ``unknown`` says
that it is not known which payment, if any, is the outcome of the last send."""
CLAIMS: Final = sa.Table(
    "bitrix24_claim",
    _METADATA,
    sa.Column("portal", sa.String(255), primary_key=True),
    sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key_digest", sa.String(64), nullable=False),
    sa.Column("journal_key", sa.Text, nullable=False),
    sa.Index("bitrix24_claim_key", "portal", "key_digest"),
)
"""Which key a payment belongs to."""
LATE_REPLIES: Final = sa.Table(
    "bitrix24_late_reply",
    _METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("portal", sa.String(255), nullable=False),
    sa.Column("key_digest", sa.String(64), nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("at", sa.Float(53), nullable=False),
    sa.Column("payment_id", sa.BigInteger),
    sa.Column("document", _LONG, nullable=False),
    sa.Index("bitrix24_late_reply_key", "portal", "key_digest"),
)
"""What attempts know that were overtaken and may not write their rows any more."""
PORTALS: Final = sa.Table(
    "bitrix24_portal",
    _METADATA,
    sa.Column("host", sa.String(255), primary_key=True),
    sa.Column("portal", sa.String(255), nullable=False),
)
"""The name of each portal's host in keys."""
SCHEMA: Final = Schema("journal", (_METADATA.create_all,))


def digest_of(key: str) -> str:
    """Return what stands for a key in the tables, whatever its length and letters."""
    return hashlib.sha256(key.encode()).hexdigest()
