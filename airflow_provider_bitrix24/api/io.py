"""The protocol between a flow and its driver: three commands, and the results that they get.

A flow is a generator. It yields a `Request`, a `Sleep` or a `Reserve`. For a `Request`, the driver sends back a
`Response`, `NotSent` (certainly not executed) or `Unknown` (may have been executed); for a `Reserve` a `Slot`, and for
a `Sleep` nothing. Outcomes are values, so that no exception of an HTTP library, which would print the address with the
secret in it, gets out.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from airflow_provider_bitrix24.exceptions import TlsTrouble

T = TypeVar("T")


class Effect(Enum):
    """What executing a call twice would do."""

    READ = "read"
    """Nothing: it only reads."""
    IDEMPOTENT = "idempotent"
    """Leave the same state as executing it once."""
    NON_IDEMPOTENT = "non_idempotent"
    """Make another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDeadline:
    """Until when a request may leave, by both clocks: either alone may have been stopped or set."""

    monotonic: float
    """Seconds of `time.monotonic`."""
    wall: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request: a POST with a JSON body, unless it is a GET without one."""

    url: str = field(repr=False)
    """Address, with the secret in it."""
    method: str
    """REST method, for logs and errors."""
    params: Mapping[str, Any] = field(repr=False)
    """Parameters, plain JSON values only."""
    effect: Effect
    verb: Literal["POST", "GET"] = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout: float
    """Seconds for each step of connecting; all together may take three times that."""
    read_timeout: float
    """Seconds from the moment of sending until the whole response must have arrived."""
    max_bytes: int
    """Largest response that is accepted, unpacked."""
    not_after: SendDeadline | None = None
    """Until when the request may leave; checked last, on the live connection."""

    @property
    def body(self) -> bytes:
        """The JSON body, or nothing."""
        if self.verb == "GET":
            return b""
        return json.dumps(dict(self.params), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Sleep:
    """A wait, and why; logged once by the driver, unless the reason is empty."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """The command to book the next request within the portal's rate limit."""

    within: float
    """Seconds that the request may wait."""
    drained: bool = False
    """Whether the portal has just said that there are too many requests."""


@dataclass(frozen=True, slots=True)
class Slot:
    """When the next request may be sent."""

    wait: float
    """Seconds until then."""
    granted: bool = True
    """Whether it is booked; False if that is later than was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete HTTP response."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)
    """Unpacked; may repeat a secret, so that nothing that shows local variables must show it."""
    at: float
    """When it had arrived, seconds since the epoch by our clock."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request certainly was not executed."""

    reason: str
    deadline_passed: bool = False
    tls: TlsTrouble | None = None
    """Whether TLS ended the connection, and why."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request, or a part of it, was sent; there is no usable response."""

    reason: str


Command: TypeAlias = Request | Sleep | Reserve
Outcome: TypeAlias = Response | NotSent | Unknown
Flow: TypeAlias = Generator[Command, Outcome | Slot | None, T]
