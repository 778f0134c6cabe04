"""The whole campaign on all cores, cases with one strike and with two: ``python -m tests.simulation.full --help``."""

from __future__ import annotations

import argparse
import logging
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.campaign import JOURNALS, OPERATIONS, Tally, campaign
from tests.simulation.chunks import LISTS
from tests.simulation.chunks import campaign as campaign_of_chunks
from tests.simulation.virtual_journals import VirtualDatabase


def _part(operation: str, journal: str, stride: int) -> Tally:
    logging.disable(logging.CRITICAL)
    return campaign(operation, journal, VirtualDatabase(), stride=stride)


def _chunk(name: str, count: int, journal: str, stride: int) -> Tally:
    logging.disable(logging.CRITICAL)
    return campaign_of_chunks(name, count, journal, VirtualDatabase(), stride=stride)


def main(
    operations: list[str], journals: list[str], stride: int, *, chunks: bool = False, processes: int | None = None
) -> int:
    """Run it; 1 if the protocol was broken.

    :param chunks: chunks of two and three operations instead of single ones.
    :param processes: how many at the same time; by default as many as there are cores.
    """
    broken = cases = space = 0
    with ProcessPoolExecutor(processes) as pool:
        if chunks:
            kept = [journal for journal in journals if journal != "none"]
            some = [(name, count, journal) for name in LISTS for count in (2, 3) for journal in kept]
            parts = [pool.submit(_chunk, *one, stride) for one in some]
        else:
            parts = [pool.submit(_part, operation, journal, stride) for operation in operations for journal in journals]
        for part in as_completed(parts):
            tally = part.result()
            cases, space, broken = cases + tally.cases, space + tally.space, broken + len(tally.broken)
            print(f"{tally}\n{tally.verdict()}", flush=True)
    print(f"{cases} cases ({space} with two strikes are there), {broken} of them broke the protocol")
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS), metavar="OPERATION")
    parser.add_argument("--journals", nargs="+", choices=JOURNALS, default=list(JOURNALS), metavar="JOURNAL")
    parser.add_argument("--stride", type=int, default=1, help="of the cases with two strikes, every how many-th")
    parser.add_argument("--chunks", action="store_true", help="chunks of two and three operations")
    parser.add_argument(
        "--processes", type=int, help="how many at the same time; by default as many as there are cores"
    )
    given = parser.parse_args()
    sys.exit(main(given.operations, given.journals, given.stride, chunks=given.chunks, processes=given.processes))
