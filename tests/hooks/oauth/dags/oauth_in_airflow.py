"""DAGs that use an OAuth application whose tokens live in an Airflow Variable. They run one after another."""

from __future__ import annotations

import json
import os
import urllib.request
from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_bitrix24.operators.payments import PayCrmPaymentOperator
from airflow_provider_bitrix24.operators.tokens import RefreshTokenOperator
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor

READERS = {"retries": 0, "bitrix24_conn_id": "bitrix24_readers"}
TASKS = {"retries": 0, "bitrix24_conn_id": "bitrix24_tasks"}


@task(retries=0)
def expire() -> None:
    """Let all access tokens die at the portal."""
    act = json.dumps({"action": "expire_access_tokens"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{os.environ['SANDBOX']}/_sandbox/act", act, headers)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


with DAG("signed_in", schedule=None, default_args=READERS):
    RefreshTokenOperator(task_id="refresh")

with DAG("new_enough", schedule=None, default_args=READERS):
    RefreshTokenOperator(task_id="refresh")

with DAG("renewed", schedule=None, default_args=READERS):
    RefreshTokenOperator(task_id="refresh", min_lifetime=timedelta(hours=2))

with DAG("reader", schedule=None, default_args=READERS):
    PayCrmPaymentOperator(task_id="pay", payment_id=1004)

with DAG("late", schedule=None, default_args=READERS):
    expire() >> PayCrmPaymentOperator(task_id="pay", payment_id=1003)

with DAG("in_time", schedule=None, default_args=READERS):
    refresh = RefreshTokenOperator(task_id="refresh", min_lifetime=7200)
    refresh >> PayCrmPaymentOperator(task_id="pay", payment_id=1003)

with DAG("on_demand", schedule=None, default_args=TASKS):
    wait = CrmPaymentPaidSensor(
        task_id="wait",
        payment_id=1001,
        entity_type_id="deal",
        entity_id=4,
        deferrable=True,
        poke_interval=0.2,
        timeout=timedelta(minutes=5),
    )
    expire() >> wait

with DAG("webhook", schedule=None, default_args={"retries": 0}):
    RefreshTokenOperator(task_id="refresh", bitrix24_conn_id="bitrix24_webhook")

with DAG("nonsense", schedule=None, default_args=READERS):
    RefreshTokenOperator(task_id="refresh", min_lifetime=0)
