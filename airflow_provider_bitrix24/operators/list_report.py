"""The results of the items of a list: statuses, summary, file of receipts, and whether the task fails."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from airflow_provider_bitrix24.api.values import described
from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    Bitrix24ConfigError,
    PaymentListFailed,
    PaymentListUnfinished,
    PaymentNotStarted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_bitrix24.at_most_once.operation import Operation, Result
    from airflow_provider_bitrix24.at_most_once.receipt import Outcome
    from airflow_provider_bitrix24.exceptions import Bitrix24Error

Status: TypeAlias = "Outcome | Literal['refused', 'unknown', 'not_started']"
FailOn: TypeAlias = Literal["any", "unknown", "never"] | float

SUCCEEDED: Final = ("paid", "already_paid", "created", "existing")
IN_XCOM: Final = 500
"""How many items a summary lists itself; the receipts of a longer list go into a file."""
FAILURES_SHOWN: Final = 100
"""How many failures a summary lists if there is a file."""
_IN_MESSAGE: Final = 3


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list."""

    where: str
    """Which one, for messages: "invoices[2]", "open_items.csv, line 4"."""
    operation: Operation
    number: str | None = None
    """The account number by which the row names the object."""


def read_fail_on(value: Any) -> FailOn:
    """Return when the task fails.

    :raises Bitrix24ConfigError: it is none of the choices.
    """
    if isinstance(value, str) and value in ("any", "unknown", "never"):
        return value  # type: ignore[return-value]  # one of three texts
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise Bitrix24ConfigError(
        "fail_on must be 'any', 'unknown', 'never', or the share of items that may fail, such as 0.05, not "
        f"{described(value)}.",
        NOT_SENT,
    )


def status_of(result: Result | None) -> Status:
    """Return the status of an item; None stands for one that was not reached."""
    if result is None:
        return "not_started"
    if not isinstance(result, Failure):
        return result.outcome
    if result.sent != "no":
        return "unknown"
    return "refused" if result.error.final else "not_started"


class Report:
    """The results of a list, as they come.

    :param items: all items.
    :param noun: what an item is: "invoice".
    """

    def __init__(self, items: Sequence[Item], noun: str) -> None:
        self.items = items
        self.noun = noun
        self.results: dict[int, Result] = {}
        self.counts: Counter[Status] = Counter()

    def add(self, results: Mapping[int, Result]) -> None:
        """Add the results of a chunk."""
        self.results |= results
        self.counts.update(status_of(result) for result in results.values())

    @property
    def succeeded(self) -> int:
        """How many have succeeded so far."""
        return sum(self.counts[status] for status in SUCCEEDED)

    @property
    def failed(self) -> int:
        """How many have failed so far."""
        return len(self.results) - self.succeeded

    def waiting(self) -> dict[int, Item]:
        """The items that have no result yet, by their place in the list."""
        return {number: item for number, item in enumerate(self.items) if number not in self.results}

    @property
    def remaining(self) -> int:
        """How many have no result yet."""
        return len(self.items) - len(self.results)

    def statuses(self) -> dict[str, int]:
        """How many items have each status, those that were not reached included."""
        counts = Counter(self.counts)
        counts["not_started"] += self.remaining
        return {status: many for status, many in counts.items() if many}

    def amounts(self) -> dict[str, str]:
        """What was paid or added for the list, by currency, in this attempt or an earlier one."""
        from airflow_provider_bitrix24.api.models import Money  # slow to load: not in a DAG file

        sums: dict[str, Decimal] = {}
        for result in self.results.values():
            if not isinstance(result, Failure) and (result.sent or result.recovered):
                sums[result.money.currency] = sums.get(result.money.currency, Decimal(0)) + result.money.amount
        return {currency: Money(amount, currency).amount_text for currency, amount in sums.items()}

    # -- what the task returns

    def summary(self, receipts_path: str | None) -> dict[str, Any]:
        """Return the summary as plain JSON.

        :param receipts_path: the file of receipts; None if the summary holds them.
        """
        lines = list(self.lines())
        failures = [line for line in lines if "error" in line]
        shown = failures if receipts_path is None else failures[:FAILURES_SHOWN]
        held = (
            {"receipts": [{"index": line["index"], **line["receipt"]} for line in lines if "receipt" in line]}
            if receipts_path is None
            else {"receipts_path": receipts_path}
        )
        statuses = self.statuses()
        return {
            "total": len(self.items),
            "succeeded": self.succeeded,
            "already_paid": self.counts["already_paid"],
            "failed": len(self.items) - self.succeeded,
            "statuses": statuses,
            "amounts": self.amounts(),
            **held,
            "failures": [
                {name: value for name, value in line.items() if name != "error"} | line["error"] for line in shown
            ],
        }

    def lines(self) -> Iterator[dict[str, Any]]:
        """All items in their order as plain JSON: index, row, key, subject, status, and receipt or error."""
        for index, item in enumerate(self.items):
            result = self.results.get(index)
            line: dict[str, Any] = {
                "index": index,
                "row": item.where,
                "key": item.operation.key,
                "subject": item.operation.subject,
                "status": status_of(result),
            }
            if result is None:
                line["error"] = {
                    "code": PaymentNotStarted.code,
                    "sent": "no",
                    "message": "This attempt did not reach it.",
                }
            elif isinstance(result, Failure):
                decide = {"command": result.command} if result.command is not None else {}
                line["error"] = {"code": result.code, "sent": result.sent, "message": str(result.error), **decide}
            else:
                line["receipt"] = result.as_dict()
            yield line

    def write(self, receipts_path: str) -> None:
        """Write a line of JSON for each item into a file, in place of an older one."""
        from airflow.sdk import ObjectStoragePath

        path = ObjectStoragePath(receipts_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in self.lines())
        # An object store shows an object when it is whole; a file has to take the place of the older one at once.
        local = path.protocol in ("file", "local")
        draft = path.parent / f"{path.name}.part" if local else path
        draft.write_bytes(text.encode())
        if local:
            Path(draft.path).replace(path.path)

    # -- whether the task fails

    def failure(self, fail_on: FailOn, receipts_path: str | None) -> Bitrix24Error | None:
        """Return the error that ends the task; None if it succeeds.

        What is not started counts as unknown to ``fail_on="unknown"``: the next attempt can do it.

        :param receipts_path: the file of receipts; None if the summary holds them.
        """
        failed = len(self.items) - self.succeeded
        unfinished = self.remaining + self.counts["unknown"] + self.counts["not_started"]
        if fail_on == "never" or not failed:
            return None
        if fail_on == "unknown":
            if not unfinished:
                return None
        elif fail_on != "any" and failed <= float(fail_on) * len(self.items):
            return None
        return self._error(self._happened(receipts_path))

    def _error(self, happened: str) -> Bitrix24Error:
        errors = [result.error for result in self.results.values() if isinstance(result, Failure)]
        retryable = [error for error in errors if not error.final]
        waits = [result.retry_after for result in self.results.values() if isinstance(result, Failure)]
        error: Bitrix24Error
        if retryable or self.remaining:
            error = PaymentListUnfinished(
                happened,
                "The next attempt reads the journal and goes on with what is not done.",
                retry_after=max((wait for wait in waits if wait is not None), default=None),
            )
        else:
            error = PaymentListFailed(
                f"{happened} Do what each message says, then clear the task: it goes on with what is not done."
            )
        changed = any(not isinstance(one, Failure) and (one.sent or one.recovered) for one in self.results.values())
        error.sent = "unknown" if self.counts["unknown"] else "yes" if changed else "no"
        return error

    def _happened(self, receipts_path: str | None) -> str:
        """What happened to the list, where all results are, and the first failures."""
        counts = ", ".join(f"{many} {status}" for status, many in self.statuses().items())
        failed = [line for line in self.lines() if line["status"] not in SUCCEEDED and line["index"] in self.results]
        failed.sort(key=lambda line: line["status"] != "unknown")
        first = "".join(
            f" {line['row']}, {line['subject']}: {line['error']['message']}" for line in failed[:_IN_MESSAGE]
        )
        more = f" {len(failed) - _IN_MESSAGE} more have failed." if len(failed) > _IN_MESSAGE else ""
        where = receipts_path or "this task's XCom"
        return (
            f"{len(self.items) - self.succeeded} of {len(self.items)} {self.noun}s are not done ({counts}); the "
            f"results of all are in {where}.{first}{more}"
        )
