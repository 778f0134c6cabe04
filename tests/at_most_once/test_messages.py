"""Every message that the payment engine writes, as it is read: messages.golden."""

from __future__ import annotations

import re

from tests.tools.message_samples import FILE, generated, renderings


def test_every_message_is_the_one_that_was_reviewed() -> None:
    assert FILE.read_text() == generated(), "read the difference, then run: python -m tests.tools.message_samples"


def test_no_message_has_a_gap_or_a_doubled_mark() -> None:
    for name, text in renderings():
        assert not re.search(r"  |\.\.|\bover \d", text.removeprefix(" ")), (name, text)
