"""What Airflow asks every installed provider: its modules, its connection type with form, its links."""

from __future__ import annotations

from typing import Any

from airflow_provider_bitrix24 import __version__

_PACKAGE = "airflow_provider_bitrix24"

_OPTIONS: dict[str, dict[str, str]] = {
    "journal_conn_id": {
        "description": "Airflow connection of a database (postgres, mysql or sqlite) in which all operators keep the "
        "journal\nof what they send, so that every later attempt, run and DAG knows it. Empty: each task keeps its own "
        "notes\nin Airflow's task state. An operator's argument journal_conn_id takes precedence.\n",
        "type": "string",
        "example": "payments_journal",
        "default": "",
    },
    "max_amount": {
        "description": "No operator sends a payment of more than this, in the currency of the payment. Empty: no "
        "limit.\nAn operator's argument max_amount takes precedence.\n",
        "type": "string",
        "example": "5000.00",
        "default": "",
    },
    "allow_backfill": {
        "description": "Whether operators send payments in backfill runs, whose dates are in the past. An operator's\n"
        "argument allow_backfill takes precedence.\n",
        "type": "boolean",
        "example": "False",
        "default": "False",
    },
    "kill_switch": {
        "description": "True stops all payments on this Airflow; so does any value that is neither true nor false. "
        "No\nargument overrides it. The Airflow Variable bitrix24_payments_stopped_CONNECTION stops those of one "
        "connection.\n",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "pace_conn_id": {
        "description": "Airflow connection of a database (postgres, mysql or sqlite) in which all workers share one "
        "limit of\nrequests to a portal, and what they know of its working time. Empty: that of an operator's "
        "journal;\nelse all processes of a host share both. off: no database.\n",
        "type": "string",
        "example": "payments_journal",
        "default": "",
    },
    "rate_limit": {
        "description": "How many requests a portal takes: standard (50 at once, then 2 a second), enterprise (250 and "
        "5),\nother numbers as BURST/RATE, or off. The extra rate_limit of a connection takes precedence. Empty: "
        "standard.\n",
        "type": "string",
        "example": "100/4",
        "default": "",
    },
}
"""The section [bitrix24] of Airflow's configuration; `options` reads it."""


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
                    f"{_PACKAGE}.operators.payment_changes",
                    f"{_PACKAGE}.operators.payment_lists",
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
                "python-modules": [
                    f"{_PACKAGE}.triggers.{name}" for name in ("human_response", "paid", "payments", "records")
                ],
            }
        ],
        "asset-uris": [
            {
                "schemes": ["bitrix24"],
                "handler": f"{_PACKAGE}.assets.bitrix24.sanitize_uri",
                "factory": f"{_PACKAGE}.assets.bitrix24.create_asset",
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
                        "port": "443; Airflow 3.3 needs it to test the connection",
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
                        "description": "Only to begin with; every refresh returns a new one, which is kept in the "
                        "token store. Empty if you sign in by: bitrix24-airflow oauth.",
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
                    "oauth_ca_bundle": {
                        "label": "OAuth: CA bundle",
                        "description": "File of certificates to trust there, for a server with a CA of its own.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "read_timeout": {
                        "label": "Read timeout (seconds)",
                        "description": "How long a response may take; 75 if empty. Bitrix24 itself stops after 60.",
                        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 86400},
                    },
                    "rate_limit": {
                        "label": "Rate limit",
                        "description": "How many requests the portal takes: standard (50 at once, then 2 a second; "
                        "also if empty), enterprise (250 and 5), off, or other numbers such as 100/4.",
                        "schema": {"type": ["string", "null"]},
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
        "config": {
            "bitrix24": {
                "description": "Defaults of the Bitrix24 operators, for all DAGs.",
                "options": {name: {"version_added": "0.1.0", **option} for name, option in _OPTIONS.items()},
            }
        },
        "extra-links": [
            f"{_PACKAGE}.links.bitrix24.{name}"
            for name in ("DealLink", "SmartInvoiceLink", "InvoiceLink", "CrmPaymentLink")
        ],
    }
