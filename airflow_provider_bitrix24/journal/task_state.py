"""The journal in Airflow's task state store (3.3), to be read in the Storage tab.

A task that works on one key keeps one document; a task that works on a list keeps one for each chunk of keys.

It outlives retries, killed workers and "Clear task"; another run does not see it. A write by an attempt that Airflow
has given up fails, which makes it a fence. So an attempt reads each document once: nobody else writes to it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from airflow_provider_bitrix24.at_most_once.record import Decision, Record
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError, PaymentInProgress
from airflow_provider_bitrix24.journal.protocol import Journal, Loaded, Saved
from airflow_provider_bitrix24.journal.terminal import TaskName

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from airflow_provider_bitrix24.at_most_once.record import Evidence
    from airflow_provider_bitrix24.journal.protocol import Change
    from airflow_provider_bitrix24.journal.terminal import Verb

DOCUMENT: Final = "bitrix24_payment"
"""Name of the document of a task that works on one key: only attempts write it."""
CHUNK: Final = "bitrix24_payments_{}"
"""Names of the documents of a task that works on a list, counted from 1: ``{"records": {key: record}}``."""
DECISIONS: Final = "bitrix24_decisions"
"""Name of the list of what people have decided at a terminal: only the command line writes it. So nobody overwrites
what somebody else has just written, and an attempt takes over what it has not heard yet."""
ATTEMPTS: Final = "bitrix24_attempts"
"""Name of the list of the task's attempts, in which each one is noted before it does anything else. So that a missing
document is either one that was never written, or one that was lost."""
RECORDS_IN_CHUNK: Final = 50
BYTES_IN_CHUNK: Final = 60_000
"""Airflow advises against documents of more than 64 KiB."""
_ATTEMPTS_KEPT: Final = 20
_READS: Final = 3
"""How often a document is read before its absence counts: what stands before Airflow's API may answer "not found"."""
_OVERTAKEN: Final = ("not_found", "not_running", "running_elsewhere", "invalid_state")
"""The reasons that Airflow gives to an attempt that is no longer the current one."""
_ANY_TASK: Final = TaskName("YOUR_DAG", "YOUR_RUN", "YOUR_TASK")
_WHERE: Final = "the task's Storage tab"
_GONE: Final = "Airflow's task state store had a document {}, and no longer has it."

T = TypeVar("T")


class Store(Protocol):
    """What is used of ``context["task_state_store"]``."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Keep a value."""


@dataclass(frozen=True)
class _Attempts:
    """The notes about the attempts of a task."""

    begun: list[str] = field(default_factory=list)
    lost: str = ""
    """Why what the ones before them have noted is gone; empty if it is not."""
    documents: int = 0
    """How many documents they have written."""

    @classmethod
    def read(cls, document: object) -> _Attempts | None:
        """Read the notes from a document; None if there is none, or if it is damaged, or names no attempt."""
        try:
            notes = TypeAdapter(cls).validate_python(document)
        except ValidationError:
            return None
        return notes if notes.begun else None


@dataclass
class _Documents:
    """The records of a task as JSON, by key, in each of its documents."""

    chunks: list[dict[str, Any]] = field(default_factory=list)
    decisions: Any = None
    """What people have decided, as JSON; None if it was not read yet."""
    gone: str = ""
    """Why records must have been lost; empty if they need not have been."""
    unreadable: Bitrix24ConfigError | None = None
    """A document is there that is none."""

    def add(self, records: dict[str, Any]) -> None:
        """Add a document; what was moved to it, when another one was full, may still be in that one."""
        for chunk in self.chunks:
            for key in records.keys() & chunk.keys():
                del chunk[key]
        self.chunks.append(records)

    def put(self, key: str, record: dict[str, Any]) -> int:
        """Put a record into the document that has its key, else into the last one; return which one that is."""
        number = next((number for number, chunk in enumerate(self.chunks) if key in chunk), None)
        if number is None:
            if not self.chunks or len(self.chunks[-1]) >= RECORDS_IN_CHUNK:
                self.chunks.append({})
            number = len(self.chunks) - 1
        self.chunks[number][key] = record
        return number

    def split(self, number: int) -> int | None:
        """Move half of the records to a new document if one is too large; return the new one."""
        chunk = self.chunks[number]
        if len(chunk) < 2 or len(json.dumps(chunk)) <= BYTES_IN_CHUNK:
            return None
        self.chunks.append({key: chunk.pop(key) for key in list(chunk)[len(chunk) // 2 :]})
        return len(self.chunks) - 1

    def records(self) -> Iterator[tuple[str, Any]]:
        """All records."""
        for chunk in self.chunks:
            yield from chunk.items()


class TaskStateJournal(Journal):
    """A journal in a task state store.

    :param store: ``context["task_state_store"]``.
    :param retention: how long Airflow keeps the documents; Airflow's ``NEVER_EXPIRE``.
    :param task: whose task state it is, for the commands in messages.
    :param many: whether the task works on a list of keys.
    """

    name = "Airflow's task state store"
    durable = True

    def __init__(self, store: Store, retention: Any = None, task: TaskName = _ANY_TASK, *, many: bool = False) -> None:
        self._store = store
        self._retention = retention
        self._task = task
        self._many = many
        self._attempts = _Attempts()
        self._read: _Documents | None = None

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
        noted = self._get(ATTEMPTS, patient=not first)
        known = _Attempts.read(noted) or _Attempts(lost=lost)
        self._note(replace(known, begun=[*known.begun, attempt][-_ATTEMPTS_KEPT:]))
        if not first and self._get(ATTEMPTS) != asdict(self._attempts):  # rule: what is written is read again
            raise Bitrix24StoreError(self.name, "it does not show what was written to it a moment ago")
        return self._attempts.lost

    # -- load and save

    def load(self, portal: str, keys: Collection[str]) -> Mapping[str, Loaded]:
        """Return the records of this task instance; refuse to work if those of other keys may have been paid."""
        read, loaded = self._documents(), dict[str, Loaded]()
        refused = read.unreadable
        for key, document in read.records():
            if self._many and key not in keys and _is_at(document, portal):
                continue
            try:
                record = self._heard(Record.read(document, where=_WHERE), read)
            except Bitrix24ConfigError as error:
                loaded[key] = Loaded(error=error)
                refused = refused if self._many else error
                continue
            if record.portal == portal and record.key in keys:
                loaded[key] = Loaded(record=record.copied_from(None))
            elif not record.nothing_executed:
                refused = _other_work(record, portal, keys)
        missing = Loaded(forgot=read.gone) if refused is None else Loaded(error=refused)
        return {key: loaded.get(key, missing) for key in keys}

    def noted(self) -> Sequence[Record]:
        """What this task instance has noted, whatever its keys are.

        :raises PaymentInProgress: Airflow has given this attempt up.
        :raises Bitrix24StoreError: the store cannot be reached.
        :raises Bitrix24ConfigError: something cannot be understood.
        """
        read = self._documents()
        if read.unreadable is not None:
            raise read.unreadable
        return [self._heard(Record.read(document, where=_WHERE), read) for _, document in read.records()]

    def save(self, changes: Sequence[Change]) -> Mapping[str, Saved]:
        """Write each document that holds one of the keys."""
        if len(changes) > 1 and not self._many:
            raise ValueError("a journal of several keys needs many=True: one document holds one record")
        read = self._documents() if self._many else _Documents()
        self._read = None  # what is written is known only when all of it is
        keys: dict[int, list[str]] = {}
        for change in changes:
            keys.setdefault(read.put(change.record.key, change.record.document()), []).append(change.record.key)
        saved: dict[str, Saved] = {}
        for number, mine in sorted(keys.items()):
            try:
                self._write(read, number)
            except PaymentInProgress as error:
                refused = Saved(outcome="overtaken", message=str(error))
                return {change.record.key: saved.get(change.record.key, refused) for change in changes}
            saved |= {key: Saved(outcome="saved") for key in mine}
        self._read = read
        return saved

    def claims_of_others(
        self, portal: str, payment_ids: Mapping[str, Collection[int]]
    ) -> Mapping[str, Mapping[int, Evidence | None]]:
        """Return the payments of the task's other keys."""
        claims: dict[int, tuple[str, Evidence | None]] = {}
        # rule: a task knows what its other keys have added
        for key, document in self._documents().records() if self._many else ():
            if _is_at(document, portal) and document.get("payment_id") is not None:
                record = Record.read(document, where=_WHERE)
                if record.payment_id is not None and record.evidence != "portal_state":
                    claims[record.payment_id] = key, record.evidence
        return {
            key: {one: claims[one][1] for one in mine if one in claims and claims[one][0] != key}
            for key, mine in payment_ids.items()
        }

    def kept(self, name: str) -> Any:
        """Return what :meth:`keep` has kept for this task instance; None if there is nothing."""
        return self._get(name, patient=True)

    def keep(self, name: str, value: Any) -> None:
        """Keep something that belongs to no key, as a document of its own."""
        self._set(name, value)

    def command(self, verb: Verb, key: str) -> str:
        """The command at a terminal about a key of this task instance."""
        return self._task.command(verb, key)

    # -- documents

    def _documents(self) -> _Documents:
        """Read all documents, once. One that an earlier attempt has written is missing only after several reads."""
        if self._read is not None:
            return self._read
        read = _Documents()
        while True:
            number = len(read.chunks)
            noted = number < self._attempts.documents
            content = self._get(self._name(number), patient=noted or bool(self._attempts.lost and not number))
            if content is not None:
                self._take(read, content, number)
            elif noted:
                read.gone = _GONE.format(self._name(number))  # rule: a document that was written is looked for
                read.add({})
            if not self._many or (content is None and not noted):
                break
        if self._many and read.gone and not self._attempts.lost:
            # The next attempt finds the document that this one writes in its place.
            self._note(replace(self._attempts, lost=read.gone))
        self._read = read
        return read

    def _take(self, read: _Documents, content: Any, number: int) -> None:
        """Take the records of a document."""
        records = content.get("records") if self._many and isinstance(content, dict) else None
        if not self._many and isinstance(content, dict):
            records = {str(content.get("key")): content}
        if isinstance(records, dict):
            return read.add(records)
        read.add({})
        try:
            Record.read(content, where=f"{_WHERE} ({self._name(number)})")
        except Bitrix24ConfigError as error:
            read.unreadable = error

    def _write(self, read: _Documents, number: int) -> None:
        """Write a document. What is moved to a new one is written there before it leaves this one."""
        while (new := read.split(number)) is not None:
            self._write(read, new)
        records = read.chunks[number]
        content = {"records": records} if self._many else next(iter(records.values()))
        self._set(self._name(number), content)
        if self._attempts.begun and number >= self._attempts.documents:
            self._note(replace(self._attempts, documents=number + 1))

    def _heard(self, record: Record, read: _Documents) -> Record:
        """The record, with what people have decided beside it."""
        if read.decisions is None:
            # rule: decisions are missing only after several reads
            read.decisions = self._get(DECISIONS, patient=True) or []
        return with_decisions(record, read.decisions, where=_WHERE)

    def _name(self, number: int) -> str:
        return CHUNK.format(number + 1) if self._many else DOCUMENT

    def _note(self, attempts: _Attempts) -> None:
        self._set(ATTEMPTS, asdict(attempts))
        self._attempts = attempts

    def _get(self, name: str, *, patient: bool = False) -> Any:
        return _guarded(lambda: patient_read(self._store, name) if patient else self._store.get(name))

    def _set(self, name: str, value: Any) -> None:
        _guarded(lambda: self._store.set(name, value, retention=self._retention))


def _is_at(document: Any, portal: str) -> bool:
    return isinstance(document, dict) and document.get("portal") == portal


def _other_work(record: Record, portal: str, keys: Collection[str]) -> Bitrix24ConfigError:
    """Say that the task instance has worked on something else than it is asked for now."""
    advice = "Look at the outcome of the first one; for another payment, start a new run."
    if record.portal != portal:
        advice = (
            f"If the portal was renamed, set the connection's extra portal_id to {record.portal!r}, so that all "
            "keys stay the same: another run would pay again. If it is another portal, start a new run for it."
        )
    asked = ", ".join(map(repr, list(keys)[:3])) + (", …" if len(keys) > 3 else "")
    return Bitrix24ConfigError(
        f"This task instance has already worked on {record.key!r} at {record.portal} ({record.subject}: "
        f"{record.state}), and asks for {asked} at {portal} now.",
        f"Nothing was sent by this attempt. {advice}",
    )


def patient_read(store: Store, key: str) -> Any:
    """Read a document; None only after several reads that agree."""
    for _ in range(_READS):
        document = store.get(key)
        if document is not None:
            return document
    return None


def with_decisions(record: Record, decisions: Any, *, where: str) -> Record:
    """The record, with what people have decided beside it.

    :param decisions: what the document :data:`DECISIONS` holds; None if there is none.
    :raises Bitrix24ConfigError: they cannot be understood.
    """
    try:
        return record.with_decisions([Decision.read(one) for one in decisions or ()])
    except (ValueError, TypeError) as error:
        reason = type(error).__name__
    raise Bitrix24ConfigError(
        f"The decisions in {where} ({DECISIONS}) cannot be read ({reason}): they were changed by hand, or written by a "
        "newer release of airflow-provider-bitrix24.",
        "Nothing was sent by this attempt. Repair or remove them; what "
        "was carried out of them is in the journal as well.",
    )


def _guarded(work: Callable[[], T]) -> T:
    """Do it; Airflow's errors become ours."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - Airflow raises whatever its supervisor was told
        # rule: only Airflow says that it has given an attempt up
        overtaken = reason_of(error) in _OVERTAKEN
        trouble = " ".join(str(error).split())[:200]
    if overtaken:  # rule: fence
        raise PaymentInProgress(
            "Airflow has given this attempt up (its task state may not be written any more): another attempt has "
            "taken over, or the task was cleared. This attempt sends nothing more."
        )
    raise Bitrix24StoreError("Airflow's task state store", trouble)


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
