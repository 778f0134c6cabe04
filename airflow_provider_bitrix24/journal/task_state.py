"""The journal in Airflow's task state store (3.3): one document per task instance, to be read in the Storage tab.

It outlives retries, killed workers and "Clear task"; another run does not see it. A write by an attempt that Airflow
has given up fails, which makes it a fence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import ValidationError

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError, PaymentInProgress
from airflow_provider_bitrix24.journal.commands import TaskName
from airflow_provider_bitrix24.journal.entry import Decision, Entry

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_bitrix24.journal import Page
    from airflow_provider_bitrix24.journal.commands import Verb
    from airflow_provider_bitrix24.journal.entry import Evidence, Unreadable

DOCUMENT: Final = "bitrix24_payment"
"""Name of the document in the Storage tab: only attempts write it."""
DECISIONS: Final = "bitrix24_decisions"
"""Name of the list of what people have decided at a terminal: only the command line writes it. So nobody overwrites
what somebody else has just written, and an attempt takes over what it has not heard yet."""

ATTEMPTS: Final = "bitrix24_attempts"
"""Name of the list of the task's attempts, in which each one is noted before it does anything else. So that a missing
document is either one that was never written, or one that was lost."""
_ATTEMPTS_KEPT: Final = 20
_READS: Final = 3
"""How often a document is read before its absence counts: what stands before Airflow's API may answer "not found"."""

_OVERTAKEN: Final = ("not_found", "not_running", "running_elsewhere", "invalid_state")
"""The reasons that Airflow gives to an attempt that is no longer the current one."""

_DOCUMENT_GONE: Final = f"Airflow's task state store had a document {DOCUMENT}, and no longer has it."
_ANY_TASK: Final = TaskName("YOUR_DAG", "YOUR_RUN", "YOUR_TASK")


class Store(Protocol):
    """What is used of ``context["task_state_store"]``."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Keep a value."""


class TaskStateJournal:
    """Pages in a task state store.

    :param store: ``context["task_state_store"]``.
    :param retention: how long Airflow keeps the document; Airflow's ``NEVER_EXPIRE``.
    :param task: whose task state it is, for the commands in messages.
    """

    name = "Airflow's task state store"
    durable = True
    across_runs = False
    knows_rivals = False

    def __init__(self, store: Store, retention: Any = None, task: TaskName = _ANY_TASK) -> None:
        self._store = store
        self._retention = retention
        self._task = task
        self._attempts = _Attempts()

    def begin(self, attempt: str, *, lost: str, first: bool) -> str:
        """Note that an attempt of the task begins.

        :param attempt: which one.
        :param lost: why what earlier attempts have noted must be gone, if no note of them is found; or empty.
        :param first: whether there is no earlier attempt.
        :return: why it is gone; empty if it is not.
        :raises PaymentInProgress: Airflow has given this attempt up.
        :raises Bitrix24StoreError: the store cannot be reached, or does not show what was written a moment ago:
            something between this worker and Airflow may answer "not found" for it.
        """
        noted = _guarded(lambda: self._store.get(ATTEMPTS) if first else patient_read(self._store, ATTEMPTS))
        known = _Attempts.of(noted) or _Attempts(lost=lost)
        self._attempts = replace(known, begun=(*known.begun, attempt)[-_ATTEMPTS_KEPT:])
        document = self._attempts.document
        _guarded(lambda: self._store.set(ATTEMPTS, document, retention=self._retention))
        if not first and _guarded(lambda: self._store.get(ATTEMPTS)) != document:
            raise Bitrix24StoreError(self.name, "it does not show what was written to it a moment ago")
        return self._attempts.lost

    def page(self, portal: str, key: str) -> Page:
        """Return the page; a task instance has one, and refuses to be used for a second key."""
        return _Document(self._store, self._retention, self._attempts, portal, key)

    def noted(self) -> Entry | None:
        """What this task instance has noted, whatever its key is; None if it has noted nothing.

        :raises Bitrix24StoreError: the store cannot be reached.
        :raises Bitrix24ConfigError: it cannot be understood.
        """
        return _noted(self._store)

    def command(self, verb: Verb, key: str) -> str:
        """The command at a terminal about a key of this task instance."""
        return self._task.command(verb, key)


@dataclass(frozen=True)
class _Attempts:
    """The notes about the attempts of a task."""

    begun: tuple[str, ...] = ()
    lost: str = ""
    """Why what the ones before them have noted is gone; empty if it is not."""
    opened: bool = False
    """Whether one of them has written the document."""

    @classmethod
    def of(cls, document: Any) -> _Attempts | None:
        """Read the notes from a document; None if there is none, or if it is damaged."""
        if not isinstance(document, dict) or not isinstance(document.get("begun"), list):
            return None
        begun = tuple(str(one) for one in document["begun"])
        return cls(begun, str(document.get("lost") or ""), bool(document.get("opened")))

    @property
    def document(self) -> dict[str, Any]:
        """The notes as plain JSON."""
        return {"begun": list(self.begun), "lost": self.lost, "opened": self.opened}


class _Document:
    busy = None
    behind = False

    def __init__(self, store: Store, retention: Any, attempts: _Attempts, portal: str, key: str) -> None:
        self._store = store
        self._retention = retention
        self._attempts = attempts
        self.forgot = ""
        self._portal = portal
        self._key = key

    def read(self) -> Entry | None:
        entry = self._noted()
        if entry is None:
            return None
        if (entry.portal, entry.key) != (self._portal, self._key) and not entry.free:
            advice = "Look what became of the first one; for another payment, start a new run."
            if entry.portal != self._portal:
                advice = (
                    f"If the portal was renamed, set the connection's extra portal_id to {entry.portal!r}, so that all "
                    "keys stay the same: another run would pay again. If it is another portal, start a new run for it."
                )
            raise Bitrix24ConfigError(
                f"This task instance has already worked on {entry.key!r} at {entry.portal} ({entry.subject}: "
                f"{entry.state}), and asks for {self._key!r} at {self._portal} now. Nothing was sent by this attempt. "
                f"{advice}"
            )
        return entry.but(kept_in=None) if (entry.portal, entry.key) == (self._portal, self._key) else None

    def _noted(self) -> Entry | None:
        """Return the entry; one that an earlier attempt has written counts as missing only after several reads."""
        for _ in range(_READS if self._attempts.opened or self._attempts.lost else 1):
            entry = _noted(self._store)
            if entry is not None:
                return entry
        self.forgot = _DOCUMENT_GONE if self._attempts.opened else ""
        return None

    def open(self, entry: Entry) -> bool:
        self.write(entry)
        opened = replace(self._attempts, opened=True).document
        if self._attempts.begun:
            _guarded(lambda: self._store.set(ATTEMPTS, opened, retention=self._retention))
        return True

    def write(self, entry: Entry, *, hold: float | None = None) -> None:
        document = entry.document()
        _guarded(lambda: self._store.set(DOCUMENT, document, retention=self._retention))

    def release(self) -> None:
        pass

    def observed_payment(self) -> int | None:
        return None

    def claimed_by_others(self, payment_ids: Collection[int]) -> Mapping[int, Evidence | None]:
        return {}

    def rivals(self, subject: str) -> Mapping[str, Entry | Unreadable]:
        return {}


def patient_read(store: Store, key: str) -> Any:
    """Read a document; None only after several reads that agree."""
    for _ in range(_READS):
        document = store.get(key)
        if document is not None:
            return document
    return None


def heard(entry: Entry, decisions: Any, *, where: str) -> Entry:
    """The entry, with what people have decided beside it.

    :param decisions: what the document :data:`DECISIONS` holds; None if there is none.
    :raises Bitrix24ConfigError: they cannot be understood.
    """
    try:
        return entry.hear([Decision.model_validate(one) for one in decisions or ()])
    except (ValidationError, TypeError) as error:
        reason = type(error).__name__
    raise Bitrix24ConfigError(
        f"The decisions in {where} ({DECISIONS}) cannot be read ({reason}): they were changed by hand, or written by a "
        "newer release of airflow-provider-bitrix24. Nothing was sent by this attempt. Repair or remove them; what "
        "was carried out of them is in the journal as well."
    )


def _noted(store: Store) -> Entry | None:
    document = _guarded(lambda: store.get(DOCUMENT))
    if document is None:
        return None
    where = "the task's Storage tab"
    return heard(Entry.read(document, where=where), _guarded(lambda: patient_read(store, DECISIONS)), where=where)


def _guarded(work: Any) -> Any:
    """Do it; Airflow's errors become ours."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - Airflow raises whatever its supervisor was told
        overtaken, trouble = _is_overtaken(error), " ".join(str(error).split())[:200]
    if overtaken:
        raise PaymentInProgress(
            "Airflow has given this attempt up (its task state may not be written any more): another attempt has "
            "taken over, or the task was cleared. This attempt sends nothing more."
        )
    raise Bitrix24StoreError("Airflow's task state store", trouble)


def _is_overtaken(error: Exception) -> bool:
    """Whether Airflow itself says that it does not know this attempt any more."""
    return reason_of(error) in _OVERTAKEN


def reason_of(error: Exception) -> str | None:
    """The reason that Airflow's API itself gives for a 404 or 409; None if it gives none.

    The status alone may come from whatever stands before the API.
    """
    said = getattr(getattr(error, "error", None), "detail", None)
    if not isinstance(said, dict) or said.get("status_code") not in (404, 409):
        return None
    while isinstance(said, dict) and "reason" not in said:
        said = said.get("detail")
    return str(said["reason"]) if isinstance(said, dict) else None
