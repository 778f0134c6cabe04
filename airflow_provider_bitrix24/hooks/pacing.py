"""Choose where the rate limit slots of a hook are kept: a file of this host and, with a database, a row for all hosts.

A slot is booked in both, and the later one counts: sensors without a journal and tasks with one share the file.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24 import options
from airflow_provider_bitrix24.api.extras import plain, read_rate_limit
from airflow_provider_bitrix24.api.io import Slot
from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.hooks.threads import within
from airflow_provider_bitrix24.pacing import HostPacer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_bitrix24.api.io import Reserve
    from airflow_provider_bitrix24.api.settings import Settings
    from airflow_provider_bitrix24.drivers import Pacer
    from airflow_provider_bitrix24.hooks.pace_table import RowPacer

log = logging.getLogger(__name__)

AWAY_FOR: Final = 60.0
"""Seconds for which a database that failed is not asked again."""
LONGEST: Final = 5.0
"""Seconds to wait for the database."""
_NO_DATABASE: Final = (None, "off", "task_state")
_warned: set[str] = set()


def make_pacer(settings: Settings, pace_conn_id: str | None = None) -> Pacer:
    """Return the pacer of a portal. Raises nothing.

    :param settings: of a portal that has limits.
    :param pace_conn_id: Airflow connection of a database. ``[bitrix24] pace_conn_id`` comes first: all tasks have
        that in common, and ``off`` there means no database. ``[bitrix24] journal_conn_id`` comes last.
    """
    host = HostPacer(settings.portal, settings.rate_limit)
    try:
        conn_id = options.read("pace_conn_id") or pace_conn_id or options.read("journal_conn_id")
        if conn_id not in _NO_DATABASE:
            return ClusterPacer(_row(settings, conn_id), host)
    except Exception as error:  # noqa: BLE001 - a secrets backend may raise whatever it likes
        _warn_once(_reason_of(error))
    return host


def with_rate_limit(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the extras of a connection, with ``[bitrix24] rate_limit`` if they have no rate_limit of their own."""
    everywhere = options.read("rate_limit")
    if everywhere is None or plain(extra.get("rate_limit")):
        return extra
    read_rate_limit("rate_limit (from [bitrix24] rate_limit in Airflow's configuration)", everywhere)
    return {**extra, "rate_limit": everywhere}


def _row(settings: Settings, conn_id: str) -> RowPacer:
    from airflow_provider_bitrix24.hooks.pace_table import RowPacer
    from airflow_provider_bitrix24.sql import Database

    return RowPacer(Database.from_connection(conn_id, named_by="pace_conn_id"), settings.portal, settings.rate_limit)


class ClusterPacer:
    """A pacer for all hosts: a database row, and the file of this host. Requests do not wait for a database that fails.

    :param row: in the database.
    :param host: the file.
    """

    def __init__(self, row: RowPacer, host: HostPacer, clock: Callable[[], float] = time.monotonic) -> None:
        self._row = row
        self._host = host
        self._clock = clock
        self._away_until = float("-inf")

    def reserve(self, command: Reserve) -> Slot:
        """Book a slot in both; the later one counts."""
        here, everywhere = self._host.reserve(command), self._booked(command)
        return Slot(max(here.wait, everywhere.wait), granted=here.granted and everywhere.granted)

    def _booked(self, command: Reserve) -> Slot:
        if self._clock() < self._away_until:
            return Slot(0.0)
        try:
            return within(LONGEST, self._row.reserve, command)
        except TimeoutError:
            reason = f"the database gave no response within {LONGEST:g} s"
        except Bitrix24Error as error:
            reason = _reason_of(error)
        self._away_until = self._clock() + AWAY_FOR
        _warn_once(reason)
        return Slot(0.0)


def _reason_of(error: Exception) -> str:
    return (
        error.reason if isinstance(error, Bitrix24Error) else f"its connection cannot be read ({type(error).__name__})"
    )


def _warn_once(reason: str) -> None:
    if reason not in _warned:
        _warned.add(reason)
        log.warning(
            "Requests to Bitrix24 are paced on this host only, not across all hosts: %s. They are still sent.",
            reason,
        )
