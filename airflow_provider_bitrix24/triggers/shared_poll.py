"""One poll of a portal for all triggers in a process that wait for the same kind of thing through one connection.

A trigger takes a seat, and says when it must know more. When the first seat is due, the poll reads for it, and also for
those seats that cost no further request. A poll belongs to one event loop, one connection and its settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24NoAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping, Sequence, Set

    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

W = TypeVar("W")
A = TypeVar("A")
log = logging.getLogger(__name__)

SPACING: Final = 1.0
"""Seconds between two reads, so that triggers that are due one shortly after another are read together."""
SETTLE: Final = 10.0
"""Seconds before a new seat is read along with others: an event within a few seconds of the deferral can overtake
Airflow's own end of it, whereupon the scheduler marks the task as failed."""
PATIENCE: Final = 240.0
"""Seconds that a read may take before a trigger counts it as failed; the others of its poll may keep it waiting."""


class Clock:
    """The time of all polls; tests have another one."""

    def now(self) -> float:
        """Return the seconds since any moment."""
        return time.monotonic()

    async def wait(self, seconds: float, wake: asyncio.Event) -> None:
        """Wait so long, or until somebody wakes us."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wake.wait()


clock = Clock()


@dataclass(frozen=True, slots=True)
class Look(Generic[A]):
    """The result of one read, for one seat."""

    answer: A | Bitrix24Error
    """What was read, or why the read failed."""
    early: bool
    """Whether the seat was not due yet, and was read along with others."""


@dataclass(eq=False, slots=True)
class Seat(Generic[W, A]):
    """One trigger in a poll."""

    poll: SharedPoll[W, A]
    want: W
    """What the trigger waits for."""
    interval: float
    """Seconds between two looks of the trigger."""
    early_from: float
    """Before this time it is read only when it is due."""
    due: float = 0.0
    waiting: asyncio.Future[Look[A]] | None = None

    async def look(self, seconds: float) -> Look[A]:
        """Wait for the next read, which comes in so many seconds, or sooner if it costs no request."""
        self.due = clock.now() + seconds
        self.waiting = asyncio.get_running_loop().create_future()
        self.poll.wake.set()
        try:
            async with asyncio.timeout(seconds + PATIENCE):
                return await self.waiting
        except TimeoutError:
            return Look(Bitrix24NoAnswer("the shared read", f"it took more than {PATIENCE:.0f} s"), early=False)
        finally:
            self.waiting = None


class SharedPoll(ABC, Generic[W, A]):
    """Reads a portal for all its seats.

    :param hook: the connection; its settings have been read.
    """

    def __init__(self, hook: Bitrix24Hook) -> None:
        self.hook = hook
        self.seats: dict[Seat[W, A], None] = {}
        """A set that keeps its order."""
        self.wake = asyncio.Event()
        # Not in the context of the trigger that came first: Airflow would write our log into that task's.
        self._task = asyncio.create_task(self._run(), name="bitrix24 shared poll", context=contextvars.Context())
        self._read_at = float("-inf")

    @abstractmethod
    async def read(self, wants: Sequence[W]) -> Mapping[int, A | Bitrix24Error]:
        """Read once for all of them; return the answers by position. A position that is absent has failed."""

    @property
    def units_in_a_request(self) -> int:
        """How many units one request reads."""
        return 1

    def units(self, want: W) -> Set[Hashable]:
        """Return what reading it takes of a request, by default nothing; a unit that several want is read once."""
        return frozenset()

    async def stop(self) -> None:
        """End the poll; a read that is under way is dropped, and its connection is closed."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        """Read whenever a seat is due, until the last one has left."""
        while True:
            self.wake.clear()
            waiting = [seat for seat in self.seats if seat.waiting is not None and not seat.waiting.done()]
            due_at = min((seat.due for seat in waiting), default=float("inf"))
            spacing = min((seat.interval for seat in waiting), default=SPACING)
            seconds = max(due_at, self._read_at + min(spacing, SPACING)) - clock.now()
            if seconds > 0:
                await clock.wait(min(seconds, 3600.0), self.wake)
                continue
            due, early = self._choose(waiting)
            await self._read_for(due, early)
            self._read_at = clock.now()

    def _choose(self, waiting: Sequence[Seat[W, A]]) -> tuple[list[Seat[W, A]], list[Seat[W, A]]]:
        """Return the seats that are due, and those that are read along with them."""
        now = clock.now()
        due = [seat for seat in waiting if seat.due <= now]
        early: list[Seat[W, A]] = []
        units: set[Hashable] = set().union(*(self.units(seat.want) for seat in due))
        room = -len(units) % self.units_in_a_request
        for seat in sorted(waiting, key=lambda seat: seat.due):
            if seat.due > now >= seat.early_from:
                further = self.units(seat.want) - units
                if len(further) <= room:
                    room -= len(further)
                    units |= further
                    early.append(seat)
        return due, early

    async def _read_for(self, due: Sequence[Seat[W, A]], early: Sequence[Seat[W, A]]) -> None:
        """Read, and give each seat its answer. A failed read is given only to seats that were due."""
        seats = [(seat, seat.waiting) for seat in (*due, *early)]
        answers: Mapping[int, A | Bitrix24Error]
        try:
            answers = await self.read([seat.want for seat, _ in seats])
        except Bitrix24Error as error:
            answers = dict.fromkeys(range(len(seats)), error)
        except Exception as error:  # a mistake in here must not leave all triggers waiting
            log.exception("The shared poll of connection %r failed.", self.hook.bitrix24_conn_id)
            unexpected = Bitrix24NoAnswer("the shared read", f"{type(error).__name__}, see the triggerer's log")
            answers = dict.fromkeys(range(len(seats)), unexpected)
        for index, (seat, future) in enumerate(seats):
            if future is None or future.done() or seat.waiting is not future:
                continue  # it has left, or given up this read
            answer = answers.get(index, _MISSING)
            is_early = index >= len(due)
            if not (is_early and isinstance(answer, Bitrix24Error)):
                future.set_result(Look(answer, is_early))


_MISSING: Final = Bitrix24NoAnswer("the shared read", "it has no answer for this trigger")
_polls: dict[asyncio.AbstractEventLoop, dict[Any, SharedPoll[Any, Any]]] = {}
"""The polls of each event loop, by kind, connection and settings."""


@contextlib.asynccontextmanager
async def seat_in(
    kind: type[SharedPoll[W, A]], hook: Bitrix24Hook, want: W, *, interval: float
) -> AsyncIterator[Seat[W, A]]:
    """Take a seat in the poll of a connection, and leave it at the end; the last one to leave ends the poll.

    :param kind: the poll.
    :param hook: the connection. Seats share a poll only if their connections have the same name and settings.
    :param want: what to read.
    :param interval: seconds between two looks of this trigger.
    :raises Bitrix24Error: the connection cannot be read.
    """
    settings = (await hook.aclient()).settings
    for loop in [loop for loop in _polls if loop.is_closed()]:
        del _polls[loop]  # it was ended without letting its triggers clean up
    loop = asyncio.get_running_loop()
    polls = _polls.setdefault(loop, {})
    key = (kind, hook.bitrix24_conn_id, settings)
    poll = polls.get(key)
    if poll is None:
        poll = polls[key] = kind(hook)
    seat: Seat[W, A] = Seat(poll, want, interval, early_from=clock.now() + min(interval, SETTLE))
    poll.seats[seat] = None
    try:
        yield seat
    finally:
        del poll.seats[seat]
        if not poll.seats:
            del polls[key]
            if not polls:
                _polls.pop(loop, None)
            await poll.stop()
