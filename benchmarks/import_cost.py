"""What importing the operators and sensors adds to what every DAG file imports anyway: `airflow.sdk`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

RUNS = 5
CODE = """
import json, sys, time
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, task
before = set(sys.modules)
start = time.perf_counter()
import airflow_provider_bitrix24.operators.payments
import airflow_provider_bitrix24.sensors.payments
milliseconds = (time.perf_counter() - start) * 1000
added = set(sys.modules) - before
known = {name.partition(".")[0] for name in before} | sys.stdlib_module_names | {"airflow_provider_bitrix24"}
strangers = {name.partition(".")[0] for name in added} - known
print(json.dumps([milliseconds, len(added), sorted(strangers), "requests" in sys.modules]))
"""


def measure() -> list[tuple[str, str, str]]:
    """Return the median of some fresh processes; the first one, which writes bytecode, does not count."""
    runs = []
    for _ in range(RUNS + 1):
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    milliseconds = statistics.median(run[0] for run in runs[1:])
    _, modules, strangers, has_requests = runs[-1]
    names = ", ".join(strangers) or "none"
    return [
        (
            "importing operators and sensors, on top of `airflow.sdk`",
            f"{milliseconds:.0f} ms, {modules} modules",
            "< 30 ms",
        ),
        ("packages this loads beside Airflow's", f"{names}{', requests!' if has_requests else ''}", "none"),
    ]
