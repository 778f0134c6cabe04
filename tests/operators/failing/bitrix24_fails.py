"""DAGs that fail for good; `test_failures.py` runs them in a real Airflow, and reads what their callback saw."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator, PayInvoiceOperator


def note(context: Any) -> None:
    """Write down what the callback can tell of the error."""
    error = context["exception"]
    assert isinstance(error, Bitrix24Error)
    seen = {
        "classes": [kind.__name__ for kind in type(error).__mro__],
        "code": error.code,
        "sent": error.sent,
        "candidates": list(error.candidates),
        "words": str(error),
    }
    (Path(os.environ["SEEN"]) / f"{context['ti'].dag_id}.json").write_text(json.dumps(seen))


# [example]
from airflow_provider_bitrix24.exceptions import PaymentAmbiguous  # noqa: E402


def tell_finance(context: Any) -> None:
    """A message for people, by what went wrong."""
    error = context["exception"]
    if isinstance(error, PaymentAmbiguous):
        payments = ", ".join(map(str, error.candidates))
        print(f"Finance decides: which of the payments {payments} is that of {context['ti'].task_id}?")
    elif isinstance(error, Bitrix24Error):
        print(f"{error.code} (something was sent: {error.sent}): {error}")


# [end of example]

with DAG("refused", default_args={"retries": 2, "retry_delay": timedelta(0)}):
    PayInvoiceOperator(task_id="pay", invoice_id=999_999, pay_system_id=31, on_failure_callback=[tell_finance, note])

with DAG("misspelled"):
    PayInvoiceOperator(task_id="pay", invoice_id="two", pay_system_id=31, on_failure_callback=[tell_finance, note])

with DAG("ambiguous"):
    AddCrmPaymentOperator(task_id="pay", entity_id=1, on_failure_callback=[tell_finance, note])
