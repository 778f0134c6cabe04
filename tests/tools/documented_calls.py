"""The requests of Bitrix24's documentation as arguments of typed calls, and portals on which they succeed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.methods import METHODS
from airflow_provider_bitrix24.sandbox.clock import ManualClock
from tests.sandbox.conftest import START
from tests.sandbox.test_documented_examples import APPLICATION, EXAMPLES, REQUESTS, world
from tests.sandbox.test_documented_examples_of_applications import Caller

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.methods.row import Method
    from airflow_provider_bitrix24.sandbox.portal import Portal

IGNORED: dict[str, dict[str, Any]] = {
    "sale.payment.list": {"filter": {"<id": 10, "paid": "N"}, "order": {"id": "desc"}},
    "crm.invoice.list": {"order": {"DATE_INSERT": "ASC"}, "filter": {">PRICE": 100}, "select": ["ID", "CURRENCY"]},
}
"""Documented requests with names that the method does not know: ``payed``, ``personTypeId``, ``CURRENCY_ID``."""
TEXTS: dict[str, dict[str, Any]] = {
    "event.offline.error": {"process_id": "yh3gu929sf0d32lsfysqas2y1hlpp09q", "message_id": ["2"]},
}
"""Documented requests with a number where a text is meant."""
BY_APPLICATIONS = [*APPLICATION, "app.info"]
"""Methods that only an application may call."""
OPTIONS: dict[str, Any] = {"dialect": "docs", "operating_limit": 480, "clock": ManualClock(START)}
"""Options of a portal that replies as the documentation says, and always the same."""


def request_of(method: str) -> dict[str, Any]:
    """Return the documented parameters."""
    request = IGNORED.get(method) or TEXTS.get(method) or REQUESTS.get(method) or EXAMPLES[method]["request"] or {}
    return {name: value for name, value in request.items() if name != "auth"}


def row_of(method: str) -> Method:
    """Return the row of a documented method."""
    return METHODS[method.lower()]


def arguments(row: Method, request: dict[str, Any]) -> dict[str, Any]:
    """Return documented parameters as Python arguments."""
    names = {param.wire.lower(): param.python for param in row.params}
    return {names[name.lower()]: value for name, value in request.items()}


def unmake(portal: Portal, method: str) -> None:
    """Take away what a documented request would add, and is there already."""
    if method == "crm.orderentity.add":
        portal.state.bindings.pop(request_of(method)["fields"]["orderId"])
    elif method == "sale.paymentitembasket.add":
        portal.state.payable_items.pop(1186)


def prepare(portal: Portal, method: str, user_id: int = 1) -> Caller | None:
    """Let the documented request of a method succeed on a portal.

    :param user_id: who has signed in to the application.
    :return: the application that calls it, if only an application may.
    """

    def rest(**_options: Any) -> SimpleNamespace:
        return SimpleNamespace(portal=portal)

    if method in BY_APPLICATIONS:
        return Caller(rest(), user_id)
    world(rest)
    return None
