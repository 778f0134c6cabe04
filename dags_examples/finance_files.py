"""Read what banks and people write: CSV files of any delimiter and encoding, and amounts with a decimal comma."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    from pathlib import Path

_AMOUNT = re.compile(r"([+-]?)(\d{1,3}(?:(?P<group>[ .,'\u2019])\d{3})(?:(?P=group)\d{3})*|\d+)(?:([.,])(\d{1,2}))?")
_UNCLEAR = re.compile(r"[+-]?(\d{1,3})[.,](\d{3})")
_BLANKS = re.compile(r"[\s\u00a0\u202f]+")


def read_rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file, each with its line number under "line"; empty lines do not count.

    UTF-8 (with or without a mark at the beginning), UTF-16 and Windows-1251 are read; the delimiter is ; or , or a tab.

    :raises AirflowFailException: names the file, the line, and what is wrong with it; a retry reads the same.
    """
    lines = _text(path).splitlines()
    head = next((number for number, line in enumerate(lines) if line.strip(" \t,;")), len(lines))
    heading = lines[head] if head < len(lines) else ""
    delimiter = max(";,\t", key=heading.count)
    reader = csv.reader(lines[head:], delimiter=delimiter, strict=True)
    rows: list[dict[str, str]] = []
    names: list[str] = []
    try:
        for cells in reader:
            line = head + reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip().lower() for cell in cells]
                missing = [column for column in columns if column not in names]
                if missing:
                    raise _wrong(path, line, f"the heading has no column {', '.join(missing)}")
            elif len(cells) != len(names):
                raise _wrong(path, line, f"it has {len(cells)} cells, and the heading has {len(names)}")
            else:
                row = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
                empty = [column for column in columns if not row[column]]
                if empty:
                    raise _wrong(path, line, f"{', '.join(empty)} is empty")
                rows.append({**row, "line": str(line)})
    except csv.Error as error:
        raise _wrong(path, head + reader.line_num, str(error)) from None
    if not names:
        raise _wrong(path, 1, f"the file is empty; its heading must be {', '.join(columns)}")
    return rows


def plain_amount(text: str) -> str:
    """Return an amount as the operators take it: ``1.999,99``, ``1 999,99`` and ``1,999.99`` are ``1999.99``.

    Two digits or one after the last point or comma are decimals. Three digits after the only point or comma can be
    thousands or decimals: nobody knows what 1.500 is, so it is refused.

    :raises ValueError: it is no amount, or can be two.
    """
    text = _BLANKS.sub(" ", str(text).strip())
    if unclear := _UNCLEAR.fullmatch(text):
        whole, part = unclear[1], unclear[2]
        raise ValueError(
            f"{text!r} can be {whole}{part} or {whole}.{part}: write {whole}{part} or {whole}{part}.00 for the first, "
            f"and {whole}.{part[:2]} for an amount with decimals"
        )
    found = _AMOUNT.fullmatch(text)
    if found is None or (found["group"] is not None and found["group"] == found[4]):
        raise ValueError(f"{text!r} is no amount such as 1999.99, 1.999,99 or 1 999,99")
    sign = "-" if found[1] == "-" else ""
    return f"{sign}{re.sub(r'[^0-9]', '', found[2])}" + (f".{found[5]}" if found[5] else "")


def form_amount(text: str) -> str:
    """Return what a person has typed into the amount field of a form, as `plain_amount` reads it.

    :raises AirflowFailException: it is no amount, or can be two; a retry reads the same.
    """
    try:
        return plain_amount(text)
    except ValueError as error:
        reason = str(error)
    raise AirflowFailException(f"Amount: {reason}. Nothing was sent. Trigger the DAG again with another amount.")


def amount_in(path: Path, row: dict[str, str]) -> str:
    """Return the amount of a row.

    :raises AirflowFailException: it is none; names the file and the line.
    """
    try:
        return plain_amount(row["amount"])
    except ValueError as error:
        raise _wrong(path, int(row["line"]), str(error)) from None


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1251", errors="replace")


def _wrong(path: Path, line: int, what: str) -> AirflowFailException:
    return AirflowFailException(
        f"{path.name}, line {line}: {what}. Nothing was sent. Correct the file, clear the task."
    )
