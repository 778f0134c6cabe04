"""The real journals on the virtual clock, each call of them an effect."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_provider_bitrix24 import sql
from airflow_provider_bitrix24.sql import Database
from tests.simulation.strikes import Broken
from tests.simulation.wire import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sqlalchemy as sa

    from airflow_provider_bitrix24.at_most_once.record import Record, Send
    from airflow_provider_bitrix24.journal.protocol import Change
    from tests.simulation.world import Worker, World


QUESTIONS = {"late_replies", "claims_of_others", "unresolved_keys", "keys_on_object"}
"""What an attempt asks a journal about other keys and attempts."""


class VirtualDatabase(Database):
    """SQLite in memory, whose clock is the world's; its one connection stays open, else it would be gone."""

    world: World

    def __init__(self) -> None:
        import sqlalchemy

        memory = sqlalchemy.URL.create("sqlite", query={"check_same_thread": "false"})
        with mock.patch.object(sql, "NullPool", sqlalchemy.StaticPool):
            super().__init__(memory, "the test database")

    @property
    def now(self) -> sa.ColumnElement[float]:
        """The database's clock."""
        import sqlalchemy

        return sqlalchemy.literal(self.world.time(), sqlalchemy.Double)


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


class Watched:
    """A journal whose every call is an effect."""

    def __init__(self, worker: Worker, journal: Any) -> None:
        self._worker, self._journal = worker, journal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._journal, name)
        if name not in QUESTIONS:
            return found
        return lambda *args, **kwargs: self._worker.effect(f"journal.{name}", lambda: found(*args, **kwargs))

    def load(self, portal: str, keys: Any) -> Any:
        """Load."""
        return self._worker.effect("journal.read", lambda: self._journal.load(portal, keys))

    def save(self, changes: Sequence[Change]) -> Any:
        """Save; whatever was answered is kept now."""
        records = {change.record.key: change.record for change in changes}

        def do() -> Any:
            saved = self._journal.save(changes)
            for key, result in saved.items():
                for whose, _ in _sends(records[key]):
                    # Also if it was overtaken: it was offered to the journal.
                    if self._worker.answered.pop(whose, None) and result.outcome == "saved":
                        self._worker.world.answered.add(whose)
                if result.outcome == "saved":
                    _refuse_to_repeat(records[key], self._worker)
            return saved

        if all(change.opens for change in changes):
            return self._worker.effect("journal.open", lambda: self._journal.save(changes))
        label = ", ".join(f"{change.record.state} lease={change.lease}" for change in changes)
        return self._worker.effect("journal.write", do, label)

    def release(self, portal: str, keys: Any) -> None:
        """Release; never raises but for death."""
        if not self._worker.dead:
            self._journal.release(portal, keys)


@dataclass
class Told:
    """Who was told that the portal has answered and shows nothing."""

    decisions: int
    """How many decisions of people were carried out by then."""
    tasks: set[tuple[str, int | None]] = field(default_factory=set)
    """Tasks that were red, each with its `max_tries`, which clearing raises."""


def _refuse_to_repeat(entry: Record, worker: Worker) -> None:
    """What was answered and is not shown is sent only by a task that was red, and that somebody has cleared since."""
    if worker.world.journal == "none":
        return  # nobody remembers
    told = worker.world.told
    for key, sends in _sends(entry):
        last = next((send for send in reversed(sends) if send.may_have_run), None)
        if last is not None and last.result == "not_applied":
            told.setdefault(key, Told(len(entry.decisions_carried_out)))
        elif key in told and last is not None and last.result == "pending":
            rounds = {max_tries for identity, max_tries in told[key].tasks if identity == worker.identity}
            by_itself = not rounds or worker.max_tries in rounds
            if by_itself and worker.max_tries is not None and len(entry.decisions_carried_out) == told[key].decisions:
                raise Broken(f"{worker} is about to send again by itself what the portal has answered and not done")
        else:
            told.pop(key, None)


def _sends(entry: Record) -> Iterator[tuple[str, Sequence[Send]]]:
    """The digest of each key, and its sends."""
    yield digest(entry.key), entry.sends
    for name, sends in entry.steps.items():
        yield digest(f"{entry.key}\npayment:{entry.payment_id}:{name.replace(' ', ':')}"), sends
