"""Where the tables go. What operators and Airflow print meanwhile is dropped: they log to the standard output."""

from __future__ import annotations

import logging
import os
import warnings

_TABLES = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")  # what the other libraries warn about is their own affair


def show(text: str = "") -> None:
    """Print a line."""
    print(text, file=_TABLES)


def show_row(*cells: object) -> None:
    """Print a line of a Markdown table."""
    show(f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in cells)} |")


def show_head(*cells: str) -> None:
    """Print the head of a Markdown table: text, then numbers."""
    show_row(*cells)
    show_row("---", *["--:"] * (len(cells) - 1))
