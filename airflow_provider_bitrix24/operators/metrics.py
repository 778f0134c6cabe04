"""Count the results of payments with Airflow's metrics: StatsD or OpenTelemetry, as Airflow is configured."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.operators.list_report import status_of

if TYPE_CHECKING:
    from airflow_provider_bitrix24.at_most_once.operation import Operation, Result

PAYMENTS: Final = "bitrix24.payments"
"""The counters are called `bitrix24.payments.paid` and so on, by the status of the operation."""

log = logging.getLogger(__name__)


def count(operation: Operation, result: Result) -> None:
    """Count one result. A metric that cannot be sent never fails a payment."""
    tags = {"operation": operation.name}
    if isinstance(result, Failure):
        tags["code"] = result.code
    try:
        from airflow.providers.common.compat.sdk import Stats

        Stats.incr(f"{PAYMENTS}.{status_of(result)}", tags=tags)
    except Exception:
        log.warning("The result of %s was not counted in Airflow's metrics.", operation.subject, exc_info=True)
