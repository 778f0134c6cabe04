"""Ask a person (Airflow 3.3): park the task, show what may be ours, and make a decision of the answer.

Airflow keeps one question for a task instance, in all of its attempts, and never changes it: asked again, it shows what
it showed first. So what was asked is noted, and a question that would have to be another one is not put.

An answer that Airflow holds and has not handed over (a new attempt began instead, or it came after the time-out) is
read by a trigger before the question is put again, which would drop the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

from airflow_provider_bitrix24.at_most_once.record import Decision
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24Error, PaymentAmbiguous
from airflow_provider_bitrix24.failures import TaskFailure, failure_of
from airflow_provider_bitrix24.journal.task_state import DOCUMENT, patient_read
from airflow_provider_bitrix24.journal.terminal import PROGRAM
from airflow_provider_bitrix24.operators.journals import is_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

ASKED: Final = "bitrix24_question"
"""Where the task state store keeps which options Airflow shows, and which answer was heard last."""
GIVE_UP: Final = "Give up"
Answer = Literal["may be there", "not there", "not asked", "heard"]
"""What is known of the answer that Airflow may hold: nothing, that there was none just now, that Airflow does not know
the question, or that the answer was heard."""
LOOK: Final = timedelta(minutes=10)
"""How long a task waits for a triggerer, which reads the answer that Airflow may hold already."""
_ADOPTION: Final = """
- **Use payment …** takes that payment for the one that this task was to add: nothing is added."""
_MEANING: Final = """
- **{give_up}** sends nothing; the task fails.
- **{again}** sends the call once more. Choose it only if you have looked, and the payment is not there."""


_LATE: Final = (
    ": Airflow 3.4 does not hand it over to the next attempt. Clear this task: it asks again."
    if AIRFLOW_V_3_4_PLUS
    else " until this task is cleared. Clear it: it carries the decision out, or asks again if there is none."
)
"""Whether a decision after the time-out still counts: from Airflow 3.4 on, a question belongs to one attempt only."""


def refuse_if_nobody_can_be_asked() -> None:
    """Refuse ``on_unknown="ask"`` where Airflow cannot park a task for a person.

    :raises Bitrix24ConfigError: Airflow is older than 3.3.
    """
    if not AIRFLOW_V_3_3_PLUS:
        raise Bitrix24ConfigError(
            "on_unknown='ask' needs Airflow 3.3 or newer: older ones cannot park a task until a person has answered.",
            NOT_SENT,
            "Use on_unknown='fail' here.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to a person, and how the task goes on after it."""

    name: str
    """What it is about: "deal 4"."""
    path: str
    """Its path on the portal."""
    again: str
    """The option to send once more: "Add again"."""
    timeout: timedelta
    """How long to wait for an answer."""
    command: str
    """How to decide at a terminal instead."""
    method_name: str
    """The operator's method that goes on."""
    candidates: tuple[int, ...]
    unresolved_keys: tuple[str, ...]
    """Other keys with an unknown outcome on the same object."""

    def body(self, origin: str) -> str:
        """Return the text of the question, in Markdown."""
        body = f"It is not known whether {self.name} was changed by this task; its log says why.\n\n"
        if self.unresolved_keys:
            body += (
                f"Also unknown, for the same object: {', '.join(self.unresolved_keys)}. Decide about that first.\n\n"
            )
        body += f"[Open {self.name} in Bitrix24]({origin}{self.path}), look, and choose:\n"
        body += (_ADOPTION if self.candidates else "") + _MEANING.format(again=self.again, give_up=GIVE_UP)
        return f"{body}\n\nWithout an answer within {span(self.timeout)} the task fails, and nothing is sent."


def ask(
    context: Context,
    unclear: PaymentAmbiguous,
    question: Question,
    hook: Bitrix24Hook,
    *,
    answer: Answer,
    parked: Sequence[int] | None = None,
) -> NoReturn:
    """Park the task until a person has answered.

    :param answer: what is known of the answer that Airflow may hold to the question before.
    :param parked: what there was to choose from when this attempt began, if a decision was waited for then.
    :raises AirflowFailException: Airflow would show an older question, with other options; or nobody would wake the
        task up.
    :raises TaskAwaitingInput: the task is parked.
    :raises TaskDeferred: the answer that Airflow may hold is read first.
    """
    from airflow.sdk.exceptions import TaskAwaitingInput, TaskDeferred
    from airflow.sdk.execution_time.context import NEVER_EXPIRE
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    from airflow_provider_bitrix24.triggers.human_response import StoredResponseTrigger

    if _runs_without_a_scheduler():
        raise _failure_without_question(
            unclear,
            "Nobody is asked: `airflow dags test` and `dag.test()` have no scheduler, which would end the wait. Decide "
            "by the command above, or run the DAG in an Airflow with a scheduler.",
        )
    store: Any = context["task_state_store"]
    before = _noted(store)
    # rule: the answer to a question whose note is gone is read before it is asked again
    if before is None and parked is not None:
        # Its note is gone; that does not mean that Airflow holds no answer to it.
        before = {"options": _options(parked, question.again, hook), "candidates": list(parked)}
        store.set(ASKED, before, retention=NEVER_EXPIRE)
    if answer == "not asked":  # rule: a question that Airflow does not know is asked again
        before = None
    same = before is not None and before["candidates"] == list(question.candidates)
    options = before["options"] if before is not None and same else _options(question.candidates, question.again, hook)
    asked = {"options": options, "candidates": list(question.candidates)}
    more = {"timeout": span(question.timeout), "command": question.command}
    park: dict[str, Any] = {"method_name": question.method_name}
    if answer == "may be there" and before is not None:
        trigger = StoredResponseTrigger(str(context["ti"].id))
        raise TaskDeferred(trigger=trigger, **park, kwargs={"asked": {**before, **more, "looking": True}}, timeout=LOOK)
    if before is not None and not same:
        raise _failure_without_question(
            unclear,
            "Nobody is asked in Airflow this time: it has asked about this task before, and would show that older "
            "question, with other payments to choose from.",
        )
    if before is None or answer == "heard":
        # It shows the question, and drops the answer to it.
        upsert_hitl_detail(
            ti_id=context["ti"].id,
            options=list(options),
            subject=f"{question.name[:1].upper()}{question.name[1:]}: is the payment on the portal?",
            body=question.body(hook.settings.origin),
            multiple=False,
            params={},
        )
    store.set(ASKED, asked, retention=NEVER_EXPIRE)
    raise TaskAwaitingInput(**park, kwargs={"asked": {**asked, **more}}, timeout=question.timeout)


def note_heard(context: Context, decision: Decision) -> None:
    """Note that the decision was taken over, so that a later attempt that gets it again from Airflow asks again."""
    from airflow.sdk.execution_time.context import NEVER_EXPIRE

    store: Any = context["task_state_store"]
    before = _noted(store)
    if before is not None:
        store.set(ASKED, {**before, "heard": decision.at}, retention=NEVER_EXPIRE)


def was_heard(context: Context, decision: Decision) -> bool:
    """Whether the decision was taken over before."""
    return (_noted(context["task_state_store"]) or {}).get("heard") == decision.at


def parked_before(context: Context) -> list[int] | None:
    """What there is to choose from in the task state, if it waits for a person's decision; None if it does not."""
    if is_first(context["ti"]):
        return None
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        document = patient_read(context["task_state_store"], DOCUMENT)
    except AirflowRuntimeError:
        return None  # reading the journal meets it as well, and says so
    if not isinstance(document, dict) or document.get("question") is None:
        return None
    return [int(candidate) for candidate in document.get("candidates") or ()]


def _noted(store: Any) -> dict[str, Any] | None:
    noted = patient_read(store, ASKED)
    return noted if isinstance(noted, dict) else None


def _runs_without_a_scheduler() -> bool:
    """Whether the task runs inside `dag.test()`, where a wait for a person would never end."""
    from airflow.sdk.execution_time import task_runner

    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__ == "InProcessSupervisorComms"


def _failure_without_question(unclear: PaymentAmbiguous, why: str) -> TaskFailure:
    told = PaymentAmbiguous(str(unclear), why, candidates=unclear.candidates)
    told.sent = unclear.sent
    return failure_of(told)


def span(length: timedelta) -> str:
    """Return a length of time in words: "1 day", "8 hours 30 minutes"."""
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    parts = {"day": minutes // 1440, "hour": minutes // 60 % 24, "minute": minutes % 60, "second": seconds}
    return " ".join(f"{number} {name}{'s' if number > 1 else ''}" for name, number in parts.items() if number)


def was_asked(event: Any) -> bool:
    """Whether Airflow knows the question, by what the trigger reports that looked for its answer."""
    return not isinstance(event, dict) or event.get("asked") is not False


def decision_of(event: Any, asked: Mapping[str, Any]) -> Decision | None:
    """Return what the person has decided.

    :param event: what Airflow hands over: ``chosen_options``, ``responded_at``, ``responded_by_user``.
    :param asked: what :func:`ask` has noted.
    :return: the decision; None if the task only looked for an answer, and there is none.
    :raises PaymentAmbiguous: nobody has answered in time, or the answer is none of the options.
    """
    chosen = event.get("chosen_options") if isinstance(event, dict) else None
    option = asked["options"].get(chosen[0]) if chosen and len(chosen) == 1 else None
    if not chosen and asked.get("looking"):
        return None
    if option is None or event.get("timedout"):
        # A release before may have asked, without a command.
        command = asked.get("command", f"{PROGRAM} resolve")
        what = f"Airflow handed over no answer to it ({chosen})" if chosen else "nobody has answered it"
        raise PaymentAmbiguous(
            f"A person was asked about the outcome of the payment, and {what} within {asked['timeout']}. Nothing was "
            f"sent by this task since. A decision in the Airflow UI from now on has no effect{_LATE} Or decide by "
            f"`{command}` with --use-payment ID, --send-again or --abandon, and clear it then.",
            candidates=tuple(asked["candidates"]),
        )
    return Decision(
        what=option["what"],
        payment_id=option["payment_id"],
        candidates=tuple(asked["candidates"]),
        by=_name(event.get("responded_by_user")),
        at=_iso(event.get("responded_at")),
        through="Airflow",
    )


def _options(candidates: Sequence[int], again: str, hook: Bitrix24Hook) -> dict[str, dict[str, Any]]:
    """Return each option with what it decides."""
    sums = _sums(candidates, hook)
    options: dict[str, dict[str, Any]] = {
        f"Use payment {payment_id}{sums.get(payment_id, '')}": {"what": "use_payment", "payment_id": payment_id}
        for payment_id in candidates
    }
    return {
        **options,
        GIVE_UP: {"what": "abandon", "payment_id": None},
        again: {"what": "send_again", "payment_id": None},
    }


def _sums(payment_ids: Sequence[int], hook: Bitrix24Hook) -> dict[int, str]:
    """Return the sums in words, as far as the portal tells: the question can do without."""
    if not payment_ids:
        return {}
    from airflow_provider_bitrix24.api.models import Payment

    try:
        payments = hook.get_crm_payments(payment_ids=payment_ids)
    except Bitrix24Error:
        return {}
    return {number: f" ({found.money})" for number, found in payments.items() if isinstance(found, Payment)}


def _name(user: Any) -> str:
    """Who answered."""
    if not isinstance(user, dict):
        return "unknown"
    name, number = str(user.get("name") or ""), str(user.get("id") or "")
    return " ".join(part for part in (name, f"({number})" if number and number != name else "") if part) or "unknown"


def _iso(at: Any) -> str:
    return str(at.isoformat() if hasattr(at, "isoformat") else at)
