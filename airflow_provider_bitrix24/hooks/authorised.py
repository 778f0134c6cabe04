"""Run flows with the access tokens of a manager, and get another token whenever the portal calls one expired."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from airflow_provider_bitrix24.api.authorised import Authorised
from airflow_provider_bitrix24.hooks.threads import arun_uninterrupted, run_uninterrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.hooks.tokens import TokenManager

T = TypeVar("T")


def run_authorised(flow: Flow[T], manager: TokenManager, drive: Callable[[Flow[bool]], bool]) -> T:
    """Run a flow with access tokens.

    :param flow: what to do.
    :param manager: where they come from.
    :param drive: runs one stretch of it.
    """
    trip = Authorised(flow)
    renewal = manager.last
    while not drive(trip.stretch(renewal.access_token, last=renewal.fresh, error=renewal.error)):
        renewal = run_uninterrupted(manager.get_fresh, renewal.access_token, trip.method)
    return trip.value


async def arun_authorised(flow: Flow[T], manager: TokenManager, drive: Callable[[Flow[bool]], Awaitable[bool]]) -> T:
    """Async twin of `run_authorised`: what blocks, blocks a thread."""
    trip = Authorised(flow)
    renewal = manager.last
    while not await drive(trip.stretch(renewal.access_token, last=renewal.fresh, error=renewal.error)):
        renewal = await arun_uninterrupted(manager.get_fresh, renewal.access_token, trip.method)
    return trip.value
