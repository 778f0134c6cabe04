"""The load of the side by side benchmark: what is to be paid, and what goes wrong meanwhile, alike for every client.

What goes wrong is drawn from the seed, the intent and the number of the call: the third write of intent 17 that the
rate limit lets through has the same outcome for each client. Nobody waits in real time: the portal's clock is the
machine's plus what was skipped.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.sandbox.portal import PortalReply

Kind = Literal["add", "invoice"]
WRITE: dict[Kind, str] = {"add": "crm.item.payment.add", "invoice": "sale.paysystem.pay.invoice"}

LOST_ANSWER = 0.05
BAD_GATEWAY_AFTER = 0.02
DROPPED_BEFORE = 0.03
NOT_APPLIED = 0.10
"""Share of the marks of an invoice that the portal answers with ``true`` without marking anything."""
BURST = 0.02
"""Share of the calls before which somebody else at the same address uses up what the portal's rate limit allows."""
TOO_MANY = 503
"""HTTP status of the portal's rate limit."""
RATE_LIMIT = (50.0, 2.0)
"""Requests that fit into the portal's bucket, and how many of them leak in a second: Bitrix24's smaller plans."""
BETWEEN_INTENTS = 5.0
"""Seconds from the end of one task to the beginning of the next: the client's own requests fill no bucket."""
INTENTS_PER_DEAL = 4
PAY_SYSTEM = 31


class SkippingClock:
    """The machine's clocks, plus the seconds that were skipped instead of waited for."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.skipped

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic() + self.skipped

    def skip(self, seconds: float) -> None:
        """Wait, without waiting."""
        self.skipped += max(seconds, 0.0)


@dataclass(frozen=True)
class Intent:
    """One payment to add, or one invoice to mark as paid."""

    number: int
    kind: Kind
    object_id: int
    """The deal or the invoice."""


class StormyPortal(Portal):
    """A sandbox portal in bad weather, which the ledger does not notice."""

    def __init__(self, kind: Kind, *, seed: int, clock: SkippingClock, https: bool) -> None:
        self.calls = 0
        """HTTP requests of this intent so far."""
        self._kind = kind
        self._storm = seed
        self._intent = 0
        self._came = {"write": 0, "read": 0}
        self._admitted = {"write": 0, "read": 0}
        super().__init__(clock=clock, rate_limit=RATE_LIMIT, require_https=https)

    def plan(self, count: int) -> list[Intent]:
        """Make the objects: an invoice for each intent, a deal for some, each intent with its turn on the deal."""
        if self._kind == "invoice":
            made = [self.create("invoice", {"price": f"{100 + number}.00"}) for number in range(count)]
        else:
            deals = [self.create("deal", {"title": f"Deal {n}"}) for n in range(-(-count // INTENTS_PER_DEAL))]
            made = [deals[number % len(deals)] for number in range(count)]
        return [Intent(number, self._kind, int(object_id)) for number, object_id in enumerate(made)]  # type: ignore[arg-type]

    def begin(self, intent: Intent) -> None:
        """From now on, all requests are those of this intent."""
        self._intent = intent.number
        self.calls = 0
        self._came = {"write": 0, "read": 0}
        self._admitted = {"write": 0, "read": 0}

    def handle(self, method: str, params: Mapping[str, Any], **how: Any) -> PortalReply:
        """Serve one request, or let it go wrong."""
        with self.lock:
            self.calls += 1
            effect = "write" if self._writes(method, params) else "read"
            self._came[effect] += 1
            if self._fate("burst", effect, self._came).random() < BURST:
                self._burst()
            for fault in self._faults(method, effect):
                self.faults.add(fault)
            try:
                reply = super().handle(method, params, **how)
            finally:
                self.faults.clear()
                self.requests.clear()
            self._admitted[effect] += reply.status != TOO_MANY
            return reply

    def _fate(self, what: str, effect: str, counted: Mapping[str, int]) -> random.Random:
        return random.Random(f"{self._storm}:{self._intent}:{what}:{effect}:{counted[effect]}")

    def _burst(self) -> None:
        """Somebody else at the same address uses up what the rate limit allows."""
        while self.bucket is not None and self.bucket.admit("127.0.0.1", self.now):
            pass

    def _writes(self, method: str, params: Mapping[str, Any]) -> bool:
        commands = params.get("cmd", {}) if method == "batch" else {method: method}
        return any(command.startswith(WRITE[self._kind]) for command in dict(commands).values())

    def _faults(self, method: str, effect: str) -> list[Fault]:
        """Draw what happens to a call: at most one accident on the way, and for marks whether they do anything."""
        fate = self._fate("accident", effect, self._admitted)
        accident, applied = fate.random(), fate.random()
        faults = []
        if accident < LOST_ANSWER:
            faults.append(Fault(kind="drop_after", method=method))
        elif accident < LOST_ANSWER + BAD_GATEWAY_AFTER:
            faults.append(Fault(kind="html", method=method, when="after", status=502))
        elif accident < LOST_ANSWER + BAD_GATEWAY_AFTER + DROPPED_BEFORE:
            faults.append(Fault(kind="drop_before", method=method))
        if self._kind == "invoice" and effect == "write" and applied < NOT_APPLIED:
            faults.append(Fault(kind="true_not_applied", method=method))
        return faults
