"""The portal: its state and its rules, without HTTP. Importing it registers every method that it knows."""

from airflow_provider_bitrix24.sandbox.portal import (  # noqa: F401 - imported to register their methods
    batch,
    deals,
    directory,
    event_methods,
    general,
    invoices,
    items,
    messages,
    order_entity,
    paying,
    payment_bindings,
    payment_items,
    payments,
    paysystems,
    product_rows,
    public_url,
    sale_orders,
    sale_payments,
)
from airflow_provider_bitrix24.sandbox.portal.access import Auth
from airflow_provider_bitrix24.sandbox.portal.core import SCOPES, Portal
from airflow_provider_bitrix24.sandbox.portal.envelope import PortalReply
from airflow_provider_bitrix24.sandbox.portal.model import Webhook
from airflow_provider_bitrix24.sandbox.portal.oauth import Application, TokenPair
from airflow_provider_bitrix24.sandbox.portal.people import People
from airflow_provider_bitrix24.sandbox.portal.php import parse_query

__all__ = [
    "SCOPES",
    "Application",
    "Auth",
    "People",
    "Portal",
    "PortalReply",
    "TokenPair",
    "Webhook",
    "parse_query",
]
