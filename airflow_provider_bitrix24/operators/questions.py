"""Ask a person (Airflow 3.3): park the task, show what may be ours, and make a decision of the answer.

Airflow keeps one question for a task instance, in all of its attempts, and never changes it: asked again, it shows what
it showed first. So what was asked is noted, and a question that would have to be another one is not put.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24Error, PaymentAmbiguous
from airflow_provider_bitrix24.journal.commands import PROGRAM
from airflow_provider_bitrix24.journal.entry import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

ASKED: Final = "bitrix24_question"
"""Where the task state store keeps which options Airflow shows."""
GIVE_UP: Final = "Give up"
_MEANING: Final = """
- **{again}** sends the call once more, after another look at the portal: only if nothing new has appeared there since.
- **{give_up}** sends nothing and ends this task red."""
_ADOPTION: Final = """
- **Use payment …** takes that payment for the one that this task was to add: nothing is added."""


def refuse_if_nobody_can_be_asked() -> None:
    """Refuse ``on_unknown="ask"`` where Airflow cannot park a task for a person.

    :raises Bitrix24ConfigError: Airflow is older than 3.3.
    """
    if not AIRFLOW_V_3_3_PLUS:
        raise Bitrix24ConfigError(
            "on_unknown='ask' needs Airflow 3.3 or newer: older ones cannot park a task until a person has answered. "
            "Nothing was sent. Use on_unknown='fail' here."
        )


def ask(
    context: Context,
    unclear: PaymentAmbiguous,
    *,
    name: str,
    path: str,
    again: str,
    timeout: timedelta,
    command: str,
    hook: Bitrix24Hook,
    method_name: str,
) -> NoReturn:
    """Park the task until a person has answered.

    :param name: what the question is about: "deal 4".
    :param path: its path on the portal.
    :param again: the option to send once more: "Add again".
    :param timeout: how long to wait for an answer.
    :param command: how to decide at a terminal instead.
    :param hook: the connection to the portal.
    :param method_name: the operator's method that goes on.
    :raises AirflowFailException: Airflow would show an older question, with other options.
    :raises TaskAwaitingInput: the task is parked.
    """
    from airflow.sdk.exceptions import TaskAwaitingInput
    from airflow.sdk.execution_time.context import NEVER_EXPIRE
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    options = _options(unclear.candidates, again, hook)
    store: Any = context["task_state_store"]
    if store.get(ASKED, list(options)) != list(options):
        raise AirflowFailException(
            f"PaymentAmbiguous: {unclear} Nobody is asked in Airflow this time: it has asked about this task before, "
            "and would show that older question, with other payments to choose from."
        )
    store.set(ASKED, list(options), retention=NEVER_EXPIRE)
    body = f"{unclear}\n\n[Open {name} in Bitrix24]({hook.settings.origin}{path}), look, and choose:\n"
    body += (_ADOPTION if unclear.candidates else "") + _MEANING.format(again=again, give_up=GIVE_UP)
    body += f"\n\nWithout an answer within {timeout} the task ends red, and nothing is sent."
    upsert_hitl_detail(
        ti_id=context["ti"].id,
        options=list(options),
        subject=f"{name[:1].upper()}{name[1:]}: what has become of the payment?",
        body=body,
        multiple=False,
        params={},
    )
    asked = {"options": options, "candidates": list(unclear.candidates), "timeout": str(timeout), "command": command}
    raise TaskAwaitingInput(
        method_name=method_name,
        kwargs={"asked": asked},
        timeout=timeout,
    )


def decision_of(event: Any, asked: Mapping[str, Any]) -> Decision:
    """Return what the person has decided.

    :param event: what Airflow hands over: ``chosen_options``, ``responded_at``, ``responded_by_user``.
    :param asked: what :func:`ask` has noted.
    :raises PaymentAmbiguous: nobody has answered in time, or the answer is none of the options.
    """
    chosen = event.get("chosen_options") if isinstance(event, dict) else None
    option = asked["options"].get(chosen[0]) if chosen and len(chosen) == 1 else None
    if option is None or event.get("timedout"):
        # A release before may have asked, without a command.
        command = asked.get("command", f"{PROGRAM} resolve")
        what = f"Airflow handed over no answer to it ({chosen})" if chosen else "nobody has answered it"
        raise PaymentAmbiguous(
            f"A person was asked what has become of the payment, and {what} within {asked['timeout']}. Nothing was "
            f"sent by this task since. Clear it to be asked again; or decide by `{command}` with --adopt ID, "
            "--pay-again or --give-up, and clear it then.",
            tuple(asked["candidates"]),
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
        f"Use payment {payment_id}{sums.get(payment_id, '')}": {"what": "adopt", "payment_id": payment_id}
        for payment_id in candidates
    }
    return {
        **options,
        again: {"what": "pay_again", "payment_id": None},
        GIVE_UP: {"what": "give_up", "payment_id": None},
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
