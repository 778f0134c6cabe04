"""From an Airflow connection to calls: plain methods, and their twins prefixed ``a`` for triggers and async tasks.

Every method is one flow of `api`, run by one of the two drivers. A write is sent as it is called; what
keeps from paying twice are the operators and `Bitrix24Hook.payments`.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_provider_bitrix24 import api, connections
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.hooks import masking
from airflow_provider_bitrix24.hooks.any_method import AnyMethod
from airflow_provider_bitrix24.hooks.settings import read_settings

if TYPE_CHECKING:
    import httpx
    import requests

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.settings import Settings
    from airflow_provider_bitrix24.api.tokens import Tokens
    from airflow_provider_bitrix24.drivers import Pacer
    from airflow_provider_bitrix24.hooks.pacing import ClusterWorkingTime
    from airflow_provider_bitrix24.hooks.tokens import TokenManager
    from airflow_provider_bitrix24.operators.task_payments import TaskPayments
    from airflow_provider_bitrix24.pacing import HostWorkingTime

T = TypeVar("T")


def _open_client(settings: Settings) -> httpx.AsyncClient:
    """For a thread: loading libraries and certificates takes longer than an event loop may stand still."""
    from airflow_provider_bitrix24 import drivers

    return drivers.make_client(settings)


def _token_manager(settings: Settings, conn_id: str) -> TokenManager | None:
    """Who keeps the tokens, if the connection has any."""
    if settings.application is None:
        return None
    from airflow_provider_bitrix24.hooks.tokens import make_token_manager

    return make_token_manager(settings, settings.application, conn_id)


def _pacer(settings: Settings, pace_conn_id: str | None) -> Pacer | None:
    """Return the pacer for the portal's rate limit; None if the limit is off."""
    if settings.rate_limit.off:
        return None
    from airflow_provider_bitrix24.hooks.pacing import make_pacer

    return make_pacer(settings, pace_conn_id)


def _working_time(client: ApiClient, pace_conn_id: str | None) -> HostWorkingTime | ClusterWorkingTime | None:
    """Return where tasks share what they know of the working time; None if the limits are off."""
    if client.settings.rate_limit.off or not client.settings.working_time_limit:
        return None
    from airflow_provider_bitrix24.hooks.pacing import make_working_time

    shared = make_working_time(client.settings, pace_conn_id)
    shared.share(client.working_time)
    return shared


class Bitrix24Hook(AnyMethod, BaseHook):
    """Call the REST methods of a Bitrix24 portal through an incoming webhook or as an OAuth application.

    Where each value comes from, the first that is given counts:

    1. portal: the connection's ``host`` (a bare host, an address, or the whole webhook address);
    2. user and secret: the webhook address, if there is one (also as the whole connection, as in
       ``AIRFLOW_CONN_…=https://acme.bitrix24.com/rest/1/SECRET/``), else ``login`` and ``password``; they must agree;
    3. everything else: the connection's ``extra``, else the defaults of `api.settings.Settings`.

    With the extra ``auth: oauth``, ``login`` and ``password`` are client id and client secret, and the tokens come from
    the token store: an Airflow Variable, or the database that ``token_conn_id`` names.

    The connection is read when it is first needed. Secrets are masked in the logs as soon as they are known.

    Requests keep within the portal's rate limit (the connection's extra ``rate_limit``), together with all others of
    this host, and of all hosts that share a database.

    :param bitrix24_conn_id: Airflow connection of type ``bitrix24``.
    :param pace_conn_id: Airflow connection of that database, unless ``[bitrix24] pace_conn_id`` names one for all.
    """

    conn_name_attr = "bitrix24_conn_id"
    default_conn_name = "bitrix24_default"
    conn_type = "bitrix24"
    hook_name = "Bitrix24"

    def __init__(
        self, bitrix24_conn_id: str = default_conn_name, *, pace_conn_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.bitrix24_conn_id = bitrix24_conn_id
        self.pace_conn_id = pace_conn_id
        self._client: ApiClient | None = None
        self._pacer: Pacer | None = None
        self._working_time: HostWorkingTime | ClusterWorkingTime | None = None
        self._token_manager: TokenManager | None = None
        self._session: requests.Session | None = None
        self._session_pid = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to this process; a copy reads the connection again."""
        return {
            **self.__dict__,
            "_client": None,
            "_pacer": None,
            "_working_time": None,
            "_token_manager": None,
            "_session": None,
            "_session_pid": 0,
        }

    # -- the connection ------------------------------------------------------------------------------------------

    @property
    def client(self) -> ApiClient:
        """The portal, for the flows of `api`; reads the connection when first used. In a coroutine: `aclient`."""
        if self._client is None:
            connection = connections.find(self.bitrix24_conn_id, self.conn_name_attr, self.get_connection)
            extra = connections.read_extra(connection, self.bitrix24_conn_id)
            settings = read_settings(connection, extra, self.bitrix24_conn_id)
            masking.mask(settings.secrets)
            self._token_manager = _token_manager(settings, self.bitrix24_conn_id)
            self._pacer = _pacer(settings, self.pace_conn_id)
            client = api.client.ApiClient(settings, paced=self._pacer is not None)
            self._working_time = _working_time(client, self.pace_conn_id)
            self._client = client
        return self._client

    async def aclient(self) -> ApiClient:
        """The portal, for the flows of `api`; reads the connection when first used."""
        if self._client is None:
            connection = await connections.afind(self.bitrix24_conn_id, self.conn_name_attr)
            extra = await connections.aread_extra(connection, self.bitrix24_conn_id)
            settings = read_settings(connection, extra, self.bitrix24_conn_id)
            await masking.amask(settings.secrets)
            from airflow_provider_bitrix24.hooks.threads import arun_uninterrupted

            if settings.application is not None:
                self._token_manager = await arun_uninterrupted(_token_manager, settings, self.bitrix24_conn_id)
            self._pacer = await arun_uninterrupted(_pacer, settings, self.pace_conn_id)
            client = api.client.ApiClient(settings, paced=self._pacer is not None)
            self._working_time = await arun_uninterrupted(_working_time, client, self.pace_conn_id)
            self._client = client
        return self._client

    @property
    def settings(self) -> Settings:
        """The portal's settings."""
        return self.client.settings

    @property
    def portal(self) -> str:
        """The portal's name in keys and receipts: ``portal_id`` of the connection, else its host."""
        return self.settings.portal

    def run(self, flow: Flow[T]) -> T:
        """Run a flow of `api` to its end."""
        from airflow_provider_bitrix24 import drivers

        settings, session = self.settings, self._session
        if session is None or self._session_pid != os.getpid():  # a forked process must not share sockets
            session = drivers.make_session(settings)
            self._session, self._session_pid = session, os.getpid()
        try:
            if self._token_manager is None:
                return drivers.run(flow, session, self._pacer)
            from airflow_provider_bitrix24.hooks.threads import run_uninterrupted

            trip, renewal = api.authorised.Authorised(flow), self._token_manager.last
            while not drivers.run(
                trip.stretch(renewal.access_token, last=renewal.fresh, error=renewal.error), session, self._pacer
            ):
                renewal = run_uninterrupted(self._token_manager.get_fresh, renewal.access_token, trip.method)
            return trip.value
        finally:
            self._share_working_time()

    async def arun(self, flow: Flow[T]) -> T:
        """Run a flow of `api` to its end without blocking the event loop."""
        settings = (await self.aclient()).settings
        http_client = await asyncio.to_thread(_open_client, settings)
        from airflow_provider_bitrix24 import drivers

        try:
            async with http_client:
                if self._token_manager is None:
                    return await drivers.arun(flow, http_client, self._pacer)
                from airflow_provider_bitrix24.hooks.threads import arun_uninterrupted

                trip, renewal = api.authorised.Authorised(flow), self._token_manager.last
                while not await drivers.arun(
                    trip.stretch(renewal.access_token, last=renewal.fresh, error=renewal.error),
                    http_client,
                    self._pacer,
                ):
                    renewal = await arun_uninterrupted(self._token_manager.get_fresh, renewal.access_token, trip.method)
                return trip.value
        finally:
            await asyncio.to_thread(self._share_working_time)

    def _share_working_time(self) -> None:
        """Tell the other tasks of this host what the portal has said of its working time."""
        if self._working_time is not None and self.client.working_time.unshared:
            self._working_time.share(self.client.working_time)

    def refresh_token(self, *, min_lifetime: float) -> tuple[bool, Tokens]:
        """Refresh the tokens of the OAuth application, unless the access token lives long enough.

        https://apidocs.bitrix24.com/settings/oauth/auto-renewal.html

        :param min_lifetime: seconds that the access token must live at least.
        :return: whether they were refreshed, and the tokens.
        :raises Bitrix24ConfigError: the connection is a webhook's, which has no tokens.
        :raises Bitrix24SignInNeeded: the refresh token is dead; somebody has to sign in again.
        :raises Bitrix24TokenError: the token endpoint cannot be reached, or gives no usable response.
        """
        from airflow_provider_bitrix24.hooks.threads import run_uninterrupted

        _ = self.client
        return run_uninterrupted(self._tokens().refresh, min_lifetime)

    async def arefresh_token(self, *, min_lifetime: float) -> tuple[bool, Tokens]:
        """Async twin of `refresh_token`."""
        from airflow_provider_bitrix24.hooks.threads import arun_uninterrupted

        await self.aclient()
        return await arun_uninterrupted(self._tokens().refresh, min_lifetime)

    def _tokens(self) -> TokenManager:
        if self._token_manager is None:
            raise Bitrix24ConfigError(
                f"The Airflow connection {self.bitrix24_conn_id!r} is a webhook's: it has no tokens to refresh.",
                "Set its extra auth to oauth if it is an OAuth application.",
                NOT_SENT,
            )
        return self._token_manager

    # -- payments of a running task ------------------------------------------------------------------------------

    @property
    def payments(self) -> TaskPayments:
        """Payments from ``@task`` functions, each at most once for its key, with the running task's journal."""
        from airflow_provider_bitrix24.operators.task_payments import TaskPayments

        return TaskPayments(self)

    # -- Airflow's connection form -------------------------------------------------------------------------------

    def test_connection(self) -> tuple[bool, str]:
        """Say what the connection may do and what is missing; only reads, never refreshes a token, and never raises."""
        from airflow_provider_bitrix24.hooks import connection_test

        return connection_test.test(self.bitrix24_conn_id, self.get_connection)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The standard fields of the form, for Airflow 3.1; newer ones read the provider's metadata."""
        from airflow_provider_bitrix24.hooks import form

        return form.field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The other fields of the form, for Airflow 3.1; newer ones read the provider's metadata."""
        from airflow_provider_bitrix24.hooks import form

        return form.widgets()
