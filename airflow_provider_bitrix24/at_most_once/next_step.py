"""The decision table: what to do next about one write. The only place that decides about money, and it does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Reading: TypeAlias = tuple[float, float]
"""Our monotonic and our wall clock at one moment: either alone may have been stopped or set."""
LastSend: TypeAlias = Literal["pending", "acknowledged", "inconclusive", "absent", "not_applied"]
"""What the journal says of the last send that may have been executed."""

ABSENCES_NEEDED: Final[Mapping[LastSend, int]] = {
    "pending": 2,  # rule: two reads prove an absence
    "acknowledged": 1,
    "inconclusive": 1,
}
"""How many reads must show nothing. Each begins when nothing of the send can arrive any more, the read lag apart."""


class Step(Enum):
    """What to do next."""

    SEND = "send the write"
    LOOK_AGAIN = "read the portal again, after a wait if it was read just now"
    DONE = "the portal shows it: write down the outcome"
    ASK = "ask a person: the task does not decide this"
    FAIL = "the portal answered and does not show it: fail"
    RETRY_LATER = "the portal cannot be read: leave it to the next attempt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules for one kind of write."""

    sends: int = 2  # rule: one automatic second send
    """How often it may be sent without a person."""
    asks: bool = True
    """Whether a person decides when the sends are used up; otherwise it fails."""
    confirmed_absences: int = 0
    """How many reads of this attempt must show nothing, where an earlier attempt has found that already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the journal says about one write."""

    last: LastSend | None = None
    """The last send that may have been executed; None if there is none."""
    sends: int = 0
    """How many sends may have been executed."""
    granted: int = 0
    """How many more sends people have granted."""
    needs_decision: bool = False
    """Whether a person was asked about the key and has not decided."""
    cleared: bool = False
    """Whether somebody has cleared this task since it reported that the last send was not applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the portal has shown of one write."""

    shown: bool = False
    """Whether the portal shows it."""
    absences: int = 0
    """Reads that showed nothing, and began when nothing of the last send could arrive any more."""
    ambiguous: bool = False
    """Whether it shows something that may be the write, and nothing proves it."""
    replaced: bool = False
    """Whether it shows something that is used instead of sending."""
    readable: bool = True
    """Whether it could be read; an outage may pass as long as something can still arrive."""
    read_at: Reading | None = None
    """When everything that permits a send was read; None if there was a wait since."""


def next_step(record: Recorded, observed: Observation, now: Reading, policy: Policy, send_deadline: float) -> Step:
    """Decide what to do next about one write.

    :param record: what the journal says.
    :param observed: what the portal has shown.
    :param now: our clocks.
    :param policy: the rules for this kind of write.
    :param send_deadline: how long what was read permits a send.
    """
    if observed.shown:  # rule: what the portal shows is not sent
        return Step.DONE
    if not observed.readable:
        return Step.RETRY_LATER
    if observed.ambiguous:
        return Step.ASK
    if is_unresolved(record, observed, policy):  # rule: an absence is proved before it counts
        return Step.LOOK_AGAIN
    if observed.replaced:
        return Step.DONE if is_fresh(observed.read_at, now, send_deadline) else Step.LOOK_AGAIN
    if record.needs_decision:  # rule: a key that needs a decision sends only after it
        return Step.ASK
    if record.sends >= policy.sends + record.granted:
        return Step.ASK if policy.asks else Step.FAIL
    # rule: what was not applied is not sent by a retry
    if record.last in ("acknowledged", "inconclusive") or (record.last == "not_applied" and not record.cleared):
        return Step.FAIL
    # rule: a send is permitted by what was read after the last wait
    if not is_fresh(observed.read_at, now, send_deadline):
        return Step.LOOK_AGAIN
    return Step.SEND


def is_unresolved(record: Recorded, observed: Observation, policy: Policy) -> bool:
    """Whether the outcome of the last send is still to be looked for."""
    if record.last is None:
        return False
    return observed.absences < ABSENCES_NEEDED.get(record.last, policy.confirmed_absences)


def is_fresh(read_at: Reading | None, now: Reading, send_deadline: float) -> bool:
    """Whether what was read is recent enough to permit a send, by both clocks."""
    return read_at is not None and max(now[0] - read_at[0], now[1] - read_at[1]) <= send_deadline
