"""The operator that refreshes OAuth tokens: in one scheduled DAG it is the only one who does."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError
from airflow_provider_bitrix24.failures import fail_if_final
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.rendering import LiteralText

if TYPE_CHECKING:
    from airflow.sdk import Context


class RefreshTokenOperator(LiteralText, BaseOperator):
    """Refresh the tokens of an OAuth application, so that no other task has to.

    https://apidocs.bitrix24.com/settings/oauth/auto-renewal.html

    For connections whose extra ``refreshed_by`` is ``operator``: one DAG with one such task and ``max_active_runs=1``,
    every 20 minutes. Access tokens live an hour, so with the default every other run refreshes, and what tasks find
    lives for 20 minutes more at the least.

    :param bitrix24_conn_id: (templated) Airflow connection with ``auth: oauth``.
    :param min_lifetime: refresh if the access token lives shorter than this; a timedelta, or seconds.
    :return: ``portal``, ``refreshed`` (whether there are new tokens), ``expires_at`` (of the access token),
        ``refresh_token_until`` (when the refresh token dies if nobody uses it); times in ISO 8601, UTC.
    """

    template_fields = ("bitrix24_conn_id",)

    def __init__(
        self,
        *,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        min_lifetime: timedelta | float = timedelta(minutes=35),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bitrix24_conn_id = bitrix24_conn_id
        self.min_lifetime = min_lifetime

    def execute(self, context: Context) -> dict[str, Any]:
        """Refresh, if it is time.

        :raises AirflowFailException: an error that no retry can fix; somebody may have to sign in again.
        :raises Bitrix24Error: a passing error.
        """
        return fail_if_final(self._refresh, changes_nothing=True)

    def _refresh(self) -> dict[str, Any]:
        hook = Bitrix24Hook(self.bitrix24_conn_id)
        refreshed, tokens = hook.refresh_token(min_lifetime=_seconds(self.min_lifetime))
        expires_at, until = _moment(tokens.expires_at), _moment(tokens.refresh_until)
        self.log.info(
            "The tokens of %s %s. The access token lives until %s; before then this task must have run again. The "
            "refresh token lives until %s if nobody refreshes any more; after that somebody has to sign in.",
            hook.portal,
            "have been refreshed" if refreshed else "are new enough",
            expires_at,
            until,
        )
        return {"portal": hook.portal, "refreshed": refreshed, "expires_at": expires_at, "refresh_token_until": until}


def _seconds(min_lifetime: object) -> float:
    if isinstance(min_lifetime, timedelta):
        min_lifetime = min_lifetime.total_seconds()
    if isinstance(min_lifetime, bool) or not isinstance(min_lifetime, int | float) or not min_lifetime > 0:
        raise Bitrix24ConfigError("min_lifetime must be a timedelta or a number of seconds above 0.", NOT_SENT)
    return float(min_lifetime)


def _moment(at: float | None) -> str | None:
    return None if at is None else pendulum.from_timestamp(at).isoformat()
