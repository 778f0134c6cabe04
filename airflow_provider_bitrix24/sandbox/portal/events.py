"""Which REST events a change on the portal raises, and the queues that offline handlers have of them."""

from __future__ import annotations

import hashlib
import json
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal.side_tables import OfflineEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_bitrix24.sandbox.portal.model import State

#: Event -> scope that an application needs to bind it.
EVENTS = {
    **dict.fromkeys((f"ON{what}ENTITYSAVED" for what in ("PAYMENT", "ORDER", "SHIPMENT", "PROPERTYVALUE")), "sale"),
    **dict.fromkeys((f"ON{what}DELETED" for what in ("PAYMENT", "ORDER", "SHIPMENT", "PROPERTYVALUE")), "sale"),
    **dict.fromkeys(("ONSALEORDERSAVED", "ONSALEBEFOREORDERDELETE"), "sale"),
    **dict.fromkeys((f"ONCRMDEAL{what}" for what in ("ADD", "UPDATE", "DELETE")), "crm"),
    **dict.fromkeys((f"ONCRMLEAD{what}" for what in ("ADD", "UPDATE", "DELETE")), "crm"),
    **dict.fromkeys((f"ONCRMCOMPANY{what}" for what in ("ADD", "UPDATE", "DELETE")), "crm"),
    **dict.fromkeys((f"ONCRMCONTACT{what}" for what in ("ADD", "UPDATE", "DELETE")), "crm"),
    **dict.fromkeys((f"ONCRMINVOICE{what}" for what in ("ADD", "UPDATE", "DELETE", "SETSTATUS")), "crm"),
    **dict.fromkeys((f"ONCRMDYNAMICITEM{what}" for what in ("ADD", "UPDATE", "DELETE")), "crm"),
    **dict.fromkeys((f"ONCRMDYNAMICITEM{what}_31" for what in ("ADD", "UPDATE", "DELETE")), "crm"),
    "ONOFFLINEEVENT": "",
}
#: How long the queue keeps an event, in seconds.
KEPT_SECONDS = 2_952_000.0
_ITEMS = {1: "ONCRMLEAD", 2: "ONCRMDEAL", 31: "ONCRMDYNAMICITEM"}
_VERBS = {"item_added": "ADD", "item_changed": "UPDATE", "item_updated": "UPDATE", "item_deleted": "DELETE"}


def raised(state: State, entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events and their data that an entry of the ledger stands for."""
    event: str = entry["event"]
    if entry["payment_id"]:
        deleted = event == "payment_deleted"
        yield "ONPAYMENTDELETED" if deleted else "ONPAYMENTENTITYSAVED", _fields(ID=entry["payment_id"])
    order_id = entry.get("order_id") or getattr(state.payments.get(entry["payment_id"]), "order_id", None)
    if order_id and event not in ("order_bound", "order_unbound"):
        order = state.orders.get(order_id)
        yield "ONORDERENTITYSAVED", _fields(ID=order_id)
        yield "ONSALEORDERSAVED", _fields(ID=order_id, XML_ID=order.xml_id if order else "", ACTION="save")
    if entry["invoice_id"]:
        yield from _of_invoice(event, entry)
    if event in _VERBS and entry["entity_type_id"] in _ITEMS:
        name, data = _ITEMS[entry["entity_type_id"]] + _VERBS[event], {"ID": entry["entity_id"]}
        if entry["entity_type_id"] == 31:
            data["ENTITY_TYPE_ID"] = 31
            yield f"{name}_31", _fields(**data)
        yield name, _fields(**data)


def _of_invoice(event: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    data = _fields(ID=entry["invoice_id"])
    if event in ("invoice_added", "invoice_deleted"):
        yield "ONCRMINVOICEADD" if event == "invoice_added" else "ONCRMINVOICEDELETE", data
    elif entry["by"] == "customer" or entry["method"] == "sale.paysystem.pay.invoice":
        # Saved as a sale: the id is that of another table than the one of order payments, under the same event.
        yield "ONPAYMENTENTITYSAVED", data
    else:
        yield "ONCRMINVOICEUPDATE", data
        if event != "invoice_changed":
            yield "ONCRMINVOICESETSTATUS", data


def _fields(**data: Any) -> dict[str, Any]:
    return {"FIELDS": data}


def queue(state: State, now: float, entry: Mapping[str, Any], connector: str) -> None:
    """Queue what a change raises for every offline handler, except the change's own ``connector``."""
    if not any(handler.offline for handler in state.event_handlers.values()):
        return
    for event, data in raised(state, entry):
        for handler in state.event_handlers.values():
            own = bool(connector) and handler.connector == connector
            if handler.offline and handler.event == event and not own:
                _add(state, now, handler.client_id, handler.connector, event, data, entry["user_id"])


def _add(
    state: State, now: float, client_id: str, connector: str, event: str, data: dict[str, Any], user_id: int | None
) -> None:
    """Add an entry, or renew the time of the equal one that nobody has reserved."""
    text = f"{event}|{json.dumps(data, separators=(',', ':'))}"
    message_id = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    for row in state.offline_events.having("message_id", message_id):
        if (row.client_id, row.connector, row.process_id) == (client_id, connector, ""):
            row.at = now
            return
    number = state.new_id("offline_events")
    additional = {"user_id": user_id} if user_id else False
    state.offline_events[number] = OfflineEvent(
        number, client_id, event, now, data, additional, message_id, connector=connector
    )


def forget_old(state: State, now: float) -> None:
    """Remove what is older than the queue keeps, reserved or not."""
    for row in list(takewhile(lambda row: row.at < now - KEPT_SECONDS, state.offline_events.by("at"))):
        del state.offline_events[row.id]
