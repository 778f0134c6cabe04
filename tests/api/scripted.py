"""A flow without a driver: outcomes are handed in, commands are handed out."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Request, Response, Sleep
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import Bitrix24Error

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET = "c4n4rys3cr3tc0de"


def portal(**extra: Any) -> Settings:
    """Settings of a portal that nobody talks to."""
    return Settings.from_connection_values(host="acme.bitrix24.com", login="1", password=SECRET, extra=extra)


def client(**extra: Any) -> ApiClient:
    return ApiClient(portal(**extra))


def json_response(body: Any = None, status: int = 200, at: float = 1_763_800_000.0, **headers: str) -> Response:
    """A response with a JSON body, or with the bytes that are given."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=raw, at=at)


def error_response(code: Any, text: str = "", status: int = 400, **headers: str) -> Response:
    return json_response({"error": code, "error_description": text}, status, **headers)


class Play:
    """A flow that has been run to its end over some outcomes."""

    def __init__(self, flow: Any, outcomes: Iterable[Any]) -> None:
        self.requests: list[Request] = []
        self.sleeps: list[Sleep] = []
        self.value: Any = None
        self.error: Bitrix24Error | None = None
        todo = iter(outcomes)
        answer: Any = None
        try:
            while True:
                command = flow.send(answer)
                if isinstance(command, Sleep):
                    self.sleeps.append(command)
                    answer = None
                else:
                    self.requests.append(command)
                    answer = next(todo, None)
                    assert answer is not None, "more requests than outcomes"
        except StopIteration as end:
            self.value = end.value
        except Bitrix24Error as error:
            self.error = error

    @property
    def waited(self) -> float:
        return sum(sleep.seconds for sleep in self.sleeps)


def play(flow: Any, *outcomes: Any) -> Play:
    """Run a flow over exactly these outcomes."""
    played = Play(flow, outcomes)
    assert len(played.requests) == len(outcomes), played.requests
    return played


def endless(flow: Any, outcome: Any) -> Play:
    """Run a flow over the same outcome until it ends by itself."""
    return Play(flow, itertools.repeat(outcome, 10_000))
