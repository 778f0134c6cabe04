"""The page of figures: its command is there, and the side by side benchmark sees what it is to see."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cost.md"


def run(*command: str) -> str:
    """What a command of the page prints."""
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=1800
    ).stdout


def tables(printed: str) -> list[list[dict[str, str]]]:
    """The rows of each table by the words of its head."""
    found = []
    for text in printed.split("\n**")[1:]:
        head, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
        found.append([dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)])
    return found


def test_the_parts_of_the_page_are_there() -> None:
    named = set(re.findall(r"python (benchmarks/\S+\.py)((?: [a-z-]+)*)", PAGE.read_text()))
    assert {file for file, _ in named} == {"benchmarks/run.py"}
    known = re.sub(r"\s", "", run("benchmarks/run.py", "--help"))  # a long word may be broken
    assert all(part in known for _, parts in named for part in parts.split())


SLEEPS = """
import asyncio, sys
sys.path.insert(0, "benchmarks")
import clock
clock.install()
async def sleep():
    for number in range(1, 9):
        await asyncio.sleep(number / 300)
begin = clock.CLOCK.time()
clock.run_async(sleep(), lambda: False)
print(clock.CLOCK.time() - begin)
"""


def test_waits_that_are_skipped_end() -> None:
    """A sum of seconds since the epoch can be a little too small, for ever."""
    assert float(run("-c", SLEEPS)) == pytest.approx(36 / 300, abs=0.001)


@pytest.mark.slow
def test_the_benchmark_catches_who_pays_twice_and_who_reports_what_is_not_so() -> None:
    printed = run("benchmarks/run.py", "one-by-one", "--count=40", "--job=pay", "--client=requests", "--client=SQL")
    [[plain, ours]] = tables(printed)
    assert (int(plain["duplicates"]) > 0, int(plain["falsely reported"]) > 0) == (True, True)
    assert [ours[name] for name in ("duplicates", "lost", "falsely reported")] == ["0"] * 3


@pytest.mark.slow
def test_lists_keep_their_number_of_requests_and_lose_nothing_under_faults() -> None:
    """94 are two chunks, of four requests each."""
    printed = run("benchmarks/run.py", "lists", "--count=94", "--job=add", "--client=batch_size=50")
    [[quiet], [faults], [limited]] = tables(printed)
    assert (int(quiet["requests"]), int(quiet["refused"]), int(limited["refused"])) == (8, 0, 0)
    for row in (quiet, faults, limited):
        assert [row[name] for name in ("duplicates", "lost", "falsely reported")] == ["0"] * 3
    assert (quiet["ids known"], limited["ids known"]) == ("94", "94")
