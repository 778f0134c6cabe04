"""Build the wheel and the source distribution in ``dist/``, and check them as the registry will: ``make package``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"


def package() -> None:
    """Build both, and check both.

    :raises subprocess.CalledProcessError: one of the checks has found something.
    """
    shutil.rmtree(DIST, ignore_errors=True)
    _run(sys.executable, "-m", "build", "--outdir", DIST)
    _run("twine", "check", "--strict", *DIST.iterdir())
    _run("check-wheel-contents", *DIST.glob("*.whl"))


def _run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    package()
