"""A portal in process, on a clock that the test moves, and a caller that speaks to it as a webhook."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal, PortalReply

if TYPE_CHECKING:
    from collections.abc import Callable

START = 1_763_800_000.0


@dataclass
class Rest:
    """A caller: ``rest("method", param=…)`` is the result of a success, ``rest.error`` the code of a refusal."""

    portal: Portal
    clock: ManualClock
    user_id: int = 1
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self.secret = self.secret or self.portal.webhook.secret

    def reply(self, method: str, params: dict[str, Any] | None = None, /, **named: Any) -> PortalReply:
        return self.portal.handle(method, {**(params or {}), **named}, auth=Auth(self.user_id, self.secret))

    def body(self, method: str, params: dict[str, Any] | None = None, /, **named: Any) -> dict[str, Any]:
        reply = self.reply(method, params, **named)
        assert reply.transport is None
        assert isinstance(reply.body, dict)
        return reply.body

    def __call__(self, method: str, params: dict[str, Any] | None = None, /, **named: Any) -> Any:
        body = self.body(method, params, **named)
        assert "error" not in body, body
        return body["result"]

    def error(self, method: str, params: dict[str, Any] | None = None, /, **named: Any) -> Any:
        body = self.body(method, params, **named)
        assert "result" not in body, body
        assert "time" not in body
        return body["error"]

    def batch(self, commands: dict[str, Any] | list[Any], halt: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self("batch", cmd=commands, halt=halt)
        return found

    def as_user(self, user_id: int = 7, *denied: str, scopes: tuple[str, ...] | None = None) -> Rest:
        """The same portal, called by somebody else, without these rights."""
        self.portal.state.users[user_id].denied = list(denied)
        options = {} if scopes is None else {"scopes": scopes}
        webhook = self.portal.add_webhook(user_id, **options)
        return Rest(self.portal, self.clock, user_id, webhook.secret)

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.portal.ledger]


@pytest.fixture
def make_rest() -> Callable[..., Rest]:
    def make(**options: Any) -> Rest:
        clock = ManualClock(START)
        return Rest(Portal(clock, **options), clock)

    return make


@pytest.fixture
def rest(make_rest: Callable[..., Rest]) -> Rest:
    return make_rest()
