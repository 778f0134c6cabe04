"""Where an operator's journal lives: a SQL database, else Airflow's task state store (3.3), else nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from airflow.providers.common.compat.sdk import conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from airflow_provider_bitrix24 import options
from airflow_provider_bitrix24.api.values import described
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from airflow_provider_bitrix24.at_most_once.attempt import Log
    from airflow_provider_bitrix24.journal import Journal
    from airflow_provider_bitrix24.journal.task_state import TaskStateJournal

T = TypeVar("T")

TASK_STATE: Final = "task_state"
"""The journal_conn_id that is no connection: one task keeps its journal in the task state, whatever the configuration
says."""
_STORE: Final = "task_state_store"
BEGUN: Final = "bitrix24_begun"
"""Name of the XCom by which an attempt sees that an earlier one has begun: Airflow deletes it when the next attempt
starts, and tells that one that it was there."""
KEEP_STATE: Final = " (keep its task state when you clear it: else the decision is discarded)"
_CLEARED: Final = "The task was cleared, and what its earlier attempts had noted is gone: "
_REPLACED: Final = (
    f"{_CLEARED}clearing keeps them, so somebody has emptied or replaced the journal, or has added it after the first "
    "attempt, or something between this worker and the journal replies 'not found'."
)
_RESUMED: Final = "The task has waited, and what it had noted before is gone."
_REPEATED: Final = (
    "The run was cleared, and Airflow repeats the later iterations of a loop as new task instances, whose state is "
    "empty."
)
_UNNOTED: Final = (
    "No note of an earlier attempt is found, and Airflow does not tell whether one has begun: either its notes are "
    "lost, or it ended before it began to work."
)
_EMPTIED: Final = "An earlier attempt has begun to work with the journal, which is empty now: somebody has emptied it."


class NamedJournal(NamedTuple):
    """The database connection of a journal, and where it was named."""

    conn_id: str
    named_by: str
    """Where the connection was named, for messages."""


def named_journal(journal_conn_id: Any) -> NamedJournal | None:
    """Return the database that an operator's argument names, else Airflow's configuration; None if there is none.

    :param journal_conn_id: the argument; None if it was not given.
    :raises Bitrix24ConfigError: it is no id of a connection.
    """
    if journal_conn_id is None:
        conn_id, named_by = options.read("journal_conn_id"), options.name_of("journal_conn_id")
    elif isinstance(journal_conn_id, str) and journal_conn_id.strip() not in ("", "None"):
        conn_id, named_by = journal_conn_id.strip(), "journal_conn_id"
    else:
        raise Bitrix24ConfigError(
            f"journal_conn_id must be the id of an Airflow connection, or {TASK_STATE!r} for a journal in Airflow's "
            f"task state, not {described(journal_conn_id)}.",
            NOT_SENT,
        )
    return None if conn_id is None or conn_id == TASK_STATE else NamedJournal(conn_id, named_by)


def identity(context: Context) -> str:
    """The task's identity: the same in every attempt, and never made from a clock."""
    ti: Any = context["ti"]
    loop: Any = context.get("loop")  # Airflow 3.4
    # The number of its iteration: clearing one makes Airflow repeat the later ones in another region.
    # rule: each iteration of a loop has a key of its own
    iteration = "" if loop is None else f":loop:{loop.index}"
    return f"dag:{ti.dag_id}:run:{ti.run_id}:task:{ti.task_id}:map_index:{ti.map_index}{iteration}"


@dataclass(frozen=True)
class Begun:
    """What is known when an attempt has begun."""

    lost: str
    """Why an empty journal has forgotten earlier attempts; empty if it need not have known any."""
    state: TaskStateJournal | None
    """The task state, where Airflow keeps one."""


def begin(context: Context, *, retries: int, resumed: bool, database: bool, many: bool = False) -> Begun:
    """Note that an attempt begins, before it does anything else.

    :param retries: of the task; Airflow raises ``max_tries`` above it when the task is cleared.
    :param resumed: whether it goes on after a wait: for a person, or in the triggerer.
    :param database: whether the journal is a database, which is the same for all task instances.
    :param many: whether the task works on a list.
    :raises PaymentInProgress: Airflow has given this attempt up.
    :raises Bitrix24StoreError: the task state cannot be reached.
    """
    ti: Any = context["ti"]
    state = _task_state(context, many=many)
    before = begun_before(ti)
    if before:  # rule: that an earlier attempt has begun is handed on
        # It was deleted when this attempt started. The one after this must see it as well.
        ti.xcom_push(key=BEGUN, value=True)
    first = is_first(ti) and not resumed
    lost = ""
    if resumed:
        lost = f"{_RESUMED} {_how_to_keep()}"
    elif first:
        repeated = "loop" in context and not database and _run_was_cleared(context)
        lost = f"{_REPEATED} {_how_to_keep()}" if repeated else ""
    elif ti.max_tries != retries:
        lost = _lost_by_clearing(state, database=database)  # rule: a cleared task is no first attempt
    elif before is not False:
        lost = _EMPTIED if before else _UNNOTED  # rule: a retry whose journal is empty is no first attempt
    if state is not None:
        lost = state.begin(f"try {ti.try_number}", lost=lost, first=first)
        if not before:
            ti.xcom_push(key=BEGUN, value=True)
    return Begun(lost, state)


def _lost_by_clearing(state: TaskStateJournal | None, *, database: bool) -> str:
    """Why a task that was cleared finds no notes, as far as the version of Airflow tells."""
    if database or (state is not None and not AIRFLOW_V_3_4_PLUS):
        return _REPLACED
    if state is None:
        return f"{_CLEARED}this Airflow keeps no task state (3.3 does). {_how_to_keep()}"
    return f"{_CLEARED}Airflow discards a task's state when it is cleared (3.4 and newer). {_how_to_keep()}"


def _how_to_keep() -> str:
    """Advice for the next time."""
    choose = "clear tasks with their task state kept (keep_task_state), or " if AIRFLOW_V_3_4_PLUS else ""
    return (
        f"To keep the notes, {choose}give the operator a SQL journal (journal_conn_id), which clearing does not touch."
    )


def _run_was_cleared(context: Context) -> bool:
    run: Any = context["dag_run"]
    return bool(run.clear_number)


def opened(context: Context, journal: Journal, portal: str, key: str) -> None:
    """Note that this attempt can use its journal, if Airflow keeps no task state for that.

    :raises Bitrix24StoreError: the journal cannot be reached.
    """
    if _STORE not in context and journal.durable:
        journal.load(portal, [key])
        note_begun(context, journal)


def note_begun(context: Context, journal: Journal) -> None:
    """Note that this attempt has used its journal, if Airflow keeps no task state for that."""
    if _STORE not in context and journal.durable:
        context["ti"].xcom_push(key=BEGUN, value=True)


def begun_before(ti: Any) -> bool | None:
    """Whether an earlier attempt has begun; None if Airflow does not say.

    Airflow 3.4 gives each retry a new id, and lists only the XComs of that id: an empty list says nothing there.
    """
    keys = getattr(getattr(ti, "_ti_context_from_server", None), "xcom_keys_to_clear", None)
    if keys is not None and BEGUN in keys:
        return True
    # rule: a retry that is not told of its earlier attempts does not take them for none
    return None if keys is None or (AIRFLOW_V_3_4_PLUS and ti.try_number > 1) else False


def is_first(ti: Any) -> bool:
    """Whether nothing of this task has run before: a rescheduled attempt (Airflow 3.4) keeps its number."""
    # rule: a rescheduled attempt is no first one
    return ti.try_number == 1 and not is_rescheduled(ti) and not begun_before(ti)


def is_rescheduled(ti: Any) -> bool:
    """Whether Airflow runs the same attempt again."""
    return bool(getattr(getattr(ti, "_ti_context_from_server", None), "task_reschedule_count", 0))


def journal_of(
    context: Context,
    journal_conn_id: Any,
    log: Log,
    state: TaskStateJournal | None = None,
    *,
    host: str | None = None,
) -> Journal:
    """Return the journal of this attempt.

    :param journal_conn_id: the operator's argument: Airflow connection of a database, "task_state", or None.
    :param state: the task state, if it was asked already.
    :param host: the portal's host, which has one name in a database.
    :raises Bitrix24ConfigError: there is no such database, or Airflow is set up to delete the task state too early.
    """
    state = state or _task_state(context)
    named = named_journal(journal_conn_id)
    if named is not None:
        return _sql(context, named, state, host)
    if state is not None:
        if conf.getboolean("state_store", "clear_on_success", fallback=False):
            raise Bitrix24ConfigError(
                "Airflow's option [state_store] clear_on_success is on: it deletes what this task has noted as soon as "
                "it succeeds, and clearing the task would pay again.",
                NOT_SENT,
                "Set the option to False, or configure [bitrix24] journal_conn_id, a database for the journal.",
            )
        return state
    from airflow_provider_bitrix24.journal import NullJournal

    log.warning(
        "There is no journal: this Airflow keeps no task state (3.3 does), and journal_conn_id is neither given nor "
        "configured in [bitrix24]. What this attempt sends is not known to a later one, which therefore stops where it "
        "cannot tell by reading."
    )
    return NullJournal()


def with_what_is_known(context: Context, work: Callable[[], T], *, resumed: bool = False, many: bool = False) -> T:
    """Do what comes before the journal is read; what it raises does not deny what earlier attempts have sent.

    :param resumed: whether it goes on after a wait: for a person, or in the triggerer.
    :param many: whether the task works on a list.
    :raises Bitrix24Error: that of the work, which says what this task instance has noted.
    """
    try:
        return work()
    except Bitrix24Error as error:
        known = _known(context, first=is_first(context["ti"]) and not resumed, many=many)
        trouble = error if known is None else error.after(known)
        trouble.sent = "no" if known is None else "unknown"
    raise trouble


def _known(context: Context, *, first: bool, many: bool) -> str | None:
    """What earlier attempts of this task have sent, as sentences; None if there was none."""
    state = _task_state(context, many=many)
    if state is None:
        return None if first else "An earlier attempt may have sent something: money may have been recorded."
    try:
        noted = state.noted()
    except Bitrix24Error:
        return "The notes of earlier attempts cannot be read: money may have been recorded."
    executed = [record for record in noted if not record.nothing_executed]
    if many and executed:
        done = sum(record.receipt is not None for record in executed)
        return f"Earlier attempts have sent {len(executed)} items of the list: {done} have succeeded."
    from airflow_provider_bitrix24.at_most_once import messages

    known = " ".join(messages.known(record) for record in executed)
    return known or (None if first else "")


def _task_state(context: Context, *, many: bool = False) -> TaskStateJournal | None:
    if _STORE not in context:
        return None
    from airflow.sdk.execution_time.context import NEVER_EXPIRE

    from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
    from airflow_provider_bitrix24.journal.terminal import TaskName

    ti: Any = context["ti"]
    region = (str(ti.region_id), ti.region_index) if "loop" in context else None
    task = TaskName(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, region)
    return TaskStateJournal(context[_STORE], retention=NEVER_EXPIRE, task=task, many=many)


def _sql(context: Context, named: NamedJournal, fence: TaskStateJournal | None, host: str | None) -> Journal:
    from airflow_provider_bitrix24.journal.fenced import FencedJournal
    from airflow_provider_bitrix24.journal.sql import SqlJournal, owner_of
    from airflow_provider_bitrix24.sql import Database

    owner = owner_of(f"{identity(context)}:try:{context['ti'].try_number}")
    database = Database.from_connection(named.conn_id, named_by=named.named_by)
    if fence is None:
        return SqlJournal(database, owner, conn_id=named.conn_id, host=host)
    return FencedJournal(database, owner, fence=fence, conn_id=named.conn_id, host=host)
