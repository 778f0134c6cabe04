"""Wait in the triggerer until an object satisfies a condition. Triggers only read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.values import plain
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24NotFound
from airflow_provider_bitrix24.triggers.payments import WaitTrigger
from airflow_provider_bitrix24.triggers.poll_result import PollResult, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook


class RecordTrigger(WaitTrigger):
    """Wait until what a method returns satisfies a condition.

    :param method: REST method that reads one object.
    :param parameters: its parameters; JSON values only.
    :param condition: what is waited for, see `api.conditions`.
    :param fail_when: what ends the wait as a failure; None for nothing.
    """

    def __init__(
        self,
        *,
        method: str,
        parameters: Mapping[str, Any],
        condition: Mapping[str, Any],
        fail_when: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.method = method
        self.parameters = dict(parameters)
        self.condition = dict(condition)
        self.fail_when = None if fail_when is None else dict(fail_when)

    def subject(self) -> dict[str, Any]:
        """Return the call and the conditions."""
        return {
            "method": self.method,
            "parameters": self.parameters,
            "condition": self.condition,
            "fail_when": self.fail_when,
        }

    def looker(
        self, hook: Bitrix24Hook, until_the_end: AsyncExitStack
    ) -> Callable[[float], Awaitable[tuple[PollResult, bool]]]:
        """Look alone: an object that is read by any method has no poll."""

        async def wait_and_look(seconds: float) -> tuple[PollResult, bool]:
            await asyncio.sleep(seconds)
            return await self.look(hook), False

        return wait_and_look

    async def look(self, hook: Bitrix24Hook) -> PollResult:
        """Read the object and judge it."""
        try:
            result = await hook.acall(self.method, self.parameters)
        except Bitrix24NotFound as error:
            return gone(self.method, error)
        return judge_record(self.method, result, self.condition, self.fail_when)


def judge_record(
    method: str, result: Any, condition: Mapping[str, Any], fail_when: Mapping[str, Any] | None
) -> PollResult:
    """Judge an object: the condition is met, cannot be met any more, or is not met yet.

    :raises Bitrix24ConfigError: the method does not return one object, or a field of a condition is not in it.
    """
    from airflow_provider_bitrix24.api.conditions import holds

    found = _the_object(method, result)
    shown = ", ".join(f"{key} {wanted!r}" for key, wanted in condition.items())
    if holds(condition, found, "condition"):
        return PollResult(reason=Reason.MET, message=f"{method}: {shown}", items=[plain(found)])
    if fail_when is not None and holds(fail_when, found, "fail_when"):
        why = ", ".join(f"{key} {wanted!r}" for key, wanted in fail_when.items())
        return PollResult(
            reason=Reason.FAILED, message=f"{method}: fail_when holds ({why}). Waiting for {shown} was ended."
        )
    return PollResult(reason=Reason.WAITING, message=f"{method}: not yet {shown}")


def gone(method: str, error: Bitrix24NotFound) -> PollResult:
    """Return the result for an object that does not exist."""
    return PollResult(
        reason=Reason.DELETED, message=f"{method}: there is no such object. {error} Waiting would not end."
    )


def _the_object(method: str, result: Any) -> Mapping[str, Any]:
    """Return the object in a result: the result itself, or what it holds under its only key (``item``, ``payment``)."""
    if isinstance(result, Mapping) and len(result) == 1 and isinstance(next(iter(result.values())), Mapping):
        result = next(iter(result.values()))
    if not isinstance(result, Mapping):
        raise Bitrix24ConfigError(
            f"{method} returns {type(result).__name__}, not one object: wait with a method such as crm.deal.get."
        )
    return result
