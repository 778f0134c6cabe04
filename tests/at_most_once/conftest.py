"""A portal, a caller and both clocks in one process: hours pass in no time."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import NotSent, Request, Reserve, Response, Sleep, Slot, Unknown
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal
from tests.tools.payments import ScriptedPayments

if TYPE_CHECKING:
    from collections.abc import Callable

START = 1_763_800_000.0
REQUEST_TAKES = 0.2


class World:
    """The sandbox portal behind a runner of flows that needs no socket, on one scripted clock."""

    def __init__(self, dialect: str) -> None:
        self.clock = ManualClock(START)
        self.portal = Portal(clock=self.clock, dialect=dialect)
        self.client: ApiClient
        self.auth: Auth
        self.sent: list[str] = []
        self.keys: list[str | None] = []
        self.slept: list[float] = []
        self.before: dict[str, Callable[[], None]] = {}
        """By REST method, or "batch:" and the name of a command: what somebody does just before that arrives, once."""
        self.bodies: dict[str, Any] = {}
        """By REST method: a result that the portal answers with, once, without doing anything."""
        self.slots: list[Slot] | None = None
        """If requests are paced, what the next reservations get; after that every slot is free."""
        self.not_sent = 0
        """How many of the next writes do not leave."""
        self.safeguard: Callable[[], None] | None = None
        self.cut: dict[str, int] = {}
        """By REST method: how many of its rows come back at most, silently."""
        self.connect()

    def connect(self, *, user_id: int = 1, scopes: tuple[str, ...] = ("crm", "pay_system"), **extra: Any) -> None:
        webhook = self.portal.add_webhook(user_id=user_id, scopes=scopes)
        self.auth = Auth(user_id=webhook.user_id, secret=webhook.secret)
        self.client = ApiClient(
            Settings.from_connection_values(
                host="acme.bitrix24.com", login=str(webhook.user_id), password=webhook.secret, extra=extra
            ),
            paced=self.slots is not None,
        )

    @property
    def payments(self) -> ScriptedPayments:
        return ScriptedPayments(self.client, self.run, self, logging.getLogger("payments"), safeguard=self.safeguard)

    def person(self, method: str, params: dict[str, Any]) -> Any:
        """What somebody else does through REST, beside the requests that are counted here."""
        other = self.portal.add_webhook(user_id=1)
        reply = self.portal.handle(method, params, auth=Auth(user_id=other.user_id, secret=other.secret))
        assert isinstance(reply.body, dict)
        return reply.body["result"]

    def time(self) -> float:
        return self.clock.time()

    def monotonic(self) -> float:
        return self.clock.time()

    def fault(self, kind: str, method: str = "*", **options: Any) -> None:
        self.portal.faults.add(Fault(kind=kind, method=method, **options))

    def ledger(self, *events: str) -> list[dict[str, Any]]:
        return [entry for entry in self.portal.ledger if entry["event"] in events]

    def writes(self) -> list[str]:
        """The REST methods sent that are no reads."""
        return [method for method in self.sent if method != "batch" and not method.endswith((".get", ".list"))]

    def run(self, flow: Any) -> Any:
        """Drive a flow to its end against the portal in this process."""
        outcome: Any = None
        while True:
            try:
                command = flow.send(outcome)
            except StopIteration as end:
                return end.value
            if isinstance(command, Sleep):
                self.slept.append(command.seconds)
                self.clock.advance(command.seconds)
                outcome = None
            elif isinstance(command, Reserve):
                assert self.slots is not None
                outcome = self.slots.pop(0) if self.slots else Slot(0.0)
            else:
                outcome = self._answer(command)

    def _answer(self, request: Request) -> NotSent | Response | Unknown:
        deadline = request.not_after
        if deadline and self.not_sent:
            self.not_sent -= 1
            self.clock.advance(REQUEST_TAKES)
            return NotSent("connection refused")
        if deadline and self.monotonic() > deadline.monotonic:
            return NotSent("the deadline has passed", deadline_passed=True)
        for moment in (request.method, *(f"batch:{name}" for name in request.params.get("cmd", ()))):
            if act := self.before.pop(moment, None):
                act()
        self.sent.append(request.method)
        self.keys.append(request.headers.get("Idempotency-Key"))
        self.clock.advance(REQUEST_TAKES)
        if request.method in self.bodies:
            result = {"result": self.bodies.pop(request.method)}
            return Response(status=200, headers={}, body=json.dumps(result).encode(), at=self.clock.time())
        params = json.loads(request.body)
        reply = self.portal.handle(request.method, params, auth=self.auth, headers=request.headers)
        if reply.transport == "hold":
            self.clock.advance(request.read_timeout)
        if reply.transport is not None:
            return Unknown(f"the connection ended ({reply.transport})")
        body = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Response(status=reply.status, headers=headers, body=body.encode(), at=self.clock.time())


@pytest.fixture(params=["source", "docs"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "docs":
        request.getfixturevalue("unmeasured")
    return World(request.param)
