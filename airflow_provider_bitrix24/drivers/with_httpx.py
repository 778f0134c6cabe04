"""Run a flow with httpx, without blocking the event loop."""

from __future__ import annotations

import asyncio
import time
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, TypeVar, assert_never

import httpx

from airflow_provider_bitrix24.api.io import Request, Reserve, Response, Sleep, Slot
from airflow_provider_bitrix24.drivers.body import Body
from airflow_provider_bitrix24.drivers.environment import proxy_for, socket_options, tls_context, trusted_certificates
from airflow_provider_bitrix24.drivers.in_flight import InFlightRequest
from airflow_provider_bitrix24.drivers.single_write import PendingWrite, WholeWrites, pending_write
from airflow_provider_bitrix24.drivers.waiting import log_wait

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.io import Flow, Outcome
    from airflow_provider_bitrix24.api.settings import Settings
    from airflow_provider_bitrix24.drivers.waiting import Pacer

T = TypeVar("T")

_CHUNK: Final = 64 * 1024
"""Bytes that are read at once."""


async def arun(flow: Flow[T], client: httpx.AsyncClient, pacer: Pacer | None = None) -> T:
    """Run a flow to its end without blocking the event loop.

    :param flow: what to do.
    :param client: from `make_client`.
    :param pacer: who keeps the slots; without one every slot is free.
    :return: what the flow returns; what it raises is raised.
    """
    outcome: Outcome | Slot | None = None
    while True:
        try:
            command = flow.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration is not generic
        if isinstance(command, Request):
            outcome = await _apost(client, command)
        elif isinstance(command, Sleep):
            log_wait(command)
            await asyncio.sleep(command.seconds)
            outcome = None
        elif isinstance(command, Reserve):
            outcome = Slot(0.0) if pacer is None else await asyncio.to_thread(pacer.reserve, command)
        else:
            assert_never(command)


def make_client(settings: Settings) -> httpx.AsyncClient:
    """An asynchronous client for one portal.

    :raises Bitrix24ConfigError: the certificates or the proxy of the environment cannot be used.
    """
    proxy = proxy_for(settings)
    tls = tls_context(trusted_certificates(settings))
    transport = httpx.AsyncHTTPTransport(
        verify=tls,
        trust_env=False,
        proxy=proxy and httpx.Proxy(proxy, ssl_context=tls if proxy.startswith("https:") else None),
        socket_options=socket_options(settings),
        limits=httpx.Limits(max_keepalive_connections=0),  # it would take what came early for the next response
    )
    transport._pool._network_backend = WholeWrites()
    client = httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


async def _apost(client: httpx.AsyncClient, request: Request) -> Outcome:
    in_flight = InFlightRequest(request)
    try:
        async with asyncio.timeout(in_flight.seconds_left()) as limit:
            pending_write.set(PendingWrite(in_flight, limit))
            async with client.stream(
                request.verb,
                request.url,
                content=request.body,
                headers={"Accept-Encoding": "gzip", **request.headers},
                timeout=httpx.Timeout(request.read_timeout, connect=request.connect_timeout),
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = Body(headers, request.max_bytes)
                async for chunk in response.aiter_raw(_CHUNK):
                    body.add(chunk)
                return Response(status=response.status_code, headers=headers, body=body.whole(), at=time.time())
    except Exception as error:  # noqa: BLE001 - whatever it is, it may print the address
        return in_flight.outcome_of(error)
