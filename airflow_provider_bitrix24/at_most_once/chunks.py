"""Which operations of a list share their requests, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from airflow_provider_bitrix24.api.batch import MOST_COMMANDS
from airflow_provider_bitrix24.api.queries import SAME_FOR_ALL
from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.exceptions import PaymentInProgress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.working_time import WorkingTime
    from airflow_provider_bitrix24.at_most_once.operation import Operation, Result

BATCH_SIZE: Final = 25
"""How many operations share a request: the cloud ends a request after 60 s, and runs commands one after another."""
MOST_IN_A_CHUNK: Final = MOST_COMMANDS - 2
"""So that one request reads a chunk: its objects, the user, and the pay systems."""
MOST_IN_THE_FIRST: Final = MOST_IN_A_CHUNK - len(SAME_FOR_ALL)
"""The same for the first chunk, which also asks what is asked once."""
LONG: Final = 30.0
"""Seconds: a batch that took longer is followed by smaller ones."""
SOON: Final = 60.0
"""Seconds to wait after a refusal that does not say how long."""


class Pause(Protocol):
    """Lets time pass before more is sent."""

    def __call__(self, seconds: float, *, refused: bool) -> bool:
        """Wait, or raise to end the attempt.

        :param refused: whether the portal has refused a call; False if only the estimate says that it would.
        :return: whether to go on; False if what does not fit is to fail.
        """


class ChunkSize:
    """How many operations the next chunk has: halved after trouble, growing slowly again.

    :param most: how many at most.
    """

    def __init__(self, most: int) -> None:
        self.most = max(1, min(most, MOST_IN_A_CHUNK))
        self.now = self.most
        self.has_lost_replies = False
        """Whether an outcome was unknown in this chunk."""
        self._slow = False
        """Whether a batch of this chunk took long."""

    def note(self, *, unknown: bool, seconds: float) -> None:
        """Note how a batch of this chunk went.

        :param unknown: whether an outcome was unknown.
        :param seconds: how long it took.
        """
        self.has_lost_replies |= unknown
        self._slow |= seconds > LONG

    def adapt(self) -> None:
        """Adapt the size of the next chunk to how this one went."""
        smaller, larger = self.now // 2, self.now + max(1, self.most // 8)
        trouble = self.has_lost_replies or self._slow  # rule: smaller batches after an unknown outcome
        self.now = max(1, smaller) if trouble else min(self.most, larger)

    def start(self, *, goes_on: bool) -> None:
        """Begin a list. One that goes on with what was left has the chunks that it had before."""
        self.now = self.most if goes_on else min(self.most, MOST_IN_THE_FIRST)

    def begin(self) -> None:
        """Forget how the last chunk went: another one begins."""
        self.has_lost_replies = self._slow = False


def next_chunk(waiting: Mapping[int, Operation], size: int, *, is_shared: bool) -> dict[int, Operation]:
    """Return the operations that are carried out together next.

    No key is in a chunk twice, and neither is an object. What is new on the object decides whose an added payment is,
    so only one may be added at a time; and pay, set back to unpaid and delete are different keys for one payment. An
    add without a tag shares its chunk only if the journal knows the other keys.

    :param waiting: by their place in the list.
    """
    chunk: dict[int, Operation] = {}
    taken: set[str] = set()
    for number, operation in waiting.items():
        # rule: an untagged add travels alone if the journal knows no others
        alone = operation.needs_shared_journal and not is_shared
        names = {operation.key, f"object:{operation.subject}"}  # rule: the keys of one object share no batch
        if taken & names or (alone and chunk):  # rule: two adds to one object never share a batch
            continue
        chunk[number] = operation
        taken |= names
        if alone or len(chunk) == size:
            break
    return chunk


def limit_to_working_time(
    chunk: dict[int, Operation], working_time: WorkingTime, now: float
) -> tuple[dict[int, Operation], float]:
    """Return the part of a chunk that the portal's working-time limit leaves room for.

    :return: that part, and 0; or the chunk, and the seconds until one of its operations fits.
    """
    wanted = {(operation.writes, operation.reads) for operation in chunk.values()}
    # rule: what is read counts as well
    calls = [(*writes, *reads) for writes, reads in wanted]
    fits = min(working_time.fits(methods, now) for methods in calls)
    if not fits:
        return chunk, max(working_time.wait(methods, now) for methods in calls)
    # Writes, reads before and reads after them are requests of their own.
    longest = max(max(working_time.cost(writes), working_time.cost(reads) / 2) for writes, reads in wanted)
    # rule: a batch takes no longer than half of what the portal allows it
    fits = min(fits, max(1, int(LONG / longest)) if longest else fits)
    return dict(list(chunk.items())[:fits]), 0.0


def longest_wait(failed: Mapping[int, Failure]) -> float:
    """Return how long to wait before what has failed is tried again."""
    return max((one.retry_after for one in failed.values() if one.retry_after is not None), default=SOON)


def is_held(result: Result) -> bool:
    """Whether another attempt is at work on the key."""
    return isinstance(result, Failure) and isinstance(result.error, PaymentInProgress) and result.sent != "yes"
