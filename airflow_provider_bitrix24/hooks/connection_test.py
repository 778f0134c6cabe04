"""What the Test button of the connection form finds out: one request that only reads, within ten seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24 import api, connections, drivers, options
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24Error
from airflow_provider_bitrix24.hooks import masking
from airflow_provider_bitrix24.hooks.settings import read_settings
from airflow_provider_bitrix24.hooks.threads import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Connection

    from airflow_provider_bitrix24.api.connection_test import ConnectionReport
    from airflow_provider_bitrix24.api.credentials import OAuthAuth
    from airflow_provider_bitrix24.api.settings import Settings

TIMES: Final[dict[str, Any]] = {"connect_timeout": 1.5, "read_timeout": 4.0, "rate_limit_wait": 0.0}
"""Short, because a person waits in front of a form or a shell."""
LIMIT: Final = 9.5
"""Seconds for all of it: three steps of connecting, one answer, and what has no limit of its own."""


def test(conn_id: str, get_connection: Callable[[str], Connection]) -> tuple[bool, str]:
    """Return whether a connection works, and what it can do, in sentences; never raises.

    :param conn_id: the Airflow connection; may be one that was made up for this test.
    :param get_connection: reads it.
    """
    attempt = _Attempt(conn_id, get_connection)
    try:
        return within(LIMIT, attempt.run)
    except TimeoutError:
        return False, f"No result within {LIMIT:g} s: {attempt.hangs_in} Nothing was changed."
    except Bitrix24Error as error:
        return False, str(error)
    except Exception as error:  # noqa: BLE001 - the form shows what is returned, and nothing else
        return False, f"The Airflow connection cannot be read ({type(error).__name__})."


def ask(settings: Settings, access_token: str | None = None) -> ConnectionReport | None:
    """Ask the portal what the connection can do.

    :param access_token: of an application; never refreshed here.
    :return: None if the portal says that the access token has expired.
    :raises Bitrix24Error: the portal cannot be reached, or does not accept the credentials.
    """
    settings = settings.model_copy(update=TIMES)
    found = api.connection_test.check(api.client.ApiClient(settings, tries=1))
    with drivers.make_session(settings) as session:
        if settings.application is None:
            return drivers.run(found, session)
        trip = api.authorised.Authorised(found)
        return trip.value if drivers.run(trip.stretch(access_token), session) else None


def _journal_advice() -> str:
    """Say if no journal is configured, as far as this process sees Airflow's configuration."""
    try:
        if options.read("journal_conn_id") is not None:
            return ""
    except Bitrix24ConfigError as error:
        return str(error)
    return (
        "No SQL journal is configured here ([bitrix24] journal_conn_id): an operator without journal_conn_id knows "
        "only its own task."
    )


class _Attempt:
    """One test, and where it is at."""

    def __init__(self, conn_id: str, get_connection: Callable[[str], Connection]) -> None:
        self._conn_id = conn_id
        self._get_connection = get_connection
        self.hangs_in = "reading the Airflow connection takes longer; does a secrets backend not answer?"

    def run(self) -> tuple[bool, str]:
        connection = connections.find(self._conn_id, "conn_id", self._get_connection)
        settings = read_settings(connection, connections.read_extra(connection, self._conn_id), self._conn_id)
        masking.mask(settings.secrets)
        token = None
        if settings.application is not None:
            self.hangs_in = "the token store does not answer; check the extra token_conn_id and its database."
            token = self._stored_token(settings, settings.application)
            if token is None:
                return False, (
                    "There is a refresh token and no access token yet, and this test never refreshes. Run a task that "
                    "uses the connection, or RefreshTokenOperator, and test again within the hour."
                )
        # A name server is the one thing on the way whose silence no time limit of a socket ends.
        self.hangs_in = (
            f"{settings.host} was not reached; does the name server (DNS) of this machine not answer for it, or for "
            "the proxy?"
        )
        report = ask(settings, token)
        if report is None:
            return True, (
                f"Connected to {settings.portal}, which says that the access token has expired. That is no fault: the "
                "next task refreshes it. This test never does, so it cannot say what the application may do; test "
                "again within an hour after a task."
            )
        address = f"{connection.host}/{connection.schema}"
        if any(secret in address for secret in settings.secrets):
            advice = "The host holds the webhook's secret, where everybody can read it: put it into the password."
            return report.works, f"{advice} {report.text} {_journal_advice()}".rstrip()
        return report.works, f"{report.text} {_journal_advice()}".rstrip()

    def _stored_token(self, settings: Settings, application: OAuthAuth) -> str | None:
        from airflow_provider_bitrix24.hooks.tokens import make_token_manager

        return make_token_manager(settings, application, self._conn_id).load().access_token
