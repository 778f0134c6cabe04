"""One DAG with one task for each case; the cases stand beside what is done to them, and come here as JSON."""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor

if TYPE_CHECKING:
    from airflow.sdk import Context


class DiesBeforeRed(PayInvoiceOperator):
    """Its worker dies when the first attempt is about to be red."""

    def execute(self, context: Context) -> Any:
        """Pay the invoice."""
        try:
            return super().execute(context)
        except AirflowFailException:
            if context["ti"].try_number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            raise


OPERATORS = {
    "add": AddCrmPaymentOperator,
    "pay_invoice": PayInvoiceOperator,
    "dies_before_red": DiesBeforeRed,
    "pay_crm_payment": PayCrmPaymentOperator,
    "wait": CrmPaymentPaidSensor,
}
SECONDS = {"execution_timeout", "timeout"}


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """JSON has no durations."""
    return {name: timedelta(seconds=value) if name in SECONDS else value for name, value in given.items()}


for name, case in json.loads(Path(os.environ["BITRIX24_CASES"]).read_text()).items():
    with DAG(
        name,
        schedule=None,
        is_paused_upon_creation=False,
        default_args={"retries": 5, "retry_delay": timedelta(seconds=1)},
    ):
        OPERATORS[case["operator"]](task_id="task", **arguments(case["arguments"]))
