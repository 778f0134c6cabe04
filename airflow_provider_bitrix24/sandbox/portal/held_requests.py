"""Requests that stand still: held until released or due, with or without a client who waits for the response."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from airflow_provider_bitrix24.sandbox.faults import Held, Pause
from airflow_provider_bitrix24.sandbox.portal.envelope import PortalReply, json_reply

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator


class HeldRequests:
    """Drives requests, keeps those that pause, and lets them go on."""

    def __init__(self, lock: threading.RLock, now: Callable[[], float]) -> None:
        self._lock = lock
        self._now = now
        self._parked: list[Held] = []

    def drive(self, run: Generator[Pause, None, PortalReply]) -> PortalReply:
        """Run a request to its end, or to its first pause."""
        outcome = _step(run)
        return self._park(Held(run, outcome)) if isinstance(outcome, Pause) else outcome

    def resume_what_is_due(self) -> None:
        """Let those go on whose time has come, in its order."""
        while due := [held for held in self._parked if _until(held) <= self._now()]:
            self._continue(min(due, key=_until))

    def resume(self, fault_id: int | None) -> int:
        """Let those go on that this fault (None: any) has stopped; how many they were."""
        with self._lock:
            waiting = [held for held in self._parked if fault_id is None or held.pause.fault.id == fault_id]
            for held in waiting:
                self._continue(held)
            return len(waiting)

    def _park(self, held: Held) -> PortalReply:
        held.pause.fault.holding += 1
        self._parked.append(held)
        waiting = json_reply(200, {}, self._now())
        waiting.transport = "hold" if held.pause.answer == "hold" else "drop"
        waiting.held = held if waiting.transport == "hold" else None
        return waiting

    def _continue(self, held: Held) -> None:
        self._parked.remove(held)
        held.pause.fault.holding -= 1
        outcome = _step(held.run)
        if isinstance(outcome, PortalReply):
            held.reply = outcome
        elif outcome.answer == "hold":  # the same client goes on waiting
            held.pause = outcome
            self._park(held)
            return
        else:  # the client is let down, the request goes on without it
            held.reply = self._park(Held(held.run, outcome))
        held.done.set()


def _until(held: Held) -> float:
    return math.inf if held.pause.until is None else held.pause.until


def _step(run: Generator[Pause, None, PortalReply]) -> PortalReply | Pause:
    try:
        return next(run)
    except StopIteration as end:
        reply: PortalReply = end.value
        return reply
