"""Run flows with the access tokens of a keeper, and get another token whenever the portal calls one expired."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from airflow_provider_bitrix24.api.authorised import Authorised
from airflow_provider_bitrix24.hooks.threads import ato_the_end, to_the_end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_bitrix24.api.effects import Flow
    from airflow_provider_bitrix24.hooks.tokens import TokenKeeper

T = TypeVar("T")


def run_authorised(flow: Flow[T], keeper: TokenKeeper, drive: Callable[[Flow[bool]], bool]) -> T:
    """Run a flow with access tokens.

    :param flow: what to do.
    :param keeper: where they come from.
    :param drive: runs one stretch of it.
    """
    trip = Authorised(flow)
    renewal = keeper.last
    while not drive(trip.stretch(renewal.access_token, last=renewal.fresh, error=renewal.error)):
        renewal = to_the_end(keeper.renew, renewal.access_token, trip.method)
    return trip.value


async def arun_authorised(flow: Flow[T], keeper: TokenKeeper, drive: Callable[[Flow[bool]], Awaitable[bool]]) -> T:
    """Async twin of `run_authorised`: what blocks, blocks a thread."""
    trip = Authorised(flow)
    renewal = keeper.last
    while not await drive(trip.stretch(renewal.access_token, last=renewal.fresh, error=renewal.error)):
        renewal = await ato_the_end(keeper.renew, renewal.access_token, trip.method)
    return trip.value
