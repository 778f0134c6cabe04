"""The example in the docs is run as a DAG author would run it: its own project, its own Airflow, its own pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[2] / "docs" / "guides" / "test-your-dags.md"
PLUGIN = "airflow_provider_bitrix24.sandbox.pytest_plugin"


@pytest.mark.slow
def test_example_of_the_docs(tmp_path: Path, new_airflow_home: Callable[[], Path]) -> None:
    blocks = re.findall(r"```\{code-block\} python\n:caption: (\S+)\n\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert [name for name, _ in blocks] == ["dags/pay_one_invoice.py", "tests/test_pay_one_invoice.py"]
    for name, code in blocks:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(code, "utf-8")
    dags = str(tmp_path / "dags")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        "AIRFLOW_HOME": str(new_airflow_home()),
        "AIRFLOW__CORE__DAGS_FOLDER": dags,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join([dags, *(path for path in sys.path if path)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
