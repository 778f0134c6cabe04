"""What banks and people write, read by the example DAGs: every line counts, or is told with its number."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

EXAMPLES = str(Path(__file__).resolve().parents[3] / "dags_examples")
if EXAMPLES not in sys.path:
    sys.path.append(EXAMPLES)  # as Airflow does with its DAGs folder

import bank_statement  # noqa: E402
from finance_files import form_amount, plain_amount, read_rows  # noqa: E402

COLUMNS = ("purpose", "amount", "currency")
ROWS = [{"purpose": "Оплата 1003", "amount": "990,00", "currency": "EUR"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1251", "utf-16"])
@pytest.mark.parametrize("delimiter", [";", "\t", ","])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_spelling_of_a_file(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    amount = '"990,00"' if delimiter == "," else "990,00"
    lines = ["", delimiter * 3, f" Purpose{delimiter}AMOUNT{delimiter}currency", delimiter * 2]
    lines += [f"Оплата 1003{delimiter}{amount}{delimiter}EUR", delimiter * 2, "", "  "]
    file = tmp_path / "file.csv"
    file.write_bytes(end.join(lines).encode(encoding))
    assert [{name: row[name] for name in COLUMNS} for row in read_rows(file, *COLUMNS)] == ROWS
    assert [row["line"] for row in read_rows(file, *COLUMNS)] == ["5"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: the file is empty"),
        (",,,\n", "line 1: the file is empty"),
        ("purpose,amount\nx,1", "line 1: the heading has no column currency"),
        ("purpose,amount,currency\nx,1", "line 2: it has 2 cells, and the heading has 3"),
        ("purpose,amount,currency\n\nx,1,EUR,y", "line 3: it has 4 cells"),
        ("purpose,amount,currency\nx,,EUR", "line 2: amount is empty"),
        ('purpose,amount,currency\nx,"1,EUR', "line 2: "),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "file.csv"
    file.write_text(text)
    with pytest.raises(AirflowFailException, match=f"file.csv, {words}"):
        read_rows(file, *COLUMNS)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        *(("1.999,99", "1999.99"), ("1,999.99", "1999.99"), ("1 999,99", "1999.99"), ("1\u00a0999.99", "1999.99")),
        *(("1'999.99", "1999.99"), ("310,00", "310.00"), ("310", "310"), ("0,5", "0.5"), ("1.234.567,8", "1234567.8")),
        *(
            ("1 500", "1500"),
            ("1'500", "1500"),
            ("1.500,00", "1500.00"),
            ("1.500.000", "1500000"),
            ("-2400.00", "-2400.00"),
            ("+7", "7"),
            (" 1500.00 ", "1500.00"),
        ),
    ],
)
def test_amounts_as_people_write_them(written: str, amount: str) -> None:
    assert plain_amount(written) == amount


@pytest.mark.parametrize("written", ["", "a lot", "1,99,99", "1.5000", "1,500,00", "12 34", "1e3", "--1", "5 EUR"])
def test_what_is_no_amount(written: str) -> None:
    with pytest.raises(ValueError, match="is no amount such as"):
        plain_amount(written)


@pytest.mark.parametrize("written", ["1.500", "1,500", "-1.500", " 12.345 ", "0.500", "999,999"])
def test_what_can_be_two_amounts_is_refused_with_both(written: str, tmp_path: Path) -> None:
    whole, part = written.strip(" -").replace(",", ".").split(".")
    words = f"can be {whole}{part} or {whole}\\.{part}: write {whole}{part} or {whole}{part}\\.00"
    with pytest.raises(ValueError, match=words):
        plain_amount(written)
    with pytest.raises(AirflowFailException, match=f"bank_statement.csv, line 2: .*{words}"):
        lines_of(tmp_path, f"2026-11-20;Payment 1003;{written};EUR")


@pytest.mark.parametrize("written", ["1.500", "a lot"])
def test_a_form_says_what_is_wrong_with_an_amount(written: str) -> None:
    with pytest.raises(AirflowFailException, match=rf"^Amount: '{written}' .*\. Nothing was sent\. Trigger") as caught:
        form_amount(written)
    assert caught.value.__context__ is None
    assert form_amount("1.500,00") == "1500.00"


def lines_of(tmp_path: Path, *lines: str) -> list[dict[str, Any]]:
    (tmp_path / "bank_statement.csv").write_text("\n".join(["booked_on;purpose;amount;currency", *lines]))
    read: list[dict[str, Any]] = bank_statement.read_bank_statement.function(str(tmp_path))
    return read


@pytest.mark.parametrize(
    ("line", "payment", "problem"),
    [
        ("2026-11-20;Payment no. 1003, thank you;990,00;EUR", "1003", ""),
        ("2026-11-20;Оплата № 1003;990,00;EUR", "1003", ""),
        ("2026-11-20;Оплата по счету № 1001;990,00;EUR", None, "names no payment"),
        ("2026-11-20;Subscription;12,00;EUR", None, "names no payment"),
        ("2026-11-20;Payment 1003 and payment 1004;12,00;EUR", "1003", "names several payments"),
        ("2026-11-20;STORNO payment 1003;990,00;EUR", "1003", "looks like a reversal"),
        ("2026-11-20;Возврат, платёж 1003;990,00;EUR", "1003", "looks like a reversal"),
        ("2026-11-20;Chargeback of payment 1003;-990,00;EUR", "1003", "looks like a reversal"),
    ],
)
def test_each_line_of_a_statement_is_paid_or_reported(
    tmp_path: Path, line: str, payment: str | None, problem: str
) -> None:
    (found,) = lines_of(tmp_path, line)
    assert found["payment_id"] == payment
    assert problem in found["problem"]
    assert bool(problem) == bool(found["problem"])
    assert len(bank_statement.choose_payments.function([found])) == (0 if problem else 1)


def test_a_customer_who_pays_twice_is_reported(tmp_path: Path) -> None:
    line = "2026-11-20;Payment 1003;990,00;EUR"
    lines = lines_of(tmp_path, line, "", line, "2026-11-20;Rent;-5;EUR")
    assert [found["line"] for found in lines] == ["2", "4"]
    assert len(bank_statement.choose_payments.function(lines)) == 1
    with pytest.raises(
        AirflowFailException, match=r"1 of 2 lines need a person. Line 4, .* did the customer pay twice"
    ):
        bank_statement.report.function(lines, [{"payment_id": 1003, "outcome": "paid"}])


def test_what_was_paid_before_is_said_and_what_was_not_marked_fails(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, "2026-11-20;Payment 1003;990,00;EUR")
    (told,) = bank_statement.report.function(lines, [{"payment_id": 1003, "outcome": "already_paid"}])
    assert "was paid before: if this file was not read before, the customer paid twice" in told
    for receipts in ([], None):
        with pytest.raises(AirflowFailException, match="not marked: see its task"):
            bank_statement.report.function(lines, receipts)
    assert bank_statement.report.function([], None) == []
