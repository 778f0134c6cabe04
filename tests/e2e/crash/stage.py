"""A stage for tests that kill processes: one real Airflow, and for each case a DAG and a portal of its own.

Cases play at the same time, in threads, because most of their time is waiting. What really happened is read from the
portal's ledger, in this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.e2e.crash.runs import PATIENCE, Run, interrupted, until
from tests.tools.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.tools.local_airflow import Processes

TABLE = pytest.StashKey[list[str]]()
"""Where a pytest run keeps what it prints at its end."""
Play: TypeAlias = "Callable[[Scene], None]"

FAST = {
    "send_deadline": 5,
    "connect_timeout": 3,
    "network_delay": 1,
    "server_time_limit": 3,
    "read_lag": 1,
    "read_timeout": 600,
}
"""Terms of the settle window, and a read timeout that lets a held response stay held."""
SLOW = FAST | {"server_time_limit": 150}
"""Time enough for a request to be executed late, while another attempt is at work already, and still in its window."""
LATE = 100  # seconds: at the latest so long after it was held, a request of a SLOW portal is executed
HEARTBEATS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "4",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that may go wrong: a task, and what is done to it."""

    name: str
    operator: str
    arguments: dict[str, Any]
    terms: dict[str, Any]
    play: Play
    act: int

    @property
    def words(self) -> str:
        """What is done, in one line."""
        return (self.play.__doc__ or "").splitlines()[0]


class Cases(dict[str, Case]):
    """Cases by name, in acts: those of one act play together, one act after the other."""

    def add(
        self, operator: str, /, *, terms: Mapping[str, Any] = FAST, act: int = 1, **arguments: Any
    ) -> Callable[[Play], Play]:
        """Make a case of the decorated function.

        :param operator: what the task is, a name of `dags/cases.py`.
        :param terms: extras of the connection.
        :param act: the number of the act.
        :param arguments: arguments of the operator.
        """

        def made(play: Play) -> Play:
            name = play.__name__
            self[name] = Case(name=name, operator=operator, arguments=arguments, terms=dict(terms), play=play, act=act)
            return play

        return made


@dataclass
class Scene:
    """One case while it plays."""

    case: Case
    airflow: LocalAirflow
    portal: Sandbox
    together: threading.Barrier | None = None
    runs: list[Run] = field(default_factory=list)

    def start(self) -> Run:
        """Trigger the DAG."""
        run = Run(self.airflow, self.case.name, self.airflow.trigger(self.case.name, {}))
        self.runs.append(run)
        return run

    def hold(self, method: str, *, ran: bool, occurrence: int = 1) -> int:
        """Let the portal hold the response to a call, before or after it has run; returns the script's id."""
        return self.portal.fault("hold", method, occurrence=occurrence, when="after" if ran else "before")

    def start_held(self, method: str, *, ran: bool) -> tuple[Run, int]:
        """Trigger the DAG and wait until the portal holds this call of it."""
        held = self.hold(method, ran=ran)
        run = self.start()
        self.until_held(held)
        return run, held

    def until_held(self, fault_id: int) -> None:
        """Wait until the portal holds a call."""

        def holding() -> bool:
            with self.portal.portal.lock:
                faults = self.portal.portal.faults.describe()
            return any(fault["id"] == fault_id and fault["holding"] for fault in faults)

        until(holding, f"{self.case.name}: a call that is held")

    def disaster(self) -> None:
        """Wait until every case of the act is ready for it, and until it is over."""
        assert self.together is not None
        self.together.wait(PATIENCE)

    def runs_late(self, fault_id: int, run: Run, attempt: int) -> None:
        """Let a held call go on, and be executed, when a later attempt is at work; in any case inside its window."""
        with contextlib.suppress(TimeoutError):
            until(lambda: run.running_try() >= attempt, f"attempt {attempt}", every=1, patience=LATE)
        assert self.portal.release(fault_id) == 1

    def asked(self, method: str) -> int:
        """How often a method was called, alone or in a batch."""
        return sum(request["method"] == method for request in self.portal.requests)

    def ledger(self, event: str) -> list[dict[str, Any]]:
        """Entries of the portal's ledger that were made by REST calls."""
        return [entry for entry in self.portal.ledger if (entry["event"], entry["by"]) == (event, "rest")]

    @property
    def effects(self) -> list[dict[str, Any]]:
        """What money was moved on the portal: payments added, invoices and payments marked."""
        events = ("payment_added", "invoice_paid", "payment_paid")
        return [entry for event in events for entry in self.ledger(event)]

    def only_effect(self, receipt: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The one entry about money, which a call of this key has made."""
        (entry,) = self.effects
        if receipt is not None:
            assert entry["idempotency_key"] == hashlib.sha256(receipt["idempotency_key"].encode()).hexdigest()
            for name in ("payment_id", "invoice_id"):
                assert name not in receipt or entry[name] == receipt[name]
        return entry

    def summary(self) -> tuple[str, str, str]:
        """SendTries and end of each run, and what is on the portal."""
        tasks = [run.task for run in self.runs]
        return (
            ", ".join(str(task["try_number"]) for task in tasks),
            ", ".join(str(task["state"]) for task in tasks),
            str(len(self.effects)),
        )


class Stage:
    """Plays cases in an Airflow.

    :param home: a folder for everything.
    :param cases: the cases, by name.
    """

    def __init__(self, home: Path, cases: Mapping[str, Case]) -> None:
        self._home = home
        self.cases = cases
        self._servers = contextlib.ExitStack()
        self.portals: dict[str, Sandbox] = {}
        self.failures: dict[str, BaseException] = {}
        self.rows: list[tuple[str, ...]] = []

    def __enter__(self) -> Stage:
        for name in self.cases:
            self.portals[name] = Sandbox(self._servers.enter_context(SandboxServer(Portal())))
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    @contextlib.contextmanager
    def airflow(
        self, processes: Processes, dags: Path, *, env: Mapping[str, str], **options: Any
    ) -> Iterator[LocalAirflow]:
        """Run an Airflow that knows the cases; the processes are for the caller to end.

        :param env: more of the environment.
        :param options: further arguments of `LocalAirflow`.
        """
        airflow = LocalAirflow(self._home / "airflow", dags, processes, env={**self._env(), **env}, **options)
        with airflow.api:
            airflow.migrate()
            airflow.start()
            airflow.wait_until_ready(set(self.cases), print)
            yield airflow

    def _env(self) -> dict[str, str]:
        file = self._home / "cases.json"
        dags = {
            name: {
                "operator": case.operator,
                "arguments": {**case.arguments, "bitrix24_conn_id": f"portal_of_{name}"},
            }
            for name, case in self.cases.items()
        }
        file.write_text(json.dumps(dags, indent=1))
        connections = {}
        for name, case in self.cases.items():
            connection = json.loads(self.portals[name].connection)
            connection["extra"] = {**connection.get("extra", {}), **case.terms}
            connections[f"AIRFLOW_CONN_PORTAL_OF_{name.upper()}"] = json.dumps(connection)
        return {**HEARTBEATS, **connections, "BITRIX24_CASES": str(file)}

    def play(self, airflow: LocalAirflow, act: int, *, at_once: int) -> None:
        """Play the cases of an act, so many of them at the same time."""
        self._play_all(airflow, act, at_once, None)

    def play_together(self, airflow: LocalAirflow, act: int, disaster: Callable[[], None]) -> None:
        """Play the cases of an act, all at the same time; the disaster comes when all of them wait for it."""
        number = len(self._of(act))
        if number:
            self._play_all(airflow, act, number, threading.Barrier(number, disaster))

    def _of(self, act: int) -> list[Case]:
        return [case for case in self.cases.values() if case.act == act]

    def _play_all(self, airflow: LocalAirflow, act: int, at_once: int, together: threading.Barrier | None) -> None:
        def play(case: Case) -> None:
            self._play(Scene(case, airflow, self.portals[case.name], together))

        with ThreadPoolExecutor(at_once, thread_name_prefix="case") as threads:
            try:
                list(threads.map(play, self._of(act)))
            except KeyboardInterrupt:
                interrupted.set()
                threads.shutdown(cancel_futures=True)
                raise

    def _play(self, scene: Scene) -> None:
        case = scene.case
        try:
            case.play(scene)
        except BaseException as error:  # it is raised in the case's own test
            self.failures[case.name] = error
            if scene.together:
                scene.together.abort()
        try:
            tries, ends, effects = scene.summary()
        except Exception as error:
            tries, ends, effects = "?", type(error).__name__, str(len(scene.effects))
        verdict = "NOT GOOD" if case.name in self.failures else "ok"
        self.rows.append((verdict, case.name, tries, ends, effects, case.words))

    def raise_failure(self, name: str) -> None:
        """Raise what went wrong in a case."""
        if name in self.failures:
            raise self.failures[name]

    def table(self) -> list[str]:
        """Return what happened, a line for each case."""
        rows = [("", "case", "tries", "end", "on the portal", "what was done"), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def pytest_configure() -> None:
    """Let a run that is terminated end what it has started, as one that is interrupted does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table at the end of a pytest run, for `conftest.py`."""
    for line in config.stash.get(TABLE, []):
        terminalreporter.write_line(line)


def chosen_cases(request: pytest.FixtureRequest, cases: Cases) -> dict[str, Case]:
    """Return the cases whose tests were selected."""
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    names = {call.params["name"] for call in calls if call is not None}
    return {name: case for name, case in cases.items() if name in names}
