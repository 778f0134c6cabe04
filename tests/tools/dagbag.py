"""The DAGs of Airflow's DAGs folder, as every supported version of Airflow loads them."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.sdk.execution_time import supervisor


def load_dags() -> dict[str, Any]:
    """Return the DAGs by their ids; a file that cannot be imported ends the program."""
    if not AIRFLOW_V_3_3_PLUS:
        # `dag.test` builds an API server, which takes seconds, for every task; Airflow 3.3 itself keeps the first one.
        supervisor.in_process_api_server = functools.lru_cache(maxsize=1)(supervisor.in_process_api_server)
    folder = Path(conf.get("core", "dags_folder"))
    try:
        from airflow.dag_processing.dagbag import BundleDagBag
    except ImportError:  # Airflow 3.1, which also wants to find in its database what it tests
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.models.dagbag import DagBag, sync_bag_to_db

        sys.path.append(str(folder))  # as Airflow's own processes do
        bag = DagBag(dag_folder=folder, bundle_path=folder)
        DagBundlesManager().sync_bundles_to_db()
        sync_bag_to_db(bag, "dags-folder", None)
    else:
        bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    if bag.import_errors:
        raise SystemExit(f"import errors: {bag.import_errors}")
    return dict(bag.dags)
