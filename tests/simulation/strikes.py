"""All the ways in which trouble may strike an effect, by name, and how it ends an attempt."""

from __future__ import annotations

from typing import Final

SLOWNESS: Final = ("slow before", "slow after")
DEATHS: Final = ("killed before", "killed after", "timeout before", "timeout after")
FREEZES: Final = ("frozen before", "frozen after")
READ_STRIKES: Final = (
    "drop_before",
    "html after",
    "invalid_json",
    "empty_body",
    "expired_token",
    "query_limit_exceeded",
    "operation_time_limit",
    "overload_limit",
    "internal_server_error after",
    "redirect",
    "time_missing",
    "outage 6",
    "outage 4000",
)
SEND_STRIKES: Final = (
    "not sent",
    "outage 6",
    "outage 4000",
    "drop_before",
    "drop_after",
    "drop_after, lagging",
    "hold before",
    "hold after",
    "commit_soon",
    "commit_latest",
    "commit_latest, lagging",
    "html before",
    "html after",
    "truncate",
    "error",
    "error_after",
    "true_not_applied",
    "query_limit_exceeded",
    "operation_time_limit",
    "overload_limit",
    "internal_server_error before",
    "internal_server_error after",
    "read_lag",
    "invalid_json before",
    "invalid_json after",
    "empty_body before",
    "empty_body after",
    "expired_token",
    "redirect",
    "redirect after",
    "close_idle",
    "time_missing",
    "orphan soon",
    "orphan latest",
    "orphan latest lagging",
)
JOURNAL_STRIKES: Final = ("journal away before", "journal away after")
INSIDE_STRIKES: Final = tuple(
    f"inside {position} {kind}" for position in range(3) for kind in ("error", "error_after", "true_not_applied")
)
INSIDE_A_CHUNK: Final = (
    *INSIDE_STRIKES,
    *(
        f"inside {position} {kind}"
        for position in range(3)
        for kind in ("operation_time_limit", "query_limit_exceeded", "internal_server_error after", "overload_limit")
    ),
)
"""What strikes one command of a batch."""
PEOPLE: Final = ("adds", "adds with a sum", "pays", "takes back", "deletes")


class Killed(BaseException):
    """SIGKILL: nothing of the attempt happens any more."""


class TimedOut(BaseException):
    """What Airflow raises at `execution_timeout`: no `Exception`, and the attempt may still clean up."""


class Broken(AssertionError):
    """The protocol was not kept; found while it happened, and never to be swallowed."""
