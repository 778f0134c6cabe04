"""How a client is told where the portal is: the webhook's URL, the page to sign in, and Airflow connections."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_bitrix24.sandbox.portal import Application, TokenPair, Webhook

CONNECTION_VARIABLE = "AIRFLOW_CONN_BITRIX24_DEFAULT"
APPLICATION_VARIABLE = "AIRFLOW_CONN_BITRIX24_OAUTH"
"""Another one, so that who copies all lines that are printed has both connections."""


def webhook_url(url: str, webhook: Webhook) -> str:
    """Return the URL that a person would copy from the portal, with a slash at its end."""
    return f"{url}/rest/{webhook.user_id}/{webhook.secret}/"


def connection_json(url: str, webhook: Webhook, ca_file: Path | None = None) -> str:
    """Return the Airflow connection as JSON, the form in which nothing needs escaping but JSON itself.

    :param ca_file: certificate of the CA that a server with TLS uses.
    """
    parts = urlsplit(url)
    return json.dumps(
        {
            "conn_type": "bitrix24",
            "host": parts.hostname,
            "schema": parts.scheme,
            "port": parts.port,
            "login": str(webhook.user_id),
            "password": webhook.secret,
            "extra": _extra(parts.scheme, ca_file),
        }
    )


def connection_uri(url: str, webhook: Webhook, ca_file: Path | None = None) -> str:
    """Return the same as a URI."""
    parts = urlsplit(url)
    extra = urlencode({name: json.dumps(value).strip('"') for name, value in _extra(parts.scheme, ca_file).items()})
    secret = quote(webhook.secret, safe="")
    return f"bitrix24://{webhook.user_id}:{secret}@{parts.netloc}/{parts.scheme}{'?' if extra else ''}{extra}"


def authorize_url(url: str, application: Application) -> str:
    """Return the address that a person opens to let the application in."""
    return f"{url}/oauth/authorize/?{urlencode({'client_id': application.client_id})}"


def oauth_connection_json(
    url: str, application: Application, pair: TokenPair | None = None, ca_file: Path | None = None
) -> str:
    """Return the Airflow connection of an OAuth application as JSON.

    :param pair: the first pair of tokens, if somebody has signed in already.
    :param ca_file: certificate of the CA that a server with TLS uses.
    """
    parts = urlsplit(url)
    tokens = {} if pair is None else {"refresh_token": pair.refresh_token, "access_token": pair.access_token}
    return json.dumps(
        {
            "conn_type": "bitrix24",
            "host": parts.hostname,
            "schema": parts.scheme,
            "port": parts.port,
            "login": application.client_id,
            "password": application.client_secret,
            "extra": {"auth": "oauth", "oauth_url": url, **tokens, **_extra(parts.scheme, ca_file)},
        }
    )


def export_line(connection: str, variable: str = CONNECTION_VARIABLE) -> str:
    """Return the shell line that makes this connection one of Airflow's: by default ``bitrix24_default``."""
    return f"export {variable}={shlex.quote(connection)}"


def _extra(scheme: str, ca_file: Path | None) -> dict[str, object]:
    extra: dict[str, object] = {"allow_http": True} if scheme == "http" else {}
    return extra if ca_file is None else {**extra, "ca_bundle": str(ca_file)}
