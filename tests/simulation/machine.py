"""Several tasks at one portal, step by step in any order: a state machine whose every step is an effect of one worker.

Each attempt is a strand that stands still before every effect, so that two workers on one key meet at every point, a
worker that stands still long enough is a zombie, and people and time get in between wherever they like.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_bitrix24.at_most_once.record import Decision
from airflow_provider_bitrix24.exceptions import PaymentAmbiguous
from tests.simulation.campaign import RETRIES
from tests.simulation.judge import Judge
from tests.simulation.strikes import DEATHS, JOURNAL_STRIKES, PEOPLE, READ_STRIKES, SEND_STRIKES, SLOWNESS, Broken
from tests.simulation.world import REST_SYSTEM, Outcome, Strand, Worker, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from tests.simulation.virtual_journals import VirtualDatabase
    from tests.tools.payments import ScriptedPayments

FITTING = {
    "read": (*DEATHS, *SLOWNESS, *READ_STRIKES),
    "send": (*DEATHS, *SLOWNESS, *SEND_STRIKES),
    "journal": (*DEATHS, *SLOWNESS, *JOURNAL_STRIKES),
}


@dataclass
class Job:
    """A task that somebody wants done, with all its attempts."""

    identity: str
    key: str
    operation: str
    do: Callable[[ScriptedPayments, Decision | None], Receipt]
    fill: dict[int, int] | None = None
    tries: int = 0
    max_tries: int = RETRIES
    ended: list[Outcome] = field(default_factory=list)
    running: Running | None = None
    """The attempt that Airflow knows."""

    @property
    def green(self) -> bool:
        """Whether it is done."""
        return bool(self.ended) and self.ended[-1].receipt is not None

    @property
    def rests(self) -> bool:
        """Whether Airflow does not start it again by itself."""
        error = self.ended[-1].error if self.ended else None
        return self.green or (error is not None and error.final)


@dataclass
class Running:
    """An attempt that stands still before its next effect."""

    job: Job
    worker: Worker
    strand: Strand
    decided: Decision | None
    ends: list[Outcome] = field(default_factory=list)
    next_strike: int | None = None
    """Which of the strikes that fit its next effect."""
    waits_until: float = 0.0


class Conductor:
    """Lets every worker stand still before each of its effects and waits."""

    def __init__(self) -> None:
        self.attempts: dict[int, Running] = {}

    def strike(self, worker: Worker, what: str) -> str | None:
        """Stand still; then strike as was ordered."""
        running = self.attempts[id(worker)]
        running.strand.pause()
        ordered, running.next_strike = running.next_strike, None
        fitting = FITTING[what.partition(".")[0]]
        return None if ordered is None else fitting[ordered % len(fitting)]

    def sleep(self, worker: Worker, seconds: float) -> None:
        """Stand still until somebody lets the worker go on, and time with it."""
        running = self.attempts[id(worker)]
        running.waits_until = worker.world.time() + seconds
        running.strand.pause()
        worker.world.advance(max(0.0, running.waits_until - worker.world.time()))


def _add(key: str, **options: Any) -> Callable[[ScriptedPayments, Decision | None], Receipt]:
    return lambda payments, decision: payments.add_crm_payment(
        entity_id=1, entity_type_id=2, key=key, decision=decision, **options
    )


class Portal(RuleBasedStateMachine):
    """Eight tasks at one portal; which keys they share depends on the journal."""

    journal: ClassVar[str] = "sql"
    database: ClassVar[VirtualDatabase]
    people: ClassVar[tuple[str, ...]] = PEOPLE
    world: World

    @initialize(dialect=st.sampled_from(["source", "docs"]))
    def open(self, dialect: str) -> None:
        """A fresh portal."""
        self.world = World(self.journal, self.database, dialect=dialect)
        self.world.use_rest_handler(1003)
        self.conductor = Conductor()
        self.world.director = self.conductor
        self.zombies: list[Running] = []
        name = self.world.name
        shared = self.journal.startswith("sql")
        self.jobs = [
            Job("a", "key-1", "add_crm_payment", _add("key-1")),
            Job("b", "key-1" if shared else "key-b", "add_crm_payment", _add("key-1" if shared else "key-b")),
            Job("c", "key-2", "add_crm_payment", _add("key-2", tag=True)),
            Job("d", "key-3", "add_crm_payment", _add("key-3", fill_products=True), fill={1: 2, 2: 1}),
            Job("e", f"{name}:invoice:2", "pay_invoice", _pay_invoice),
            Job("f", f"{name}:invoice:2", "pay_invoice", _pay_invoice),
            Job("g", f"{name}:payment:1001", "pay_crm_payment", _pay_crm_payment),
            Job("h", f"{name}:payment:1003:pay_system", "pay_payment", _pay_payment),
        ]
        self.judges = {job.key: Judge(self.world, job.key, job.operation) for job in self.jobs}

    @property
    def attempts(self) -> list[Running]:
        """Everybody who is at work, known to Airflow or not."""
        return [*(job.running for job in self.jobs if job.running), *self.zombies]

    # -- what may happen

    @rule(which=st.integers(0, 7), clock=st.sampled_from([0.0, 0.0, 0.0, -3.0, 4.0, -30.0]))
    def begin(self, which: int, clock: float) -> None:
        """Airflow starts an attempt of a task at which nobody is at work."""
        if self.jobs[which].running is None:
            self._begin(self.jobs[which], clock, None)

    @precondition(lambda self: any(job.running for job in self.jobs))
    @rule(which=st.integers(0, 7))
    def take_for_dead(self, which: int) -> None:
        """Airflow hears nothing of an attempt and starts another one; the first one is a zombie from now on."""
        job = [job for job in self.jobs if job.running][which % sum(job.running is not None for job in self.jobs)]
        assert job.running is not None
        self.zombies.append(job.running)
        self._begin(job, 0.0, None)

    @rule(which=st.integers(0, 7), effects=st.sampled_from([1, 2, 3, 4, 5, 6, 20]))
    def go_on(self, which: int, effects: int) -> None:
        """Somebody who is at work does some of it."""
        for _ in range(effects):
            if not self.attempts:
                return
            self._step(self.attempts[which % len(self.attempts)])

    @rule(which=st.integers(0, 7), strike=st.integers(0, 60))
    def strike(self, which: int, strike: int) -> None:
        """Trouble strikes the next effect of somebody."""
        if self.attempts:
            running = self.attempts[which % len(self.attempts)]
            running.next_strike = strike
            self._step(running)

    @rule(what=st.sampled_from(PEOPLE))
    def somebody(self, what: str) -> None:
        """People work on the portal."""
        if what in self.people:
            self.world.people(what)

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        """Nobody does anything."""
        self.world.advance(seconds)

    @precondition(lambda self: any(_asked(job) for job in self.jobs))
    @rule(which=st.integers(0, 7), again=st.booleans())
    def decide(self, which: int, again: bool) -> None:
        """A person decides what a task could not; they know which payment it was, or that there is none."""
        asked = [job for job in self.jobs if _asked(job) and job.running is None]
        if not asked:
            return
        job = asked[which % len(asked)]
        judge, error = self.judges[job.key], job.ended[-1].error
        assert isinstance(error, PaymentAmbiguous)
        ours = [number for number in error.candidates if number in judge.standing()]
        if ours and not again:
            what, number = "use_payment", ours[0]
        elif not judge.standing() and again:
            what, number = "send_again", None
            judge.granted += 1
        else:
            return
        decision = Decision(
            what=what,
            payment_id=number,
            candidates=error.candidates,
            by="somebody",
            at="2025-11-22T10:00:00+00:00",
            through="Airflow",
        )
        self._begin(job, 0.0, decision)

    # -- how it happens

    def _begin(self, job: Job, clock: float, decision: Decision | None) -> None:
        if job.running is None and job.rests and decision is None:
            job.max_tries = job.tries + RETRIES  # somebody clears it
        job.tries += 1
        worker = self.world.worker(job.identity, job.tries, clock_off_by=clock, max_tries=job.max_tries)
        ends: list[Outcome] = []
        strand = Strand(lambda: ends.append(worker.attempt(lambda payments: job.do(payments, decision))))
        worker.strand = strand
        job.running = Running(job, worker, strand, decision, ends)
        self.conductor.attempts[id(worker)] = job.running
        self._step(job.running)

    def _step(self, running: Running) -> None:
        try:
            running.strand.resume()
            if running.strand.ended:
                self._ended(running)
        except Exception as error:
            raise Broken("\n".join([*self.world.trace, f"{type(error).__name__}: {error}"])) from error

    def _ended(self, running: Running) -> None:
        job, [outcome] = running.job, running.ends
        if job.running is running:
            job.running = None
            job.ended.append(outcome)
        else:
            self.zombies.remove(running)
            outcome = Outcome()  # nobody listens to it
        if outcome.receipt is not None and running.decided and running.decided.payment_id:
            self.judges[job.key].accepted.add(running.decided.payment_id)
        self.judges[job.key].attempt(outcome, fill=job.fill)

    @invariant()
    def at_most_once(self) -> None:
        """No key has two payments, and none is sent more often than allowed."""
        for judge in getattr(self, "judges", {}).values():
            try:
                judge.at_most_once()
            except Broken as error:
                raise Broken("\n".join([*self.world.trace, str(error)])) from None

    def teardown(self) -> None:
        """Everybody comes to an end, and nothing can arrive any more."""
        if not hasattr(self, "world"):
            return
        while self.attempts:
            self._step(self.attempts[0])
        self.world.advance(2 * self.world.settle_window)
        for judge in self.judges.values():
            judge.end()
        note(f"{sum(job.green for job in self.jobs)} of {len(self.jobs)} green")


def _asked(job: Job) -> bool:
    """Whether a person is asked."""
    error = job.ended[-1].error if job.ended else None
    return job.operation == "add_crm_payment" and isinstance(error, PaymentAmbiguous)


def _pay_invoice(payments: ScriptedPayments, decision: Decision | None) -> Receipt:
    return payments.pay_invoice(invoice_id=2, pay_system_id=31, decision=decision)


def _pay_crm_payment(payments: ScriptedPayments, decision: Decision | None) -> Receipt:
    return payments.pay_crm_payment(payment_id=1001, decision=decision)


def _pay_payment(payments: ScriptedPayments, decision: Decision | None) -> Receipt:
    return payments.pay_payment(payment_id=1003, pay_system_id=REST_SYSTEM, decision=decision)
