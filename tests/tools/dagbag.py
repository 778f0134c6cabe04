"""The DAGs of Airflow's DAGs folder, as every supported version of Airflow loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.configuration import conf


def load_dags() -> dict[str, Any]:
    """Return the DAGs by their ids; a file that cannot be imported ends the program."""
    folder = Path(conf.get("core", "dags_folder"))
    try:
        from airflow.dag_processing.dagbag import BundleDagBag
    except ImportError:  # Airflow 3.1, which also wants to find in its database what it tests
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.models.dagbag import DagBag, sync_bag_to_db

        bag = DagBag(dag_folder=folder, bundle_path=folder)
        DagBundlesManager().sync_bundles_to_db()
        sync_bag_to_db(bag, "dags-folder", None)
    else:
        bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    if bag.import_errors:
        raise SystemExit(f"import errors: {bag.import_errors}")
    return dict(bag.dags)
