"""The payment engine: read the journal, read the portal, send once, read back. For one operation, or for a list.

`carry_out` is the only loop that sends. It knows neither Airflow nor sockets: the caller gives it the
portal, a runner of flows, both clocks and a journal, so that a test can script all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.attempt import Attempt, Log, Tools
from airflow_provider_bitrix24.at_most_once.chunks import (
    BATCH_SIZE,
    ChunkSize,
    is_held,
    limit_to_working_time,
    longest_wait,
    next_chunk,
)
from airflow_provider_bitrix24.at_most_once.course import Check, Permit, SendCall, do
from airflow_provider_bitrix24.at_most_once.lockstep import Lockstep
from airflow_provider_bitrix24.at_most_once.next_step import Step, is_unresolved, next_step
from airflow_provider_bitrix24.at_most_once.open_key import open_key
from airflow_provider_bitrix24.at_most_once.operation import Failure
from airflow_provider_bitrix24.at_most_once.record import Record
from airflow_provider_bitrix24.at_most_once.shown import KEYS_TOGETHER, shown_in_round
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.at_most_once.write import SendTries, Watch, Write, after_reply, read_once
from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24RateLimited,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal.protocol import Change, NullJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.at_most_once.chunks import Pause
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.lockstep import Ended, Run
    from airflow_provider_bitrix24.at_most_once.operation import Operation, Result
    from airflow_provider_bitrix24.at_most_once.portal_clock import Clock
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Decision
    from airflow_provider_bitrix24.journal.protocol import Journal

DEADLINES: Final = 5
"""Inside how many deadlines a send that did not leave is tried."""
LONGEST_PAUSE: Final = 8.0


def carry_out(attempt: Attempt, write: Write) -> Course[Step]:
    """Bring one write to its end: the only loop that sends.

    :return: how it ended: `Step.DONE`, `Step.ASK`, `Step.FAIL` or `Step.RETRY_LATER`.
    :raises Bitrix24Error: it must not be sent, was refused, or the journal cannot be used.
    """
    while True:
        step = next_step(
            write.recorded(), write.observation(), attempt.now(), write.policy, attempt.settings.send_deadline
        )
        if step is Step.SEND:
            yield from write.refuse()
            yield from _send(attempt, write)
        elif step is Step.LOOK_AGAIN:
            yield from _look_again(attempt, write)
        else:
            return step


def _look_again(attempt: Attempt, write: Write) -> Course[None]:
    """Look for the outcome of the last send; if that is known, read what permits the next one.

    :raises Bitrix24NotSent: reading what permits it takes longer than it permits it.
    """
    if not is_unresolved(write.recorded(), write.observation(), write.policy):
        write.tries = write.tries or SendTries(attempt.now()[0])
        yield from write.look()
        if not (write.shown or attempt.is_fresh):
            _refuse_if_too_late(attempt, write.tries, 0.0)
        return
    watch = write.watch = write.watch or write.watch_earlier()
    shown, found = yield from read_once(attempt, watch, write.query(), write.shows)
    if shown:
        yield from write.take(found)
    elif found is not None and not is_unresolved(write.recorded(), write.observation(), write.policy):
        yield from write.conclude(found)


def _send(attempt: Attempt, write: Write) -> Course[None]:
    """Send once, if what was read last is recent enough.

    Only what certainly was not executed may be tried again, and only after a new read: what did not leave a few
    times, what the portal's rate limit refused for as long as ``rate_limit_wait``. A lost reply is no error here: the
    next step is to look for its outcome.

    :raises Bitrix24NotSent: nothing left, as often as it was tried.
    :raises Bitrix24RateLimited: the portal would refuse it for the working time of its method; nothing was sent.
    :raises Bitrix24ApiError: the portal refused; nothing was executed.
    :raises PaymentInProgress: another attempt has taken over; nothing was sent.
    :raises PaymentRefused: the safeguard forbids it; nothing was sent.
    :raises Bitrix24StoreError: the intent could not be saved, or the safeguard not be read; nothing was sent.
    """
    settings, decided = attempt.settings, attempt.now()[0]
    tries = write.tries = write.tries or SendTries(decided)
    waited: float = yield from do(Permit(write.method, with_tag=write.tag is not None))
    if waited:
        attempt.read_at = None  # rule: what was read before the slot permits nothing
    if not attempt.is_fresh:
        _refuse_if_too_late(attempt, tries, waited)
        return
    # The deadline runs while the intent is saved: a slow journal makes it shorter, never longer.
    deadline = attempt.deadline()  # rule: send_deadline
    send = attempt.new_send()
    intent = write.prepared(attempt.record).sending(send, step=write.step)
    yield from attempt.write(intent, lease=send.settle_until - send.at)  # rule: intent before send
    # Whatever the outcome, the next send needs another read, unless this one has succeeded.
    read_at, attempt.read_at = attempt.read_at, None
    doubt: Bitrix24OutcomeUnknown | None = None
    try:
        result = yield from do(SendCall(call=write.call(), digest=write.digest, deadline=deadline, tag=write.tag))
    except (Bitrix24NotSent, Bitrix24RateLimited) as error:
        yield from _not_sent(attempt, write, error, tries, decided)
        return
    except Bitrix24OutcomeUnknown as error:
        doubt = error
    except Bitrix24Error as error:
        yield from _withdraw(attempt, write, error)
        raise
    attempt.sent_now |= write.step is None
    write.tries = None  # rule: a second send is tried again
    if doubt is None:
        attempt.read_at = read_at
        write.watch = after_reply(attempt)
        doubt = yield from write.replied(result)
    if doubt is None:
        return
    if doubt.answered:
        write.watch = after_reply(attempt, doubt)
        yield from attempt.keep(attempt.record.inconclusive(doubt.words, step=write.step))
        return
    window = settings.settle_window
    attempt.log.warning("%s. Reading for its outcome for up to %.0f s.", doubt.reason, window)
    # rule: absent after the settle window: same attempt
    write.watch = Watch(absent_after=decided + window, doubt=doubt)


def _not_sent(
    attempt: Attempt, write: Write, error: Bitrix24NotSent | Bitrix24RateLimited, tries: SendTries, decided: float
) -> Course[None]:
    """The send certainly was not executed: wait and come back, or raise."""
    wait = getattr(error, "retry_after", None) or tries.pause
    yield from _withdraw(attempt, write, error)
    if isinstance(error, Bitrix24NotSent) and error.halted:  # rule: a halt is no failed try
        write.tries = None  # another write of the batch has failed, and has come to its end by that
        return
    tries.not_sent += isinstance(error, Bitrix24NotSent) and not error.deadline_passed
    patient = decided + wait <= tries.started + attempt.settings.rate_limit_wait
    if tries.not_sent >= DEADLINES or not patient or error.is_time_limit:
        raise error
    tries.pause = min(2 * tries.pause, LONGEST_PAUSE)
    attempt.log.warning("Not executed (%s). Reading the portal, then trying again.", error.reason)
    yield from attempt.wait(wait, "Trying again")


def _withdraw(attempt: Attempt, write: Write, error: Bitrix24Error) -> Course[None]:
    """Save that the send certainly was not executed."""
    not_sent = isinstance(error, Bitrix24NotSent | Bitrix24RateLimited)
    record = attempt.record.withdrawn("not_sent" if not_sent else "refused", error.reason, step=write.step)
    yield from attempt.keep(record)


def _refuse_if_too_late(attempt: Attempt, tries: SendTries, waited: float) -> None:
    settings = attempt.settings
    if attempt.now()[0] > tries.started + settings.rate_limit_wait + settings.send_deadline:
        raise Bitrix24NotSent("a write", messages.no_time_to_send(waited), True)


class PaymentEngine:
    """One attempt of a task at one portal: it carries out operations, each at most once for its key.

    :param client: the portal.
    :param run: runs a flow to its end; :meth:`Bitrix24Hook.run`.
    :param clock: ``time()`` and ``monotonic()``; the module :mod:`time` is one.
    :param log: where the steps are logged.
    :param journal: where it is saved what is sent; by default nowhere.
    :param task: the attempt of the task.
    :param safeguard: raises if nothing may be sent now; asked right before each send. By default nothing is asked.
    :param check: raises if the attempt must stop; asked after the journal has noted that the work has begun, and before
        the portal is read. So a later attempt knows that a stopped one has sent nothing.
    :param batch_size: how many operations of a list share a request, 48 at most.
    :param pause: lets time pass when the portal's working-time limit is reached in a list. Without it, what does not
        fit any more fails.
    """

    def __init__(
        self,
        client: ApiClient,
        run: Run,
        clock: Clock,
        log: Log,
        *,
        journal: Journal | None = None,
        task: TaskAttempt | None = None,
        safeguard: Callable[[], None] | None = None,
        check: Callable[[], None] | None = None,
        batch_size: int = BATCH_SIZE,
        pause: Pause | None = None,
    ) -> None:
        self._pause = pause
        self._tools = Tools(
            client=client,
            clock=clock,
            log=log,
            journal=NullJournal() if journal is None else journal,
            task=TaskAttempt(identity="unnamed task") if task is None else task,
        )
        self._sizes = ChunkSize(batch_size)
        self._lockstep = Lockstep(self._tools, run, self._sizes, safeguard=safeguard, check=check)

    @property
    def has_lost_replies(self) -> bool:
        """Whether the reply to a write was lost in the last chunk."""
        return self._sizes.has_lost_replies

    @property
    def portal(self) -> str:
        """The portal's name in keys."""
        return self._tools.client.settings.portal

    def open(self, operations: Sequence[Operation]) -> None:
        """Note in the journal that work on all keys has begun, before the portal is read for the first of them.

        A later attempt may find the task's own notes gone. Without this, it could not tell a key that was never reached
        from one whose record was lost.

        :raises Bitrix24StoreError: the journal cannot be reached.
        :raises Bitrix24ConfigError: the journal itself is not fit.
        """
        journal, task = self._tools.journal, self._tools.task
        for start in range(0, len(operations), KEYS_TOGETHER):
            wanted = {one.key: self._wanted(one) for one in operations[start : start + KEYS_TOGETHER]}
            loaded = journal.load(self.portal, list(wanted))
            changes = []
            for key, record in wanted.items():
                found = loaded[key]
                if found.record is None and found.error is None:
                    lost = bool(task.lost or found.forgot)
                    changes.append(Change(record=record.notes_lost(task.identity) if lost else record, opens=True))
            if changes:
                journal.save(changes)

    def shown_in_round(self, operations: Sequence[Operation]) -> dict[int, Receipt]:
        """Return what the portal has shown in this round of the task, by its place in the list: all else is to be run.

        :raises Bitrix24StoreError: the journal cannot be reached.
        """
        return shown_in_round(self._tools, operations)

    def run_one(self, operation: Operation, decision: Decision | None = None) -> Result:
        """Carry out one operation.

        :param decision: what a person has decided about it just now.
        """
        try:
            ended = self._lockstep.run({operation.key: self._course(operation, decision, patient=True)})
        finally:
            self._tools.journal.release(self.portal, [operation.key])
        return self._result(operation, ended[operation.key])

    def run(self, operations: Sequence[Operation], decisions: Mapping[str, Decision] | None = None) -> list[Result]:
        """Carry out a list of operations; one that fails does not stop the others.

        :param decisions: by key, what a person has decided just now.
        :return: a result for each operation, in their order.
        """
        chunks = self.run_in_chunks(dict(enumerate(operations)), decisions)
        results = dict(pair for part in chunks for pair in part.items())
        return [results[number] for number in range(len(operations))]

    def run_in_chunks(
        self, operations: Mapping[int, Operation], decisions: Mapping[str, Decision] | None = None
    ) -> Iterator[dict[int, Result]]:
        """Carry out a list of operations, and return the results of each chunk as soon as it has ended.

        :param operations: by their place in the list.
        :return: result by the operation's place.
        """
        waiting = dict(operations)
        held: dict[int, Operation] = {}
        patient = len(operations) == 1
        self._sizes.start(goes_on=0 not in operations)
        while waiting or held:
            if not waiting:
                # Keys that another task holds are revisited at the end, not waited for one by one.
                waiting, held, patient = held, {}, True
            chunk = next_chunk(waiting, self._sizes.now, is_shared=self._tools.journal.is_shared)
            if self._pause is not None:
                working_time, now = self._tools.client.working_time, self._tools.clock.time()
                chunk, seconds = limit_to_working_time(chunk, working_time, now)
                if seconds and self._pause(seconds, refused=False):
                    continue
            results = self._run_chunk(chunk, decisions or {}, patient=patient)
            stopped = self._stopped_by_time_limit(results)
            for number in results.keys() - stopped.keys():
                del waiting[number]
            if not patient:
                held |= {number: chunk[number] for number, result in results.items() if is_held(result)}
            ended = {number: result for number, result in results.items() if number not in {**stopped, **held}}
            if ended:
                yield ended
            if stopped and not self._waited_for(stopped):
                for number in stopped:
                    del waiting[number]
                yield dict(stopped)

    def _stopped_by_time_limit(self, results: Mapping[int, Result]) -> dict[int, Failure]:
        """Return what the working-time limit has stopped and this attempt may carry out after a wait."""
        if self._pause is None:
            return {}
        remembers = self._tools.journal.durable
        return {
            number: result
            for number, result in results.items()
            # rule: without a journal, only what was not sent is carried out again
            if isinstance(result, Failure) and result.error.is_time_limit and (remembers or result.sent == "no")
        }

    def _waited_for(self, stopped: Mapping[int, Failure]) -> bool:
        """Wait until the limit is over; False if nobody waits."""
        if self._pause is None or not self._pause(longest_wait(stopped), refused=True):
            return False
        self._lockstep.resume()  # rule: a time limit that is over stops nothing more
        return True

    def _run_chunk(
        self, chunk: Mapping[int, Operation], decisions: Mapping[str, Decision], *, patient: bool
    ) -> dict[int, Result]:
        self._sizes.begin()
        keys = [operation.key for operation in chunk.values()]
        try:
            ended = self._lockstep.run(
                {
                    operation.key: self._course(operation, decisions.get(operation.key), patient=patient)
                    for operation in chunk.values()
                }
            )
        finally:
            self._tools.journal.release(self.portal, keys)
        self._sizes.adapt()
        return {number: self._result(operation, ended[operation.key]) for number, operation in chunk.items()}

    def _result(self, operation: Operation, ended: Ended[Receipt]) -> Result:
        error = ended.result
        if not isinstance(error, Bitrix24Error):
            return error
        if error.is_time_limit:
            self._lockstep.stop(operation.name, error)
        command = self._tools.journal.command("resolve", operation.key)
        asked = isinstance(error, PaymentAmbiguous)
        return Failure(key=operation.key, subject=operation.subject, error=error, command=command if asked else None)

    def _wanted(self, operation: Operation) -> Record:
        return Record(
            key=operation.key,
            portal=operation.portal,
            operation=operation.name,
            subject=operation.subject,
            parameters=operation.parameters,
            task=self._tools.task.identity,
        )

    def _course(self, operation: Operation, decision: Decision | None, *, patient: bool) -> Course[Receipt]:
        """Carry out one operation to its end; once more if another attempt was faster before anything was sent."""
        again = False
        while True:
            attempt = Attempt(self._tools, self._wanted(operation), patient=patient)
            yield from open_key(attempt, None if again else decision)
            ended: Bitrix24Error | None = None
            try:
                yield from do(Check(operation.name))  # rule: the journal knows of an attempt before it is stopped
                return (yield from operation.course(attempt))
            except PaymentInProgress as error:
                if again or attempt.has_sent:
                    ended = attempt.with_what_was_sent(error)
            except (PaymentAmbiguous, PaymentMismatch, PaymentRefused) as error:
                # What the portal showed may be what another attempt has just done for this very key.
                if again or not (yield from attempt.is_outdated()):  # rule: a refusal is judged by the journal of now
                    ended = attempt.as_the_end(error)
            except Bitrix24Error as error:
                ended = attempt.as_the_end(error)
            if ended is not None:
                raise ended
            self._tools.log.info("Another attempt has worked on key %s. Reading the journal again.", operation.key)
            again = True
