"""Print all figures as tables: `make bench`. First those of docs/cost.md, then what safety costs, side by side, many.

`--figures` prints the first table alone; `cost.py`, `side_by_side.py` and `waiting_and_reading.py` are the commands of
the others.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
from typing import NamedTuple

import cost
import import_cost
import memory
import overhead
import requests_per_operation
import side_by_side
import waiting_and_reading


class Figure(NamedTuple):
    """One line of the table."""

    what: str
    measured: str
    wanted: str


def figures() -> list[Figure]:
    """Measure everything; takes about a minute."""
    logging.disable(logging.INFO)
    measured = []
    for module in (import_cost, requests_per_operation, overhead, memory):
        print(f"{module.__name__} …", file=sys.stderr, flush=True)
        with contextlib.redirect_stdout(io.StringIO()):  # the operators' own words
            measured += [Figure(*row) for row in module.measure()]
    return measured


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", action="store_true", help="only the first table")
    arguments = parser.parse_args()
    rows = [Figure("", "measured", "wanted"), Figure("---", "---", "---"), *figures()]
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    if not arguments.figures:
        cost.main()
        side_by_side.main([])
        waiting_and_reading.main([])


if __name__ == "__main__":
    main()
