"""What must hold, judged by the portal's ledger alone: a provider's word is what is judged, never the measure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.exceptions import Bitrix24StoreError
from tests.simulation.strikes import Broken
from tests.simulation.wire import digest

if TYPE_CHECKING:
    from airflow_provider_bitrix24.exceptions import Bitrix24Error
    from tests.simulation.world import Outcome, World

MARKED = {
    "pay_invoice": ("invoice_paid", "invoice_id"),
    "pay_crm_payment": ("payment_paid", "payment_id"),
    "pay_payment": ("payment_paid", "payment_id"),
    "unpay_crm_payment": ("payment_unpaid", "payment_id"),
    "delete_crm_payment": ("payment_deleted", "payment_id"),
}
UNDONE = {"invoice_paid": "invoice_unpaid", "payment_paid": "payment_unpaid", "payment_unpaid": "payment_paid"}
DENIALS = re.compile(
    r"nothing (was|is) (sent|recorded|executed)(?! again)(?! by this attempt)|sent nothing", re.IGNORECASE
)
ADMISSIONS = re.compile(r"may have been|MAY be|HAS been added|cannot tell|was added|is in the journal")


@dataclass
class Judge:
    """Judges every attempt at one key when it ends, and the whole at the end."""

    world: World
    key: str
    operation: str
    granted: int = 0
    """How often a person has decided to send again."""
    accepted: set[int] = field(default_factory=set)
    """Payments that a person, or the author of the DAG, has accepted as this key's."""

    @property
    def mine(self) -> list[dict[str, Any]]:
        """What this key's requests have put on the portal."""
        whose = digest(self.key)
        ledger = self.world.portal.ledger
        return [entry for entry in ledger if whose in (entry.get("idempotency_key"), entry.get("command"))]

    def added(self) -> list[int]:
        """Payments that this key's requests have added."""
        return [entry["payment_id"] for entry in self.mine if entry["event"] == "payment_added"]

    def standing(self) -> list[int]:
        """Those of them that nobody has deleted."""
        return [number for number in self.added() if number in self.world.portal.state.payments]

    def marks(self) -> list[dict[str, Any]]:
        """The times that this key's requests have made something paid or unpaid, or deleted it."""
        return [entry for entry in self.mine if entry["event"] in {event for event, _ in MARKED.values()}]

    # -- one attempt

    def attempt(self, outcome: Outcome, *, fill: dict[int, int] | None = None, last: bool = False) -> None:
        """Judge an attempt that has just ended.

        :param fill: quantity by product row that the payment must hold if it is green.
        :param last: whether Airflow does not repeat it, so that its message is what a person reads.
        """
        self.at_most_once()
        if outcome.receipt is not None:
            self._green(outcome.receipt.as_dict(), fill)
        elif outcome.error is not None and (outcome.error.final or last):
            self._red(outcome.error)

    def at_most_once(self) -> None:
        """No two payments of the key stand, and it was not sent more often than allowed."""
        allowed = 1 + self.granted
        if len(self.standing()) > allowed:
            raise Broken(f"{len(self.standing())} payments of one key: {self.standing()}")
        sent = [method for key, method in self.world.sends if key == digest(self.key)]
        if self.world.journal != "none" and len(sent) > 2 + self.granted:
            raise Broken(f"sent {len(sent)} times: {sent}")

    def _green(self, receipt: dict[str, Any], fill: dict[int, int] | None) -> None:
        if receipt["operation"] == "add_crm_payment":
            self._green_added(receipt, fill)
        else:
            self._green_marked(receipt)

    def _green_added(self, receipt: dict[str, Any], fill: dict[int, int] | None) -> None:
        number = receipt["payment_id"]
        if number not in self.added() and number not in self.accepted:
            raise Broken(f"green for payment {number}, which is not ours: ours are {self.added()}")
        if number not in self.world.portal.state.payments and not self._undone("payment_deleted", number):
            raise Broken(f"green for payment {number}, which is not on the portal")
        if fill is not None and number in self.world.portal.state.payments:
            found: dict[int, int] = {}
            for item in self.world.portal.state.payable_items.values():
                if item.payment_id == number:
                    found[item.target_id] = found.get(item.target_id, 0) + item.quantity
            if found != fill:
                raise Broken(f"payment {number} holds {found} instead of {fill}")

    def _green_marked(self, receipt: dict[str, Any]) -> None:
        event, name = MARKED[receipt["operation"]]
        number = receipt[name]
        if receipt["outcome"] == "paid" and not any(mark[name] == number for mark in self.marks()):
            raise Broken(f"green and paid, but none of our requests has paid {name} {number}")
        if not self._shows(event, number) and not (event in UNDONE and self._undone(UNDONE[event], number)):
            raise Broken(f"green, but {name} {number} does not show {event}")

    def _shows(self, event: str, number: int) -> bool:
        state = self.world.portal.state
        if event == "payment_deleted":
            return number not in state.payments
        if event == "invoice_paid":
            return state.invoices[number].payed == "Y"
        return (state.payments[number].paid == "Y") == (event == "payment_paid")

    def _undone(self, event: str, number: int) -> bool:
        name = "invoice_id" if event.startswith("invoice") else "payment_id"
        return any(
            entry["event"] == event and entry[name] == number and entry["by"] != "rest"
            for entry in self.world.portal.ledger
        )

    def _red(self, error: Bitrix24Error) -> None:
        """A message must not deny what is on the portal, and must name what can be known."""
        message, candidates = str(error), tuple(getattr(error, "candidates", ()))
        ours = [number for number in self.standing() if number not in self.accepted]
        untold = [number for number in ours if str(number) not in message and number not in candidates]
        # Whoever cannot read the journal knows nothing: it may be silent, and only must not deny.
        if untold and not ADMISSIONS.search(message) and not isinstance(error, Bitrix24StoreError):
            raise Broken(f"red, and silent about payment {untold} on the portal: {message}")
        if (ours or self.marks()) and DENIALS.search(message):
            raise Broken(f"red, and denies what is on the portal: {message}")

    # -- the end

    def end(self) -> None:
        """Judge the whole, when nothing can arrive any more."""
        self.at_most_once()
        for number in self.standing():
            rows: dict[int, int] = {}
            for item in self.world.portal.state.payable_items.values():
                if item.payment_id == number:
                    rows[item.target_id] = rows.get(item.target_id, 0) + 1
            if any(count > 1 for count in rows.values()):
                raise Broken(f"a row is in payment {number} more than once: {rows}")
