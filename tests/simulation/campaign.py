"""Tasks as Airflow runs them, and all the ways in which trouble may strike them: one by one, in pairs, exhaustively."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.judge import Judge
from tests.simulation.strikes import (
    DEATHS,
    FREEZES,
    INSIDE_STRIKES,
    JOURNAL_STRIKES,
    PEOPLE,
    READ_STRIKES,
    SEND_STRIKES,
    SLOWNESS,
    Broken,
)
from tests.simulation.wire import digest
from tests.simulation.world import OTHER, REST_SYSTEM, Outcome, Strand, Worker, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from tests.simulation.virtual_journals import VirtualDatabase
    from tests.tools.payments import ScriptedPayments

RETRIES: Final = 3
IDENTITY: Final = "dag:d:run:r:task:t:map_index:-1"
KEY: Final = "acme:order-17"


@dataclass(frozen=True)
class Operation:
    """What a task does, and under which key its writes go."""

    name: str
    operation: str
    do: Callable[[ScriptedPayments], Receipt]
    key: Callable[[World], str]
    fill: Mapping[int, int] | None = None
    inside: bool = False
    """Whether it writes in a batch."""
    prepare: Callable[[World], None] = lambda world: None
    """What is done on the portal before the task begins."""


def _add(**options: Any) -> Callable[[ScriptedPayments], Receipt]:
    arguments = {"entity_id": 1, "entity_type_id": 2, "key": KEY, "pay_system_id": None, "fill_products": False}
    return lambda payments: payments.add_crm_payment(**{**arguments, "if_unpaid_exists": "add", **options})


def _paid(world: World) -> None:
    world.portal.act.pay_payment(1001, by="person", user_id=OTHER)


OPERATIONS: Final = {
    one.name: one
    for one in (
        Operation("add", "add_crm_payment", _add(), lambda world: KEY),
        Operation("fill", "add_crm_payment", _add(fill_products=True), lambda world: KEY, fill={1: 2, 2: 1}),
        Operation("tag", "add_crm_payment", _add(tag=True), lambda world: KEY, inside=True),
        Operation(
            "invoice",
            "pay_invoice",
            lambda payments: payments.pay_invoice(invoice_id=2, pay_system_id=31, bx_rest_handler=None),
            lambda world: f"{world.name}:invoice:2",
        ),
        Operation(
            "payment",
            "pay_crm_payment",
            lambda payments: payments.pay_crm_payment(payment_id=1001, allow_zero=False),
            lambda world: f"{world.name}:payment:1001",
        ),
        Operation(
            "unpay",
            "unpay_crm_payment",
            lambda payments: payments.unpay_crm_payment(payment_id=1001),
            lambda world: f"{world.name}:payment:1001:unpay",
            prepare=_paid,
        ),
        Operation(
            "pay system",
            "pay_payment",
            lambda payments: payments.pay_payment(payment_id=1001, pay_system_id=REST_SYSTEM),
            lambda world: f"{world.name}:payment:1001:pay_system",
            prepare=lambda world: world.use_rest_handler(1001),
        ),
        Operation(
            "delete",
            "delete_crm_payment",
            lambda payments: payments.delete_crm_payment(payment_id=1001),
            lambda world: f"{world.name}:payment:1001:delete",
        ),
    )
}
OPENS: Final = "journal.open"
JOURNALS: Final = ("task state", "sql", "sql and task state", "none")


@dataclass
class Strikes:
    """Trouble at chosen effects, counted over all attempts.

    The notes that an attempt begins are counted apart, as -1, -2, ...: they come once for a key, not in every attempt.
    """

    planned: Mapping[int, str]
    seen: list[str] = field(default_factory=list)
    opens: int = 0

    def strike(self, worker: Worker, what: str) -> str | None:
        """Count the effect and say what strikes it."""
        if what == OPENS:
            self.opens += 1
            return self.planned.get(-self.opens)
        self.seen.append(what)
        return self.planned.get(len(self.seen) - 1)

    def sleep(self, worker: Worker, seconds: float) -> None:
        """Let time pass."""
        worker.world.advance(seconds)


@dataclass
class Case:
    """One task, one journal, and what strikes where."""

    operation: Operation
    journal: str
    strikes: Mapping[int, str]

    def __str__(self) -> str:
        where = ", ".join(f"{strike!r} at effect {effect}" for effect, strike in self.strikes.items()) or "nothing"
        return f"{self.operation.name} with {self.journal}: {where}"


@dataclass
class Told:
    """How a case went."""

    effects: list[str]
    ended: str
    trace: list[str]
    opens: int = 0


def tell(case: Case, database: VirtualDatabase | None) -> Told:
    """Run a task until it is green or a person gives up, and judge it.

    :raises Broken: with the whole story.
    """
    world = World(case.journal, database)
    judge = Judge(world, case.operation.key(world), case.operation.operation)
    case.operation.prepare(world)
    director = Strikes(case.strikes)
    world.director = director
    run = Run(world, case.operation, judge, any(strike in FREEZES for strike in case.strikes.values()))
    try:
        ended = run.live()
        world.advance(2 * world.settle_window)
        run.wake_all()
        judge.end()
    except Exception as error:
        story = "\n".join([str(case), *world.trace, f"{type(error).__name__}: {error}"])
        raise Broken(story) from error
    return Told(director.seen, ended, world.trace, director.opens)


@dataclass
class Run:
    """One task instance, from its first attempt to its last."""

    world: World
    operation: Operation
    judge: Judge
    may_freeze: bool = False
    tries: int = 0
    max_tries: int = RETRIES
    frozen: list[Strand] = field(default_factory=list)

    def live(self) -> str:
        """Retry as Airflow does; a red task is cleared once, a green one too, which must change nothing."""
        ended = self._series()
        if ended != "green":
            self._clear("the task")
            # They have read what the message says of rows; the payment itself is never sent again by clearing.
            self.world.answered &= {digest(self.judge.key)}
            self.world.advance(max(1.0, self.world.outage_until - self.world.time()))
            ended = f"{ended}, cleared: {self._series()}"
        if ended.endswith("green"):
            self._again()
        return ended

    def _clear(self, what: str) -> None:
        self.world.say(f"--- somebody clears {what}")
        self.max_tries = self.tries + RETRIES

    def _series(self) -> str:
        outcome = Outcome()
        for left in reversed(range(RETRIES + 1)):
            outcome = self._attempt(last=not left)
            if outcome.receipt is not None:
                return "green"
            if outcome.error is not None and outcome.error.final:
                return type(outcome.error).__name__
            self.world.advance(1.0)
        return f"no more retries ({type(outcome.error).__name__ if outcome.error else 'killed'})"

    def _attempt(self, *, last: bool = True) -> Outcome:
        self.tries += 1
        worker = self.world.worker(IDENTITY, self.tries, max_tries=self.max_tries)
        zombies, self.frozen = self.frozen, []
        outcome = self._run(worker) if self.may_freeze else worker.attempt(self.operation.do)
        self.judge.attempt(outcome, fill=dict(self.operation.fill) if self.operation.fill else None, last=last)
        for zombie in zombies:
            self._wake(zombie)
        return outcome

    def _run(self, worker: Worker) -> Outcome:
        """Run an attempt that may be stopped for a while; for Airflow, one that is stopped is dead."""
        ends: list[Outcome] = []
        strand = worker.strand = Strand(lambda: ends.append(worker.attempt(self.operation.do)))
        strand.resume()
        if ends:
            return ends[0]
        self.world.say(f"{worker} is frozen")
        self.frozen.append(strand)
        return Outcome(killed=True)

    def _wake(self, zombie: Strand) -> None:
        """The one that was frozen goes on after the next attempt has ended; Airflow does not listen any more."""
        self.world.say("--- a zombie wakes up")
        zombie.resume()
        if not zombie.ended:
            self.frozen.append(zombie)
        self.judge.attempt(Outcome())

    def wake_all(self) -> None:
        """Let whoever is frozen go on, to the end."""
        while self.frozen:
            self._wake(self.frozen.pop())

    def _again(self) -> None:
        self.wake_all()
        sends = len(self.world.sends)
        self._clear("the green task")
        self._attempt()
        # Where nothing was sent, because somebody else had paid, and has taken it back now, the first mark is due.
        if self.world.journal != "none" and sends and len(self.world.sends) != sends:
            raise Broken("a green task that was cleared has sent something")


def strikes_at(what: str, operation: Operation, *, people: bool = True) -> Iterator[str]:
    """Everything that can strike an effect."""
    yield from DEATHS
    yield from FREEZES
    yield from SLOWNESS
    if what == "read":
        yield from READ_STRIKES
    elif what == "send":
        yield from SEND_STRIKES
        if operation.inside:
            yield from INSIDE_STRIKES
    else:
        yield from JOURNAL_STRIKES
    if people:
        yield from (f"people: {what}" for what in PEOPLE)


@dataclass
class Tally:
    """How a part of the campaign went."""

    title: str
    cases: int = 0
    space: int = 0
    """How many cases there are with two strikes."""
    ended: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str]] = field(default_factory=list)
    """Cases that broke the protocol: what was broken, and the story."""

    def run(self, case: Case, database: VirtualDatabase) -> Told | None:
        """Tell one case, and count it."""
        self.cases += 1
        try:
            told = tell(case, database)
        except Broken as error:
            self.broken.append((str(error).rpartition("\n")[2], str(error)))
            return None
        self.ended[told.ended] += 1
        return told

    def __str__(self) -> str:
        greens = sum(count for ended, count in self.ended.items() if ended.endswith("green"))
        return f"{self.title}: {self.cases} cases (of {self.space} with two strikes), {greens} green in the end"

    def verdict(self) -> str:
        """What was broken, and the first story of each kind; empty if nothing was."""
        kinds = Counter(what for what, _ in self.broken)
        stories = dict(reversed(self.broken))
        return "\n\n".join(f"{kinds[what]} times: {what}\n{stories[what]}" for what in kinds)


def campaign(name: str, journal: str, database: VirtualDatabase, *, stride: int, singles: int = 1) -> Tally:
    """Strike an operation once at every effect in every way, and twice in every ``stride``-th way.

    :param singles: of the cases with one strike, every how many-th is run as well.
    """
    operation, tally = OPERATIONS[name], Tally(f"{name} with {journal}")
    calm = tally.run(Case(operation, journal, {}), database)
    for number, first in enumerate(_next(calm, operation, 0)):
        if number % singles:
            continue
        told = tally.run(Case(operation, journal, dict([first])), database)
        for second in _next(told, operation, first[0] + 1):
            tally.space += 1
            # A prime stride does not fall into step with the list of strikes.
            if tally.space % stride == 0:
                tally.run(Case(operation, journal, dict([first, second])), database)
    return tally


def _next(told: Told | None, operation: Operation, start: int) -> Iterator[tuple[int, str]]:
    """Everything that may strike from an effect on."""
    for number in range(told.opens if told and not start else 0):
        yield from ((-number - 1, strike) for strike in strikes_at(OPENS, operation))
    for effect, what in enumerate(told.effects if told else ()):
        if effect >= start:
            yield from ((effect, strike) for strike in strikes_at(what, operation))
