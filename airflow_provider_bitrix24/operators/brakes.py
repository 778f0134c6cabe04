"""Brakes: what stops a payment before anything is read or sent. A brake that cannot be read never counts as "off"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24.api.values import shown
from airflow_provider_bitrix24.exceptions import Bitrix24StoreError, PaymentRefused

if TYPE_CHECKING:
    from airflow.sdk import Context

SWITCH: Final = "bitrix24_payments_stopped_{}"
"""Name of the Airflow Variable that stops all payments through a connection."""
_STOP: Final = ("true", "1", "yes", "y", "on", "stop", "stopped")
_GO: Final = ("false", "0", "no", "n", "off", "")


@dataclass(frozen=True)
class Brakes:
    """The brakes of one attempt."""

    context: Context
    bitrix24_conn_id: str
    allow_backfill: bool

    def check(self) -> None:
        """Refuse what may not be sent now.

        :raises PaymentRefused: a brake is on.
        :raises Bitrix24StoreError: it cannot be read.
        """
        refuse_backfill(self.context, allow_backfill=self.allow_backfill)
        refuse_if_stopped(self.bitrix24_conn_id)


def refuse_if_stopped(bitrix24_conn_id: str) -> None:
    """Refuse while somebody has stopped all payments through this connection.

    :raises PaymentRefused: the Airflow Variable says so, or says something that nobody understands.
    :raises Bitrix24StoreError: it cannot be read.
    """
    name = SWITCH.format(bitrix24_conn_id)
    try:
        value = _read_variable(name)
    except Exception as error:  # noqa: BLE001 - secrets backends raise what they like
        trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    else:
        text = (value or "").strip().lower()
        if text in _GO:
            return
        why = "" if text in _STOP else f" (its value {shown(value)} is neither true nor false, which counts as true)"
        raise PaymentRefused(
            f"Somebody has stopped all payments through the connection {bitrix24_conn_id!r}: the Airflow Variable "
            f"{name} is set{why}. This attempt read and sent nothing. When payments may go on, set the Variable to "
            "false or delete it, and clear this task."
        )
    raise Bitrix24StoreError(
        f"the Airflow Variable {name}, which can stop all payments,",
        f"{trouble}. This attempt read and sent nothing; the next one looks again",
    )


def refuse_backfill(context: Context, *, allow_backfill: bool) -> None:
    """Refuse to write in a backfill run: its dates are past, but the payments would be made today.

    :raises PaymentRefused: it is one, and the author of the DAG does not allow it.
    """
    run: Any = context["dag_run"]
    run_type = getattr(run.run_type, "value", run.run_type)
    if run_type == "backfill" and not allow_backfill:
        raise PaymentRefused(
            f"{run.run_id} is a backfill run, and payments in a backfill are made today, for every day of the past. "
            "This attempt read and sent nothing. If that is what you want, set allow_backfill=True in the operator."
        )


def _read_variable(name: str) -> str | None:
    """Return an Airflow Variable, or None if it certainly is not set.

    Not by `Variable.get`: that takes a backend that fails, and an API server that is away, for "not set".
    """
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    # By its name: Airflow 3.1.0 has no such backend, and asks the supervisor after all others.
    readers = [
        _ask_airflow if type(backend).__name__ == "ExecutionAPISecretsBackend" else backend.get_variable
        for backend in ensure_secrets_backend_loaded()
    ]
    if _ask_airflow not in readers and _has_supervisor():
        readers.append(_ask_airflow)
    for read in readers:
        value = read(key=name)
        if value is not None:
            return str(value)
    return None


def _has_supervisor() -> bool:
    """Whether this is a task of Airflow's, and not an operator that somebody runs by hand."""
    from airflow.sdk.execution_time import task_runner

    return getattr(task_runner, "SUPERVISOR_COMMS", None) is not None


def _ask_airflow(key: str) -> str | None:
    """Ask Airflow for a Variable; None if Airflow itself says that it is not set.

    Its supervisor takes every HTTP 404 for that, also one of something in front of Airflow's API. So it is asked twice,
    and has to show a list of Variables without this one.
    """
    for _ in range(2):
        value = _ask_once(key)
        if value is not None:
            return value
    if AIRFLOW_V_3_3_PLUS:
        _refuse_if_listed(key)
    return None


def _ask_once(key: str) -> str | None:
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable, VariableResult

    answer: Any = task_runner.SUPERVISOR_COMMS.send(GetVariable(key=key))
    if isinstance(answer, ErrorResponse):
        if answer.error == ErrorType.VARIABLE_NOT_FOUND:
            return None
        raise AirflowRuntimeError(answer)
    if not isinstance(answer, VariableResult):
        raise TypeError(f"Airflow answered with {type(answer).__name__}")
    return answer.value


def _refuse_if_listed(key: str) -> None:
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariableKeys, VariableKeysResult

    answer: Any = task_runner.SUPERVISOR_COMMS.send(GetVariableKeys(prefix=key))
    if isinstance(answer, ErrorResponse):
        raise AirflowRuntimeError(answer)
    if not isinstance(answer, VariableKeysResult):
        raise TypeError(f"Airflow answered with {type(answer).__name__}")
    if key in answer.keys:
        raise LookupError("Airflow lists it, and says that it is not there")
