"""Tasks with a list of operations, and all the ways in which trouble may strike a chunk of them, judged per key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_crm_payment import PayCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from tests.simulation.campaign import IDENTITY, OPENS, RETRIES, Strikes, Tally, Told
from tests.simulation.judge import Judge
from tests.simulation.strikes import (
    DEATHS,
    FREEZES,
    INSIDE_A_CHUNK,
    JOURNAL_STRIKES,
    READ_STRIKES,
    SEND_STRIKES,
    SLOWNESS,
    Broken,
)
from tests.simulation.world import Outcome, Strand, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_provider_bitrix24.at_most_once.operation import Operation, Result
    from tests.simulation.virtual_journals import VirtualDatabase
    from tests.simulation.world import Worker
    from tests.tools.payments import ScriptedPayments


def _invoices(world: World, count: int) -> list[Operation]:
    numbers = [2, *(int(str(world.portal.create("invoice", {"price": "10.00"}))) for _ in range(count - 1))]
    return [PayInvoice(portal=world.name, invoice_id=number, pay_system_id=31) for number in numbers]


def _adds(world: World, count: int, **options: Any) -> list[Operation]:
    deals = (1, 4, 5)[:count]
    return [
        AddCrmPayment(portal=world.name, key=f"acme:order-{deal}", entity_id=deal, entity_type_id=2, **options)
        for deal in deals
    ]


def _mixed(world: World, count: int) -> list[Operation]:
    marks: list[Operation] = [
        PayInvoice(portal=world.name, invoice_id=2, pay_system_id=31),
        PayCrmPayment(portal=world.name, payment_id=1001),
    ]
    return [*_adds(world, 1), *marks][:count]


LISTS: Final[Mapping[str, Callable[[World, int], list[Operation]]]] = {
    "invoices": _invoices,
    "adds": _adds,
    "tagged": lambda world, count: _adds(world, count, tag=True),
    "mixed": _mixed,
}


@dataclass
class ChunkCase:
    """One task with a list, one journal, and what strikes where."""

    name: str
    count: int
    journal: str
    strikes: Mapping[int, str]

    def __str__(self) -> str:
        where = ", ".join(f"{strike!r} at effect {effect}" for effect, strike in self.strikes.items()) or "nothing"
        return f"{self.count} {self.name} with {self.journal}: {where}"


def tell(case: ChunkCase, database: VirtualDatabase | None) -> Told:
    """Run a task until everything has succeeded or needs a person, and judge each key.

    :raises Broken: with the whole story.
    """
    world = World(case.journal, database, many=True)
    director = Strikes(case.strikes)
    world.director = director
    run = ChunkRun(world, LISTS[case.name](world, case.count), any(one in FREEZES for one in case.strikes.values()))
    try:
        ended = run.live()
        world.advance(2 * world.settle_window)
        run.wake_all()
        for judge in run.judges.values():
            judge.end()
    except Exception as error:
        story = "\n".join([str(case), *world.trace, f"{type(error).__name__}: {error}"])
        raise Broken(story) from error
    return Told(director.seen, ended, world.trace, director.opens)


@dataclass
class ChunkRun:
    """One task instance, from its first attempt to its last."""

    world: World
    operations: list[Operation]
    may_freeze: bool = False
    tries: int = 0
    max_tries: int = RETRIES
    frozen: list[Strand] = field(default_factory=list)
    judges: dict[str, Judge] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.judges = {one.key: Judge(self.world, one.key, one.name) for one in self.operations}

    def live(self) -> str:
        """Retry as Airflow does; a task that failed is cleared once, one that succeeded too: that changes nothing."""
        ended = self._series()
        if ended != "green":
            self._clear("the task")
            self.world.advance(max(1.0, self.world.outage_until - self.world.time()))
            ended = f"{ended}, cleared: {self._series()}"
        if ended.endswith("green"):
            self.wake_all()
            sends = list(self.world.sends)
            self._clear("the green task")
            self._attempt()
            # What somebody else had paid, and has taken back now, is due: nothing was sent for it yet.
            again = {key for key, _ in sends} & {key for key, _ in self.world.sends[len(sends) :]}
            if self.world.journal != "none" and again:
                raise Broken("a green task that was cleared has sent something again")
        return ended

    def _clear(self, what: str) -> None:
        self.world.say(f"--- somebody clears {what}")
        self.max_tries = self.tries + RETRIES

    def _series(self) -> str:
        results: Sequence[Result] | None = None
        for left in reversed(range(RETRIES + 1)):
            results = self._attempt(last=not left)
            failures = [one for one in results or () if isinstance(one, Failure)]
            if results is not None and not failures:
                return "green"
            if failures and all(one.error.final for one in failures):
                return " and ".join(sorted({type(one.error).__name__ for one in failures}))
            self.world.advance(1.0)
        return "no more retries"

    def _attempt(self, *, last: bool = True) -> Sequence[Result] | None:
        self.tries += 1
        worker = self.world.worker(IDENTITY, self.tries, max_tries=self.max_tries)
        zombies, self.frozen = self.frozen, []
        results: list[Result] = []
        self._run(worker, results)
        ended = results if len(results) == len(self.operations) else None
        for operation, result in zip(self.operations, ended or (), strict=False):
            if isinstance(result, Failure):
                self.judges[operation.key].attempt(Outcome(error=result.error), last=last)
            else:
                self.judges[operation.key].attempt(Outcome(receipt=result))
        if any(isinstance(one, Failure) and one.error.final for one in results):
            for told in self.world.told.values():
                told.tasks.add((IDENTITY, self.max_tries))
        for zombie in zombies:
            self._wake(zombie)
        for judge in self.judges.values():
            judge.at_most_once()
        return ended

    def _run(self, worker: Worker, results: list[Result]) -> None:
        def work(payments: ScriptedPayments) -> Any:
            results.extend(payments.engine.run(self.operations))

        if not self.may_freeze:
            worker.attempt(work)
            return
        ends: list[Outcome] = []
        strand = worker.strand = Strand(lambda: ends.append(worker.attempt(work)))
        strand.resume()
        if not ends:
            self.world.say(f"{worker} is frozen")
            self.frozen.append(strand)

    def _wake(self, zombie: Strand) -> None:
        self.world.say("--- a zombie wakes up")
        zombie.resume()
        if not zombie.ended:
            self.frozen.append(zombie)

    def wake_all(self) -> None:
        """Let whoever is frozen go on, to the end."""
        while self.frozen:
            self._wake(self.frozen.pop())


def strikes_at(what: str) -> Iterator[str]:
    """Everything that can strike an effect."""
    yield from DEATHS
    yield from FREEZES
    yield from SLOWNESS
    if what == "read":
        yield from READ_STRIKES
    elif what == "send":
        yield from SEND_STRIKES
        yield from INSIDE_A_CHUNK
    else:
        yield from JOURNAL_STRIKES
    yield from (f"people: {act}" for act in ("adds", "pays", "takes back", "deletes"))


def campaign(name: str, count: int, journal: str, database: VirtualDatabase, *, stride: int, singles: int = 1) -> Tally:
    """Strike a chunk once at every effect in every way, and twice in every ``stride``-th way.

    :param singles: of the cases with one strike, every how many-th is run.
    """
    tally = Tally(f"{count} {name} with {journal}")
    calm = _count(tally, ChunkCase(name, count, journal, {}), database)
    for number, first in enumerate(_next(calm, 0)):
        if number % singles:
            continue
        told = _count(tally, ChunkCase(name, count, journal, dict([first])), database)
        for second in _next(told, first[0] + 1):
            tally.space += 1
            if tally.space % stride == 0:
                _count(tally, ChunkCase(name, count, journal, dict([first, second])), database)
    return tally


def _count(tally: Tally, case: ChunkCase, database: VirtualDatabase) -> Told | None:
    tally.cases += 1
    try:
        told = tell(case, database)
    except Broken as error:
        tally.broken.append((str(error).rpartition("\n")[2], str(error)))
        return None
    tally.ended[told.ended] += 1
    return told


def _next(told: Told | None, start: int) -> Iterator[tuple[int, str]]:
    for number in range(told.opens if told and not start else 0):
        yield from ((-number - 1, strike) for strike in strikes_at(OPENS))
    for effect, what in enumerate(told.effects if told else ()):
        if effect >= start:
            yield from ((effect, strike) for strike in strikes_at(what))
