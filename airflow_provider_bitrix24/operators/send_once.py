"""Keep a note in the task state (3.3), so that a call that an earlier attempt may have sent is not sent again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24OutcomeUnknown
from airflow_provider_bitrix24.journal.task_state import patient_read
from airflow_provider_bitrix24.operators.journals import BEGUN, begun_before, is_rescheduled

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

T = TypeVar("T")
log = logging.getLogger(__name__)

NOTE: Final = "bitrix24_call"
"""Name of the note in the Storage tab."""
_STORE: Final = "task_state_store"


def send_once(context: Context, method: str, send: Callable[[], T], *, retries: int) -> T:
    """Send a call, unless an earlier attempt may have sent it.

    The note is written before the call is sent, and removed if the call certainly was not executed. An attempt
    whose worker dies in between leaves it, and the next one fails. Clearing the task is a person's decision to send
    again. A note that is not found proves nothing if an earlier attempt may have written one.

    :param retries: of the task; Airflow raises ``max_tries`` above it when the task is cleared.
    :raises Bitrix24OutcomeUnknown: an earlier attempt may have sent the call, or this one has and cannot tell.
    """
    ti: Any = context["ti"]
    store: Any = context.get(_STORE)
    if store is None:
        if ti.try_number > 1:
            raise _unknown(
                method,
                "This Airflow keeps no task state (3.3 does), so nobody knows whether an earlier attempt has sent it",
                "trigger a new run if it is not there",
            )
        return send()
    note = patient_read(store, NOTE)  # rule: a creating call: its note counts as missing only after several reads
    # rule: a creating call: a note that is not found does not prove that nothing was sent
    if note is None and not _has_sent_nothing(ti, retries):
        raise _unknown(
            method,
            "An earlier attempt of this task may have been sending it when it ended, and its note is not found",
            "trigger a new run if it is not there",
        )
    if isinstance(note, Mapping) and note.get("sending"):
        if ti.max_tries <= note.get("max_tries", 0):  # rule: a creating call: only a person sends it again
            raise _unknown(
                method,
                f"Attempt {note.get('try_number')} of this task was sending it when it ended",
                "clear this task if it is not there: that sends it again",
            )
        log.warning(
            "Attempt %s may have sent %s; the task was cleared, so it is sent again.", note["try_number"], method
        )
    # rule: a creating call: note before it is sent
    _write(store, {"method": method, "sending": True, "try_number": ti.try_number, "max_tries": ti.max_tries})
    # After the note: an attempt without it has not sent anything.
    ti.xcom_push(key=BEGUN, value=True)
    try:
        return send()
    except Bitrix24OutcomeUnknown:
        raise
    except Bitrix24Error:  # certainly not executed
        _write(store, {"method": method, "sending": False})
        raise


def _has_sent_nothing(ti: Any, retries: int) -> bool:
    """Whether it is certain, without a note, that no attempt has sent the call since a person decided that it is sent.

    That is by starting the run, or by clearing the task, which Airflow 3.4 answers by discarding the note.
    """
    if begun_before(ti) is False and not is_rescheduled(ti):
        return True
    since_cleared = ti.try_number - (ti.max_tries - retries)
    return ti.try_number > 1 and since_cleared <= 1 and not is_rescheduled(ti)


def _write(store: Any, note: dict[str, Any]) -> None:
    from airflow.sdk.execution_time.context import NEVER_EXPIRE

    store.set(NOTE, note, retention=NEVER_EXPIRE)


def _unknown(method: str, why: str, advice: str) -> Bitrix24OutcomeUnknown:
    return Bitrix24OutcomeUnknown(
        method,
        message=f"{method} may have been executed already. {why}. Nothing was sent by this attempt. Look at the object "
        f"on the portal, and {advice}.",
    )
