"""However `make demo` is interrupted, it leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.newest_only

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo.py"


def sessions_of(processes: list[psutil.Process]) -> set[int]:
    """Return the sessions of the processes; whatever they start stays in them, orphans too."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            found.add(os.getsid(process.pid))
    return found


def living(sessions: set[int]) -> list[str]:
    """Return the command lines of all processes of these sessions."""
    return [
        " ".join(process.cmdline())
        for process in psutil.process_iter()
        if sessions_of([process]) & sessions and process.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "when"), [("Ctrl-C", "triggered through Airflow's API"), ("nobody reads any more", "api-server is up")]
)
def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path, how: str, when: str) -> None:
    with subprocess.Popen(
        [sys.executable, str(DEMO), "--home", str(tmp_path / "demo")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if when in line:
                break
        sessions = sessions_of(psutil.Process(demo.pid).children(recursive=True)) - {demo.pid}
        assert len(sessions) == 5, "".join(lines)  # the sandbox and Airflow's four parts
        if how == "nobody reads any more":
            demo.stdout.close()
        else:
            os.kill(demo.pid, signal.SIGINT)
            os.kill(demo.pid, signal.SIGINT)  # an impatient person presses it twice
            lines += list(demo.stdout)
        code = demo.wait(timeout=900)
    assert living(sessions) == [], "".join(lines)
    assert code == 130 if how == "Ctrl-C" else code != 0
