"""The runbook has a section for each code of an error, and entries found by the words of the messages."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_bitrix24 import exceptions
from tests.tools.message_samples import renderings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PACKAGE = ROOT / "airflow_provider_bitrix24"
FOLDERS = ("at_most_once", "journal", "operators")
ERRORS = [
    name
    for name, found in vars(exceptions).items()
    if isinstance(found, type) and issubclass(found, exceptions.Bitrix24Error)
]
HEADINGS = re.findall(r"^### (.*)$", RUNBOOK, re.MULTILINE)
SECTIONS = re.findall(r"^\(([\w-]+)\)=\n## (\S+): (\w+)$", RUNBOOK, re.MULTILINE)
QUOTED = [(heading, words) for heading in HEADINGS for words in re.findall(r'"([^"]+)"', heading)]


@cache
def texts() -> list[str]:
    """Every text in the product, its placeholders left out."""
    return [*_texts(), *RENDERED.values()]


def _texts() -> Iterator[str]:
    files = [*PACKAGE.glob("*.py"), *(file for folder in FOLDERS for file in (PACKAGE / folder).rglob("*.py"))]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


RENDERED: dict[str, str] = {}
"""By the name of its function, each message of the engine in all its forms."""
for _name, _text in renderings():
    RENDERED[_name] = f"{RENDERED.get(_name, '')}\n{_text}"


def test_each_code_has_a_section_with_its_anchor() -> None:
    codes = {name: getattr(exceptions, name).code for name in ERRORS}
    assert sorted(SECTIONS) == sorted((re.sub(r"[._]", "-", code), code, name) for name, code in codes.items())


@pytest.mark.parametrize("name", [name for name in ERRORS if name not in ("Bitrix24Error", "Bitrix24ApiError")])
def test_each_section_says_first_whether_airflow_retries(name: str) -> None:
    section = RUNBOOK.partition(f": {name}\n")[2].strip()
    assert section.startswith("*Final.*" if getattr(exceptions, name).final else "Retried."), section[:80]


@pytest.mark.parametrize("heading", HEADINGS)
def test_each_entry_is_below_the_section_of_its_class(heading: str) -> None:
    before = RUNBOOK.partition(f"### {heading}\n")[0]
    assert re.findall(r"^## \S+: (\w+)$", before, re.MULTILINE)[-1] == heading.partition(":")[0]


@pytest.mark.parametrize(("heading", "words"), QUOTED)
def test_the_words_of_each_entry_are_those_of_a_message(heading: str, words: str) -> None:
    assert any(words in text for text in texts()), heading


def final_messages() -> Iterator[tuple[str, str]]:
    """What is raised, or left to a person, by the engine: class and text."""
    for file in (PACKAGE / "at_most_once").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            name = {"ask": "PaymentAmbiguous", "leave_to_a_person": "PaymentAmbiguous"}.get(name, name)
            if name in ("PaymentAmbiguous", "PaymentNotApplied"):
                used = [argument.func for argument in node.args if isinstance(argument, ast.Call)]
                names = [function.attr for function in used if isinstance(function, ast.Attribute)]
                yield from ((name, RENDERED[one]) for one in names if one in RENDERED)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, text in final_messages() if len(text) > 60])
def test_each_message_that_a_person_must_act_on_has_an_entry(name: str, text: str) -> None:
    entries = [heading for heading in HEADINGS if heading.startswith(name)]
    words = [quoted for heading in entries for quoted in re.findall(r'"([^"]+)"', heading)]
    assert any(quoted in text for quoted in words), text
