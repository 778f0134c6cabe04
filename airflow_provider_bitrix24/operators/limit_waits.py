"""Wait for the portal's working-time limit: up to a minute on the worker, longer without a worker slot if it can be."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple

from airflow_provider_bitrix24.api.io import Sleep
from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.operators.journals import is_rescheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.at_most_once.attempt import Log
    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
    from airflow_provider_bitrix24.operators.list_report import Item

RESCHEDULES_ALL: Final = get_base_airflow_version_tuple() >= (3, 1, 8)
"""Whether Airflow waits until the moment that any operator asks for: 3.1.0 does so for sensors only, and starts another
operator again at once."""
SHORT: Final = 60.0
"""Seconds: a shorter wait is over sooner than Airflow starts the task again."""
MOST_FOR_READING: Final = 0.5
"""Share of the working time that reading again may take: what the journal does not keep is lost with the attempt."""


class WorkingTimePause:
    """The waits of one attempt at a list.

    :param leave: ends the attempt until that many seconds are over; None if it has to wait on the worker, because a
        later attempt would not know what this one has sent.
    :param to_read_again: returns what was done in this attempt and would be read again after such a wait.
    :param resumed: whether this attempt goes on after such a wait.
    """

    def __init__(
        self,
        hook: Bitrix24Hook,
        log: Log,
        leave: Callable[[float], NoReturn] | None,
        to_read_again: Callable[[], Sequence[Item]],
        *,
        resumed: bool,
    ) -> None:
        self._hook = hook
        self._log = log
        self._leave = leave
        self._to_read_again = to_read_again
        self._asked = False
        """Whether the portal was asked for its time."""
        self.has_progress = not resumed
        """Whether anything was sent and shown since the last refusal: a portal that only refuses is waited for once."""

    def __call__(self, seconds: float, *, refused: bool) -> bool:
        """Wait, or end the attempt.

        :param refused: whether the portal has refused a call; False if only the estimate says that it would.
        """
        if refused and not self.has_progress:  # rule: a portal that only refuses is not waited for without end
            return False
        self.has_progress = self.has_progress and not refused
        if not (refused or self._asked):  # rule: nobody waits by a clock that was not compared with the portal's
            self._asked = True
            with suppress(Bitrix24Error):
                self._hook.call("server.time")
                return True
        # rule: a list leaves the worker again only after it has sent something: reading may have used up the time
        if self._leave is not None and seconds >= SHORT and (refused or self.has_progress) and self._may_read_again():
            self._leave(seconds)
        self._log.info("The portal's working-time limit is reached. Waiting %.0f s.", seconds)
        self._hook.run(_sleep(seconds))
        return True

    def _may_read_again(self) -> bool:
        """Whether reading again what the journal does not keep leaves most of the working time to the rest."""
        try:
            items = self._to_read_again()
        except Bitrix24Error:
            return False
        reads = items[0].operation.reads if items else ()
        # rule: a list whose reading takes up the time does not leave the worker
        return self._hook.client.working_time.used_part(reads, len(items)) <= MOST_FOR_READING


def _sleep(seconds: float) -> Flow[None]:
    yield Sleep(seconds, "The portal's working-time limit: the next batch will be sent")


def was_resumed(context: Context, *, deferred: bool) -> bool:
    """Whether this attempt goes on after a wait without a worker slot."""
    return deferred or is_rescheduled(context["ti"])


def reschedule(seconds: float) -> NoReturn:
    """End this run of the task; Airflow runs the same attempt again, and no retry is used.

    :raises AirflowRescheduleException: always.
    """
    exception: Any
    try:
        from airflow.sdk.exceptions import AirflowRescheduleException as exception
    except ImportError:  # Airflow 3.1
        from airflow.exceptions import AirflowRescheduleException as exception
    raise exception(datetime.now(tz=UTC) + timedelta(seconds=seconds))
