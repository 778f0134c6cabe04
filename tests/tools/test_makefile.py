"""The lists of tests in the Makefile name what is there: pytest does not notice a name that nothing has."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTS = (
    "WITH_AIRFLOW",
    "NEWEST_ONLY",
    "LIBRARIES_ALONE",
    "WITH_LIBRARIES",
    "WITH_TASK_STATE",
    "NOT_IN_3_1_0",
    "CANARY",
)


def names(variable: str) -> list[str]:
    show = subprocess.run(
        ["make", "--silent", f"--eval=show: ; $(info $({variable}))", "show"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return show.stdout.splitlines()[0].split()


@pytest.mark.parametrize("variable", LISTS)
def test_each_list_names_tests_that_are_there(variable: str) -> None:
    found = names(variable)
    assert found
    for name in found:
        path, _, test = name.partition("::")
        assert (ROOT / "tests" / path).exists(), name
        function = test.partition("[")[0]
        if function:
            assert re.search(rf"def {function}\b", (ROOT / "tests" / path).read_text()), name


def test_each_list_is_checked() -> None:
    makefile = (ROOT / "Makefile").read_text()
    used = set(re.findall(r"\$\(addprefix (?:--deselect=)?tests/,\$\((\w+)\)\)", makefile))
    assert used
    assert used <= set(LISTS)
