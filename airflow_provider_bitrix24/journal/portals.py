"""The names of portals in a SQL journal: one host has one name, because under two names one key would have two rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.journal.tables import PORTALS
from airflow_provider_bitrix24.journal.terminal import rename_command

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sql import Database


@dataclass(frozen=True)
class Host:
    """The host of a portal, which has one name in a journal.

    :param name: host, with its port if that is unusual.
    :param conn_id: the Airflow connection of the journal, for the command in messages.
    """

    name: str
    conn_id: str

    def register(self, database: Database, portal: str) -> None:
        """Note the portal's name in keys, unless the journal has it already.

        :raises Bitrix24ConfigError: the journal knows the host under another name.
        """
        with database.begin(reads=True) as connection:
            known = self._known(connection)
        if known is None:
            known = database.transact(lambda connection: self._noted(connection, portal))
        if known != portal:  # rule: one host, one portal name
            raise self._other_name(known, portal)

    def hold(self, connection: sa.Connection, portal: str) -> None:
        """Lock the name until the transaction ends in which a new key is written.

        :raises Bitrix24ConfigError: the host has another name by now.
        """
        known = self._known(connection, lock=True)
        if known != portal:
            raise self._other_name(known, portal)

    def _known(self, connection: sa.Connection, *, lock: bool = False) -> str | None:
        query = sa.select(PORTALS.c.portal).where(PORTALS.c.host == self.name)
        found: str | None = connection.execute(query.with_for_update(read=True) if lock else query).scalar()
        return found

    def _noted(self, connection: sa.Connection, portal: str) -> str:
        """Insert the name, unless somebody else has done so at the same moment; return what the journal has."""
        known = self._known(connection)
        if known is None:
            connection.execute(PORTALS.insert().values(host=self.name, portal=portal))
        return known or portal

    def _other_name(self, known: str | None, portal: str) -> Bitrix24ConfigError:
        command = rename_command(known or "OLD", portal, self.conn_id)
        return Bitrix24ConfigError(
            f"The journal knows {self.name} as the portal {known!r}, and this connection names it {portal!r}: each key "
            "would count as new, and be paid again.",
            "Nothing was sent by this attempt; what was sent before is in the "
            f"journal under the other name. Set the extra portal_id to {known!r} in every connection to {self.name}; "
            f"or rename the portal in the journal, by `{command}`, and set portal_id to {portal!r} in all of them.",
        )
