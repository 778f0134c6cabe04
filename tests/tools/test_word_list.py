"""`make lint` finds the words that the project does not use, and only these."""

from __future__ import annotations

import pytest

from tests.tools.words import EVERYWHERE, IN_THE_PRODUCT, found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("No retry can mend it.", 1),
        ("Fine.\nIt begins anew.", 2),
        ("The invoice over 1500.00 EUR is paid.", 1),
        ("decide by `journal resolve KEY` with --pay-again", 1),
        ("# Find out what\n# became of it.", 1),
        ("It gave no\nusable\nanswer.", 2),
    ],
)
def test_a_word_is_found_with_its_line(text: str, line: int) -> None:
    assert [complaint.split(":")[1] for complaint in found(EVERYWHERE, "page.md", text)] == [str(line)]


@pytest.mark.parametrize("text", ["The voucher is amended.", "An answer of a person.", "over 50 rows", "--send-again"])
def test_other_words_stay(text: str) -> None:
    assert found(EVERYWHERE | IN_THE_PRODUCT, "page.md", text) == []
