"""What messages call an operation and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What messages call an operation and its outcome."""

    do: str
    """The call is the request to "mark {} as paid"."""
    done: str
    """The object was "marked as paid"."""
    state: str
    """The object is then "paid"."""
    missing: str
    """What the portal does not show otherwise: "it as paid"."""
    perhaps: str
    """What an unknown outcome means: "it may have been marked as paid"."""
    otherwise: str
    """What a person may find: "it is unpaid"."""
    after_reply: str
    """What a reply that could not be saved means, and what a person must not do."""


PAYING: Final = Wording(
    do="mark {} as paid",
    done="marked as paid",
    state="paid",
    missing="it as paid",
    perhaps="it may have been marked as paid",
    otherwise="it is unpaid",
    after_reply="According to the reply, the money is recorded: do not mark it as paid again.",
)
UNPAYING: Final = Wording(
    do="set {} back to unpaid",
    done="set back to unpaid",
    state="unpaid",
    missing="it as unpaid",
    perhaps="it may have been set back to unpaid",
    otherwise="it is paid",
    after_reply="According to the reply, the money is no longer recorded: do not set it back to unpaid again.",
)
DELETING: Final = Wording(
    do="delete {}",
    done="deleted",
    state="deleted",
    missing="it as deleted",
    perhaps="it may have been deleted",
    otherwise="it is still there",
    after_reply="According to the reply, it no longer exists: do not delete it again.",
)
ADDING: Final = Wording(
    do="add a payment to {}",
    done="added",
    state="added",
    missing="a new payment that may be this key's",
    perhaps="a payment may have been added",
    otherwise="none of them belongs to this key",
    after_reply="According to the reply, the payment exists: do not add it again.",
)
_BY_OPERATION: Final = {"unpay_crm_payment": UNPAYING, "delete_crm_payment": DELETING, "add_crm_payment": ADDING}


def wording_of(operation: str) -> Wording:
    """The words for an operation, by its name in the journal."""
    return _BY_OPERATION.get(operation, PAYING)
