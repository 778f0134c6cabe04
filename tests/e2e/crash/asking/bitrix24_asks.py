"""DAGs whose answers get lost; `test_asking.py` runs them in a real Airflow, and answers what they ask."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)

NOW = {"retry_delay": timedelta(0)}

with DAG("adopted"):
    AddCrmPaymentOperator(task_id="pay", entity_id="{{ 3 }}", on_unknown="ask")

with DAG("added_again"):
    AddCrmPaymentOperator(task_id="pay", entity_id=2, on_unknown="ask", ask_timeout=timedelta(hours=8, minutes=30))

with DAG("changed", default_args=NOW):
    AddCrmPaymentOperator(task_id="pay", entity_id=3, on_unknown="ask", retries=2)

with DAG("marked_again"):
    PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, on_unknown="ask")

with DAG("given_up", default_args=NOW):
    PayCrmPaymentOperator(task_id="pay", payment_id=1001, on_unknown="ask", retries=2)

with DAG("timed_out", default_args=NOW):
    AddCrmPaymentOperator(
        task_id="pay",
        entity_id=1,
        fill_products=True,
        on_unknown="adopt",
        retries=3,  # a slow machine may need one before it gets to the request
        execution_timeout=timedelta(seconds=12),
    )

with DAG("left_red"):
    AddCrmPaymentOperator(task_id="pay", entity_type_id="smart_invoice", entity_id=101)

with DAG("answered_late"):
    AddCrmPaymentOperator(task_id="pay", entity_id=2, on_unknown="ask", ask_timeout=timedelta(seconds=1))

with DAG("overtaken", default_args=NOW):
    AddCrmPaymentOperator(task_id="pay", entity_id=4, on_unknown="ask", retries=2)

with DAG("tried_out"):
    AddCrmPaymentOperator(task_id="pay", entity_id=4, on_unknown="ask")
