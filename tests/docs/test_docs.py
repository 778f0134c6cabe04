"""What README and docs say exists: files, extras of the connection, and the DAG of the README."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from airflow.sdk import DAG, BaseOperator

from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.sandbox.faults import KINDS
from airflow_provider_bitrix24.sandbox.portal.registry import METHODS
from tests.tools.own_operators import own_operators

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)")
INCLUDED = re.compile(r"^```\{literalinclude\} (\S+)", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


def test_every_included_file_is_a_link_too() -> None:
    """A viewer that is not Sphinx shows no included file."""
    unlinked = [
        f"{page.relative_to(ROOT)}: {block[1]}"
        for page in PAGES
        for block in INCLUDED.finditer(page.read_text())
        if f"]({block[1]}):\n\n" != page.read_text()[: block.start()][-len(block[1]) - 6 :]
    ]
    assert unlinked == []


def test_getting_started_has_the_example_of_the_readme() -> None:
    (code,) = PYTHON.findall((ROOT / "README.md").read_text())
    assert code in PYTHON.findall((ROOT / "docs" / "getting-started.md").read_text())


def test_every_extra_of_the_connection_is_explained_with_its_default() -> None:
    table = (ROOT / "docs" / "connection.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table.partition("| extra |")[2], re.MULTILINE))
    fields = {name: field.default for name, field in Settings.model_fields.items() if not field.is_required()}
    assert set(rows) == set(fields) - {"scheme", "port", "conn_id"}
    for name, default in fields.items():
        if isinstance(default, (int, float)) and not isinstance(default, bool) and name != "max_response_bytes":
            assert rows[name] == f"{default:g} s", name


@pytest.mark.parametrize("kind", own_operators(), ids=lambda kind: kind.__name__)
def test_every_operator_is_in_the_readme_in_an_index_and_in_the_reference(kind: type[BaseOperator]) -> None:
    indexes = [ROOT / "docs" / folder / "index.md" for folder in ("operators", "sensors")]
    assert f"`{kind.__name__}`" in (ROOT / "README.md").read_text()
    assert any(kind.__name__ in page.read_text() for page in indexes)
    # Sphinx leaves out what a module has imported from another one.
    assert f"automodule:: {kind.__module__}\n" in (ROOT / "docs" / "reference.md").read_text()


def _cells(heading: str, column: int) -> list[str]:
    """The code in one column of the table below a heading of the sandbox's page."""
    section = (ROOT / "docs" / "sandbox.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n#")[0]
    cells = [row.split(" | ")[column] for row in re.findall(r"^\| (.+) \|$", section, re.MULTILINE)[1:]]
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


def _spelled_out(pattern: str) -> list[str]:
    """``crm.item.{get,list}`` as two names."""
    before, brace, rest = pattern.partition("{")
    inside, _, after = rest.partition("}")
    return [f"{before}{one}{after}" for one in inside.split(",")] if brace else [pattern]


def test_the_page_of_the_sandbox_names_its_methods() -> None:
    named = [name.lower() for pattern in _cells("Methods", 1) for name in _spelled_out(pattern)]
    unnamed = [method for method in METHODS if not any(fnmatchcase(method, name) for name in named)]
    assert unnamed == []


def test_the_page_of_the_sandbox_names_its_faults() -> None:
    assert sorted(_cells("Faults", 0)) == sorted(KINDS)


def test_the_example_of_the_readme_is_a_dag() -> None:
    (code,) = PYTHON.findall((ROOT / "README.md").read_text())
    names: dict[str, object] = {}
    exec(code.replace('with DAG("bitrix24_payments", schedule=None):', "with DAG('x', schedule=None) as dag:"), names)
    dag = names["dag"]
    assert isinstance(dag, DAG)
    assert set(dag.task_ids) == {"pay", "add", "wait"}
    assert dag.get_task("wait").upstream_task_ids == {"add"}
