"""A portal in process, on a clock that the test moves, and callers that speak to it: a webhook and an application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal, PortalReply

if TYPE_CHECKING:
    from collections.abc import Callable

START = 1_763_800_000.0
URL = "http://127.0.0.1:8024"


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


class OAuthClient:
    """A portal with one application that user 7 has signed in to."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock(START)
        self.portal = Portal(self.clock, **options)
        self.application = self.portal.add_application("local.app", "s3cr3t-of-the-client")
        self.pair = self.portal.grant(self.application, 7)

    def token(self, **params: Any) -> PortalReply:
        given = {"client_id": "local.app", "client_secret": "s3cr3t-of-the-client", **params}
        return self.portal.handle_token({name: value for name, value in given.items() if value is not None}, url=URL)

    def refresh(self, refresh_token: str | None = None, **params: Any) -> PortalReply:
        return self.token(grant_type="refresh_token", refresh_token=refresh_token or self.pair.refresh_token, **params)

    def refused(self, reply: PortalReply) -> tuple[int, str]:
        assert isinstance(reply.body, dict)
        assert "access_token" not in reply.body
        return reply.status, reply.body["error"]

    def call(
        self, method: str, token: str | None = None, headers: dict[str, str] | None = None, **params: Any
    ) -> PortalReply:
        bearer = {"authorization": f"Bearer {token}"} if token else {}
        return self.portal.handle(method, params, auth=Auth(), headers={**bearer, **(headers or {})})

    def result(self, method: str, token: str | None = None, **params: Any) -> Any:
        reply = self.call(method, token, **params)
        assert isinstance(reply.body, dict)
        return reply.body.get("result", reply.body.get("error"))

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.portal.tokens_log]


@pytest.fixture
def make_client() -> Callable[..., OAuthClient]:
    return OAuthClient


@pytest.fixture
def client() -> OAuthClient:
    return OAuthClient()


@pytest.fixture
def make_rest() -> Callable[..., Rest]:
    def make(**options: Any) -> Rest:
        clock = ManualClock(START)
        return Rest(Portal(clock, **options), clock)

    return make


@pytest.fixture
def rest(make_rest: Callable[..., Rest]) -> Rest:
    return make_rest()
