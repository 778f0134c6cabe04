"""Whenever a customer has paid, the order is released: no task waits, the payment itself starts the DAG."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_bitrix24.triggers.paid import PaymentPaidTrigger

PAYMENTS = Asset(
    name="bitrix24_payments",
    uri="bitrix24://acme.bitrix24.com/payments",
    watchers=[AssetWatcher(name="paid", trigger=PaymentPaidTrigger(poll_interval=10))],
)


@task
def new_payments(triggering_asset_events: Any) -> list[dict[str, Any]]:
    """Collect the payments of all events that started this run; an event may come twice."""
    payments = [
        payment for event in triggering_asset_events[PAYMENTS] for payment in event.extra["payload"]["payments"]
    ]
    return list({(payment["payment_id"], payment["paid_at"]): payment for payment in payments}.values())


@task(map_index_template="payment {{ task.op_kwargs['payment']['payment_id'] }}")
def release_order(payment: dict[str, Any]) -> str:
    """Release the order. Make this harmless to repeat, for example by a key of order and payment."""
    amount = f"{payment['amount']} {payment['currency']}"
    return f"Order {payment['order_id']} released: payment {payment['payment_id']} of {amount}"


with DAG(
    dag_id="release_order_when_paid",
    description="Release an order when its payment is marked as paid",
    schedule=[PAYMENTS],
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["bitrix24"],
    doc_md="""
### Release an order when it is paid

A watcher in the triggerer reads the payments of the portal every 10 seconds, whatever their number, and starts this DAG
with those that were marked as paid. It needs the scope `sale` and an administrator. Airflow 3.3 or newer remembers in
the asset's state up to where payments were reported: what is paid while no triggerer runs is reported later. Each
payment is reported at least once.
""",
) as dag:
    release_order.expand(payment=new_payments())
