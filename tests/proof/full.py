"""The whole campaign on all cores, every case with one strike and with two: ``python -m tests.proof.full [stride]``."""

from __future__ import annotations

import logging
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.proof.campaign import JOURNALS, OPERATIONS, Tally, campaign
from tests.proof.world import VirtualDatabase


def _part(operation: str, journal: str, stride: int) -> Tally:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        return campaign(operation, journal, VirtualDatabase(Path(folder) / "journal.db"), stride=stride)


def main(stride: int) -> int:
    """Run it; 1 if the protocol was broken."""
    broken = cases = 0
    with ProcessPoolExecutor() as pool:
        parts = [pool.submit(_part, operation, journal, stride) for operation in OPERATIONS for journal in JOURNALS]
        for part in as_completed(parts):
            tally = part.result()
            cases, broken = cases + tally.cases, broken + len(tally.broken)
            print(f"{tally}\n{tally.verdict()}", flush=True)
    print(f"{cases} cases, {broken} of them broke the protocol")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
