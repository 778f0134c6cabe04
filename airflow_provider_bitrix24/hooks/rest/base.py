"""What the typed calls are made of: they build a call and send it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.hooks.any_method import AnyMethod

T = TypeVar("T")


class Sender:
    """Sends calls as they are made.

    :meta private:
    """

    def __init__(self, hook: AnyMethod) -> None:
        self._hook = hook

    def _send(self, call: Call[T]) -> T:
        return self._hook.send(call)


class AsyncSender:
    """Sends calls as they are made, without blocking the event loop.

    :meta private:
    """

    def __init__(self, hook: AnyMethod) -> None:
        self._hook = hook

    async def _send(self, call: Call[T]) -> T:
        return await self._hook.asend(call)
