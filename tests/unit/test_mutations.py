"""Each rule that `make test-mutation` takes out stands where it says, once, and its tests are there."""

from __future__ import annotations

import pytest

from tests.tools.mutations import MUTATIONS, PACKAGE, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_the_rule_stands_where_it_says(mutation: Mutation) -> None:
    assert (ROOT / PACKAGE / mutation.file).read_text().count(mutation.old) == 1
    assert (ROOT / mutation.where).exists()
