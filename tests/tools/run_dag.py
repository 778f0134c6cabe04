"""Run DAGs through real Airflow (`dag.test`) in one process, because it takes Airflow most of its time to start.

Reads a line of JSON for each run: the id of the DAG, its conf, and the environment.
Prints what Airflow prints, the outcome as a line of JSON, and a line that says that it ends.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from tests.tools.dagbag import load_dags


def run(dag_id: str, run_conf: dict[str, Any]) -> dict[str, Any]:
    """Run the DAG; return its state, and state, attempts and result of every task instance."""
    run = load_dags()[dag_id].test(logical_date=None, run_conf=run_conf)
    with create_session() as session:
        tasks = session.scalars(select(TaskInstance).filter_by(dag_id=dag_id, run_id=run.run_id)).all()
        xcoms = session.scalars(select(XComModel).filter_by(dag_id=dag_id, run_id=run.run_id)).all()
    results = {(x.task_id, x.map_index): x.value for x in xcoms if x.key == "return_value"}
    return {
        "state": run.state,
        "tasks": [
            {
                "task_id": ti.task_id,
                "map_index": ti.map_index,
                "state": ti.state,
                "try_number": ti.try_number,
                "rendered_map_index": ti.rendered_map_index,
                "result": results.get((ti.task_id, ti.map_index)),
            }
            for ti in sorted(tasks, key=lambda ti: (ti.task_id, ti.map_index))
        ],
    }


END = "== end of the run =="


def main() -> None:
    """Run what the lines of the input say, one after another."""
    for line in sys.stdin:
        wanted = json.loads(line)
        os.environ.update(wanted["env"])
        try:
            print(json.dumps(run(wanted["dag_id"], wanted["conf"]), default=str))
        except BaseException:  # the next run may do better
            traceback.print_exc()
        sys.stderr.flush()
        print(END, flush=True)


if __name__ == "__main__":
    main()
