"""A loop of three iterations (Airflow 3.4), each of which adds a payment: one with each journal, one that is mapped."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task_group

from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator


def looping(dag_id: str, **options: Any) -> None:
    """A DAG of one loop."""

    @dag(dag_id=dag_id, schedule=None)
    def build() -> None:
        @task_group
        def iteration() -> None:
            AddCrmPaymentOperator(task_id="add", entity_id=1, **options)

        iteration.loop(max_iterations=3)

    build()


looping("task_state")
looping("database", journal_conn_id="payments")


@dag(dag_id="mapped", schedule=None)
def mapped() -> None:
    """Two payments in each of two iterations."""

    @task_group
    def iteration() -> None:
        AddCrmPaymentOperator.partial(task_id="add", journal_conn_id="payments").expand(entity_id=[1, 4])

    iteration.loop(max_iterations=2)


mapped()
