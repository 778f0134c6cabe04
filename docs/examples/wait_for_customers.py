"""Wait until the customers have paid several payments, without holding a worker."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor

with DAG(
    dag_id="wait_for_customers",
    description="Wait until payments and invoices are paid",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    default_args={"deferrable": True, "poke_interval": 60, "timeout": timedelta(days=14)},
):
    CrmPaymentPaidSensor(task_id="payments_are_paid", payment_id=[1001, 1003])
    InvoicePaidSensor(task_id="invoices_are_paid", invoice_id=[2, 3])
