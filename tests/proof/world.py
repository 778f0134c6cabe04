"""A portal, journals and workers in one process on one virtual clock, where trouble strikes at a chosen effect.

Nothing is faked but time, the wire and death: the portal is the sandbox, the journals are the real ones, and whoever
asks `once` for a payment gets the real code. An *effect* is everything that leaves a worker: a request, a call of the
journal. The `Director` is asked before each and may let trouble strike there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import random
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_provider_bitrix24.api.effects import Effect, NotSent, Request, Response, Sleep, Unknown
from airflow_provider_bitrix24.api.flow import Caller
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24StoreError, PaymentInProgress
from airflow_provider_bitrix24.journal import Forgetful
from airflow_provider_bitrix24.journal.database import SqlJournal
from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
from airflow_provider_bitrix24.once import Once, Task
from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from airflow_provider_bitrix24.once import Receipt

START: Final = 1_763_800_000.0
HALF_WAY: Final = 0.1
"""Seconds from the worker to the portal, and back."""
TERMS: Final = {
    "connect_timeout": 1,
    "read_timeout": 8,
    "lease": 5,
    "delivery": 1,
    "server_limit": 6,
    "read_lag": 2,
    "rate_limit_wait": 4,
}
"""The terms of the settle window, short: the fewer reads, the more cases."""
LAG: Final = 1.5
"""How far reads are behind when they are: less than the term."""
SLOW: Final = 7.0
"""Seconds that something takes which is slow and arrives: more than the lease, less than the read timeout."""
SCOPES: Final = ("crm", "sale", "pay_system")
OURS, OTHER = 1, 7
"""The user that the webhook acts as, and another one."""


_SILENT: Final = logging.getLogger("proof")
_SILENT.disabled = True


class Killed(BaseException):
    """SIGKILL: nothing of the attempt happens any more."""


class TimedOut(BaseException):
    """What Airflow raises at `execution_timeout`: no `Exception`, and the attempt may still clean up."""


class Broken(AssertionError):
    """The protocol was not kept; found while it happened, and never to be swallowed."""


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


class VirtualDatabase(Database):
    """A SQLite file whose clock is the world's, and which need not survive a power cut."""

    world: World

    def __init__(self, file: Path) -> None:
        import sqlalchemy

        super().__init__(sqlalchemy.URL.create("sqlite", database=str(file)), "the test database")
        sqlalchemy.event.listen(self.engine, "connect", _do_not_wait_for_the_disk)

    @property
    def now(self) -> sa.ColumnElement[float]:
        """The database's clock."""
        import sqlalchemy

        return sqlalchemy.literal(self.world.time(), sqlalchemy.Double)


def _do_not_wait_for_the_disk(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


class TaskState:
    """Airflow's task state store of one task instance: what one attempt has written, the next one reads."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        self.current = 0
        """The attempt that Airflow knows; what another one writes is refused."""

    def accessor(self, try_number: int) -> Accessor:
        """What an attempt sees of it; from now on, it is the current one."""
        self.current = try_number
        return Accessor(self, try_number)


@dataclass
class Accessor:
    """``context["task_state_store"]`` of one attempt."""

    state: TaskState
    try_number: int

    def get(self, key: str, default: Any = None) -> Any:
        """Read a value."""
        return json.loads(self.state.documents[key]) if key in self.state.documents else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Write a value, if Airflow still knows this attempt."""
        if self.try_number != self.state.current:
            detail = {"status_code": 404, "message": "Not Found", "detail": {"reason": "not_found"}}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
        self.state.documents[key] = json.dumps(value)


@cache
def _books() -> bytes:
    """The books of a fresh portal."""
    return pickle.dumps(Portal(clock=ManualClock(START)).state)


class World:
    """Everything outside the workers.

    :param journal: "task state", "sql", "sql and task state" or "none".
    :param database: for SQL.
    """

    _worlds = 0

    def __init__(
        self, journal: str, database: VirtualDatabase | None = None, *, dialect: str = "source", user_id: int = OURS
    ) -> None:
        World._worlds += 1
        random.seed(0)
        self.journal = journal
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
        self.red: set[tuple[str, str, int | None]] = set()
        """What was answered and is not shown, as the journal knows: digest, task, and the task's tries then."""
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
            return Forgetful()
        if self.journal == "sql":
            assert self.database is not None
            return SqlJournal(self.database, f"{identity}:try:{try_number}")
        store = self.states.setdefault(identity, TaskState()).accessor(try_number)
        fence = TaskStateJournal(store)
        if self.journal == "task state":
            return fence
        assert self.database is not None
        return SqlJournal(self.database, f"{identity}:try:{try_number}", fence)

    def people(self, what: str) -> None:
        """Somebody does something on the portal, in the card of deal 1, 4 or invoice 2."""
        act, state = self.portal.act, self.portal.state
        self.say(f"          somebody: {what}")
        newest = max((one.id for one in state.payments.values() if one.id > 1032), default=None)
        if what == "adds":
            act.add_payment(2, 1, user_id=OTHER)
        elif what == "adds with a sum":
            act.add_payment(2, 1, user_id=OTHER, amount="99.00")
        elif what == "our user adds":
            act.add_payment(2, 1, user_id=OURS)
        elif what in ("pays", "our user pays"):
            user = OTHER if what == "pays" else OURS
            act.pay_invoice(2, by="person", user_id=user)
            act.pay_payment(1001, by="person", user_id=user)
        elif what == "takes back":
            act.unpay_invoice(2, user_id=OTHER)
            act.unpay_payment(1001, user_id=OTHER)
        elif what == "deletes" and newest is not None:
            act.delete_payment(newest, user_id=OTHER)


PEOPLE: Final = ("adds", "adds with a sum", "pays", "takes back", "deletes")


def digest(key: str) -> str:
    """What the header of a write says of its key."""
    return hashlib.sha256(key.encode()).hexdigest()


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
    caller: Caller = field(init=False)
    dead: bool = False
    strand: Strand | None = None
    answered: tuple[str, str] | None = None
    """A clear answer to a write that is not in the journal yet: in words, and whose it was."""

    def __post_init__(self) -> None:
        self.caller = Caller(self.world.settings)
        self.journal = Watched(self, self.world.journal_for(self.identity, self.try_number))

    def __str__(self) -> str:
        return f"{self.identity}/{self.try_number}"

    @property
    def once(self) -> Once:
        """The real thing, on this worker."""
        task = Task(identity=self.identity, try_number=self.try_number, max_tries=self.max_tries)
        return Once(self.caller, self.run, self, _SILENT, journal=self.journal, task=task)

    @property
    def tries(self) -> tuple[str, int | None]:
        """What tells a retry from a task that was cleared."""
        return self.identity, self.max_tries

    def time(self) -> float:
        """What this worker takes for the time."""
        return self.world.time() + self.clock_off_by

    def monotonic(self) -> float:
        """Its other clock."""
        return self.world.time() - START + 1000 * self.try_number

    def attempt(self, work: Callable[[Once], Receipt]) -> Outcome:
        """Do it, and say how it ended."""
        try:
            outcome = Outcome(receipt=work(self.once))
        except Bitrix24Error as error:
            outcome = Outcome(error=error)
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
        if self.answered is not None:
            raise Broken(f"{self}: {request.method} is requested before {self.answered[0]} is in the journal")
        what = "read" if request.effect is Effect.READ else "send"
        wire = Wire(self, request)
        outcome = wire.struck(self._strike(what, wire.label))
        if what == "send" and isinstance(outcome, Response):
            words = _clear_answer(request, outcome)
            self.answered = (words, wire.digest) if words else None
        return outcome


def _clear_answer(request: Request, response: Response) -> str | None:
    try:
        body = json.loads(response.body)
    except ValueError:
        return None
    if response.status != 200 or not isinstance(body, dict) or "result" not in body:
        return None
    result = body["result"]
    if request.method == "batch":
        parts = result.get("result") if isinstance(result, dict) else None
        result = parts.get("add") if isinstance(parts, dict) else None
    clear = result is True or (isinstance(result, int) and result > 0)
    return f"the answer {result} to {request.method}" if clear else None


def _not_shown(entry: Any) -> Iterator[str]:
    """Digests of what the portal has answered and does not show."""
    sends = {entry.key: entry.sends}
    for name, of_step in entry.steps.items():
        sends[f"{entry.key}:payment:{entry.payment_id}:{name.replace(' ', ':')}"] = of_step
    for key, sent in sends.items():
        if sent and sent[-1].result == "not_shown":
            yield digest(key)


class Watched:
    """A journal whose every call is an effect."""

    def __init__(self, worker: Worker, journal: Any) -> None:
        self._worker, self._journal = worker, journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def page(self, portal: str, key: str) -> WatchedPage:
        """The page, watched."""
        return WatchedPage(self._worker, self._journal.page(portal, key))


class WatchedPage:
    """A page whose every call is an effect."""

    def __init__(self, worker: Worker, page: Any) -> None:
        self._worker, self._page = worker, page

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._page, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._worker.effect(f"journal.{name}", lambda: found(*args, **kwargs))

    def write(self, entry: Any, *, hold: float | None = None) -> None:
        """Write; whatever was answered is kept now."""

        def do() -> None:
            try:
                self._page.write(entry, hold=hold)
            except PaymentInProgress:
                self._worker.answered = None  # overtaken: it was offered to the journal
                raise
            if self._worker.answered is not None:
                self._worker.world.answered.add(self._worker.answered[1])
            self._worker.answered = None
            if self._worker.max_tries is not None:
                self._worker.world.red |= {(one, *self._worker.tries) for one in _not_shown(entry)}

        self._worker.effect("journal.write", do, f"{entry.state} hold={hold}")

    def release(self) -> None:
        """Let go; never raises but for death."""
        if not self._worker.dead:
            self._page.release()


class Wire:
    """One request on its way to the portal and back."""

    def __init__(self, worker: Worker, request: Request) -> None:
        self.worker, self.world, self.request = worker, worker.world, request

    @property
    def label(self) -> str:
        """What it is, for people."""
        params = self.request.params
        return f"{self.request.method} {list(params['cmd']) if 'cmd' in params else dict(params)}"

    @property
    def digest(self) -> str:
        """Whose write it is."""
        return self.request.headers.get("Idempotency-Key", "")

    def struck(self, strike: str | None) -> Any:
        """Let it happen under a strike."""
        act, _, when = (strike or "").rpartition(" ")
        if strike not in (*DEATHS, *FREEZES, *SLOWNESS):
            return self._with(strike)
        if when == "before":
            self.worker.befall(act)
            return self._with(None)
        outcome = self._with(None)
        self.worker.befall(act)
        return outcome

    def _with(self, strike: str | None) -> Any:
        if strike is None:
            return self.go()
        if strike.startswith("people: "):
            self.world.people(strike.removeprefix("people: "))
            return self.go()
        if strike.startswith("outage "):
            self.world.outage_until = self.world.time() + float(strike.removeprefix("outage "))
            return self.go()
        if strike == "not sent":
            self.world.advance(HALF_WAY)
            return NotSent("connection refused")
        if strike.startswith("orphan"):
            self._script("commit_latest" if "latest" in strike else "commit_soon", lagging="lagging" in strike)
            self.go()
            self.worker.dead = True
            raise Killed
        if strike.startswith("inside "):
            _, position, kind = strike.split(" ", 2)
            self._inside(int(position), kind)
            return self.go()
        name, _, more = strike.partition(", ")
        self._script(name, lagging=more == "lagging")
        return self.go()

    def _script(self, name: str, *, lagging: bool) -> None:
        method = self.request.method
        for options in _faults(name, self):
            self.world.portal.faults.add(Fault(method=method, occurrence=1, **options))
        if lagging:
            self.world.portal.faults.add(Fault(kind="read_lag", method=method, occurrence=1, seconds=LAG))

    def _inside(self, position: int, kind: str) -> None:
        commands = list(self.request.params.get("cmd", {}).values())
        if position < len(commands):
            method = commands[position].partition("?")[0]
            options = next(_faults(kind, self))
            self.world.portal.faults.add(Fault(method=method, occurrence=1, **options))

    def go(self) -> Any:
        """Send it, if its lease allows that, and bring back what comes."""
        world, worker, request = self.world, self.worker, self.request
        if world.time() < world.outage_until:
            world.advance(HALF_WAY)
            return NotSent("connection refused")
        lease = request.not_after
        if lease and (worker.monotonic() > lease.monotonic or worker.time() > lease.wall):
            return NotSent("the lease is over", lease_over=True)
        if request.effect is not Effect.READ and lease is None:
            raise Broken(f"{request.method} is sent without a lease")
        if request.effect is Effect.CREATE and world.journal != "none" and self.digest in world.answered:
            raise Broken(f"{request.method} is sent again although the journal has its answer")
        if (self.digest, *worker.tries) in world.red:
            raise Broken(f"{request.method} is sent again by itself although the portal has answered and shows nothing")
        world.advance(HALF_WAY)
        reply = world.portal.handle(request.method, json.loads(request.body), auth=world.auth, headers=request.headers)
        if reply.transport == "hold":
            world.advance(request.read_timeout)
        body = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        if request.effect is not Effect.READ:
            # Only what the portal plainly refuses has certainly not run.
            error = reply.body.get("error") if isinstance(reply.body, dict) else None
            refused = reply.transport is None and str(error).upper() in _REFUSALS
            if not refused and reply.status != 302:
                world.sends.append((self.digest, request.method))
        if reply.transport is not None:
            return Unknown(f"the connection ended ({reply.transport})")
        world.advance(HALF_WAY)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Response(status=reply.status, headers=headers, body=body.encode(), at=worker.time())


_REFUSALS = ("QUERY_LIMIT_EXCEEDED", "OPERATION_TIME_LIMIT", "OVERLOAD_LIMIT", "EXPIRED_TOKEN")


def _faults(name: str, wire: Wire) -> Iterator[dict[str, Any]]:
    """The sandbox's scripts for one named strike."""
    world, request = wire.world, wire.request
    kind, _, when = name.partition(" ")
    if kind == "hold":
        yield {"kind": kind, "when": when, "seconds": world.later(HALF_WAY + request.read_timeout + 1) - HALF_WAY}
    elif kind == "commit_soon":
        yield {"kind": "commit_later", "seconds": world.later(HALF_WAY + 0.5) - HALF_WAY}
    elif kind == "commit_latest":
        yield {"kind": "commit_later", "seconds": world.later(wire_latest(wire)) - HALF_WAY}
    elif kind == "error_after":
        yield {"kind": "error_after_executing", "code": 0, "text": "Strange"}
    elif kind == "error":
        yield {"kind": kind, "code": 0, "text": "Strange"}
    elif kind == "read_lag":
        yield {"kind": kind, "seconds": LAG}
    elif when:
        yield {"kind": kind, "when": when}
    else:
        yield {"kind": kind}


def wire_latest(wire: Wire) -> float:
    """Seconds until the latest moment at which the portal may execute what leaves now."""
    lease, terms = wire.request.not_after, wire.world.settings
    left = lease.wall - wire.worker.time() if lease else 0.0
    return left + terms.connect_timeout + terms.delivery + terms.server_limit


SLOWNESS: Final = ("slow before", "slow after")
DEATHS: Final = ("killed before", "killed after", "timeout before", "timeout after")
FREEZES: Final = ("frozen before", "frozen after")
READ_STRIKES: Final = (
    "drop_before",
    "html after",
    "invalid_json",
    "empty_body",
    "expired_token",
    "query_limit_exceeded",
    "operation_time_limit",
    "overload_limit",
    "internal_server_error after",
    "redirect",
    "time_missing",
    "outage 6",
    "outage 4000",
)
SEND_STRIKES: Final = (
    "not sent",
    "outage 6",
    "outage 4000",
    "drop_before",
    "drop_after",
    "drop_after, lagging",
    "hold before",
    "hold after",
    "commit_soon",
    "commit_latest",
    "commit_latest, lagging",
    "html before",
    "html after",
    "truncate",
    "error",
    "error_after",
    "true_not_applied",
    "query_limit_exceeded",
    "operation_time_limit",
    "overload_limit",
    "internal_server_error before",
    "internal_server_error after",
    "read_lag",
    "invalid_json before",
    "invalid_json after",
    "empty_body before",
    "empty_body after",
    "expired_token",
    "redirect",
    "close_idle",
    "time_missing",
    "orphan soon",
    "orphan latest",
    "orphan latest lagging",
)
JOURNAL_STRIKES: Final = ("journal away before", "journal away after")
INSIDE_STRIKES: Final = tuple(
    f"inside {position} {kind}" for position in range(3) for kind in ("error", "error_after", "true_not_applied")
)
