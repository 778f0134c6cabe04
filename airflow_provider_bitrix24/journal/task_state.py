"""The journal in Airflow's task state store (3.3): one document per task instance, to be read in the Storage tab.

It outlives retries, killed workers and "Clear task"; another run does not see it. A write by an attempt that Airflow
has given up fails, which makes it a fence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError, PaymentInProgress
from airflow_provider_bitrix24.journal.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_provider_bitrix24.journal import Page

DOCUMENT: Final = "bitrix24_payment"
"""Name of the document in the Storage tab."""


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
    """

    name = "Airflow's task state store"
    durable = True
    across_runs = False
    knows_rivals = False

    def __init__(self, store: Store, retention: Any = None) -> None:
        self._store = store
        self._retention = retention

    def page(self, portal: str, key: str) -> Page:
        """Return the page; a task instance has one, and refuses to be used for a second key."""
        return _Document(self._store, self._retention, portal, key)


class _Document:
    busy = None

    def __init__(self, store: Store, retention: Any, portal: str, key: str) -> None:
        self._store = store
        self._retention = retention
        self._portal = portal
        self._key = key

    def read(self) -> Entry | None:
        document = self._guarded(lambda: self._store.get(DOCUMENT))
        if document is None:
            return None
        entry = Entry.read(document, where="the task's Storage tab")
        if (entry.portal, entry.key) != (self._portal, self._key) and not entry.free:
            raise Bitrix24ConfigError(
                f"This task instance has already worked on {entry.key!r} at {entry.portal} ({entry.subject}: "
                f"{entry.state}), and asks for {self._key!r} at {self._portal} now. Nothing was sent by this attempt. "
                "Look what became of the first one; for another payment, start a new run."
            )
        return entry.but(kept_in=None) if (entry.portal, entry.key) == (self._portal, self._key) else None

    def write(self, entry: Entry, *, hold: float | None = None) -> None:
        document = entry.document()
        self._guarded(lambda: self._store.set(DOCUMENT, document, retention=self._retention))

    def release(self) -> None:
        pass

    def observed_payment(self) -> int | None:
        return None

    def claimed_by_others(self, payment_ids: Collection[int]) -> set[int]:
        return set()

    def rivals(self, subject: str) -> Sequence[str]:
        return ()

    def _guarded(self, work: Any) -> Any:
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
    """Whether Airflow does not know this attempt any more, so that its API answers 404 or 409."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return isinstance(detail, dict) and detail.get("status_code") in (404, 409)
