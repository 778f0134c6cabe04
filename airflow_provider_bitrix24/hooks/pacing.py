"""Choose where rate limit slots and working time are kept: a file of this host and, with a database, a row for all.

A slot is booked in both, and the later one counts: sensors without a journal and tasks with one share the file. What is
learned of the working time is told to both.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_bitrix24 import options
from airflow_provider_bitrix24.api.extras import plain, read_rate_limit
from airflow_provider_bitrix24.api.io import Slot
from airflow_provider_bitrix24.api.working_time import newest_by_method
from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.hooks.threads import within
from airflow_provider_bitrix24.pacing import HostPacer, HostWorkingTime, credential_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_bitrix24.api.io import Reserve
    from airflow_provider_bitrix24.api.settings import Settings
    from airflow_provider_bitrix24.api.working_time import WorkingTime
    from airflow_provider_bitrix24.drivers import Pacer
    from airflow_provider_bitrix24.hooks.pace_table import RowPacer
    from airflow_provider_bitrix24.hooks.working_time_table import RowWorkingTime
    from airflow_provider_bitrix24.sql import Database

T = TypeVar("T")
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
    row = _in_database(pace_conn_id, lambda database: _pace_row(settings, database))
    return host if row is None else ClusterPacer(row, host)


def make_working_time(settings: Settings, pace_conn_id: str | None = None) -> HostWorkingTime | ClusterWorkingTime:
    """Return where what is known of the working time of a credential is shared. Raises nothing.

    :param pace_conn_id: as that of :func:`make_pacer`.
    """
    host = HostWorkingTime(settings)
    row = _in_database(pace_conn_id, lambda database: _working_time_row(settings, database))
    return host if row is None else ClusterWorkingTime(row, host)


def _in_database(pace_conn_id: str | None, make: Callable[[Database], T]) -> T | None:
    """Return what is made of the configured database; None if there is none, or its connection cannot be read."""
    try:
        conn_id = options.read("pace_conn_id") or pace_conn_id or options.read("journal_conn_id")
        if conn_id not in _NO_DATABASE:
            from airflow_provider_bitrix24.sql import Database

            return make(Database.from_connection(conn_id, named_by="pace_conn_id"))
    except Exception as error:  # noqa: BLE001 - a secrets backend may raise whatever it likes
        _warn_once(_reason_of(error))
    return None


def with_rate_limit(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the extras of a connection, with ``[bitrix24] rate_limit`` if they have no rate_limit of their own."""
    everywhere = options.read("rate_limit")
    if everywhere is None or plain(extra.get("rate_limit")):
        return extra
    read_rate_limit("rate_limit (from [bitrix24] rate_limit in Airflow's configuration)", everywhere)
    return {**extra, "rate_limit": everywhere}


def _pace_row(settings: Settings, database: Database) -> RowPacer:
    from airflow_provider_bitrix24.hooks.pace_table import RowPacer

    return RowPacer(database, settings.portal, settings.rate_limit)


def _working_time_row(settings: Settings, database: Database) -> RowWorkingTime:
    from airflow_provider_bitrix24.hooks.working_time_table import RowWorkingTime

    return RowWorkingTime(database, credential_of(settings))


class OptionalDatabase:
    """Asks a database that may be unavailable; after a failure, it is not asked for a while.

    :param clock: monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._away_until = float("-inf")

    def ask(self, work: Callable[..., T], *arguments: Any) -> T | None:
        """Return what the work returns; None if the database is unavailable. A failure is logged, not raised."""
        if self._clock() < self._away_until:
            return None
        try:
            return within(LONGEST, work, *arguments)
        except TimeoutError:
            reason = f"the database gave no response within {LONGEST:g} s"
        except Exception as error:  # noqa: BLE001 - after a write, the portal's reply would be lost with it
            reason = error.reason if isinstance(error, Bitrix24Error) else f"it cannot be used ({type(error).__name__})"
        self._away_until = self._clock() + AWAY_FOR
        _warn_once(reason)
        return None


class ClusterPacer:
    """A pacer for all hosts: a database row, and the file of this host. Requests do not wait for a database that fails.

    :param row: in the database.
    :param host: the file.
    """

    def __init__(self, row: RowPacer, host: HostPacer, clock: Callable[[], float] = time.monotonic) -> None:
        self._row = row
        self._host = host
        self._database = OptionalDatabase(clock)

    def reserve(self, command: Reserve) -> Slot:
        """Book a slot in both; the later one counts."""
        here = self._host.reserve(command)
        everywhere = self._database.ask(self._row.reserve, command) or Slot(0.0)
        return Slot(max(here.wait, everywhere.wait), granted=here.granted and everywhere.granted)


class ClusterWorkingTime:
    """What all hosts know of the working time of a credential: a database row, and the file of this host.

    :param row: in the database.
    :param host: the file.
    """

    def __init__(self, row: RowWorkingTime, host: HostWorkingTime) -> None:
        self._row = row
        self._host = host
        self._database = OptionalDatabase()

    def share(self, working_time: WorkingTime) -> None:
        """Tell both what was learned here; of each method, what the portal said last counts."""
        seen = tuple(working_time.unshared)
        self._host.share(working_time)
        told = self._database.ask(self._row.share, seen, working_time.known_clock_offset)
        if told is not None:
            working_time.known_clock_offset, everywhere = told
            working_time.usages = newest_by_method(everywhere, working_time.usages)


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
