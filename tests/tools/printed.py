"""What a program printed as JSON on a line of its own, among whatever else Airflow printed before and after it."""

from __future__ import annotations

import json
from typing import Any


def printed_json(text: str) -> Any:
    """Return the value of the last line that is a JSON object or array.

    Airflow may log after that line: `airflow dags test` of 3.4 prints a traceback when it exits.
    """
    for line in reversed(text.splitlines()):
        if line.startswith(("{", "[")):
            try:
                return json.loads(line)
            except ValueError:
                continue
    raise ValueError(f"no line of JSON: {text[-3000:]}")
