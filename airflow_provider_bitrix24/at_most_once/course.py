"""What the course of one operation asks the engine to do: load, save, read, send, wait.

A course is a generator. The engine advances the courses of many operations together and groups what they ask for: so a
list needs one transaction and one request where one operation needs one.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.io import SendDeadline
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.next_step import Reading
    from airflow_provider_bitrix24.at_most_once.record import CorruptEntry, Evidence, Record
    from airflow_provider_bitrix24.journal.protocol import Busy, Loaded, Saved

T = TypeVar("T")
JournalQuestion: TypeAlias = Literal["record", "claims", "unresolved", "on_object", "late_reply"]
"""What the journal is asked for; the functions below say what each means."""


@dataclass(frozen=True, slots=True)
class Check:
    """Check the safeguards that stand before the first read of the portal."""

    operation: str
    """Name of the operation."""


@dataclass(frozen=True, slots=True)
class Save:
    """Save the record: what is not saved is not acted upon."""

    record: Record
    lease: float | None = None
    """Seconds for which nobody else may take over; 0 lets go, None leaves it as it is."""
    opens: bool = False
    """Whether it is saved only if there is none."""


@dataclass(frozen=True, slots=True)
class AskJournal:
    """Ask the journal for something about one key."""

    question: JournalQuestion
    about: Any = None
    """Payments or object that are asked about, besides the key."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read the portal."""

    query: Query[Any]


@dataclass(frozen=True, slots=True)
class Permit:
    """Reserve a slot of the portal's rate limit, and ask the safeguard whether something may be sent now.

    Only what fits into one request is permitted at once; the others wait until that has left and its reply is saved.
    """

    method: str
    """REST method of what is sent."""
    with_tag: bool
    """Whether what is sent tags a payment in the same request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCall:
    """Send a write; its intent is saved."""

    call: Call[Any]
    digest: str
    """SHA-256 of the key: the header ``Idempotency-Key``, and the name of the command in a batch."""
    deadline: SendDeadline
    tag: str | None = None
    """What the payment that is added is tagged with, in the same request."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class WaitForOther(Wait):
    """Wait for another attempt that is at work on the key."""

    subject: str
    busy: Busy | None
    """Who it is, if that was not logged yet."""


@dataclass(frozen=True, slots=True)
class WaitForJournal(Wait):
    """Wait before something is saved once more; nothing else is asked of the portal meanwhile."""


Action: TypeAlias = Check | AskJournal | Save | Read | Permit | SendCall | Wait
Course: TypeAlias = Generator[Action, Any, T]


def do(action: Action) -> Course[Any]:
    """Have the engine do something, and return its answer.

    :raises Exception: what went wrong, which the engine hands over as a value.
    """
    answer = yield action
    if isinstance(answer, Exception):
        raise answer
    return answer


def load() -> Course[Loaded]:
    """Load the record of the operation."""
    loaded: Loaded = yield from do(AskJournal("record"))
    return loaded


def save(record: Record, *, lease: float | None = None, opens: bool = False) -> Course[Saved]:
    """Save the record."""
    saved: Saved = yield from do(Save(record, lease, opens))
    return saved


def find_claims(payment_ids: Collection[int]) -> Course[Mapping[int, Evidence | None]]:
    """Find those of the payments that other keys have claimed, and on what evidence."""
    claims: Mapping[int, Evidence | None] = {}
    if payment_ids:
        claims = yield from do(AskJournal("claims", payment_ids))
    return claims


def find_keys(which: Literal["unresolved", "on_object"], subject: str) -> Course[Mapping[str, Record | CorruptEntry]]:
    """Find other keys about the same object: those that may have written with an unknown outcome, or all."""
    others: Mapping[str, Record | CorruptEntry] = yield from do(AskJournal(which, subject))
    return others


def find_late_reply() -> Course[int | None]:
    """Find the payment that an overtaken attempt at the same key was told by the portal."""
    payment_id: int | None = yield from do(AskJournal("late_reply"))
    return payment_id


def read(query: Query[T]) -> Course[T]:
    """Read the portal."""
    found, _ = yield from read_with_time(query)
    return found


def read_with_time(query: Query[T]) -> Course[tuple[T, Reading]]:
    """Read the portal, and return our clocks when the reply had come as well."""
    answer: tuple[T, Reading] = yield from do(Read(query))
    return answer
