"""What messages call an operation that marks something, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What messages call an operation and its outcome."""

    state: str
    """The object is then "paid"."""
    otherwise: str
    """As long as it is not, it is "unpaid"."""
    done: str
    """The object was "marked as paid"."""
    noun: str
    """The call is "the mark"."""
    undone: str
    """Somebody has "set it back to unpaid"."""
    again: str
    """A second call would "mark" it a second time."""


PAYING: Final = Wording(
    state="paid",
    otherwise="unpaid",
    done="marked as paid",
    noun="mark",
    undone="set it back to unpaid",
    again="mark",
)
UNPAYING: Final = Wording(
    state="unpaid",
    otherwise="paid",
    done="set back to unpaid",
    noun="reset",
    undone="marked it as paid",
    again="set back",
)
DELETING: Final = Wording(
    state="deleted",
    otherwise="still there",
    done="deleted",
    noun="deletion",
    undone="restored it",
    again="delete",
)
