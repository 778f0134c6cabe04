"""The command line as a process: a reader that has seen enough is no error."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest


@pytest.mark.parametrize("lines", [1, 200_000])
def test_a_reader_that_ends_early_leaves_no_trace(lines: int) -> None:
    """A few lines fail when Python flushes at its end, many in the middle of the work."""
    script = f"""
import sys, types
from airflow_provider_bitrix24 import __main__ as command
sys.modules["many"] = types.ModuleType("many")
sys.modules["many"].main = lambda rest: len([print("a line") for _ in range({lines})]) * 0
command.COMMANDS["many"] = ("many", "print")
sys.argv = ["bitrix24-airflow", "many"]
sys.stdin.read()
sys.exit(command.console())
"""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        complaints = process.stderr.read()
    assert (process.returncode, complaints) == (141, b"")


def test_a_patient_reader_gets_everything() -> None:
    script = "import sys; from airflow_provider_bitrix24.__main__ import console; sys.argv = ['x']; sys.exit(console())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert "commands:" in done.stdout
