"""Measure, and print Markdown: `make bench`, or `python benchmarks/run.py PART …`; without a part, all of them.

The last table has the figures that are aimed at. Everything is measured against the sandbox, over HTTP on loopback.
"""

from __future__ import annotations

import argparse
import importlib
import sys

PARTS = {
    "imports": ("import_cost", "measure"),
    "operations": ("requests_per_operation", "measure"),
    "overhead": ("overhead", "measure"),
    "memory": ("memory", "measure"),
    "stack": ("stack", "measure"),
    "cost": ("cost", "measure"),
    "engine": ("engine_run", "measure"),
    "lists": ("side_by_side", "measure"),
    "one-by-one": ("side_by_side", "measure_one_by_one"),
    "waiting": ("waiting_and_reading", "measure"),
    "reading": ("waiting_and_reading", "measure_reading"),
    "long-lists": ("long_lists", "measure"),
}
"""Part -> module and function. A module is loaded when its part is measured: see `clock`."""


def main() -> None:
    """Measure some parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--count", type=int, default=1000, help="items of a list, payments to wait for")
    parser.add_argument("--items", type=int, default=10_000, help="items of a long list")
    parser.add_argument("--rows", type=int, default=100_000, help="payments to read")
    parser.add_argument("--job", action="append", help="pay, mark or add: only these lists")
    parser.add_argument("--client", action="append", help="only clients whose name has this in it")
    parser.add_argument("--seed", type=int, default=1, help="what goes wrong")
    options = parser.parse_args()
    from tables import show, show_row  # from now on, the standard output is theirs

    figures = [("", "measured", "target"), ("---", "---", "---")]
    for part in options.parts or PARTS:
        print(f"{part} …", file=sys.stderr, flush=True)
        module, function = PARTS[part]
        figures += getattr(importlib.import_module(module), function)(options)
    show()
    for row in figures:
        show_row(*row)


if __name__ == "__main__":
    main()
