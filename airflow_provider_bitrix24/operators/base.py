"""What the operators share: safeguards, journal, one attempt, the question to a person, the receipt."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NoReturn, get_args

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentRefused
from airflow_provider_bitrix24.failures import fail_if_final, failure_of
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.arguments import (
    RemembersArguments,
    leave_out_what_is_empty,
    one_of,
    refuse_lost,
    time_span,
)
from airflow_provider_bitrix24.operators.engines import amount_limit, engine_of, may_backfill
from airflow_provider_bitrix24.operators.journals import (
    begin,
    identity,
    is_rescheduled,
    journal_of,
    named_journal,
    opened,
    with_what_is_known,
)
from airflow_provider_bitrix24.operators.rendering import LiteralText

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow.sdk import Context

    from airflow_provider_bitrix24.at_most_once.engine import PaymentEngine
    from airflow_provider_bitrix24.at_most_once.operation import Failure, Operation
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Decision, Record
    from airflow_provider_bitrix24.journal import Journal
    from airflow_provider_bitrix24.journal.task_state import TaskStateJournal
    from airflow_provider_bitrix24.operators.questions import Answer

IfPaid = Literal["succeed", "skip", "fail"]
OnUnknown = Literal["fail", "ask"]

IF_PAID: Final[tuple[IfPaid, ...]] = get_args(IfPaid)
ON_UNKNOWN: Final[tuple[str, ...]] = get_args(OnUnknown)
ASK_TIMEOUT: Final = timedelta(days=1)
ASK_INSTEAD: Final = " (with on_unknown='ask', Airflow asks a person instead)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done, after all arguments have been checked."""

    path: str
    """The object's path on the portal."""
    operation: Operation


class PaymentOperator(RemembersArguments, LiteralText, BaseOperator):
    """What the operators for payments share.

    :meta private:
    """

    were_given: frozenset[str]
    """The templated arguments that the constructor was given."""
    unknown_answers: ClassVar[tuple[str, ...]] = ON_UNKNOWN
    """What ``on_unknown`` may be."""
    send_again: ClassVar[str] = "Mark again (may pay twice)"
    """The option of a question that sends once more."""
    can_ask: ClassVar[bool] = True
    """Whether ``on_unknown`` can be "ask"."""

    def __init__(
        self,
        *,
        max_amount: Decimal | str | int | None = None,
        on_unknown: str = "fail",
        ask_timeout: timedelta = ASK_TIMEOUT,
        allow_backfill: bool | None = None,
        journal_conn_id: str | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.max_amount = max_amount
        self.on_unknown = on_unknown
        self.ask_timeout = ask_timeout
        self.allow_backfill = allow_backfill
        self.journal_conn_id = journal_conn_id
        self.bitrix24_conn_id = bitrix24_conn_id
        # After BaseOperator, which also looks into the DAG's default_args: whatever the author gave wins.
        if AIRFLOW_V_3_3_PLUS and self.retry_policy is None:
            from airflow_provider_bitrix24.operators.retries import HonorRetryAfterPolicy

            self.retry_policy = HonorRetryAfterPolicy()

    @cached_property
    def hook(self) -> Bitrix24Hook:
        """The connection to the portal."""
        journal = named_journal(self.journal_conn_id)
        return Bitrix24Hook(self.bitrix24_conn_id, pace_conn_id=None if journal is None else journal.conn_id)

    @abstractmethod
    def plan(self, context: Context) -> Plan:
        """Check the arguments and store the links."""

    def limit(self) -> Decimal | None:
        """The largest amount to send: the argument, else the option; None if there is none."""
        return amount_limit(self.max_amount)

    def conclude(self, context: Context, receipt: Receipt, *, remembers: bool) -> bool:
        """Judge the outcome, and return whether the task is to be skipped.

        :param remembers: whether there was a journal, so that the receipt knows of earlier attempts.
        """
        return False

    def execute(self, context: Context) -> dict[str, Any]:
        """Make or mark the payment, unless that is done already, and return the receipt.

        :raises AirflowFailException: an error that no retry can fix.
        :raises AirflowSkipException: it was paid before this task, and ``if_paid="skip"``.
        :raises TaskAwaitingInput: the outcome is unknown, and ``on_unknown="ask"``.
        :raises Bitrix24Error: a passing error; nothing of it needs a person.
        """
        return self._work(context)

    def answered(self, context: Context, event: Any, asked: dict[str, Any]) -> dict[str, Any]:
        """Go on after a person has answered: everything is read again before the decision is carried out.

        :param event: the answer, as Airflow hands it over.
        :param asked: what was asked.
        :return: the receipt, as :meth:`execute`.
        """
        from airflow_provider_bitrix24.operators import questions

        decision = fail_if_final(lambda: questions.decision_of(event, asked))
        if decision is None:
            return self._work(context, answer="not there" if questions.was_asked(event) else "not asked")
        if questions.was_heard(context, decision):
            return self._work(context, answer="heard")
        self.log.info("%s has decided: %s", decision.by, decision.what)
        return self._work(context, decision, answer="heard")

    def _work(
        self, context: Context, decision: Decision | None = None, *, answer: Answer = "may be there"
    ) -> dict[str, Any]:
        from airflow_provider_bitrix24.at_most_once.operation import Failure
        from airflow_provider_bitrix24.operators.metrics import count

        resumed = answer != "may be there"
        parked = None if resumed else self._parked_before(context)
        plan, engine, journal = fail_if_final(
            lambda: with_what_is_known(context, lambda: self._prepared(context, resumed=resumed), resumed=resumed)
        )
        # What fails before anything was sent says what stood in the way, and this says for what.
        self.log.info(
            "%s on %s, by the connection %r.", plan.operation.subject, self.hook.settings.origin, self.bitrix24_conn_id
        )
        result = engine.run_one(plan.operation, decision)
        count(plan.operation, result)
        if isinstance(result, Failure):
            if isinstance(result.error, PaymentAmbiguous) and self.on_unknown == "ask":
                self._ask(context, result.error, decision, answer, parked)
            self._reschedule_once(context, result, journal)
            raise failure_of(result.error) if result.error.final else result.error
        self.log.info("Receipt: %s", result.as_dict())
        remembers = journal.durable and not result.forgotten
        if fail_if_final(lambda: self.conclude(context, result, remembers=remembers)):
            raise AirflowSkipException(_paid_already(result))
        return result.as_dict()

    def _reschedule_once(self, context: Context, failure: Failure, journal: Journal) -> None:
        """Wait without a worker slot until the portal's working-time limit ends, once, and without using a retry.

        On Airflow 3.4 the retry policy does it; before 3.1.8 the wait would be none.

        :raises AirflowRescheduleException: Airflow starts the same attempt again.
        """
        from airflow_provider_bitrix24.operators.limit_waits import RESCHEDULES_ALL, reschedule

        if not failure.error.is_time_limit or failure.retry_after is None:
            return
        if AIRFLOW_V_3_4_PLUS or not RESCHEDULES_ALL:
            return
        # rule: without such a journal, a task for one payment does not leave the worker
        if journal.durable and not is_rescheduled(context["ti"]):
            self.log.info("%s Airflow starts this attempt again then.", failure.error)
            reschedule(failure.retry_after)

    def _parked_before(self, context: Context) -> list[int] | None:
        """What a person had to choose from when this attempt began; None if nobody was asked."""
        if self.on_unknown != "ask" or not AIRFLOW_V_3_3_PLUS:
            return None
        from airflow_provider_bitrix24.operators.questions import parked_before

        return parked_before(context)

    def _prepared(self, context: Context, *, resumed: bool) -> tuple[Plan, PaymentEngine, Journal]:
        """What comes before journal and portal are read."""
        database = named_journal(self.journal_conn_id) is not None
        begun = begin(context, retries=self.retries or 0, resumed=resumed, database=database)
        plan = self._checked_plan(context)
        journal = self._journal(context, begun.state)
        engine = self._engine(context, journal, begun.lost)
        opened(context, journal, self.hook.portal, plan.operation.key)
        self._warn_of_short_timeout()
        return plan, engine, journal

    def _journal(self, context: Context, state: TaskStateJournal | None = None) -> Journal:
        return journal_of(context, self.journal_conn_id, self.log, state, host=self.hook.settings.address)

    def _checked_plan(self, context: Context) -> Plan:
        leave_out_what_is_empty(self)
        refuse_lost(self, self.were_given)  # rule: a guard may not be left empty
        if one_of(self.on_unknown, "on_unknown", self.unknown_answers) == "ask":
            from airflow_provider_bitrix24.operators.questions import refuse_if_nobody_can_be_asked

            refuse_if_nobody_can_be_asked()
        time_span(self.ask_timeout, "ask_timeout")
        may_backfill(self.allow_backfill)
        return self.plan(context)

    def _engine(self, context: Context, journal: Journal, lost: str = "", **options: Any) -> PaymentEngine:
        # Not where it asks already, and not where nobody can be asked.
        asks_instead = self.can_ask and AIRFLOW_V_3_3_PLUS and self.on_unknown != "ask"
        return engine_of(
            context,
            self.hook,
            journal,
            self.log,
            lost=lost,
            database=named_journal(self.journal_conn_id) is not None,
            backfill=may_backfill(self.allow_backfill),
            hint=ASK_INSTEAD if asks_instead else "",
            **options,
        )

    def _ask(
        self,
        context: Context,
        unclear: PaymentAmbiguous,
        decision: Decision | None,
        answer: Answer,
        parked: list[int] | None,
    ) -> NoReturn:
        from airflow_provider_bitrix24.operators import questions

        plan, command, record = fail_if_final(lambda: self._parked_here(context))
        if decision is not None:
            questions.note_heard(context, decision)
        # A decision that was refused ends the task. After clearing, the task asks again.
        if command is None or record is None or (decision is not None and record.has_refused(decision)):
            raise failure_of(unclear)
        self.log.warning("%s", unclear)
        questions.ask(
            context,
            unclear,
            questions.Question(
                name=plan.operation.subject,
                path=plan.path,
                again=self.send_again,
                timeout=self.ask_timeout,
                command=command,
                method_name="answered",
                candidates=unclear.candidates,
                unresolved_keys=record.unresolved_keys,
            ),
            self.hook,
            answer=answer,
            parked=parked,
        )

    def _parked_here(self, context: Context) -> tuple[Plan, str | None, Record | None]:
        """The command that decides instead, if the journal waits for a decision through this task.

        It does not where another task asks already, or where nothing was sent and there is nothing to decide.
        """
        plan, journal = self.plan(context), self._journal(context)
        key = plan.operation.key
        record = journal.load(self.hook.portal, [key])[key].record
        asked_here = record is not None and record.state == "needs_decision" and record.task == identity(context)
        return plan, journal.command("resolve", key) if asked_here else None, record

    def _warn_of_short_timeout(self) -> None:
        settings, allowed = self.hook.settings, self.execution_timeout
        needed = settings.settle_window + settings.read_lag
        if allowed is not None and allowed.total_seconds() <= needed:
            self.log.warning(
                "execution_timeout is %.0f s, but finding out the outcome of a lost response can take %.0f s. Whatever "
                "is unknown when the time is over is left to the next attempt. Set execution_timeout to more than "
                "that, and retries to at least 1.",
                allowed.total_seconds(),
                needed,
            )


class StateChangeOperator(PaymentOperator):
    """What marking as paid and setting back to unpaid share.

    :meta private:
    """

    if_done: ClassVar[str] = "if_paid"
    """The argument that says what to do if it was so before the task."""

    def conclude(self, context: Context, receipt: Receipt, *, remembers: bool) -> bool:
        """Apply ``if_paid``, but only if nothing of ours was on its way: after a send, "already paid" is a finding."""
        if_done = one_of(getattr(self, self.if_done), self.if_done, IF_PAID)
        already = receipt.outcome.startswith("already_")
        if not already or receipt.sent or receipt.recovered or if_done == "succeed":
            return False
        attempt = context["ti"].try_number
        may_be_ours = receipt.by_our_user or self.if_done != "if_paid"
        if attempt > 1 and may_be_ours and not remembers:
            self.log.warning(
                "%s%s. This is attempt %s, and no journal knows what "
                "the others did: the mark may be that of an earlier one, so %s=%r is not applied and the task "
                "succeeds.",
                _paid_already(receipt),
                ", by the user that this connection acts as" if receipt.by_our_user else "",
                attempt,
                self.if_done,
                if_done,
            )
            return False
        if if_done == "fail":
            refused = PaymentRefused(
                f"{_paid_already(receipt)}, and {self.if_done} is 'fail'.", "This attempt sent nothing."
            )
            refused.sent = "no" if attempt == 1 or remembers else "unknown"
            raise refused
        return True


def _paid_already(receipt: Receipt) -> str:
    subject = ", ".join(f"{name} {value}" for name, value in receipt.subject.items())
    when = f", since {receipt.paid_at.isoformat()}" if receipt.paid_at else ""
    return f"{subject} for {receipt.money} is {receipt.outcome.removeprefix('already_')} already{when}"
