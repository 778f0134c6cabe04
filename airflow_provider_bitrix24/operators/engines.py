"""The payment engine of an attempt of a task, with its safeguards: the same for the operators and `hook.payments`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from airflow_provider_bitrix24 import options
from airflow_provider_bitrix24.exceptions import NOT_SENT
from airflow_provider_bitrix24.operators import safeguards
from airflow_provider_bitrix24.operators.arguments import optional_amount, switch
from airflow_provider_bitrix24.operators.journals import KEEP_STATE, identity

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow.sdk import Context

    from airflow_provider_bitrix24.at_most_once.attempt import Log
    from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
    from airflow_provider_bitrix24.journal import Journal


def amount_limit(max_amount: Any) -> Decimal | None:
    """The largest amount to send: the argument, else the option; None if there is none.

    :raises Bitrix24ConfigError: it is no amount.
    """
    limit = optional_amount(max_amount, "max_amount")
    return optional_amount(options.read("max_amount"), options.name_of("max_amount")) if limit is None else limit


def may_backfill(allow_backfill: Any) -> bool:
    """Whether payments may be sent in backfill runs: the argument, else the option.

    :raises Bitrix24ConfigError: it is no boolean.
    """
    return options.switch("allow_backfill") if allow_backfill is None else switch(allow_backfill, "allow_backfill")


def engine_of(
    context: Context,
    hook: Bitrix24Hook,
    journal: Journal,
    log: Log,
    *,
    lost: str,
    database: bool,
    backfill: bool,
    hint: str = "",
    **options: Any,
) -> PaymentEngine:
    """Return the engine of this attempt.

    :param lost: why the notes of earlier attempts are gone; empty if they are not.
    :param database: whether the journal is one that clearing a task leaves as it is.
    :param backfill: whether payments may be sent in backfill runs.
    :param hint: what else could let a person decide, for messages.
    :param options: other options of the engine.
    """
    from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
    from airflow_provider_bitrix24.at_most_once.task import TaskAttempt

    ti: Any = context["ti"]
    return PaymentEngine(
        hook.client,
        hook.run,
        time,
        log,
        journal=journal,
        task=TaskAttempt(
            identity=identity(context),
            try_number=ti.try_number,
            max_tries=ti.max_tries,
            run_began=_run_began(context),
            lost=lost,
            hint=hint + (KEEP_STATE if AIRFLOW_V_3_4_PLUS and not database else ""),
        ),
        safeguard=lambda: safeguards.refuse_if_stopped(hook.bitrix24_conn_id, NOT_SENT),
        check=safeguards.Safeguards(context, hook.bitrix24_conn_id, backfill).check,
        **options,
    )


def _run_began(context: Context) -> str | None:
    """When the DAG run began, and how often something in it was cleared; None if Airflow does not tell.

    A task that is cleared while it runs keeps its ``max_tries``.
    """
    run: Any = context.get("dag_run")
    start_date, cleared = getattr(run, "start_date", None), getattr(run, "clear_number", None)
    # rule: a run whose beginning is not known is read again
    return None if start_date is None or cleared is None else f"run:{start_date.isoformat()}:cleared:{cleared}"
