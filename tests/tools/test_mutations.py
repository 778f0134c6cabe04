"""Each rule that `make test-mutation` takes out is marked in the source, once, and its tests are there."""

from __future__ import annotations

import pytest

from tests.tools.mutations import MUTATIONS, PACKAGE, ROOT, Mutation, marked

MARKED = marked(ROOT / PACKAGE)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_the_rule_is_marked_once(mutation: Mutation) -> None:
    assert len(MARKED.get(mutation.rule, [])) == 1
    assert (ROOT / mutation.where).exists()


def test_every_mark_has_its_mutation() -> None:
    assert set(MARKED) == {mutation.rule for mutation in MUTATIONS}
