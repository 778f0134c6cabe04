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
    do: str
    """The call is the request to "mark {} as paid"."""
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
    do="mark {} as paid",
    did="marked {} as paid",
    undone="set it back to unpaid",
    after_reply="According to the reply, the money is recorded: do not mark it as paid again.",
)
UNPAYING: Final = Wording(
    state="unpaid",
    otherwise="paid",
    done="set back to unpaid",
    do="set {} back to unpaid",
    did="set {} back to unpaid",
    undone="marked it as paid",
    after_reply="According to the reply, the money is no longer recorded: do not set it back to unpaid again.",
)
DELETING: Final = Wording(
    state="deleted",
    otherwise="still there",
    done="deleted",
    do="delete {}",
    did="deleted {}",
    undone="restored it",
    after_reply="According to the reply, it no longer exists: do not delete it again.",
)
