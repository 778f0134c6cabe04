"""Run DAGs of the DAGs folder through real Airflow (`dag.test`), one after another, and print their outcome.

Usage: run_dags.py DAG_ID... ; a line is JSON: for each DAG and task a list with one entry for each map index:
state, try_number, xcoms and asset events.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.models.asset import AssetEvent
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from tests.tools.dagbag import load_dags


def outcome(dag: Any) -> dict[str, list[dict[str, Any]]]:
    run = dag.test(logical_date=None)
    with create_session() as session:
        tasks = session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, run_id=run.run_id)).all()
        xcoms = session.scalars(select(XComModel).filter_by(dag_id=dag.dag_id, run_id=run.run_id)).all()
        events = [
            ((event.source_task_id, event.source_map_index), event.uri, event.extra)
            for event in session.scalars(select(AssetEvent).filter_by(source_dag_id=dag.dag_id)).all()
        ]
    found: dict[str, list[dict[str, Any]]] = {}
    for ti in sorted(tasks, key=lambda ti: ti.map_index):
        mine = {x.key: x.value for x in xcoms if (x.task_id, x.map_index) == (ti.task_id, ti.map_index)}
        told = [[uri, extra] for source, uri, extra in events if source == (ti.task_id, ti.map_index)]
        facts = {"state": ti.state, "try_number": ti.try_number, "xcoms": mine, "events": told}
        found.setdefault(ti.task_id, []).append(facts)
    return found


def main(dag_ids: list[str]) -> None:
    dags = load_dags()
    print(json.dumps({dag_id: outcome(dags[dag_id]) for dag_id in dag_ids}, default=str))


if __name__ == "__main__":
    main(sys.argv[1:])
