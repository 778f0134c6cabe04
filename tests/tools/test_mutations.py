"""Each rule that `make test-mutation` takes out is marked in the source, once, and its tests are there."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.tools.mutations import MUTATIONS, PACKAGE, ROOT, Mutation, marked, without_rule

if TYPE_CHECKING:
    from pathlib import Path

MARKED = marked(ROOT / PACKAGE)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_the_rule_is_marked_once(mutation: Mutation) -> None:
    assert len(MARKED.get(mutation.rule, [])) == 1
    assert (ROOT / mutation.where).exists()


def test_every_mark_has_its_mutation() -> None:
    assert set(MARKED) == {mutation.rule for mutation in MUTATIONS}


def test_without_the_rule_the_module_is_still_python_with_all_its_names(tmp_path: Path) -> None:
    """Else every test turns red, also one that has nothing to do with the rule."""
    for number, mutation in enumerate(MUTATIONS):
        text = without_rule(mutation, MARKED[mutation.rule])
        (tmp_path / f"rule_{number}.py").write_text(f"{text}\n# without: {mutation.rule}\n")
    check = ["ruff", "check", "--isolated", "--select=F821,F823", "--target-version=py311", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", *check], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
