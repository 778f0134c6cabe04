"""What importing the operators and sensors adds to what every DAG file imports anyway: `airflow.sdk`.

The time is that of the processor: a busy machine takes longer, but does not work more. The share of `airflow.sdk` is
about the same on any machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

RUNS = 5
LIMIT_MS = 30
CODE = """
import json, sys, time
begin = time.process_time()
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, task
before = set(sys.modules)
start = time.process_time()
import airflow_provider_bitrix24.operators.payments
import airflow_provider_bitrix24.operators.payment_lists
import airflow_provider_bitrix24.operators.calls
import airflow_provider_bitrix24.operators.payment_changes
import airflow_provider_bitrix24.operators.tokens
import airflow_provider_bitrix24.sensors.payments
import airflow_provider_bitrix24.sensors.records
end = time.process_time()
added = set(sys.modules) - before
known = {name.partition(".")[0] for name in before} | sys.stdlib_module_names | {"airflow_provider_bitrix24"}
strangers = {name.partition(".")[0] for name in added} - known
times = (end - start) * 1000, (start - begin) * 1000
print(json.dumps([*times, len(added), sorted(strangers), "requests" in sys.modules]))
"""


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Return the medians of some fresh processes; the first one, which writes bytecode, does not count."""
    runs, environment = [], {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(RUNS + 1):
        done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    ours = statistics.median(run[0] for run in runs[1:])
    airflow = statistics.median(run[1] for run in runs[1:])
    _, _, modules, strangers, has_requests = runs[-1]
    names = ", ".join(strangers) or "none"
    return [
        (
            "importing operators and sensors, on top of `airflow.sdk`",
            f"{ours:.0f} ms, {100 * ours / airflow:.1f} % of `airflow.sdk`; {modules} modules",
            f"< {LIMIT_MS} ms",
        ),
        ("packages this loads beside Airflow's", f"{names}{', requests!' if has_requests else ''}", "none"),
    ]
