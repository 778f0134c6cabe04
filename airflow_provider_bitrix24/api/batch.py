"""Up to 50 commands in one request: how PHP wants them written, and what its response says about each.

The portal runs them one after another and undoes nothing. Text with ``$result`` in it would be taken for a reference to
another command's result, so no such text gets in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from airflow_provider_bitrix24.api.envelope import operating_reset, refusal, seconds_of, whole_number
from airflow_provider_bitrix24.api.error_codes import to_exception
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.paging import may_be_cut
from airflow_provider_bitrix24.api.working_time import UsageReport
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24RateLimited,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pendulum

    from airflow_provider_bitrix24.api.envelope import Reply

MOST_COMMANDS: Final = 50
Commands: TypeAlias = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Key of the command -> REST method and parameters, plain JSON values."""


class Reference(str):
    """A value that the portal puts in from the result of an earlier command: ``Reference("$result[add]")``.

    Only with ``halt``: what refers to a command that failed would get all results so far.
    """


_KEY = re.compile(r"[A-Za-z0-9_]{1,64}")
_REFERENCE = re.compile(r"\$(result|next|total|error|time)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BatchReply:
    """What a batch says about each of its commands."""

    results: Mapping[str, Any]
    """Key -> result of the commands that succeeded."""
    errors: Mapping[str, Bitrix24Error]
    """Key -> error of the commands that did not."""
    at: pendulum.DateTime | None
    """When the portal responded, by its own clock."""
    working_time: tuple[UsageReport, ...] = field(repr=False)
    """How long the methods of the commands have worked."""
    missing: Mapping[str, Bitrix24Error] = field(repr=False)
    """Key -> error to raise for the commands the portal says nothing about."""
    totals: Mapping[str, int] = field(default_factory=dict)
    """Key -> number of rows in all, where the portal counts them."""
    nexts: Mapping[str, int] = field(default_factory=dict)
    """Key -> offset of the next page, where the portal says that there is one."""

    def value(self, key: str) -> Any:
        """The result of one command.

        :raises Bitrix24Error: the error of the command.
        :raises KeyError: there was no such command.
        """
        error = self.errors.get(key) or self.missing.get(key)
        if error is not None:
            raise error
        return self.results[key]

    def may_be_cut(self, key: str, rows: int) -> bool:
        """Whether the list that a command has returned may be incomplete."""
        return may_be_cut(rows, self.totals.get(key), self.nexts.get(key))


def encode(commands: Commands, *, halt: bool) -> dict[str, str]:
    """The commands as the portal wants them: a method and a PHP query each.

    :param halt: whether the portal stops at the first error.
    :raises Bitrix24ConfigError: more than 50, a name or a value that cannot travel in a batch.
    """
    if not 0 < len(commands) <= MOST_COMMANDS:
        raise Bitrix24ConfigError(f"A batch takes 1 to {MOST_COMMANDS} commands, not {len(commands)}.", NOT_SENT)
    encoded = {}
    for key, (method, params) in commands.items():
        if _KEY.fullmatch(key) is None:
            raise Bitrix24ConfigError(f"The name {key!r:.60} of a batch command must be letters, digits and _.")
        if method.lower() in ("batch", "download", "upload"):
            raise Bitrix24ConfigError(f"{method} cannot be part of a batch.")
        if not halt and _refers(params):
            raise Bitrix24ConfigError(
                f"The batch command {key} refers to the result of another one: give halt=True.",
                "Without it, a reference to a command that failed stands for all results so far.",
                NOT_SENT,
            )
        encoded[key] = f"{method}?{query(params)}"
    return encoded


def _refers(value: Any) -> bool:
    """Whether a value, or anything inside it, is a reference."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return isinstance(value, Reference) or any(map(_refers, inner))


def travels(value: Any) -> bool:
    """Whether parameters mean the same in a batch as in a call of their own: a batch carries texts only."""
    if isinstance(value, Mapping):
        return bool(value) and all(travels(str(name)) and travels(inner) for name, inner in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return bool(value) and all(map(travels, value))
    if isinstance(value, str):
        return _REFERENCE.search(value) is None
    return value is not None and not isinstance(value, bool)


def query(params: Mapping[str, Any]) -> str:
    """Parameters as a PHP query: nested names in brackets, every value a text."""
    return "&".join(f"{quote(name, safe='[]')}={quote(value, safe='')}" for name, value in _flat("", params))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list | Mapping):
        if prefix and not value:
            raise Bitrix24ConfigError(
                f"{prefix} is empty: in a batch it would vanish, and a filter would find everything."
            )
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, inner in items:
            yield from _flat(f"{prefix}[{_checked(str(name))}]" if prefix else _checked(str(name)), inner)
    elif isinstance(value, bool):
        yield prefix, "Y" if value else "N"
    elif value is None:
        raise Bitrix24ConfigError(f"{prefix} is None, which cannot travel in a batch: leave it out, or give ''.")
    elif isinstance(value, Reference):
        yield prefix, str(value)
    else:
        yield prefix, _checked(str(value))


def _checked(text: str) -> str:
    """The text, if the portal cannot take it for a reference."""
    if _REFERENCE.search(text):
        raise Bitrix24ConfigError(
            "A text with $result, $next, $total, $error or $time in it cannot travel in a batch: Bitrix24 would "
            "replace it.",
            "Call the method by itself.",
        )
    return text


def decode(
    reply: Reply,
    commands: Commands,
    *,
    halt: bool,
    effect: Effect,
    resets_at: Callable[[str], float | None],
    clock_offset: float,
    redact: Callable[[str], str],
    who: str,
) -> BatchReply | None:
    """Read the response of a batch, or nothing if it is not one.

    :param reply: reply to the method ``batch``.
    :param commands: what was sent.
    :param halt: whether the portal was to stop at the first error.
    :param effect: what executing the commands does.
    :param resets_at: returns the last known ``operating_reset_at`` of a method.
    :param clock_offset: seconds by which the portal's clock is ahead of ours.
    :param redact: takes secrets out of a text.
    :param who: what the connection is: a webhook, or an application.
    """
    if not isinstance(reply.result, dict) or not {"result", "result_error"} <= set(reply.result):
        return None
    results = _as_map(reply.result["result"])
    failed = _as_map(reply.result["result_error"])
    times = _as_map(reply.result.get("result_time"))
    now = reply.at.timestamp() if reply.at else None
    errors, missing = {}, {}
    for key, (method, _params) in commands.items():
        if key in failed:
            words = failed[key] if isinstance(failed[key], dict) else {"error_description": failed[key]}
            said = refusal(words, 200, redact, now=now)
            errors[key] = to_exception(said, method, effect, resets_at(method), who=who)
        elif key not in results:
            missing[key] = _unmentioned(method, effect, halted=halt and bool(errors))
    return BatchReply(
        {key: results[key] for key in commands if key in results and key not in errors},
        errors,
        reply.at,
        _working_time(commands, times, errors, reply.received + clock_offset),
        missing,
        _numbers(reply.result.get("result_total")),
        _numbers(reply.result.get("result_next")),
    )


def _working_time(
    commands: Commands, times: Mapping[str, Any], errors: Mapping[str, Bitrix24Error], now: float
) -> tuple[UsageReport, ...]:
    """What a batch says of the working time of each method."""
    seen = []
    for method in dict.fromkeys(method for method, _ in commands.values()):
        keys = [key for key, (name, _) in commands.items() if name == method]
        blocks = [times[key] for key in keys if isinstance(times.get(key), dict)]
        sums = [operating for one in blocks if (operating := seconds_of(one, "operating")) is not None]
        took = [duration for one in blocks if (duration := seconds_of(one, "duration"))]
        average = sum(took) / len(took) if took else 0.0
        if len(sums) > 1:  # the sum grows from one command to the next
            average = max(average, (sums[-1] - sums[0]) / (len(sums) - 1))
        resets_at = max((at for one in blocks if (at := operating_reset(one)) is not None), default=None)
        if sums or resets_at is not None:
            last = sums[-1] if sums else None
            seen.append(
                UsageReport(method=method, at=now, operating=last, resets_at=resets_at, calls=len(blocks), took=average)
            )
        if any(isinstance(error := errors.get(key), Bitrix24RateLimited) and error.is_time_limit for key in keys):
            seen.append(UsageReport(method=method, at=now, refused=True))
    return tuple(seen)


def _as_map(value: object) -> dict[str, Any]:
    """A PHP array: an object, a list if its keys happened to be 0, 1, 2, or an empty list."""
    if isinstance(value, list):
        return {str(index): inner for index, inner in enumerate(value)}
    return value if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, int]:
    """Return the whole numbers in a map, by key."""
    found = ((key, whole_number(number)) for key, number in _as_map(value).items())
    return {key: number for key, number in found if number is not None}


def _unmentioned(method: str, effect: Effect, *, halted: bool) -> Bitrix24Error:
    """The error for a command that the response does not mention."""
    if halted:
        stopped = Bitrix24NotSent(method, "an earlier command of the batch failed")
        stopped.halted = True
        return stopped
    if effect is Effect.READ:
        return Bitrix24NoAnswer(method, "the batch says nothing about it")
    return Bitrix24OutcomeUnknown(method, answered=True, text="the batch says nothing about it")
