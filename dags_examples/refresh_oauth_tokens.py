"""Every 20 minutes: keep the tokens of an OAuth application alive, so that no other task has to refresh them."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_provider_bitrix24.operators.tokens import RefreshTokenOperator

with DAG(
    dag_id="refresh_oauth_tokens",
    description="Refresh the tokens of an OAuth application",
    schedule="*/20 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["bitrix24"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md="""
### Refresh OAuth tokens

For a connection with the extras `auth: oauth` and `refreshed_by: operator`; connections of webhooks need none of this.

An access token lives for an hour, and every refresh kills the refresh token that it used. This DAG is the only one that
refreshes, one run at a time, so that no two tasks do it at once; all others read the tokens that it has stored. Every
other run finds the token new enough and does nothing. If the DAG fails for more than 20 minutes, other tasks fail, and
say so.
""",
) as dag:
    RefreshTokenOperator(task_id="refresh", bitrix24_conn_id="bitrix24_oauth", max_active_tis_per_dag=1)
