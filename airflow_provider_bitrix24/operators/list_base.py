"""What the operators for lists share: rows, safeguards over the whole list, progress, and the summary."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NoReturn, TypeVar, get_args

from airflow_provider_bitrix24.api.values import shown, whole
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    Bitrix24ConfigError,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)
from airflow_provider_bitrix24.failures import fail_if_final
from airflow_provider_bitrix24.operators import safeguards
from airflow_provider_bitrix24.operators.arguments import leave_out_what_is_empty, one_of, optional_amount, refuse_lost
from airflow_provider_bitrix24.operators.base import PaymentOperator, Plan
from airflow_provider_bitrix24.operators.engines import may_backfill
from airflow_provider_bitrix24.operators.journals import begin, named_journal, note_begun, with_what_is_known

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from airflow.sdk import Context

    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
    from airflow_provider_bitrix24.at_most_once.operation import Result
    from airflow_provider_bitrix24.at_most_once.preview import Preview
    from airflow_provider_bitrix24.journal import Journal
    from airflow_provider_bitrix24.operators.limit_waits import WorkingTimePause
    from airflow_provider_bitrix24.operators.list_report import FailOn, Item, Report

T = TypeVar("T")
IfPaidInList = Literal["succeed", "fail"]
IF_PAID_IN_LIST: Final[tuple[IfPaidInList, ...]] = get_args(IfPaidInList)
BATCH_SIZE: Final = 25
LARGEST_BATCH: Final = 50
"""The largest `batch_size`; the engine takes at most 48 items into a request, which leaves room for two reads."""
PROGRESS: Final = "bitrix24_progress"
"""Name of the progress document in the Storage tab."""
HOPELESS: Final = 10
"""After how many items in a row that fail for a general reason, such as no connection, the task stops."""
_STORE: Final = "task_state_store"


class PaymentListOperator(PaymentOperator):
    """What the operators for lists share.

    :meta private:
    """

    can_ask: ClassVar[bool] = False
    noun: ClassVar[str]
    """What an item is, for messages."""
    job: ClassVar[str]
    """What is done to the items, in the names of assets."""
    if_paid: str = "succeed"

    def __init__(
        self,
        *,
        max_total: Decimal | str | int | None,
        batch_size: int,
        fail_on: str | float,
        receipts_path: str | None,
        deferrable: bool,
        **kwargs: Any,
    ) -> None:
        if "ask_timeout" in kwargs:
            raise TypeError(f"{type(self).__name__} takes no ask_timeout: a list asks nobody")
        super().__init__(multiple_outputs=False, **kwargs)
        # A mapped task is given an empty list if it was given nothing.
        if not self.outlets and ("outlets" not in kwargs or getattr(self, "_BaseOperator__from_mapped", False)):
            from airflow.sdk import AssetAlias

            # Which portal it is, only the connection says, and a DAG file reads no connections.
            self.outlets = [AssetAlias(f"bitrix24_{self.job}")]
        self.deferrable = deferrable
        self.max_total = max_total
        self.batch_size = batch_size
        self.fail_on = fail_on
        self.receipts_path = receipts_path

    @abstractmethod
    def checked_items(self, context: Context) -> list[Item]:
        """Check all rows, and return what is to be done for each."""

    @abstractmethod
    def preview(self, items: Sequence[Item]) -> Preview | None:
        """Read what the items are about; None if that says nothing about the money."""

    def read_within_limit(self, flow: Flow[T]) -> T:
        """Read; wait on the worker where the portal's working-time limit would refuse: what was read is kept."""
        from airflow_provider_bitrix24.api import reads_within_limit  # slow to load: not in a DAG file

        return self.hook.run(reads_within_limit.read_within_limit(self.hook.client, flow, time.time))

    def plan(self, context: Context) -> Plan:
        """A list has no single plan."""
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        """Carry out all items, and return the summary.

        :raises AirflowFailException: the arguments are wrong, or items have failed for good.
        :raises Bitrix24Error: a passing error, or items are not done yet.
        """
        return fail_if_final(lambda: self._work_on_list(context))

    def resumed(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after a wait in the triggerer, as :meth:`execute`: journal and portal are read again."""
        return fail_if_final(lambda: self._work_on_list(context, deferred=True))

    def _work_on_list(self, context: Context, *, deferred: bool = False) -> dict[str, Any]:
        fail_on, report, engine, pause, journal = with_what_is_known(
            context, lambda: self._prepared_list(context, deferred=deferred), resumed=deferred, many=True
        )
        self._carry_out(context, report, engine, pause, journal)
        return self._concluded(context, report, fail_on)

    def _prepared_list(
        self, context: Context, *, deferred: bool
    ) -> tuple[FailOn, Report, PaymentEngine, WorkingTimePause, Journal]:
        """What comes before the first write: nothing is sent if anything in the list or its arguments is wrong."""
        from airflow_provider_bitrix24.operators import limit_waits
        from airflow_provider_bitrix24.operators.list_report import Report, read_fail_on
        from airflow_provider_bitrix24.operators.moved_numbers import refuse_moved

        self._refuse_questions()
        database = named_journal(self.journal_conn_id) is not None
        begun = begin(context, retries=self.retries or 0, resumed=deferred, database=database, many=True)
        leave_out_what_is_empty(self)
        refuse_lost(self, self.were_given)
        fail_on, size, max_total = read_fail_on(self.fail_on), self._size(), self._most_in_all()
        one_of(self.if_paid, "if_paid", IF_PAID_IN_LIST)
        backfill = may_backfill(self.allow_backfill)
        items = self.checked_items(context)
        self._refuse_without_file(items)
        if begun.state is not None:
            refuse_moved(begun.state, items)
        operations = [item.operation for item in items]
        journal = self._journal(context, begun.state)
        report = Report(items, self.noun)
        # rule: without a journal that a later attempt reads, a list does not leave the worker
        leaves = journal.durable and (self.deferrable or limit_waits.RESCHEDULES_ALL)
        resumed = limit_waits.was_resumed(context, deferred=deferred)
        pause = limit_waits.WorkingTimePause(
            self.hook,
            self.log,
            (lambda seconds: self._leave(context, report, seconds)) if leaves else None,
            lambda: [items[number] for number in report.results.keys() - engine.shown_in_round(operations).keys()],
            resumed=resumed,
        )
        engine = self._engine(context, journal, begun.lost, batch_size=size, pause=pause)
        if journal.is_shared:
            engine.open(operations)
        report.add(engine.shown_in_round(operations))
        note_begun(context, journal)
        self._warn_of_short_timeout()
        safeguards.Safeguards(context, self.bitrix24_conn_id, backfill).check()
        alone = not journal.is_shared and any(operation.needs_shared_journal for operation in operations)
        self._refuse_above_total(report, max_total, 1 if alone else size, resumed=resumed)
        return fail_on, report, engine, pause, journal

    # -- arguments

    def _refuse_questions(self) -> None:
        if self.on_unknown != "fail":
            raise Bitrix24ConfigError(
                f"on_unknown must be 'fail' for a list, not {shown(self.on_unknown)}: Airflow keeps one question for a "
                "task.",
                NOT_SENT,
                f"The report names each {self.noun} whose outcome is unknown, and the command that decides about it. "
                "For questions in the Airflow UI, map the operator for one.",
            )

    def _size(self) -> int:
        size = whole(self.batch_size)
        if size is None or not 1 <= size <= LARGEST_BATCH:
            raise Bitrix24ConfigError(
                f"batch_size must be a whole number from 1 to {LARGEST_BATCH}, not {shown(self.batch_size)}.", NOT_SENT
            )
        return size

    def _most_in_all(self) -> Decimal | None:
        return optional_amount(self.max_total, "max_total")

    def _refuse_without_file(self, items: Sequence[Item]) -> None:
        from airflow_provider_bitrix24.operators.list_report import IN_XCOM

        if self.receipts_path is None and len(items) > IN_XCOM:
            raise Bitrix24ConfigError(
                f"The list has {len(items)} {self.noun}s, and XCom is no place for more than {IN_XCOM} receipts.",
                NOT_SENT,
                "Give receipts_path, such as 's3://bucket/receipts/{{ ds }}.jsonl'.",
            )

    # -- the whole list, before the first write

    def _refuse_above_total(self, report: Report, max_total: Decimal | None, size: int, *, resumed: bool) -> None:
        """Check the sum of all that is not done, and log what is about to happen.

        :param size: how many items share a request.
        :param resumed: whether this attempt goes on after a wait without a worker slot, and has logged all that before.
        :raises PaymentRefused: it is above ``max_total``.
        """
        from airflow_provider_bitrix24.api.models import Money  # slow to load: not in a DAG file
        from airflow_provider_bitrix24.operators.list_estimate import estimate

        items, done = list(report.waiting().values()), report.succeeded
        if done:
            self.log.info("%s of %s %ss were done before, and are not read again.", done, len(report.items), self.noun)
        # rule: a list is read before the first write, and not again after a wait, unless its sum is limited
        preview = self.preview(items) if items and not (resumed and max_total is None) else None
        if preview is None:
            count = len(items)
            self.log.info("%s %ss%s.", count, self.noun, estimate(self.hook, items, count, size, time.time()))
            return
        sums = [str(Money(amount, currency)).strip() for currency, amount in preview.amounts.items()]
        self.log.info(
            "%s %ss: %s to send (%s), %s paid already, %s refused by what the portal shows%s.",
            len(items),
            self.noun,
            preview.to_send,
            ", ".join(sums) or "nothing",
            preview.paid,
            preview.refused,
            estimate(self.hook, items, preview.to_send, size, time.time()),
        )
        if max_total is None:
            return
        above = preview.above(max_total)
        if above or len(preview.amounts) > 1:
            why = "" if above else " The list has several currencies, and max_total is for one."
            advice = "raise max_total or split the list" if above else "split it by currency"
            raise PaymentRefused(
                f"The list adds up to {', '.join(sums)}; max_total is {max_total}.{why}",
                NOT_SENT,
                f"Check the list; if it is right, {advice}, and clear the task.",
            )

    # -- chunk by chunk

    def _carry_out(
        self, context: Context, report: Report, engine: PaymentEngine, pause: WorkingTimePause, journal: Journal
    ) -> None:
        from airflow_provider_bitrix24.operators.metrics import count

        begun, before, hopeless = time.monotonic(), len(report.results), 0
        for results in engine.run_in_chunks({number: item.operation for number, item in report.waiting().items()}):
            judged = {number: self._judged(context, result, journal) for number, result in results.items()}
            report.add(judged)
            for number, result in judged.items():
                count(report.items[number].operation, result)
            pause.has_progress |= any(getattr(result, "sent", False) is True for result in results.values())
            self._log_progress(context, report, (time.monotonic() - begun) / max(1, len(report.results) - before))
            # rule: a portal that loses every reply to a write is not tried for the whole list
            lost = engine.has_lost_replies and all(map(_has_failed, results.values()))
            blocked = bool(results) and (lost or all(map(_is_blocked, results.values())))
            hopeless = hopeless + len(results) if blocked else 0
            if report.remaining and hopeless >= min(HOPELESS, len(report.items)):
                self.log.warning(
                    "The last %s %ss have failed for a general reason, such as no connection or lost responses. The "
                    "other %s are not started.",
                    hopeless,
                    self.noun,
                    report.remaining,
                )
                return

    def _judged(self, context: Context, result: Result, journal: Journal) -> Result:
        """Apply ``if_paid="fail"``, but only if nothing of ours was on its way."""
        from airflow_provider_bitrix24.at_most_once.operation import Failure

        if self.if_paid != "fail" or isinstance(result, Failure) or result.outcome != "already_paid":
            return result
        remembers = journal.durable and not result.forgotten
        may_be_ours = context["ti"].try_number > 1 and result.by_our_user and not remembers
        if result.sent or result.recovered or may_be_ours:
            return result
        subject = " ".join(f"{name} {value}" for name, value in result.subject.items())
        error = PaymentRefused(
            f"{subject} is paid already, and if_paid is 'fail'.", "This attempt sent nothing for it."
        )
        error.sent = "no"
        return Failure(key=result.idempotency_key, subject=subject, error=error)

    def _leave(self, context: Context, report: Report, seconds: float) -> NoReturn:
        """Wait without a worker slot.

        :raises TaskDeferred: in the triggerer.
        :raises AirflowRescheduleException: until Airflow starts the same attempt again.
        """
        from airflow_provider_bitrix24.operators.limit_waits import reschedule

        until = datetime.now(tz=UTC) + timedelta(seconds=seconds)
        self.log.info(
            "The portal's working-time limit is reached. The task goes on at %s, and holds no worker slot until then.",
            until.isoformat(timespec="seconds"),
        )
        self._store_progress(context, report, seconds, until)
        if self.deferrable:
            from airflow.providers.standard.triggers.temporal import DateTimeTrigger

            self.defer(trigger=DateTimeTrigger(until), method_name="resumed")
        reschedule(seconds)

    def _log_progress(self, context: Context, report: Report, seconds_each: float) -> None:
        from airflow_provider_bitrix24.operators.list_estimate import duration, limit_delays

        delay = limit_delays(self.hook, report.items, report.remaining, time.time())
        left = max(seconds_each * report.remaining, delay)
        self.log.info(
            "%s of %s %ss done, %s failed, %s remaining, about %s left.",
            report.succeeded,
            len(report.items),
            self.noun,
            report.failed,
            report.remaining,
            duration(left),
        )
        self._store_progress(context, report, left)

    def _store_progress(
        self, context: Context, report: Report, left: float, waits_until: datetime | None = None
    ) -> None:
        progress: dict[str, Any] = {
            "total": len(report.items),
            "succeeded": report.succeeded,
            "failed": report.failed,
            "remaining": report.remaining,
            "seconds_left": round(left),
        }
        if waits_until is not None:
            progress["waits_until"] = waits_until.isoformat(timespec="seconds")
        store: Any = context.get(_STORE)
        if store is None:
            return
        try:
            store.set(PROGRESS, progress)
        except Exception as error:  # noqa: BLE001 - it only informs; the journal notices by itself what is wrong
            self.log.warning("The progress could not be stored (%s).", type(error).__name__)

    # -- the end

    def _concluded(self, context: Context, report: Report, fail_on: FailOn) -> dict[str, Any]:
        """Write the receipts, push the summary, and fail if items have failed."""
        path = None if self.receipts_path is None else str(self.receipts_path)
        summary = report.summary(path)
        failure = report.failure(fail_on, path)
        if failure is not None or path is not None:
            # Before anything else can fail: a failed task shows the result of each item.
            context["ti"].xcom_push(key="return_value", value=summary)
        if path is not None:
            report.write(path)
        if failure is not None:
            raise failure
        self._tell_assets(context, summary)
        if report.succeeded < len(report.items):
            self.log.warning(
                "The task succeeds, as fail_on=%r says, although %s of %s %ss are not done: %s.",
                self.fail_on,
                len(report.items) - report.succeeded,
                len(report.items),
                self.noun,
                report.statuses(),
            )
        return summary

    def _tell_assets(self, context: Context, summary: dict[str, Any]) -> None:
        """Emit one asset event for each outlet, with the counts of this run."""
        from airflow_provider_bitrix24.assets.bitrix24 import add_to_events

        counts = {
            name: summary[name] for name in ("total", "succeeded", "already_paid", "failed", "statuses", "amounts")
        }
        try:
            add_to_events(context, self.outlets, counts, portal=self.hook.portal, path=f"lists/{self.job}")
        except Exception as error:  # noqa: BLE001 - what was paid is paid; the event only informs
            self.log.warning("The asset events are missing, or without counts (%s: %s).", type(error).__name__, error)


def _has_failed(result: Result) -> bool:
    return getattr(result, "error", None) is not None


def _is_blocked(result: Result) -> bool:
    """Whether an item has failed for a reason that holds for all: no connection, rights or journal, a time limit."""
    error = getattr(result, "error", None)
    own = (PaymentRefused, PaymentMismatch, PaymentNotApplied, PaymentAmbiguous, PaymentInProgress)
    return error is not None and not isinstance(error, own)
