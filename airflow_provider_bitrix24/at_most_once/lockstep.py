"""Advance the courses of many operations together, and do what they ask for in groups.

What has to be saved goes before everything else, and what is ready to be sent before more is read: so every reply is in
the journal before any further request, and what permits a send does not grow old behind the reads of others.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from airflow_provider_bitrix24.api.io import Sleep
from airflow_provider_bitrix24.api.queries import SharedAnswers, ask, merge, parts
from airflow_provider_bitrix24.at_most_once.course import (
    AskJournal,
    Check,
    Permit,
    Read,
    Save,
    SendCall,
    Wait,
    WaitForJournal,
    WaitForOther,
)
from airflow_provider_bitrix24.at_most_once.sending import most_sends, send_many, send_one
from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24OutcomeUnknown
from airflow_provider_bitrix24.journal.protocol import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.at_most_once.attempt import Tools
    from airflow_provider_bitrix24.at_most_once.chunks import ChunkSize
    from airflow_provider_bitrix24.at_most_once.course import Action, Course, JournalQuestion

T = TypeVar("T")

TOGETHER: Final = 0.5
"""Seconds: waits that end so close to each other are one wait."""


class Run(Protocol):
    """Runs a flow to its end."""

    def __call__(self, flow: Flow[T], /) -> T:
        """Run it."""


@dataclass(slots=True)
class Running(Generic[T]):
    """One course on its way."""

    key: str
    course: Course[T]
    action: Action | None = None
    due: float = 0.0
    """When its wait is over, by the monotonic clock."""


@dataclass(slots=True)
class Ended(Generic[T]):
    """How a course ended: with a value, or with an error."""

    result: T | Bitrix24Error


class Lockstep:
    """The one place that calls journal and portal.

    :param run: runs a flow to its end.
    :param sizes: is told how each batch went.
    :param safeguard: raises if nothing may be sent now; asked right before each send.
    :param check: raises if the attempt must stop; asked before the portal is read.
    """

    def __init__(
        self,
        tools: Tools,
        run: Run,
        sizes: ChunkSize,
        *,
        safeguard: Callable[[], None] | None,
        check: Callable[[], None] | None,
    ) -> None:
        self._client = tools.client
        self._clock = tools.clock
        self._log = tools.log
        self._task = tools.task.identity
        self._journal = tools.journal
        self._run = run
        self._safeguard = safeguard
        self._check = check
        self._portal = tools.client.settings.portal
        self._shared = SharedAnswers()
        self._has_slot = False
        """Whether the next send has its slot of the portal's rate limit."""
        self._stopped: dict[str, Bitrix24Error] = {}
        self._sizes = sizes
        self._answers: Final[Mapping[JournalQuestion, Callable[[str, Mapping[str, Any]], Mapping[str, Any]]]] = {
            "record": tools.journal.load,
            "claims": tools.journal.claims_of_others,
            "unresolved": tools.journal.unresolved_keys,
            "on_object": tools.journal.keys_on_object,
            "late_reply": tools.journal.late_replies,
        }
        # If operations ask for several kinds of action, the first kind in this order is done first.
        self._do: Final[Mapping[type[Any], Callable[[list[Running[Any]]], Mapping[str, Any]]]] = {
            Save: self._save,
            WaitForJournal: self._wait,  # rule: a reply is saved before the portal is asked again
            Check: self._check_all,
            AskJournal: self._ask_journal,
            SendCall: self._send,
            Permit: self._permit,
            Read: self._read,
            Wait: self._wait,
        }

    def run(self, courses: Mapping[str, Course[T]]) -> dict[str, Ended[T]]:
        """Advance all courses to their ends.

        :param courses: course by key.
        :return: how each one ended.
        :raises Exception: one has failed unexpectedly; all others have come to their ends, so that no reply is lost.
        """
        ended: dict[str, Ended[T]] = {}
        unexpected: list[Exception] = []
        live = {key: Running(key, course) for key, course in courses.items()}
        answers: Mapping[str, Any] = dict.fromkeys(live)
        while True:
            for key, answer in answers.items():
                try:
                    end = self._advance(live[key], answer)
                except Exception as error:  # noqa: BLE001 - one course is wrong, and the others have replies to save
                    unexpected.append(error)
                    del live[key]
                    continue
                if end is not None:
                    ended[key] = end
                    del live[key]
            if not live:
                break
            kind = next(kind for kind in self._do if any(isinstance(one.action, kind) for one in live.values()))
            group = [one for one in live.values() if isinstance(one.action, kind)]
            try:
                answers = self._do[kind](group)
            except Bitrix24Error as error:
                answers = {one.key: error for one in group}
        if unexpected:
            raise unexpected[0]
        return ended

    def _advance(self, running: Running[T], answer: Any) -> Ended[T] | None:
        """Let a course go on until it asks for something; None if it has not ended."""
        try:
            # A copy: what one course notes in an error is not the others' business.
            running.action = running.course.send(copy.copy(answer) if isinstance(answer, Bitrix24Error) else answer)
        except StopIteration as end:
            return Ended(end.value)
        except Bitrix24Error as error:
            return Ended(error)
        if isinstance(running.action, Wait):
            running.due = self._clock.monotonic() + running.action.seconds
        return None

    def stop(self, operation: str, error: Bitrix24Error) -> None:
        """Let no more operations of this name begin: the portal blocks their method for minutes."""
        told = copy.copy(error)
        told.known, told.sent_more = None, False  # that is of one key, and not of the rest
        self._stopped.setdefault(operation, told)  # rule: a time limit is told to the rest

    def resume(self) -> None:
        """Let all operations begin again: the time is over."""
        self._stopped.clear()

    # -- the journal

    def _save(self, group: list[Running[Any]]) -> Mapping[str, Any]:
        saves = [one.action for one in group if isinstance(one.action, Save)]
        return self._journal.save([Change(record=one.record, lease=one.lease, opens=one.opens) for one in saves])

    def _ask_journal(self, group: list[Running[Any]]) -> Mapping[str, Any]:
        asked = {one.key: one.action for one in group if isinstance(one.action, AskJournal)}
        question = next(iter(asked.values())).question
        about = {key: one.about for key, one in asked.items() if one.question == question}
        found = self._answers[question](self._portal, about)
        return {key: found.get(key) for key in about}

    # -- safeguards and the rate limit

    def _check_all(self, group: list[Running[Any]]) -> Mapping[str, Any]:
        if self._check is not None:
            self._check()
        names = {one.key: one.action.operation for one in group if isinstance(one.action, Check)}
        checked = {key: self._stopped.get(name) for key, name in names.items()}
        if list(checked.values()).count(None) > 1 and not self._has_slot:
            # A wait after the reads would make them too old to permit a send, and they would be repeated.
            self._run(self._client.reserve())
            self._has_slot = True
        return checked

    def _permit(self, group: list[Running[Any]]) -> Mapping[str, Any]:
        permits = {one.key: one.action for one in group if isinstance(one.action, Permit)}
        methods = {permit.method for permit in permits.values()}
        now = self._clock.time()
        # rule: nothing is sent that the portal would refuse for its working time
        refused = {method: error for method in methods if (error := self._client.out_of_time(method, now))}
        if refused:
            return {key: refused[permit.method] for key, permit in permits.items() if permit.method in refused}
        with_tag = next(iter(permits.values())).with_tag
        # rule: what is sent at once fits into one request
        permitted = [key for key, one in permits.items() if one.with_tag is with_tag][: most_sends(with_tag=with_tag)]
        waited = 0.0
        if not self._has_slot:
            waited = self._run(self._client.reserve())  # rule: a write has its slot of the rate limit
            self._has_slot = True
        if self._safeguard is not None:
            self._safeguard()  # rule: the switch is read right before each send
        return dict.fromkeys(permitted, waited)

    # -- the portal

    def _read(self, group: list[Running[Any]]) -> Mapping[str, Any]:
        """Read; each answer with our clocks when it had come."""
        reads = {one.key: one.action.query for one in group if isinstance(one.action, Read)}
        if len(reads) == 1:
            [(key, query)] = reads.items()
            found = self._run(ask(self._client, query))
            return {key: (found, self._now())}
        answers: dict[str, Any] = {}
        for part in parts(reads, self._shared):
            merged, own_reply = merge(part, self._shared)
            try:
                reply = self._run(self._client.batch(merged))
            except Bitrix24Error as error:
                answers |= dict.fromkeys(part, error)
                continue
            came = self._now()
            for key, query in part.items():
                try:
                    answers[key] = self._run(query.read(self._client, own_reply(key, reply))), came
                except Exception as error:  # noqa: BLE001 - a reply that nobody expected is that course's trouble
                    answers[key] = error
        return answers

    def _send(self, group: list[Running[Any]]) -> Mapping[str, Any]:
        sends = {one.key: one.action for one in group if isinstance(one.action, SendCall)}
        self._has_slot = False
        begun = self._clock.monotonic()
        if len(sends) == 1:
            [(key, send)] = sends.items()
            try:
                answers = {key: self._run(send_one(self._client, send))}
            except Bitrix24Error as error:
                answers = {key: error}
        else:
            answers = self._run(send_many(self._client, sends))
        unknown = any(isinstance(one, Bitrix24OutcomeUnknown) and not one.answered for one in answers.values())
        self._sizes.note(unknown=unknown, seconds=self._clock.monotonic() - begun)
        return answers

    def _wait(self, group: list[Running[Any]]) -> Mapping[str, Any]:
        waits = [one.action for one in group if isinstance(one.action, Wait)]
        self._log_others([wait for wait in waits if isinstance(wait, WaitForOther)])
        if len(group) == 1:
            self._run(_sleep(waits[0].seconds, waits[0].reason))
            return {group[0].key: None}
        now = self._clock.monotonic()
        last = max(one.due for one in group if one.due <= min(other.due for other in group) + TOGETHER)
        self._run(_sleep(max(0.0, last - now), waits[0].reason))
        return {one.key: None for one in group if one.due <= last}

    def _log_others(self, waits: list[WaitForOther]) -> None:
        """Log once for which other attempts the group waits."""
        busy = {wait.busy.owner: wait.busy.seconds for wait in waits if wait.busy is not None}
        for owner, seconds in busy.items():
            subjects = [wait.subject for wait in waits if wait.busy is not None and wait.busy.owner == owner]
            tail = f" and {len(subjects) - 1} more" if len(subjects) > 1 else ""
            task, _, number = owner.rpartition(":try:")
            who = f"An earlier attempt of this task (try {number})" if task == self._task else f"Another task ({owner})"
            self._log.info(
                "%s may still be at work on %s%s. Waiting for up to %.0f s.", who, subjects[0], tail, seconds
            )

    def _now(self) -> tuple[float, float]:
        return self._clock.monotonic(), self._clock.time()


def _sleep(seconds: float, reason: str) -> Flow[None]:
    """Wait; the driver logs it if there is a reason."""
    yield Sleep(seconds, reason)
