"""Read the items of a list: ids, mappings, what another task has returned, or a CSV or JSONL file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_bitrix24.api.values import account_number, described, positive_id, shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.operators.arguments import is_empty
from airflow_provider_bitrix24.operators.numbers import only_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from airflow_provider_bitrix24.at_most_once.operation import Operation

ERRORS_SHOWN: Final = 10
_MAY_BE_EMPTY: Final = ("invoice_id", "payment_id", "account_number", "pay_system_id", "bx_rest_handler", "products")
"""Fields that a row may leave empty. No guard is among them: an empty expected_amount would switch it off."""

S = TypeVar("S")
T = TypeVar("T")
OperationT = TypeVar("OperationT", bound="Operation")


@dataclass(frozen=True, slots=True)
class Row:
    """One item as it was given."""

    where: str
    """Which one, for messages: "invoices[2]", "open_items.csv, line 4"."""
    values: Mapping[str, Any]

    def named(self, field: str) -> str:
        """The field, for messages."""
        return f"{self.where}: {field}"

    def get(self, field: str, default: Any = None) -> Any:
        """The value of a field, or what the operator says for all items."""
        return self.values.get(field, default)


class WrongRows:
    """What is wrong with the rows of a list, so that one error names all of it, up to ten."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._advice: list[str] = []

    def each(self, work: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """Return what a function makes of each item, without those that are wrong."""
        done = []
        for item in items:
            try:
                done.append(work(item))
            except Bitrix24ConfigError as error:
                self._errors.append(error.explanation)
        return done

    def add_duplicates(self, named: Iterable[tuple[Row, str]], advice: str) -> None:
        """Note each row that names what an earlier one names.

        :param named: each row, and what it names.
        """
        first: dict[str, Row] = {}
        twice = []
        for row, name in named:
            if name in first:
                twice.append(f"{first[name].where} and {row.where} both name {name}.")
            first.setdefault(name, row)
        if twice:
            self._errors += twice
            self._advice.append(advice)

    def refuse(self) -> None:
        """Raise if anything is wrong.

        :raises Bitrix24ConfigError: names every row that is wrong, up to ten.
        """
        if not self._errors:
            return
        more = len(self._errors) - ERRORS_SHOWN
        told = [*self._errors[:ERRORS_SHOWN], *([f"{more} more rows are wrong."] if more > 0 else []), *self._advice]
        raise Bitrix24ConfigError(" ".join(told), NOT_SENT)


def read_rows(value: Any, argument: str, wrong: WrongRows, *, id_field: str, fields: Collection[str]) -> list[Row]:
    """Return the items that an argument holds or names.

    :param value: a list, or anything that can be iterated, of ids and mappings; the text of such a list as JSON; or the
        path of a CSV or JSONL file.
    :param argument: name of the argument, for errors.
    :param wrong: takes the errors of single rows.
    :param id_field: the field that an item has which is only an id.
    :param fields: the fields that an item may have.
    :raises Bitrix24ConfigError: the list or the file as a whole is wrong.
    """
    if isinstance(value, str) and value.strip().startswith("["):
        value = _listed(value, argument)
    items = _file(value.strip(), argument) if isinstance(value, str) else _given(value, argument)

    def row(item: tuple[str, Any]) -> Row:
        where, content = item
        return Row(where, _checked(content, where, id_field, fields))

    return wrong.each(row, items)


def each(work: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Return what a function makes of each item; one error names all that are wrong, up to ten.

    :raises Bitrix24ConfigError: something is wrong with an item.
    """
    wrong = WrongRows()
    done = wrong.each(work, items)
    wrong.refuse()
    return done


def with_ids(
    rows: Iterable[Row],
    check: Callable[[Row], Callable[..., OperationT]],
    noun: str,
    wrong: WrongRows,
    find: Callable[[Sequence[str]], Mapping[str, Sequence[int]]],
) -> list[tuple[Row, OperationT]]:
    """Return each row with what is made of it, once all of them are checked and all account numbers are looked up.

    :param check: checks the other fields of a row, and returns what takes its id.
    :param noun: what a row names: "invoice", whose id is ``invoice_id`` in the row and as an argument of what ``check``
        returns.
    :param wrong: what is known to be wrong already.
    :param find: returns the ids that have each number.
    :raises Bitrix24ConfigError: names every row that is wrong, that names what another one names, or whose number
        nothing has, or several objects have.
    """
    id_field, advice = f"{noun}_id", f"Each {noun} is paid once: remove one of them."
    checked = wrong.each(lambda row: (row, check(row), _id_or_number(row, id_field)), rows)
    wrong.add_duplicates(
        (
            (row, f"account_number {shown(named)}" if isinstance(named, str) else f"{noun} {named}")
            for row, _, named in checked
        ),
        advice,
    )
    wrong.refuse()
    numbers = [named for _, _, named in checked if isinstance(named, str)]
    found = find(numbers) if numbers else {}

    def made(one: tuple[Row, Callable[..., OperationT], int | str]) -> tuple[Row, OperationT]:
        row, make, named = one
        number = named if isinstance(named, int) else only_id(id_field, named, found[named], f"{row.where}: ")
        return row, make(**{id_field: number})

    pairs = wrong.each(made, checked)
    wrong.add_duplicates(((row, one.subject) for row, one in pairs), advice)
    wrong.refuse()
    return pairs


def _id_or_number(row: Row, id_field: str) -> int | str:
    """Return the id that a row names, or its account number, which is text."""
    number = row.get("account_number")
    if (row.get(id_field) is None) == (number is None):
        raise Bitrix24ConfigError(f"{row.where}: give exactly one of {id_field} and account_number.", NOT_SENT)
    if number is not None:
        return account_number(number, row.named("account_number"))
    return positive_id(row.get(id_field), row.named(id_field))


def _given(value: Any, argument: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping | bytes) or not isinstance(value, Iterable):
        raise Bitrix24ConfigError(
            f"{argument} must be a list of ids or mappings, or the path of a CSV or JSONL file, not "
            f"{described(value)}.",
            NOT_SENT,
        )
    return ((f"{argument}[{number}]", item) for number, item in enumerate(value))


def _listed(text: str, argument: str) -> Any:
    """Read a list that a template rendered as text. Fractions stay text: a float has lost digits."""
    try:
        return json.loads(text, parse_float=str)
    except ValueError:
        raise Bitrix24ConfigError(
            f"{argument} is the text {shown(text)}, which is no JSON list.",
            "Is it a template? Give the task's output, set render_template_as_native_obj, or add `| tojson`.",
            NOT_SENT,
        ) from None


def _checked(content: Any, where: str, id_field: str, fields: Collection[str]) -> Mapping[str, Any]:
    """Return the fields of an item: none is unknown, and no guard is empty."""
    if isinstance(content, Bitrix24ConfigError):
        raise content
    if not isinstance(content, Mapping):
        return {id_field: content}
    unknown = [name for name in content if name not in fields]
    if unknown:
        raise Bitrix24ConfigError(
            f"{where} has {', '.join(map(shown, unknown))}, which is no field of it; it may have: {', '.join(fields)}.",
            NOT_SENT,
        )
    for name, value in content.items():
        if is_empty(value) and name not in _MAY_BE_EMPTY:
            raise Bitrix24ConfigError(f"{where}: {name} is empty.", NOT_SENT)
    return {name: value for name, value in content.items() if not is_empty(value)}


# -- files


def _file(path: str, argument: str) -> Iterator[tuple[str, Any]]:
    """Read a file; each item with the name of the file and its line. A line that is none is an error in its place."""
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl}
    name = path.rpartition("/")[2]
    read = readers.get(f".{name.rpartition('.')[2].lower()}")
    if read is None:
        raise Bitrix24ConfigError(
            f"{argument} must be a list, or the path of a file that ends in .csv or .jsonl, not {described(path)}.",
            NOT_SENT,
        )
    return read(_content(path, argument), name)


def _content(path: str, argument: str) -> str:
    from airflow.sdk import ObjectStoragePath

    try:
        content: bytes = ObjectStoragePath(path).read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Bitrix24ConfigError(f"{argument}: {path} is not in UTF-8.", NOT_SENT) from None
    except FileNotFoundError:
        raise Bitrix24ConfigError(f"{argument}: there is no file {path}.", NOT_SENT) from None


def _csv(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Read CSV with a heading; the delimiter is ; or , or a tab. Empty lines do not count."""
    heading = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(";,\t", key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        for cells in reader:
            where = f"{name}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip().lower() for cell in cells]
                if len(set(names)) < len(names):
                    raise Bitrix24ConfigError(f"{where}: two columns have the same name.", NOT_SENT)
            elif len(cells) != len(names):
                yield (
                    where,
                    Bitrix24ConfigError(f"{where} has {len(cells)} cells, and the heading has {len(names)}.", NOT_SENT),
                )
            else:
                yield where, {field: cell.strip() for field, cell in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise Bitrix24ConfigError(f"{name}, line {reader.line_num}: {error}.", NOT_SENT) from None
    if not names:
        raise Bitrix24ConfigError(f"{name} is empty; its first line must name the columns.", NOT_SENT)


def _jsonl(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Read a JSON value from each line. Fractions stay text: a float has lost digits."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            yield where, json.loads(line, parse_float=str)
        except ValueError:
            yield where, Bitrix24ConfigError(f"{where} is no JSON.", NOT_SENT)
