"""A portal, journals and workers in one process on one virtual clock, where trouble strikes at a chosen effect.

Nothing is faked but time, the wire and death: the portal is the sandbox, the journals are the real ones, and the
payment engine is the real code. An *effect* is everything that leaves a worker: a request, a call of the journal. The
`Director` is asked before each and may let trouble strike there.
"""

from __future__ import annotations

import logging
import pickle
import random
import threading
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Effect, Request, Response, Sleep
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24StoreError
from airflow_provider_bitrix24.journal.fenced import FencedJournal
from airflow_provider_bitrix24.journal.protocol import NullJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal
from tests.simulation.strikes import Broken, Killed, TimedOut
from tests.simulation.virtual_journals import TaskState, Told, Watched
from tests.simulation.wire import Wire, clear_answers
from tests.tools.payments import ScriptedPayments

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from tests.simulation.virtual_journals import VirtualDatabase

START: Final = 1_763_800_000.0
TERMS: Final = {
    "connect_timeout": 1,
    "read_timeout": 8,
    "send_deadline": 5,
    "network_delay": 1,
    "server_time_limit": 6,
    "read_lag": 2,
    "rate_limit_wait": 4,
}
"""The terms of the settle window, short: the fewer reads, the more cases."""
SLOW: Final = 7.0
"""Seconds that something takes which is slow and arrives: more than the deadline, less than the read timeout."""
SCOPES: Final = ("crm", "sale", "pay_system")
OURS, OTHER = 1, 7
"""The user that the webhook acts as, and another one."""
REST_SYSTEM: Final = 99
"""A pay system for payments whose handler is a REST handler; see `World.use_rest_handler`."""


_SILENT: Final = logging.getLogger("proof")
_SILENT.disabled = True


class Director(Protocol):
    """Decides what strikes."""

    def strike(self, worker: Worker, what: str) -> str | None:
        """Say what strikes the effect that is about to happen.

        :param what: "read", "send", "journal.read", "journal.write", ...
        """

    def sleep(self, worker: Worker, seconds: float) -> None:
        """Let a worker wait."""


class Nothing:
    """Nothing strikes."""

    def strike(self, worker: Worker, what: str) -> str | None:
        """Let it happen."""
        return None

    def sleep(self, worker: Worker, seconds: float) -> None:
        """Let time pass."""
        worker.world.advance(seconds)


class Strand:
    """A function on a thread of its own that runs only while somebody waits for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self._work = work
        self._trouble: BaseException | None = None
        self.ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._mine.acquire()
        try:
            self._work()
        except BaseException as trouble:
            self._trouble = trouble
        self.ended = True
        self._theirs.release()

    def resume(self) -> None:
        """Run until it pauses or ends."""
        self._mine.release()
        self._theirs.acquire()
        if self.ended:
            self._thread.join()
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble

    def pause(self) -> None:
        """Stand still; to be called from within."""
        self._theirs.release()
        self._mine.acquire()


@cache
def _books() -> bytes:
    """The tables of a fresh portal."""
    return pickle.dumps(Portal(clock=ManualClock(START)).state)


class World:
    """Everything outside the workers.

    :param journal: "task state", "sql", "sql and task state" or "none".
    :param database: for SQL.
    :param many: whether tasks work on lists.
    """

    _worlds = 0

    def __init__(
        self,
        journal: str,
        database: VirtualDatabase | None = None,
        *,
        dialect: str = "source",
        user_id: int = OURS,
        many: bool = False,
    ) -> None:
        World._worlds += 1
        random.seed(0)
        self.journal = journal
        self.many = many
        self.database = database
        self.clock = ManualClock(START)
        self.portal = Portal(clock=self.clock, dialect=dialect, seed=False)
        self.portal.state = pickle.loads(_books())
        if database is not None:
            database.world = self
        webhook = self.portal.add_webhook(user_id=user_id, scopes=SCOPES)
        self.auth = Auth(user_id=webhook.user_id, secret=webhook.secret)
        # A portal of its own for each world: so all worlds can share one database.
        self.name = f"acme-{World._worlds}"
        self.settings = Settings.from_connection_values(
            host="acme.bitrix24.com",
            login=str(webhook.user_id),
            password=webhook.secret,
            extra={**TERMS, "portal_id": self.name},
        )
        self.director: Director = Nothing()
        self.states: dict[str, TaskState] = {}
        self.outage_until = 0.0
        self.trace: list[str] = []
        """What happened, for people."""
        self.sends: list[tuple[str, str]] = []
        """Writes that may have been executed: digest of the key, REST method."""
        self.answered: set[str] = set()
        """Digests of what was clearly answered, as the journal knows."""
        self.told: dict[str, Told] = {}
        """By digest, what was answered and is not shown, as the journal knows."""
        self._due: list[float] = []

    def time(self) -> float:
        """The true time: the portal's and the database's."""
        return self.clock.time()

    def advance(self, seconds: float) -> None:
        """Let time pass, and happen what is due meanwhile."""
        end = self.time() + seconds
        for due in sorted(self._due):
            if due <= end:
                self._due.remove(due)
                self.clock.advance(max(0.0, due - self.time()))
                self.portal.tick()
        self.clock.advance(max(0.0, end - self.time()))

    def later(self, seconds: float) -> float:
        """Note that something falls due, and return the seconds until then."""
        self._due.append(self.time() + seconds + 0.001)
        return seconds

    def say(self, words: str) -> None:
        """Note what happened."""
        self.trace.append(f"{self.time() - START:8.1f}  {words}")

    @property
    def settle_window(self) -> float:
        """Seconds until nothing of a write can arrive any more."""
        return self.settings.settle_window

    def worker(self, identity: str, try_number: int, **options: Any) -> Worker:
        """A new attempt of a task."""
        return Worker(self, identity, try_number, **options)

    def journal_for(self, identity: str, try_number: int) -> Any:
        """The journal as this attempt gets it."""
        if self.journal == "none":
            return NullJournal()
        if self.journal == "sql":
            assert self.database is not None
            return SqlJournal(self.database, f"{identity}:try:{try_number}")
        store = self.states.setdefault(identity, TaskState()).accessor(try_number)
        fence = TaskStateJournal(store, many=self.many)
        if self.journal == "task state":
            return fence
        assert self.database is not None
        return FencedJournal(self.database, f"{identity}:try:{try_number}", fence=fence)

    def use_rest_handler(self, payment_id: int) -> None:
        """Give a payment a pay system that `sale.paysystem.pay.payment` can pay it through."""
        state = self.portal.state
        state.pay_systems[REST_SYSTEM] = replace(state.pay_systems[31], id=REST_SYSTEM, entity_registry_type="ORDER")
        state.payments[payment_id].pay_system_id = REST_SYSTEM

    def people(self, what: str) -> None:
        """Somebody does something on the portal, in the card of deal 1, 4 or invoice 2."""
        act, state = self.portal.act, self.portal.state
        self.say(f"          somebody: {what}")
        newest = max((one.id for one in state.payments.values() if one.id > 1032), default=None)
        if what == "adds":
            act.add_payment(2, 1, user_id=OTHER)
        elif what == "adds with a sum":
            act.add_payment(2, 1, user_id=OTHER, amount="99.00")
        elif what == "the connection's user adds":
            act.add_payment(2, 1, user_id=OURS)
        elif what in ("pays", "the connection's user pays"):
            user = OTHER if what == "pays" else OURS
            act.pay_invoice(2, by="person", user_id=user)
            if 1001 in state.payments:
                act.pay_payment(1001, by="person", user_id=user)
        elif what == "takes back":
            act.unpay_invoice(2, user_id=OTHER)
            if 1001 in state.payments:
                act.unpay_payment(1001, user_id=OTHER)
        elif what == "deletes" and newest is not None:
            act.delete_payment(newest, user_id=OTHER)


@dataclass
class Outcome:
    """How an attempt ended: one of the four is set."""

    receipt: Receipt | None = None
    error: Bitrix24Error | None = None
    killed: bool = False
    timed_out: bool = False

    def __str__(self) -> str:
        if self.receipt is not None:
            return f"green: {self.receipt.as_dict()}"
        if self.error is not None:
            return f"{'red' if self.error.final else 'retry'}: {type(self.error).__name__}: {self.error}"
        return "killed" if self.killed else "timed out"


@dataclass
class Worker:
    """One attempt of one task, with clocks of its own."""

    world: World
    identity: str
    try_number: int
    clock_off_by: float = 0.0
    max_tries: int | None = None
    lost: str = ""
    """Why an empty journal has forgotten earlier attempts."""
    client: ApiClient = field(init=False)
    dead: bool = False
    strand: Strand | None = None
    answered: dict[str, str] = field(default_factory=dict)
    """Clear answers to writes that are not in the journal yet: by digest of the key, in words."""

    def __post_init__(self) -> None:
        self.client = ApiClient(self.world.settings)
        self.journal = Watched(self, self.world.journal_for(self.identity, self.try_number))

    def __str__(self) -> str:
        return f"{self.identity}/{self.try_number}"

    @property
    def payments(self) -> ScriptedPayments:
        """The real thing, on this worker."""
        task = TaskAttempt(identity=self.identity, try_number=self.try_number, max_tries=self.max_tries, lost=self.lost)
        return ScriptedPayments(self.client, self.run, self, _SILENT, journal=self.journal, task=task)

    def time(self) -> float:
        """What this worker takes for the time."""
        return self.world.time() + self.clock_off_by

    def monotonic(self) -> float:
        """Its other clock."""
        return self.world.time() - START + 1000 * self.try_number

    def attempt(self, work: Callable[[ScriptedPayments], Receipt]) -> Outcome:
        """Do it, and say how it ended."""
        try:
            outcome = Outcome(receipt=work(self.payments))
        except Bitrix24Error as error:
            outcome = Outcome(error=error)
            if error.final:
                for told in self.world.told.values():
                    told.tasks.add((self.identity, self.max_tries))
        except Killed:
            outcome = Outcome(killed=True)
        except TimedOut:
            outcome = Outcome(timed_out=True)
        self.world.say(f"{self} {outcome}")
        return outcome

    # -- effects

    def effect(self, what: str, do: Callable[[], Any], label: str = "") -> Any:
        """Let one effect of this attempt happen, or not."""
        strike = self._strike(what, label)
        if strike is None:
            return do()
        if strike.startswith("people: "):
            self.world.people(strike.removeprefix("people: "))
            return do()
        act, _, when = strike.rpartition(" ")
        if when == "before":
            self.befall(act)
        result = do()
        if when == "after":
            self.befall(act)
        return result

    def _strike(self, what: str, label: str) -> str | None:
        """What strikes the effect that is about to happen."""
        if self.dead:
            raise Killed
        strike = self.world.director.strike(self, what)
        if self.dead:
            raise Killed
        self.world.say(f"{self} {what} {label}{f'   <<< {strike}' if strike else ''}")
        return strike

    def befall(self, act: str) -> None:
        """Let something happen to this attempt, between two effects."""
        if act == "killed":
            self.dead = True
            raise Killed
        if act == "timeout":
            raise TimedOut
        if act == "journal away":
            raise Bitrix24StoreError("the journal", "scripted")
        if act == "slow":
            return self.world.advance(SLOW)
        assert act == "frozen", act
        assert self.strand is not None
        self.strand.pause()
        return None

    def run(self, flow: Any) -> Any:
        """Drive a flow to its end."""
        outcome: Any = None
        while True:
            try:
                command = flow.send(outcome)
            except StopIteration as end:
                return end.value
            if isinstance(command, Sleep):
                self.sleep(command.seconds)
                outcome = None
            else:
                outcome = self._exchange(command)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if self.dead:
            raise Killed
        self.world.director.sleep(self, seconds)
        if self.dead:
            raise Killed

    def _exchange(self, request: Request) -> Any:
        if self.answered:
            words = ", ".join(self.answered.values())
            raise Broken(f"{self}: {request.method} is requested before {words} is in the journal")
        what = "read" if request.effect is Effect.READ else "send"
        wire = Wire(self, request)
        outcome = wire.struck(self._strike(what, wire.label))
        if what == "send" and isinstance(outcome, Response):
            self.answered |= clear_answers(request, outcome)
        return outcome
