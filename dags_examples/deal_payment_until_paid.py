"""A won deal gets a payment with its products; the DAG waits, without holding a worker, until the customer has paid."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor


@task
def release_order(payment: dict[str, Any]) -> str:
    """Go on, now that the money is there: here the goods would be sent, or the work planned."""
    return f"Payment {payment['payment_id']}: {payment['amount']} {payment['currency']} received {payment['paid_at']}"


with DAG(
    dag_id="deal_payment_until_paid",
    description="Add a payment to a deal and wait until the customer has paid it",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["bitrix24"],
    params={
        "deal_id": Param(type="integer", minimum=1, title="Deal", description="The number in the deal's address."),
        "pay_system_id": Param(
            8,
            type="integer",
            enum=[6, 8],
            values_display={6: "Cash", 8: "Card on the payment page"},
            title="Pay system",
            description="The choices are those of the portal; these are the sandbox's.",
        ),
    },
    doc_md="""
### A deal's payment, until it is paid

Bitrix24 adds *empty* payments: `fill_products` puts the deal's products into it. The key is the deal's, not the run's,
and the journal (Airflow connection `payments_journal`, a database) remembers it: running this again for the same deal
returns the same payment (`existing`) instead of adding another, whatever crashed in between. `wait_until_paid` is
deferrable: while the customer takes their time, the wait costs a line in the triggerer and no worker. If somebody
deletes the payment, the wait fails at once.
""",
) as dag:
    add_payment = AddCrmPaymentOperator(
        task_id="add_payment",
        entity_type_id="deal",
        entity_id="{{ params.deal_id }}",
        pay_system_id="{{ params.pay_system_id }}",
        fill_products=True,
        idempotency_key="deal-{{ params.deal_id }}-payment",
        journal_conn_id="payments_journal",
        max_amount="5000.00",
        retries=2,
    )
    wait_until_paid = CrmPaymentPaidSensor(
        task_id="wait_until_paid",
        payment_id=add_payment.output["payment_id"],
        entity_type_id="deal",
        entity_id="{{ params.deal_id }}",
        deferrable=True,
        poke_interval=10,
        timeout=timedelta(days=14),
    )
    release_order(wait_until_paid.output)
