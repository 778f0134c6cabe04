"""What the Test button of the connection form finds out: one request that only reads, within ten seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24 import api, drivers

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_bitrix24.api.checkup import Checkup
    from airflow_provider_bitrix24.api.credentials import OAuthAuth
    from airflow_provider_bitrix24.api.effects import Flow
    from airflow_provider_bitrix24.api.settings import Settings

_STORE_WAIT: Final = 1.4
"""Seconds for the token store: with the times of the test, less than ten in all."""


def check(settings: Settings, connection: Connection, conn_id: str) -> tuple[bool, str]:
    """Return whether the connection works, and what it can do, in sentences.

    :raises Bitrix24Error: the portal cannot be reached, or does not accept the credentials.
    """
    found: Flow[Checkup] = api.checkup.check(api.flow.Caller(settings, tries=1))
    if settings.application is not None:
        return _check_application(settings, settings.application, found, conn_id)
    with drivers.make_session(settings) as session:
        checkup = drivers.run(found, session)
    address = f"{connection.host}/{connection.schema}"
    if any(secret in address for secret in settings.secrets):
        advice = "The host holds the webhook's secret, where everybody can read it: put the secret into the password."
        return checkup.works, f"{checkup.text} {advice}"
    return checkup.works, checkup.text


def _check_application(
    settings: Settings, application: OAuthAuth, found: Flow[Checkup], conn_id: str
) -> tuple[bool, str]:
    """The same with the access token that is stored: the API server could not keep a new one."""
    from airflow_provider_bitrix24.hooks.tokens import look_within

    tokens = look_within(_STORE_WAIT, settings, application, conn_id)
    if tokens.access_token is None:
        return False, (
            "There is a refresh token and no access token yet, and this test never refreshes. Run a task that uses the "
            "connection, or RefreshTokenOperator, and test again within the hour."
        )
    trip = api.authorised.Authorised(found)
    with drivers.make_session(settings) as session:
        if drivers.run(trip.stretch(tokens.access_token), session):
            return trip.value.works, trip.value.text
    return True, (
        f"Connected to {settings.portal}, which says that the access token has expired. That is no fault: the next "
        "task refreshes it. This test never does, so it cannot say what the application may do; test again within an "
        "hour after a task."
    )
