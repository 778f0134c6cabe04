"""``crm.deal.*``: the deals of ``crm.item.*`` the old way, in capital letters, every value a string."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import as_list, as_mapping, lenient_conditions
from airflow_provider_bitrix24.sandbox.portal.item_fields import WRITABLE
from airflow_provider_bitrix24.sandbox.portal.item_values import (
    OWN,
    OWN_COLUMNS,
    field_of,
    kind_of,
    new_item,
    put,
    record,
    remove,
    value_of,
)
from airflow_provider_bitrix24.sandbox.portal.model import DEAL, Item, money_text
from airflow_provider_bitrix24.sandbox.portal.pages import page_of
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, rest

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What ``crm.deal.*`` calls the fields.
_NAMES = {
    "ID": "id",
    "TITLE": "title",
    "TYPE_ID": "typeId",
    "STAGE_ID": "stageId",
    "PROBABILITY": "probability",
    "CURRENCY_ID": "currencyId",
    "OPPORTUNITY": "opportunity",
    "IS_MANUAL_OPPORTUNITY": "isManualOpportunity",
    "TAX_VALUE": "taxValue",
    "LEAD_ID": "leadId",
    "COMPANY_ID": "companyId",
    "CONTACT_ID": "contactId",
    "QUOTE_ID": "quoteId",
    "BEGINDATE": "begindate",
    "CLOSEDATE": "closedate",
    "ASSIGNED_BY_ID": "assignedById",
    "CREATED_BY_ID": "createdBy",
    "MODIFY_BY_ID": "updatedBy",
    "DATE_CREATE": "createdTime",
    "DATE_MODIFY": "updatedTime",
    "OPENED": "opened",
    "CLOSED": "closed",
    "COMMENTS": "comments",
    "ADDITIONAL_INFO": "additionalInfo",
    "LOCATION_ID": "locationId",
    "CATEGORY_ID": "categoryId",
    "STAGE_SEMANTIC_ID": "stageSemanticId",
    "IS_NEW": "isNew",
    "IS_RECURRING": "isRecurring",
    "IS_RETURN_CUSTOMER": "isReturnCustomer",
    "IS_REPEATED_APPROACH": "isRepeatedApproach",
    "SOURCE_ID": "sourceId",
    "SOURCE_DESCRIPTION": "sourceDescription",
    "ORIGINATOR_ID": "originatorId",
    "ORIGIN_ID": "originId",
    "MOVED_BY_ID": "movedBy",
    "MOVED_TIME": "movedTime",
    "LAST_ACTIVITY_TIME": "lastActivityTime",
    "UTM_SOURCE": "utmSource",
    "UTM_MEDIUM": "utmMedium",
    "UTM_CAMPAIGN": "utmCampaign",
    "UTM_CONTENT": "utmContent",
    "UTM_TERM": "utmTerm",
    "LAST_ACTIVITY_BY": "lastActivityBy",
}
_COLUMNS = {upper: OWN_COLUMNS[name] for upper, name in _NAMES.items() if name in OWN_COLUMNS}
_KINDS = {upper: kind_of(name) for upper, name in _NAMES.items()}
_WRITABLE = {
    upper: name for upper, name in _NAMES.items() if name in WRITABLE[DEAL] or name in OWN or name == "contactId"
}


def _text(item: Item, upper: str) -> str | None:
    name = _NAMES[upper]
    if name in ("opportunity", "taxValue"):
        return money_text(getattr(item, OWN[name]))
    value = field_of(item, name)
    if name in ("companyId", "contactId") and not value:
        return None
    return None if value is None else php.to_text(value)


def _array(call: Call, name: str) -> Mapping[str, Any]:
    value = call.legacy(name)
    if value is not None and not isinstance(value, dict | list):
        raise RestError("", f"Parameter '{name}' must be array.")
    return as_mapping(value)


def _find(call: Call, right: str, end: str = "") -> Item:
    """The deal that ``id`` names; ``end`` ends the texts of the refusals, as each method has it."""
    number = call.legacy("id")
    if not php.is_numeric(number) or php.to_int(number) <= 0:
        raise RestError("", f"ID is not defined or invalid{end}")
    if not call.may(f"deal.{right}"):
        raise RestError("", f"Access denied{end}")
    item = call.state.deals.get(php.to_int(number))
    if item is None:
        raise RestError("", f"Not found{end}")
    return item


@rest("crm.deal.get", scope="crm")
def deal_get(call: Call) -> object:
    """One deal, every value a string."""
    item = _find(call, "read")
    return {name: _text(item, name) for name in _NAMES}


@rest("crm.deal.list", scope="crm")
def deal_list(call: Call) -> object:
    """Deals, 50 to a page."""
    order, filter_ = _array(call, "order"), _array(call, "filter")
    if not call.may("deal.read"):
        raise RestError("", "Access denied.")
    conditions = lenient_conditions(filter_, _KINDS)

    def read(item: Item, upper: str) -> Any:
        return value_of(item, _NAMES[upper])

    directions = [(name, way) for name, way in order.items() if name in _NAMES] or [("ID", "ASC")]
    start = call.legacy("start")
    page = page_of(
        call.state.deals,
        conditions,
        directions,
        start,
        read,
        column_of=_COLUMNS.get,
    )
    selected = [name for name in map(php.to_text, as_list(call.legacy("select"))) if name in _NAMES]
    names = selected or list(_NAMES)
    return Listing([{name: _text(row, name) for name in names} for row in page.result], page.total, page.next)


@rest("crm.deal.add", scope="crm", writes=True)
def deal_add(call: Call) -> object:
    """A new deal."""
    fields = call.legacy("fields")
    if not isinstance(fields, dict):
        raise RestError("", "Parameter 'fields' must be array.")
    if not call.may("deal.add"):
        raise RestError("", "Access denied.")
    given = {_WRITABLE[upper]: value for upper, value in fields.items() if upper in _WRITABLE}
    try:
        item = new_item(call.state, DEAL, given, now=call.now, user_id=call.user.id)
    except RestError as error:
        raise RestError("", error.text) from None
    record(call, "item_added", item)
    return item.id


@rest("crm.deal.update", scope="crm", writes=True)
def deal_update(call: Call) -> object:
    """Change a deal. The currency of its order stays as it was."""
    fields = call.legacy("fields")
    if not isinstance(fields, dict):
        raise RestError("", "Parameter 'fields' must be array.")
    item = _find(call, "update", ".")
    try:
        names = put(item, {_WRITABLE[upper]: fields[upper] for upper in fields if upper in _WRITABLE})
    except RestError as error:
        raise RestError("", error.text) from None
    if names:
        item.fields |= {"updatedTime": php.iso(call.now), "updatedBy": call.user.id}
        record(call, "item_changed", item, changed=names)
    return True


@rest("crm.deal.delete", scope="crm", writes=True)
def deal_delete(call: Call) -> object:
    """Remove a deal. Its orders and their payments stay."""
    remove(call, _find(call, "delete", "."))
    return True


@rest("crm.deal.fields", scope="crm")
def deal_fields(call: Call) -> object:
    """What the fields are."""
    shape = {"isRequired": False, "isImmutable": False, "isMultiple": False, "isDynamic": False}
    return {
        upper: {"type": kind, **shape, "isReadOnly": upper not in _WRITABLE, "title": upper}
        for upper, kind in _KINDS.items()
    }
