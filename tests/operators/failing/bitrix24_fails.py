"""DAGs that fail for good; `test_failures.py` runs them in a real Airflow, and reads what their callback saw."""

# [example]
from typing import Any

from airflow_provider_bitrix24.exceptions import Bitrix24Error, PaymentAmbiguous


def tell_finance(context: Any) -> None:
    """A message for people, by what went wrong."""
    error = context["exception"]
    if isinstance(error, PaymentAmbiguous):
        payments = ", ".join(map(str, error.candidates))
        print(f"Finance decides: which of the payments {payments} is that of {context['ti'].task_id}?")
    elif isinstance(error, Bitrix24Error):
        print(f"{error.code} (something was sent: {error.sent}): {error}")


# [end of example]

import json  # noqa: E402
import os  # noqa: E402
from datetime import timedelta  # noqa: E402
from pathlib import Path  # noqa: E402

from airflow.sdk import DAG  # noqa: E402

from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator, PayInvoiceOperator  # noqa: E402


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


with DAG("refused", default_args={"retries": 2, "retry_delay": timedelta(0)}):
    PayInvoiceOperator(task_id="pay", invoice_id=999_999, pay_system_id=31, on_failure_callback=[tell_finance, note])

with DAG("misspelled"):
    PayInvoiceOperator(task_id="pay", invoice_id="two", pay_system_id=31, on_failure_callback=[tell_finance, note])

with DAG("ambiguous"):
    AddCrmPaymentOperator(task_id="pay", entity_id=1, on_failure_callback=[tell_finance, note])
