"""The provider as one more client: what its operators do in an attempt, with each journal.

A later attempt finds the journal that the one before has left, and nothing else.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from load import PAY_SYSTEM

from airflow_provider_bitrix24 import drivers
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Response, SendDeadline, Sleep
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
from airflow_provider_bitrix24.at_most_once.operations.pay_invoice import PayInvoice
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.journal import NullJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from clients import Place
    from load import Intent, SkippingClock

    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.journal import Journal

log = logging.getLogger("bench")
JournalName = Literal["no journal", "task state", "SQL"]


class Provider:
    """What the operators do, with one of the journals."""

    https = False

    def __init__(self, journal: JournalName, *, adopt: bool = False, tag: bool = False) -> None:
        self.name = f"this provider, {journal}{', adopt' if adopt else ''}{', tag' if tag else ''}"
        self._journal = journal
        self._on_unknown: Literal["fail", "adopt"] = "adopt" if adopt else "fail"
        self._tag = tag
        self._stores: dict[int, DictStore] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def begin(self, place: Place) -> None:
        """Begin with an empty journal."""
        self._stores.clear()
        self._folder = tempfile.TemporaryDirectory(prefix="side-by-side-")

    def attempt(self, place: Place, intent: Intent, number: int) -> int | None:
        """Do what the operator does, with waits that are skipped."""
        client = ApiClient(Settings.from_connection_values(host=place.url))
        identity = f"dag:bench:run:{intent.number}:task:pay:map_index:-1"
        with drivers.make_session(client.settings) as session:
            engine = PaymentEngine(
                client,
                lambda flow: drivers.run(skipping(flow, place.clock), session),
                place.clock,
                log,
                journal=self.journal(intent, f"{identity}:try:{number}", place.clock),
                task=TaskAttempt(identity=identity, try_number=number),
            )
            if intent.kind == "invoice":
                invoice = PayInvoice(portal=engine.portal, invoice_id=intent.object_id, pay_system_id=PAY_SYSTEM)
                result = engine.run_one(invoice)
            else:
                added = AddCrmPayment(
                    portal=engine.portal,
                    entity_id=intent.object_id,
                    entity_type_id=2,
                    key=f"bench:{intent.number}",
                    on_unknown=self._on_unknown,
                    tag=self._tag,
                )
                result = engine.run_one(added)
            if isinstance(result, Failure):
                raise result.error
            return result.subject.get("payment_id")

    def journal(self, intent: Intent, owner: str, clock: SkippingClock) -> Journal:
        """Return the journal as a new process finds it."""
        if self._journal == "no journal":
            return NullJournal()
        if self._journal == "task state":
            return TaskStateJournal(self._stores.setdefault(intent.number, DictStore()))
        assert self._folder is not None
        url = sa.URL.create("sqlite", database=f"{self._folder.name}/journal.db")
        return SqlJournal(SkippingDatabase(url, "SQLite", clock), owner)


class SkippingDatabase(Database):
    """A database whose clock skips as well, and that does not wait for the disk."""

    def __init__(self, url: sa.URL, name: str, clock: SkippingClock) -> None:
        super().__init__(url, name)
        self._clock = clock
        sa.event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))

    @property
    def now(self) -> sa.ColumnElement[float]:
        """The database's clock, seconds since the epoch, plus what was skipped."""
        return super().now + sa.literal(self._clock.skipped, sa.Double)


class DictStore:
    """Airflow's task state store of one task instance, as far as a journal sees it."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        return self._values.get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Keep a value."""
        self._values[key] = value


def skipping(flow: Flow[Any], clock: SkippingClock) -> Flow[Any]:
    """Run a flow whose clock is ahead of the machine's: its sleeps are skipped, its deadlines mean the same moment."""
    outcome = None
    while True:
        try:
            command = flow.send(outcome)
        except StopIteration as end:
            return end.value
        if isinstance(command, Sleep):
            clock.skip(command.seconds)
            outcome = None
            continue
        if deadline := command.not_after:
            deadline = SendDeadline(monotonic=deadline.monotonic - clock.skipped, wall=deadline.wall - clock.skipped)
        outcome = yield replace(command, not_after=deadline)
        if isinstance(outcome, Response):
            outcome = replace(outcome, at=outcome.at + clock.skipped)
