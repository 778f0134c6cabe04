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
        "operators": [{"integration-name": "Bitrix24", "python-modules": [f"{_PACKAGE}.operators.payments"]}],
        "sensors": [{"integration-name": "Bitrix24", "python-modules": [f"{_PACKAGE}.sensors.payments"]}],
        "hooks": [{"integration-name": "Bitrix24", "python-modules": [f"{_PACKAGE}.hooks.bitrix24"]}],
        "triggers": [{"integration-name": "Bitrix24", "python-modules": [f"{_PACKAGE}.triggers.payments"]}],
        "connection-types": [
            {
                "connection-type": "bitrix24",
                "hook-class-name": f"{_PACKAGE}.hooks.bitrix24.Bitrix24Hook",
                "hook-name": "Bitrix24",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {
                        "host": "Portal",
                        "login": "Webhook user id",
                        "password": "Webhook secret",
                    },
                    "placeholders": {
                        "host": "acme.bitrix24.com",
                        "login": "1",
                        "password": "the last part of the webhook's address",
                        "port": "only if unusual",
                    },
                },
                "conn-fields": {
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
