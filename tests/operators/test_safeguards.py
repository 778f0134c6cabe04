"""What stops a payment before anything is read or sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import supervisor, task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable, VariableResult
from airflow.secrets import BaseSecretsBackend

from airflow_provider_bitrix24.exceptions import Bitrix24StoreError, PaymentRefused
from airflow_provider_bitrix24.operators.base import PaymentOperator
from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from conftest import Task

SWITCH = "AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT"
OPERATORS: dict[str, Any] = {
    "pay_invoice": lambda **kwargs: PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, **kwargs),
    "pay_crm_payment": lambda **kwargs: PayCrmPaymentOperator(task_id="pay", payment_id=1001, **kwargs),
    "add_crm_payment": lambda **kwargs: AddCrmPaymentOperator(task_id="pay", entity_id=1, **kwargs),
}
NOT_FOUND = ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={})
NAME = "bitrix24_payments_stopped_bitrix24_default"
NONE_LISTED: Any = None
"""What Airflow says where no such Variable is set."""
if AIRFLOW_V_3_3_PLUS:
    from airflow.sdk.execution_time.comms import VariableKeysResult

    NONE_LISTED = VariableKeysResult(keys=[], total_entries=0)
EACH = pytest.mark.parametrize("operation", list(OPERATORS))


class Supervisor:
    """Airflow's side of a task: answers what it is asked as it was told.

    :param answer: to the question for a Variable.
    :param then: to each further one; by default the same.
    :param listed: to the question which Variables there are.
    """

    def __init__(self, answer: Any, then: Any = None, listed: Any = NONE_LISTED) -> None:
        self.answer = answer
        self.then = then or answer
        self.listed = listed
        self.asked: list[Any] = []

    def send(self, msg: Any) -> Any:
        self.asked.append(msg)
        if type(msg).__name__ == "GetVariableKeys":
            return self.listed
        answer, self.answer = self.answer, self.then
        if isinstance(answer, Exception):
            raise answer
        return answer


class VariablesOf(Supervisor):
    """Airflow's side of a task that has these Variables."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(None)
        self.variables = variables

    def send(self, msg: Any) -> Any:
        if type(msg).__name__ == "GetVariableKeys":
            return self.listed
        value = self.variables.get(msg.key)
        if value is None:
            return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={})
        return VariableResult(key=msg.key, value=value)


@EACH
@pytest.mark.parametrize("value", ["true", "True", " yes ", "1", "on", "stop"])
def test_somebody_has_stopped_the_payments(
    portal: Any, task: Task, operation: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, value)
    with raises_for_good(PaymentRefused, "Somebody has stopped all payments") as caught:
        OPERATORS[operation]().execute(task.context)
    assert "the Airflow Variable bitrix24_payments_stopped_bitrix24_default is set" in str(caught.value)
    assert "read and sent nothing" in str(caught.value)
    assert portal.requests == []


@pytest.mark.parametrize("value", ["falsch", "2", "until monday", "null", "{}"])
def test_a_value_that_nobody_understands_stops_too(
    portal: Any, task: Task, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, value)
    with pytest.raises(AirflowFailException, match="is neither true nor false, which counts as true"):
        OPERATORS["pay_invoice"]().execute(task.context)
    assert portal.requests == []


@EACH
@pytest.mark.parametrize("value", ["false", "FALSE", "0", "no", "off", " "])
def test_a_switch_that_is_off_stops_nothing(
    portal: Any, task: Task, operation: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, value)
    assert OPERATORS[operation]().execute(task.context)["outcome"] in ("paid", "created")
    assert portal.ledger


def test_each_connection_has_a_switch_of_its_own(portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_OTHER", "true")
    assert OPERATORS["pay_invoice"]().execute(task.context)["outcome"] == "paid"
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", portal.connection)
    task.store.kept.clear()
    with pytest.raises(AirflowFailException, match="'other'"):
        OPERATORS["pay_crm_payment"](bitrix24_conn_id="other").execute(task.context)


def test_capitals_in_the_id_of_a_connection_do_not_lose_the_switch(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment variable of a connection is found by its id in any case; a Variable in the database is not."""
    airflow = VariablesOf({"bitrix24_payments_stopped_bitrix24_default": "true"})
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    with pytest.raises(AirflowFailException, match="has stopped all payments"):
        OPERATORS["pay_invoice"](bitrix24_conn_id="Bitrix24_Default").execute(task.context)
    assert portal.requests == []


TROUBLE = [
    AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 503})),
    ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 503}),
    ErrorResponse(error=ErrorType.GENERIC_ERROR, detail={"status_code": 403}),
    OSError("the supervisor is gone"),
    None,
]


@EACH
@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: type(trouble).__name__)
def test_a_switch_that_cannot_be_read_is_not_off(
    portal: Any, task: Task, operation: str, trouble: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's own `Variable.get` takes all of these for a Variable that is not set."""
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(trouble), raising=False)
    with pytest.raises(Bitrix24StoreError, match=r"bitrix24_payments_stopped_bitrix24_default.*cannot be used now"):
        OPERATORS[operation]().execute(task.context)
    assert portal.requests == []


@pytest.mark.parametrize(
    ("answer", "stopped"),
    [
        (NOT_FOUND, False),
        (VariableResult(key="x", value="false"), False),
        (VariableResult(key="x", value="true"), True),
    ],
)
def test_what_airflow_answers_decides(
    portal: Any, task: Task, answer: Any, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow = Supervisor(answer)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    operator = OPERATORS["pay_invoice"]()
    if stopped:
        with pytest.raises(AirflowFailException, match="has stopped"):
            operator.execute(task.context)
    else:
        assert operator.execute(task.context)["outcome"] == "paid"
    asked = [message for message in airflow.asked if isinstance(message, GetVariable)]
    # Before anything is read, and once more right before the send; "not found" is asked twice.
    assert asked == [GetVariable(key=NAME)] * ((1 if stopped else 2) * (2 if answer == NOT_FOUND else 1))


def test_one_not_found_of_something_in_front_of_airflow_does_not_switch_it_off(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = VariableResult(key=NAME, value="true")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(NOT_FOUND, then=stop), raising=False)
    with pytest.raises(AirflowFailException, match="has stopped"):
        OPERATORS["pay_invoice"]().execute(task.context)
    assert portal.requests == []


@pytest.mark.parametrize("listed", ["it is there", NOT_FOUND, None], ids=str)
def test_not_found_counts_only_if_airflow_itself_says_so(
    portal: Any, task: Task, listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in front of Airflow's API may answer 404 to everything, and the supervisor believes it."""
    if AIRFLOW_V_3_3_PLUS and listed == "it is there":
        listed = VariableKeysResult(keys=[NAME], total_entries=1)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(NOT_FOUND, listed=listed), raising=False)
    if not AIRFLOW_V_3_3_PLUS:  # it has no such list
        assert OPERATORS["pay_invoice"]().execute(task.context)["outcome"] == "paid"
        return
    with pytest.raises(Bitrix24StoreError, match=f"{NAME}.*cannot be used now"):
        OPERATORS["pay_invoice"]().execute(task.context)
    assert portal.requests == []


class ConnectionsOnly(BaseSecretsBackend):
    """A secrets backend of somebody's, which keeps no Variables: Airflow's own method says so by an error."""

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        return None


class Broken(ConnectionsOnly):
    """One that keeps Variables, and cannot be reached."""

    def get_variable(self, key: str, team_name: str | None = None) -> str | None:
        raise OSError("no route to the vault")


@EACH
@pytest.mark.parametrize("value", [None, "true"])
def test_a_backend_that_keeps_no_variables_stops_nothing(
    portal: Any, task: Task, operation: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = supervisor.ensure_secrets_backend_loaded()
    monkeypatch.setattr(supervisor, "ensure_secrets_backend_loaded", lambda: [ConnectionsOnly(), *backends])
    if value is None:
        assert OPERATORS[operation]().execute(task.context)["outcome"] in ("paid", "created")
        return
    monkeypatch.setenv(SWITCH, value)
    with pytest.raises(AirflowFailException, match="has stopped all payments"):
        OPERATORS[operation]().execute(task.context)


def test_a_backend_that_is_away_stops_the_payment(portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    backends = supervisor.ensure_secrets_backend_loaded()
    monkeypatch.setattr(supervisor, "ensure_secrets_backend_loaded", lambda: [*backends, Broken()])
    with pytest.raises(Bitrix24StoreError, match="no route to the vault"):
        OPERATORS["pay_invoice"]().execute(task.context)
    assert portal.requests == []


# -- backfills


@EACH
@pytest.mark.parametrize("run_type", ["backfill", DagRunType.BACKFILL])
def test_a_backfill_run_is_refused(portal: Any, task: Task, operation: str, run_type: Any) -> None:
    task.run.run_type = run_type
    with raises_for_good(PaymentRefused, "manual__1 is a backfill run") as caught:
        OPERATORS[operation]().execute(task.context)
    assert "allow_backfill=True" in str(caught.value)
    assert portal.requests == []


@EACH
def test_a_backfill_run_may_be_allowed(portal: Any, task: Task, operation: str) -> None:
    task.run.run_type = DagRunType.BACKFILL
    assert OPERATORS[operation](allow_backfill=True).execute(task.context)["outcome"] in ("paid", "created")


@pytest.mark.parametrize("run_type", [kind for kind in DagRunType if kind is not DagRunType.BACKFILL])
def test_other_runs_are_not_stopped(portal: Any, task: Task, run_type: Any) -> None:
    task.run.run_type = run_type
    assert OPERATORS["pay_invoice"]().execute(task.context)["outcome"] == "paid"


# -- the limit of a task


@EACH
def test_more_than_the_limit_is_refused(portal: Any, task: Task, operation: str) -> None:
    options = {"fill_products": True} if operation == "add_crm_payment" else {}
    with raises_for_good(PaymentRefused, r"the max_amount of this task is 10"):
        OPERATORS[operation](max_amount=10, **options).execute(task.context)
    assert portal.ledger == []
    # Nothing was sent, so the next one may go on with another limit.
    task.ti.run_id = "manual__2"
    receipt = OPERATORS[operation](max_amount="1500.00", **options).execute(task.context)
    assert receipt["outcome"] in ("paid", "created")


# -- a killed task


def test_a_killed_task_touches_neither_airflow_nor_the_portal() -> None:
    """`on_kill` runs inside a signal handler, where a request could hang or find the socket in use."""
    for operator in (PayInvoiceOperator, PayCrmPaymentOperator, AddCrmPaymentOperator):
        ours = operator.__mro__[: operator.__mro__.index(PaymentOperator) + 1]
        assert not [cls for cls in ours if "on_kill" in vars(cls)]


def test_a_time_out_that_is_too_short_is_warned_about(
    portal: Any, task: Task, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    OPERATORS["pay_invoice"](execution_timeout=timedelta(seconds=1)).execute(task.context)
    warned = capfd.readouterr().out
    assert "execution_timeout is 1 s, but finding out the outcome of a lost response can take 21 s" in warned
    assert "retries to at least 1" in warned
    task.store.kept.clear()
    OPERATORS["pay_crm_payment"](execution_timeout=timedelta(seconds=30)).execute(task.context)
    assert "execution_timeout" not in capfd.readouterr().out
    connection = json.loads(portal.connection)
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps({**connection, "extra": {"allow_http": True}}))
    task.store.kept.clear()
    OPERATORS["add_crm_payment"](execution_timeout=timedelta(minutes=2)).execute(task.context)
    assert "can take 165 s" in capfd.readouterr().out


TEMPORARY_RUNS = ("__airflow_temporary_run_2026-11-27T12:00:00+00:00__", "__airflow_temporary_run_x")


@EACH
@pytest.mark.parametrize("run_id", TEMPORARY_RUNS)
@pytest.mark.parametrize("allowed", [None, "", "false", "no", "maybe"])
def test_a_temporary_run_pays_nothing(
    portal: Any, task: Task, operation: str, run_id: str, allowed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BITRIX24_ALLOW_TASKS_TEST", raising=False)
    if allowed is not None:
        monkeypatch.setenv("BITRIX24_ALLOW_TASKS_TEST", allowed)
    task.run.run_id = task.ti.run_id = run_id
    with pytest.raises(AirflowFailException, match="is a temporary run of `airflow tasks test`") as caught:
        OPERATORS[operation]().execute(task.context)
    assert "This attempt read and sent nothing" in str(caught.value)
    assert "airflow dags trigger" in str(caught.value)
    assert portal.requests == []


@EACH
@pytest.mark.parametrize("run_id", [*TEMPORARY_RUNS, "manual__1", "my__airflow_temporary_run_"])
def test_a_temporary_run_may_be_allowed_for_one_command(
    portal: Any, task: Task, operation: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITRIX24_ALLOW_TASKS_TEST", "true" if run_id in TEMPORARY_RUNS else "false")
    task.run.run_id = task.ti.run_id = run_id
    assert OPERATORS[operation]().execute(task.context)["outcome"] in ("paid", "created")
