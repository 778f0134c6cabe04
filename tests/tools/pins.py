"""Create the pins in ``requirements/`` again: ``make pins``, or ``python tests/tools/pins.py 3.2 lowest`` for some.

Each is the closure of plain Airflow for one Python, as it was when that Airflow was released: later packages break
older Airflows. The lowest are those that ``pyproject.toml`` declares, and the rest as of the day of Airflow 3.1.0.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
COMPAT = "apache-airflow-providers-common-compat"
COMPAT_UNTIL = "2026-11-22"


class Pins(NamedTuple):
    """What to pin, and the day whose registry it is taken from."""

    until: str
    requirements: tuple[str, ...]
    options: tuple[str, ...] = ()


def _airflow(until: str, version: str, *parts: str) -> Pins:
    return Pins(until, (f"apache-airflow=={version}", *parts, f"{COMPAT}==1.23.0"))


def _lowest() -> Pins:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = (*project["dependencies"], *project["optional-dependencies"]["sandbox"])
    return Pins("2025-09-26", declared, ("--resolution", "lowest-direct"))


ALL = {
    "3.1": _airflow("2026-03-15", "3.1.8"),
    "3.2": _airflow("2026-06-01", "3.2.2"),
    "3.3": _airflow("2026-11-20", "3.3.2"),
    # A pre-release: its parts have to be named, too.
    "3.4": _airflow("2026-10-21", "3.4.0b2", "apache-airflow-core==3.4.0b2", "apache-airflow-task-sdk==1.4.0b2"),
    "lowest": _lowest(),
}


def compile_pins(name: str, python: str) -> None:
    """Write the file of one Airflow and one Python."""
    pins = ALL[name]
    command = ["uv", "pip", "compile", "-", "--python-version", python, "--no-annotate", "--no-header", *pins.options]
    command += ["--exclude-newer", pins.until, "--exclude-newer-package", f"{COMPAT}={COMPAT_UNTIL}"]
    done = subprocess.run(command, input="\n".join(pins.requirements), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}, Python {python}: {done.stderr}")
    (ROOT / "requirements" / f"airflow-{name}-py{python}.txt").write_text(done.stdout)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ALL:
        for version in PYTHONS:
            compile_pins(chosen, version)
            print(f"requirements/airflow-{chosen}-py{version}.txt")
