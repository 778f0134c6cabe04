"""What Airflow asks every installed provider: its modules, its connection type with form, its links."""

from __future__ import annotations

from typing import Any

from airflow_provider_bitrix24 import __version__

_PACKAGE = "airflow_provider_bitrix24"


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata, as both of Airflow's schemas describe it."""
    return {
        "package-name": "airflow-provider-bitrix24",
        "name": "Bitrix24",
        "description": "Pay `Bitrix24 <https://www.bitrix24.com/>`__ invoices, add payments and wait for them.",
        "state": "ready",
        "source-date-epoch": 1795305600,
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Bitrix24",
                "external-doc-url": "https://apidocs.bitrix24.com/",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": "Bitrix24",
                "python-modules": [
                    f"{_PACKAGE}.operators.payments",
                    f"{_PACKAGE}.operators.calls",
                    f"{_PACKAGE}.operators.tokens",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Bitrix24",
                "python-modules": [f"{_PACKAGE}.sensors.payments", f"{_PACKAGE}.sensors.records"],
            }
        ],
        "hooks": [{"integration-name": "Bitrix24", "python-modules": [f"{_PACKAGE}.hooks.bitrix24"]}],
        "triggers": [
            {
                "integration-name": "Bitrix24",
                "python-modules": [f"{_PACKAGE}.triggers.payments", f"{_PACKAGE}.triggers.records"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "bitrix24",
                "hook-class-name": f"{_PACKAGE}.hooks.bitrix24.Bitrix24Hook",
                "hook-name": "Bitrix24",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {
                        "host": "Portal",
                        "login": "User id or client id",
                        "password": "Webhook or client secret",
                    },
                    "placeholders": {
                        "host": "acme.bitrix24.com",
                        "login": "1, or local.5c8bb1b0917420.10000000",
                        "password": "the last part of the webhook's address, or the application's key",
                        "port": "only if unusual",
                    },
                },
                "conn-fields": {
                    "auth": {
                        "label": "Authentication",
                        "description": "webhook: an inbound webhook with its secret. oauth: an OAuth "
                        "application; login and password are its client id and client secret.",
                        "schema": {"type": ["string", "null"], "enum": ["webhook", "oauth"], "default": "webhook"},
                    },
                    "refresh_token": {
                        "label": "OAuth: first refresh token",
                        "description": "Only to begin with; every refresh makes a new one, which is kept in the token "
                        "store. Empty if you sign in by: python -m airflow_provider_bitrix24 oauth.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "refreshed_by": {
                        "label": "OAuth: refreshed by",
                        "description": "tasks (also if empty): every task that finds the access token expired. "
                        "operator: nobody but the RefreshTokenOperator of one scheduled DAG.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "token_conn_id": {
                        "label": "OAuth: token database",
                        "description": "Airflow connection of a Postgres, MySQL or SQLite database that keeps the "
                        "tokens, for many workers that refresh on demand; an Airflow Variable if empty.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "token_key": {
                        "label": "OAuth: token key",
                        "description": "What the tokens in that database are encrypted with; a key made of the client "
                        "secret if empty.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "oauth_url": {
                        "label": "OAuth: server",
                        "description": "Where tokens are refreshed; https://oauth.bitrix.info if empty.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "read_timeout": {
                        "label": "Read timeout (seconds)",
                        "description": "How long an answer may take; 75 if empty. Bitrix24 itself gives up after 60.",
                        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 86400},
                    },
                    "portal_id": {
                        "label": "Portal id",
                        "description": "Name of the portal in receipts; the host if empty. After the portal was "
                        "renamed, put its old host here.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "ca_bundle": {
                        "label": "CA bundle",
                        "description": "File of certificates to trust, for self-hosted portals with a CA of their own.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "allow_http": {
                        "label": "Allow http",
                        "description": "Accept plain http, which shows the secret to the network; this machine itself "
                        "(127.0.0.1) is always accepted.",
                        "schema": {"type": ["boolean", "null"]},
                    },
                },
            }
        ],
        "extra-links": [
            f"{_PACKAGE}.links.bitrix24.{name}"
            for name in ("DealLink", "SmartInvoiceLink", "InvoiceLink", "CrmPaymentLink")
        ],
    }
