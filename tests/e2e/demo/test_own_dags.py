"""The Airflow of `make demo KEEP=1` shows the DAGs of the user, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.demo.conftest import ROOT


def test_the_folder_of_the_readme_is_one_of_the_folders_of_the_demo() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", "import demo; print(demo.bundles())"],
        cwd=ROOT / "tests" / "tools",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    folders = {bundle["name"]: bundle["kwargs"] for bundle in json.loads(printed)}
    assert folders == {"dags-folder": {}, "own": {"path": str(Path(sys.prefix) / "airflow" / "dags")}}
    assert "DAGs in `.venv/airflow/dags`" in (ROOT / "README.md").read_text()
