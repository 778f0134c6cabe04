"""Print the figures of the README as a table: `make bench`."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import NamedTuple

import import_cost
import memory
import overhead
import requests_per_operation


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
    """Print a Markdown table."""
    rows = [Figure("", "measured", "wanted"), Figure("---", "---", "---"), *figures()]
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
