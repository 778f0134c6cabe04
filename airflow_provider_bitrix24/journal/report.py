"""A journal entry in words, at most 80 columns wide; keys and commands are never broken, so that they can be copied."""

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once.record import CorruptEntry, Record, SendResult
from airflow_provider_bitrix24.journal.terminal import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_bitrix24.at_most_once.record import Decision

WIDTH: Final = 80
_COMMAND: Final = re.compile(rf"`({re.escape(PROGRAM)}[^`]*)`")
_INDENT: Final = 12
_RESULTS: Final[dict[SendResult, str]] = {
    "pending": "outcome not known",
    "not_sent": "was not sent",
    "refused": "refused by the portal",
    "acknowledged": "acknowledged by the portal",
    "inconclusive": "inconclusive response",
    "absent": "no response, and not on the portal",
    "not_applied": "response, and not on the portal",
}


def wrap(text: str, *, first: str = "", indent: str = "") -> list[str]:
    """Break a text into lines; each command in it is a line of its own.

    :param first: what the first line begins with.
    :param indent: what the other lines of prose begin with.
    """
    lines: list[str] = []
    for number, part in enumerate(_COMMAND.split(text)):
        if number % 2:
            lines.append(f"  {part}")
        else:
            begins = indent if lines else first
            lines += textwrap.wrap(
                part.strip(),
                WIDTH,
                initial_indent=begins,
                subsequent_indent=indent,
                break_on_hyphens=False,
                break_long_words=False,
            )
    return lines


def line(entry: Record | CorruptEntry) -> list[str]:
    """An entry in a list."""
    if isinstance(entry, CorruptEntry):
        return [f"{entry.state:<17}{entry.portal}", f"  {entry.key}", *wrap(entry.why, first="  ", indent="  ")]
    sent = f"sent {_time(entry.sends[-1].at)}" if entry.sends else "never sent"
    because = [f"  ambiguous because of the key {key}" for key in entry.unresolved_keys]
    return [f"{entry.state:<17}{entry.subject:<20}{sent}", f"  {entry.key}", *because]


def details(entry: Record | CorruptEntry) -> list[str]:
    """Everything about an entry."""
    lines = [f"{'key':<{_INDENT}}{entry.key}"]
    for name, text in _corrupt_facts(entry) if isinstance(entry, CorruptEntry) else _facts(entry):
        lines += wrap(str(text), first=f"{name:<{_INDENT}}", indent=" " * _INDENT)
    if isinstance(entry, Record):
        because = "(its outcome is unknown as well: decide about it first)"
        lines += [f"{'because of':<{_INDENT}}{key} {because}" for key in entry.unresolved_keys]
    return lines


def _corrupt_facts(entry: CorruptEntry) -> Iterator[tuple[str, object]]:
    yield from (("portal", entry.portal), ("state", entry.state), ("why", entry.why), ("it holds", entry.text))


def _facts(entry: Record) -> Iterator[tuple[str, object]]:
    yield "portal", entry.portal
    yield "what", f"{entry.operation}, {entry.subject}"
    yield "state", entry.state
    yield "opened by", entry.task
    yield "wanted", _pairs(entry.parameters)
    if entry.payment_id is not None:
        yield "payment", f"{entry.payment_id} (evidence: {entry.evidence})"
    for name, sends in {"sent": entry.sends, **entry.steps}.items():
        for send in sends:
            said = f": {send.portal_message}" if send.portal_message else ""
            yield name, f"{_time(send.at)} {_RESULTS[send.result]}{said}, by {send.by}"
    for decision in entry.decisions:
        yield "decided", f"{_decided(decision)} - {_became(decision)}"
    if entry.decision is not None:
        yield "decided", f"{_decided(entry.decision)} - not carried out yet"
    if entry.receipt is not None:
        yield "receipt", _pairs(entry.receipt)
    if entry.question is not None:
        yield "question", entry.question
    if entry.candidates:
        yield "candidates", ", ".join(map(str, entry.candidates))


def _pairs(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in facts.items())


def words(decision: Decision) -> str:
    """Who decides what."""
    which = f" {decision.payment_id}" if decision.payment_id else ""
    return f"{decision.by} decides: {decision.what.replace('_', ' ')}{which}"


def _decided(decision: Decision) -> str:
    return f"{decision.at} {words(decision)} ({decision.through})"


def _became(decision: Decision) -> str:
    """Whether a decision was carried out."""
    if decision.refused is not None:
        return f"not carried out: {decision.refused}"
    aside = f"; set aside: {', '.join(map(str, decision.set_aside))}" if decision.set_aside else ""
    return f"carried out{aside}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
