"""What the engine works on: operations, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from airflow_provider_bitrix24.at_most_once.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.record import Parameter
    from airflow_provider_bitrix24.exceptions import Bitrix24Error


class Operation(Protocol):
    """One thing to do at most once; a frozen dataclass."""

    @property
    def name(self) -> str:
        """Name of the operation in the journal: "pay_invoice"."""

    @property
    def portal(self) -> str:
        """The portal's name in keys."""

    @property
    def key(self) -> str:
        """The idempotency key: "acme.bitrix24.com:invoice:2"."""

    @property
    def subject(self) -> str:
        """The object, for people and for finding other keys that write to it: "invoice 2"."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for; compared one by one with what an earlier attempt asked for."""

    @property
    def needs_shared_journal(self) -> bool:
        """Whether it shares a batch only if the journal knows which other keys wrote to the same object."""

    @property
    def writes(self) -> tuple[str, ...]:
        """The REST methods of its writes, each as often as it is called; to estimate how long the portal works."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The REST methods of its reads when nothing goes wrong, each as often as it is called for this operation."""

    def expects(self, receipt: Receipt) -> bool:
        """Whether an earlier receipt is for the money that is expected."""

    def course(self, attempt: Attempt) -> Course[Receipt]:
        """What one attempt does, once the record is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An operation that did not succeed, as data."""

    key: str
    subject: str
    error: Bitrix24Error
    """What a single operator raises."""
    command: str | None = None
    """The command at a terminal that decides about it; None where there is nothing to decide."""

    @property
    def code(self) -> str:
        """What went wrong: stable, listed in the documentation."""
        return self.error.code

    @property
    def sent(self) -> Literal["no", "unknown", "yes"]:
        """Whether this key has changed something on the portal."""
        return self.error.sent

    @property
    def candidates(self) -> tuple[int, ...]:
        """Payments that may be this key's."""
        return self.error.candidates

    @property
    def retry_after(self) -> float | None:
        """Seconds until it makes sense to come back, if that is known."""
        seconds: float | None = getattr(self.error, "retry_after", None)
        return seconds


Result: TypeAlias = Receipt | Failure
