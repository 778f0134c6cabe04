"""The section [bitrix24] of Airflow's configuration: defaults for all DAGs, and an operator's argument wins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, conf

from airflow_provider_bitrix24 import options
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Task

OPERATORS: dict[str, Any] = {
    "pay_invoice": lambda **kwargs: PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, **kwargs),
    "pay_crm_payment": lambda **kwargs: PayCrmPaymentOperator(task_id="pay", payment_id=1001, **kwargs),
    "add_crm_payment": lambda **kwargs: AddCrmPaymentOperator(task_id="pay", entity_id=1, fill_products=True, **kwargs),
}
EACH = pytest.mark.parametrize("operation", list(OPERATORS))


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a journal that the configuration names for all operators."""
    file = tmp_path / "journal.db"
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    monkeypatch.setenv("AIRFLOW__BITRIX24__JOURNAL_CONN_ID", "payments")
    return file


def refused(operator: Any, task: Task, portal: Any) -> str:
    with pytest.raises(AirflowFailException) as caught:
        operator.execute(task.context)
    assert "sent nothing" in str(caught.value) or "Nothing was sent" in str(caught.value)
    assert portal.ledger == []
    return str(caught.value)


# -- journal_conn_id


@EACH
def test_every_operator_writes_into_the_configured_journal(
    portal: Any, task: Task, database: Path, operation: str
) -> None:
    first = OPERATORS[operation]().execute(task.context)
    written = len(portal.ledger)
    assert database.exists()
    # Airflow 3.4 discards the task state of a cleared task.
    task.store.kept.clear()
    task.clear()
    again = OPERATORS[operation]().execute(task.context)
    assert (again["idempotency_key"], again["recovered"]) == (first["idempotency_key"], True)
    assert len(portal.ledger) == written > 0


def test_a_business_key_needs_no_argument_then(portal: Any, task: Task, database: Path) -> None:
    first = OPERATORS["add_crm_payment"](idempotency_key="order-4711").execute(task.context)
    task.ti.run_id = "manual__2"
    task.store.kept.clear()
    again = OPERATORS["add_crm_payment"](idempotency_key="order-4711").execute(task.context)
    assert (again["payment_id"], again["outcome"]) == (first["payment_id"], "existing")


def test_an_argument_wins(
    portal: Any, task: Task, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.db"
    monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps({"conn_type": "sqlite", "host": str(mine)}))
    OPERATORS["pay_invoice"](journal_conn_id="mine").execute(task.context)
    assert (mine.exists(), database.exists()) == (True, False)


def test_one_task_may_keep_its_journal_in_the_task_state(portal: Any, task: Task, database: Path) -> None:
    OPERATORS["pay_invoice"](journal_conn_id="task_state").execute(task.context)
    assert not database.exists()
    with pytest.raises(AirflowFailException, match="needs a journal that all runs share") as caught:
        OPERATORS["add_crm_payment"](journal_conn_id="task_state", idempotency_key="order-4711").execute(task.context)
    assert "[bitrix24] journal_conn_id" in str(caught.value)


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_argument_does_not_take_the_journal_away(portal: Any, task: Task, database: Path, value: str) -> None:
    said = refused(OPERATORS["pay_invoice"](journal_conn_id=value), task, portal)
    assert "journal_conn_id must be the id of an Airflow connection, or 'task_state'" in said


@pytest.mark.needs_connection_errors
def test_a_configured_connection_that_is_not_there_is_named_by_its_option(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__JOURNAL_CONN_ID", "paymnets")
    with pytest.raises(Bitrix24ConfigError, match=r"'paymnets' \(\[bitrix24\] journal_conn_id\)"):
        OPERATORS["pay_invoice"]().execute(task.context)
    assert portal.requests == []


@EACH
@pytest.mark.parametrize("value", ["", " "])
def test_an_option_that_is_empty_is_not_given(
    portal: Any, task: Task, operation: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for option in ("JOURNAL_CONN_ID", "MAX_AMOUNT", "ALLOW_BACKFILL", "KILL_SWITCH"):
        monkeypatch.setenv(f"AIRFLOW__BITRIX24__{option}", value)
    assert OPERATORS[operation]().execute(task.context)["outcome"] in ("paid", "created")


# -- max_amount


@EACH
def test_the_configured_limit_holds_for_all(
    portal: Any, task: Task, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__MAX_AMOUNT", "10")
    assert "the max_amount of this task is 10" in refused(OPERATORS[operation](), task, portal)
    assert "the max_amount of this task is 9" in refused(OPERATORS[operation](max_amount="9"), task, portal)
    task.store.kept.clear()
    assert OPERATORS[operation](max_amount="5000").execute(task.context)["outcome"] in ("paid", "created")


@EACH
@pytest.mark.parametrize("value", ["a lot", "-1", "1.999,99", "1_000", "None", "5%"])
def test_a_limit_that_is_no_amount_names_its_option(
    portal: Any, task: Task, operation: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__MAX_AMOUNT", value)
    assert "[bitrix24] max_amount" in refused(OPERATORS[operation](), task, portal)
    assert portal.requests == []


# -- allow_backfill


@EACH
def test_backfills_may_be_allowed_for_all_and_refused_by_one(
    portal: Any, task: Task, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.run.run_type = "backfill"
    assert "[bitrix24] allow_backfill" in refused(OPERATORS[operation](), task, portal)
    monkeypatch.setenv("AIRFLOW__BITRIX24__ALLOW_BACKFILL", "True")
    assert "is a backfill run" in refused(OPERATORS[operation](allow_backfill=False), task, portal)
    assert OPERATORS[operation]().execute(task.context)["outcome"] in ("paid", "created")


def test_a_switch_that_nobody_understands_names_its_option(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__ALLOW_BACKFILL", "sometimes")
    said = refused(OPERATORS["pay_invoice"](), task, portal)
    assert "[bitrix24] allow_backfill of Airflow's configuration must be True or False, not 'sometimes'" in said


# -- kill_switch


@EACH
@pytest.mark.parametrize("value", ["True", "1", " yes ", "on", "stop"])
def test_one_option_stops_all_payments(
    portal: Any, task: Task, operation: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__KILL_SWITCH", value)
    monkeypatch.setenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT", "false")
    said = refused(OPERATORS[operation](), task, portal)
    assert "the option [bitrix24] kill_switch of its configuration is set." in said
    assert portal.requests == []


@pytest.mark.parametrize("value", ["flase", "2", "None", "until monday"])
def test_a_kill_switch_that_nobody_understands_stops_too(
    portal: Any, task: Task, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__KILL_SWITCH", value)
    assert "neither true nor false, which counts as true" in refused(OPERATORS["pay_invoice"](), task, portal)


@EACH
@pytest.mark.parametrize("value", ["False", "f", "0", "no", "off"])
def test_a_kill_switch_that_is_off_stops_nothing(
    portal: Any, task: Task, operation: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__KILL_SWITCH", value)
    assert OPERATORS[operation]().execute(task.context)["outcome"] in ("paid", "created")


# -- where the options come from


def test_an_option_in_the_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "airflow.cfg"
    file.write_text("[bitrix24]\njournal_conn_id =  payments \nmax_amount = 5%\n")
    conf.read(str(file))
    try:
        assert options.read("journal_conn_id") == "payments"
        with pytest.raises(Bitrix24ConfigError, match=r"\[bitrix24\] max_amount of Airflow's configuration cannot be"):
            options.read("max_amount")
    finally:
        conf.remove_section("bitrix24")


def test_an_option_that_is_not_set_is_none() -> None:
    assert [options.read(name) for name in ("journal_conn_id", "max_amount", "pace_conn_id")] == [None] * 3
    assert options.switch("allow_backfill") is False
