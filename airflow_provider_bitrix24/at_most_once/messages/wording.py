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
    did: str
    """Somebody has "marked {} as paid"."""
    undone: str
    """Somebody has "set it back to unpaid"."""
    after_reply: str
    """What a reply that could not be saved means, and what a person must not do."""


PAYING: Final = Wording(
    state="paid",
    otherwise="unpaid",
    done="marked as paid",
    noun="mark",
    did="marked {} as paid",
    undone="set it back to unpaid",
    after_reply="By its answer the money is recorded: do not mark it as paid a second time.",
)
UNPAYING: Final = Wording(
    state="unpaid",
    otherwise="paid",
    done="set back to unpaid",
    noun="reset",
    did="set {} back to unpaid",
    undone="marked it as paid",
    after_reply="By its answer the money is not recorded any more: do not set it back to unpaid a second time.",
)
DELETING: Final = Wording(
    state="deleted",
    otherwise="still there",
    done="deleted",
    noun="deletion",
    did="deleted {}",
    undone="restored it",
    after_reply="By its answer it is not there any more: do not delete it a second time.",
)
