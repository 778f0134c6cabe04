"""Stop a payment before anything is read or sent. A safeguard that cannot be read never counts as "off"."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24 import options
from airflow_provider_bitrix24.api.values import shown
from airflow_provider_bitrix24.exceptions import Bitrix24StoreError, Denial, PaymentRefused

if TYPE_CHECKING:
    from airflow.sdk import Context

SWITCH: Final = "bitrix24_payments_stopped_{}"
"""Name of the Airflow Variable that stops all payments through a connection."""
TEMPORARY: Final = "__airflow_temporary_run_"
"""How the ids of the runs begin that ``airflow tasks test`` makes, in each Airflow from 3.1 on."""
ALLOW_TEMPORARY: Final = "BITRIX24_ALLOW_TASKS_TEST"
"""Environment variable that lets a process write in such a run."""
_STOP: Final = ("true", "t", "1", "yes", "y", "on", "stop", "stopped")
_GO: Final = ("false", "f", "0", "no", "n", "off", "")


@dataclass(frozen=True)
class Safeguards:
    """The safeguards of one attempt: backfill, temporary run and kill switch."""

    context: Context
    bitrix24_conn_id: str
    allow_backfill: bool

    def check(self) -> None:
        """Refuse to go on while a safeguard is on.

        :raises PaymentRefused: a safeguard is on.
        :raises Bitrix24StoreError: it cannot be read.
        """
        refuse_backfill(self.context, allow_backfill=self.allow_backfill)
        refuse_temporary_run(self.context)  # rule: a temporary run pays nothing
        refuse_if_stopped(self.bitrix24_conn_id)


def refuse_if_stopped(bitrix24_conn_id: str, so_far: Denial = Denial.NOT_BEGUN) -> None:
    """Refuse while a kill switch is on: that of this Airflow, or that of this connection.

    :param so_far: what this attempt has not done.
    :raises PaymentRefused: the option or the Airflow Variable says so, or says something that nobody understands.
    :raises Bitrix24StoreError: the Variable cannot be read.
    :raises Bitrix24ConfigError: the option cannot be read.
    """
    _refuse_if_all_are_stopped(so_far)  # rule: one option stops all payments
    # A connection in an environment variable is found in capitals and small letters; the Variable's name may be either.
    for conn_id in dict.fromkeys((bitrix24_conn_id, str(bitrix24_conn_id).lower())):
        _refuse_by_variable(SWITCH.format(conn_id), bitrix24_conn_id, so_far)


def _refuse_by_variable(name: str, bitrix24_conn_id: str, so_far: Denial) -> None:
    try:
        value = _read_variable(name)
    except Exception as error:  # noqa: BLE001 - secrets backends raise what they like
        trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    else:
        text = (value or "").strip().lower()
        if text in _GO:
            return
        why = _unless_understood(text, value)
        raise PaymentRefused(
            f"Somebody has stopped all payments through the connection {bitrix24_conn_id!r}: the Airflow Variable "
            f"{name} is set{why}.",
            so_far,
            "When payments may go on, set the Variable to false or delete it, and clear this task.",
        )
    raise Bitrix24StoreError(
        f"the Airflow Variable {name}, which can stop all payments,",
        trouble,
        so_far,
        "The next one looks again.",
    )


def _refuse_if_all_are_stopped(so_far: Denial) -> None:
    value = options.read("kill_switch")
    text = (value or "").lower()
    if text not in _GO:
        raise PaymentRefused(
            "Somebody has stopped all payments on this Airflow: the option [bitrix24] kill_switch of its "
            f"configuration is set{_unless_understood(text, value)}.",
            so_far,
            "When payments may go on, set the option to False, and clear this task.",
        )


def _unless_understood(text: str, value: Any) -> str:
    return "" if text in _STOP else f" (its value {shown(value)} is neither true nor false, which counts as true)"


def refuse_backfill(context: Context, *, allow_backfill: bool) -> None:
    """Refuse to write in a backfill run: its dates are past, but the payments would be made today.

    :raises PaymentRefused: it is one, and the author of the DAG does not allow it.
    """
    run: Any = context["dag_run"]
    run_type = getattr(run.run_type, "value", run.run_type)
    if run_type == "backfill" and not allow_backfill:
        raise PaymentRefused(
            f"{run.run_id} is a backfill run: it would pay today, for a date in the past.",
            Denial.NOT_BEGUN,
            "To allow it, set allow_backfill=True in the operator, or the option [bitrix24] allow_backfill "
            "for all DAGs.",
        )


def refuse_temporary_run(context: Context) -> None:
    """Refuse to write in the run that ``airflow tasks test`` creates: Airflow deletes it with its notes afterwards.

    While a scheduler runs, that run's other tasks are executed too, by ordinary workers.

    :raises PaymentRefused: it is such a run, and the environment of this process does not allow it.
    """
    run: Any = context["dag_run"]
    if not str(run.run_id).startswith(TEMPORARY) or os.environ.get(ALLOW_TEMPORARY, "").strip().lower() in _STOP[:5]:
        return
    raise PaymentRefused(
        f"{run.run_id} is a temporary run of `airflow tasks test`.",
        "It would change a real payment. Airflow deletes the "
        "run and its notes of the payment afterwards, and a scheduler also executes the other tasks of the run.",
        Denial.NOT_BEGUN,
        "To pay, trigger the DAG (`airflow dags trigger`). To test against a portal "
        f"where payments do no harm, such as the sandbox, set the environment variable {ALLOW_TEMPORARY}=true for that "
        "command.",
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
        try:
            value = read(key=name)
        except NotImplementedError:
            continue  # a backend that keeps connections only cannot have the Variable
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
        _refuse_if_listed(key)  # rule: not found counts only if Airflow lists its Variables without it
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
