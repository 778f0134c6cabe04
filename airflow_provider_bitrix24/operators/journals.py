"""Where an operator's journal lives: a SQL database, else Airflow's task state store (3.3), else nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from airflow_provider_bitrix24.journal import Journal
    from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
    from airflow_provider_bitrix24.once import Log

T = TypeVar("T")

_STORE: Final = "task_state_store"


def identity(context: Context) -> str:
    """The task's identity: the same in every attempt, and never made from a clock."""
    ti: Any = context["ti"]
    return f"dag:{ti.dag_id}:run:{ti.run_id}:task:{ti.task_id}:map_index:{ti.map_index}"


def journal_of(context: Context, journal_conn_id: Any, log: Log) -> Journal:
    """Return the journal of this attempt.

    :param journal_conn_id: Airflow connection of a database, or None.
    :raises Bitrix24ConfigError: there is no such database, or Airflow is set up to delete the task state too early.
    """
    state = _task_state(context)
    if journal_conn_id is not None:
        return _sql(context, journal_conn_id, state)
    if state is not None:
        if conf.getboolean("state_store", "clear_on_success", fallback=False):
            raise Bitrix24ConfigError(
                "Airflow's option [state_store] clear_on_success is on: it deletes what this task has noted as soon as "
                "it succeeds, and clearing the task would pay again. Nothing was sent. Set the option to False, or "
                "give the operator journal_conn_id, a database for its journal."
            )
        return state
    from airflow_provider_bitrix24.journal import Forgetful

    log.warning(
        "There is no journal: this Airflow keeps no task state (3.3 does), and journal_conn_id is not given. What this "
        "attempt sends is not known to a later one, which therefore stops where it cannot tell by reading."
    )
    return Forgetful()


def with_what_is_known(context: Context, work: Callable[[], T]) -> T:
    """Do what comes before the journal is read; what it raises does not deny what earlier attempts have sent.

    :raises Bitrix24Error: that of the work, which says what this task instance has noted.
    """
    try:
        return work()
    except Bitrix24Error as error:
        known = _known(context)
        trouble = error if known is None else error.after(known)
        trouble.sent = "no" if known is None else "unknown"
    raise trouble


def _known(context: Context) -> str | None:
    """What earlier attempts of this task have sent, as sentences; None if there was none."""
    first, state = context["ti"].try_number == 1, _task_state(context)
    if state is None:
        return None if first else "An earlier attempt may have sent something, which then MAY be on the books."
    try:
        noted = state.noted()
    except Bitrix24Error:
        return "What earlier ones have noted cannot be read: it MAY be on the books."
    if noted is None or noted.free:
        return None if first else ""
    return noted.known


def _task_state(context: Context) -> TaskStateJournal | None:
    if _STORE not in context:
        return None
    from airflow.sdk.execution_time.context import NEVER_EXPIRE

    from airflow_provider_bitrix24.journal.commands import TaskName
    from airflow_provider_bitrix24.journal.task_state import TaskStateJournal

    ti: Any = context["ti"]
    task = TaskName(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    return TaskStateJournal(context[_STORE], retention=NEVER_EXPIRE, task=task)


def _sql(context: Context, journal_conn_id: Any, fence: TaskStateJournal | None) -> Journal:
    if not isinstance(journal_conn_id, str) or journal_conn_id.strip() in ("", "None"):
        raise Bitrix24ConfigError(
            f"journal_conn_id must be the id of an Airflow connection, not {journal_conn_id!r}. Nothing was sent."
        )
    from airflow_provider_bitrix24.journal.database import SqlJournal
    from airflow_provider_bitrix24.sql import Database

    owner = f"{identity(context)}:try:{context['ti'].try_number}"
    conn_id = journal_conn_id.strip()
    return SqlJournal(Database.from_connection(conn_id), owner, fence=fence, conn_id=conn_id)
