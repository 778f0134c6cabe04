"""The page of figures: its commands are there, and the side by side benchmark sees what it is to see."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cost.md"


def run(*command: str) -> str:
    """What a command of the page prints."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_commands_of_the_page_are_there() -> None:
    commands = set(re.findall(r"python (benchmarks/\w+\.py)", PAGE.read_text()))
    assert commands == {"benchmarks/cost.py", "benchmarks/side_by_side.py"}
    assert all((ROOT / command).is_file() for command in commands)
    assert "--intents" in run("benchmarks/side_by_side.py", "--help")


def test_the_benchmark_catches_who_pays_twice_and_who_reports_what_is_not_so() -> None:
    printed = run("benchmarks/side_by_side.py", "--intents=60", "--client=requests", "--client=this provider, SQL")
    adding, paying = printed.split("\n### ")[1:]
    for table, wrong in ((adding, "duplicates"), (paying, "falsely reported")):
        head, _, plain, ours = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
        assert int(dict(zip(head, plain, strict=True))[wrong]) > 0
        assert ours[:4] == ["this provider, SQL", "0", "0", "0"]
