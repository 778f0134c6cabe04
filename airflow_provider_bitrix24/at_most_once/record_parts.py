"""What a journal record consists of: sends, decisions of people, and the snapshot before the first send."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter

Scalar: TypeAlias = str | int | float | bool | None
Parameter: TypeAlias = Scalar | Mapping[str, Scalar]
"""What an operation asks for, such as "invoice_id"; or a mapping, such as the quantity by product row."""
Evidence: TypeAlias = Literal["response", "tag", "only_new_payment", "portal_state", "person"]
"""Why a payment is this key's. ``response``: the portal's reply named it. ``tag``: it carries the key's tag.
``only_new_payment``: it is the only new one, and no other key of ours explains it. ``portal_state``: only what the
portal shows says so. ``person``: a person has decided it."""
SendResult: TypeAlias = Literal[
    "pending", "not_sent", "refused", "acknowledged", "inconclusive", "absent", "not_applied"
]
"""``pending``: saved before sending; whether it left, and its outcome, are not known. ``not_sent``, ``refused``:
certainly not executed. ``acknowledged``: the portal said yes. ``inconclusive``: it said something else. ``absent``: no
reply, and the portal does not show it; or a person has said that it is not there. ``not_applied``: the portal said yes,
or something inconclusive, and does not show it."""
State: TypeAlias = Literal[
    "new",
    "unknown",
    "acknowledged",
    "absent",
    "not_applied",
    "incomplete",
    "needs_decision",
    "decision_pending",
    "abandoned",
    "done",
    "corrupt",
]
STATES: Final[tuple[State, ...]] = get_args(State)
PROOF: Final[tuple[Evidence, ...]] = ("response", "tag")
"""Evidence that cannot be mistaken: the portal itself has said whose the payment is."""
STATES_OF: Final[dict[SendResult, State]] = {
    "pending": "unknown",
    "inconclusive": "unknown",
    "acknowledged": "acknowledged",
    "absent": "absent",
    "not_applied": "not_applied",
}
"""The results of sends that may have been executed, and the state of a key of which nothing more is known."""
CONFIG: Final = ConfigDict(strict=True, extra="forbid")


def _seconds(value: object) -> object:
    """Seconds since the epoch, from what the document has."""
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


PortalTime = Annotated[float, BeforeValidator(_seconds), PlainSerializer(_iso, when_used="json")]
"""Seconds since the epoch by the portal's clock; ISO 8601 in the document, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One time that a write was sent, or was about to be."""

    __pydantic_config__: ClassVar[ConfigDict] = CONFIG

    at: PortalTime
    """When it was decided."""
    settle_until: PortalTime
    """From when on nothing of it can still arrive."""
    by: str
    """Which attempt of which task."""
    result: SendResult
    portal_message: str | None = None
    """The portal's words, or what came instead of them."""
    worker_clock: bool = False
    """Whether its times are by the worker's clock, because the portal told none."""
    reported_to: tuple[str, ...] = ()
    """The rounds of tasks that failed because it is not applied; clearing a task begins another round."""

    @property
    def may_have_run(self) -> bool:
        """Whether it may have been executed."""
        return self.result in STATES_OF

    def settled(self, result: SendResult, portal_message: str | None, report_to: str | None = None) -> Send:
        """Return a copy with its outcome.

        :param report_to: the round of the task that fails because of it.
        """
        new = (report_to,) if report_to is not None and report_to not in self.reported_to else ()
        return replace(self, result=result, portal_message=portal_message, reported_to=(*self.reported_to, *new))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a person has decided about a key."""

    __pydantic_config__: ClassVar[ConfigDict] = CONFIG

    what: Literal["use_payment", "send_again", "abandon"]
    payment_id: int | None = None
    """The payment to use."""
    candidates: tuple[int, ...] = ()
    """The payments that the person was shown; a new one since then makes "send again" void."""
    by: str
    at: str
    """ISO 8601."""
    through: str
    """"Airflow" or "command line"."""
    key: str | None = None
    """The key that it is about, where a reader of another key may find it."""
    about: str | None = None
    """Digest of the record that the person was shown."""
    set_aside: tuple[int, ...] = ()
    """Payments that are not this key's by this decision; known when it is carried out."""
    refused: str | None = None
    """Why it was not carried out; None if it was, or is still to be."""

    def is_the_same_as(self, other: Decision) -> bool:
        """Whether it is the same decision, whether or not it was carried out."""
        return self._identity == other._identity

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.by, self.at, self.through, self.what, self.payment_id

    def refused_because(self, why: str) -> Decision:
        """Return a copy that was not carried out."""
        return replace(self, refused=why)

    def for_key(self, key: str) -> Decision:
        """Return a copy that names the key that it is about."""
        return replace(self, key=key)

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        document: dict[str, Any] = _decisions().dump_python(self, mode="json", exclude_defaults=True)
        return document

    @classmethod
    def read(cls, document: object) -> Decision:
        """Read what :meth:`document` has written.

        :raises ValueError: it is damaged.
        """
        return _decisions().validate_json(json.dumps(document))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the portal showed just before the first send; a field that does not apply stays empty."""

    at: float | None = None
    """The portal's clock; None if it does not tell its time."""
    amount: str | None = None
    currency: str | None = None
    payment_ids: tuple[int, ...] = ()
    """The payments of the object."""
    plan: Mapping[str, int] = field(default_factory=dict)
    """Quantity by product row that goes into the payment."""


@functools.cache
def _decisions() -> TypeAdapter[Decision]:
    return TypeAdapter(Decision)
