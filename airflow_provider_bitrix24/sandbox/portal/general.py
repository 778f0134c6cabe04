"""Who am I, what may I do, what time is it: the global scope; small lists of crm; what only applications may call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError, access_denied
from airflow_provider_bitrix24.sandbox.portal.filters import as_mapping, lenient_conditions, matching, ordered
from airflow_provider_bitrix24.sandbox.portal.model import PaySystem, words
from airflow_provider_bitrix24.sandbox.portal.orders import PERSON_TYPES
from airflow_provider_bitrix24.sandbox.portal.pages import paged
from airflow_provider_bitrix24.sandbox.portal.registry import BASIC, METHODS, Call, Listing, rest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@rest("profile", scope=BASIC)
def profile(call: Call) -> object:
    """The user that a webhook or an application acts as."""
    return {
        "ID": str(call.user.id),
        "ADMIN": call.user.admin,
        "NAME": call.user.name,
        "LAST_NAME": call.user.last_name,
        "PERSONAL_GENDER": "",
        "TIME_ZONE": "",
    }


@rest("scope", scope=BASIC)
def scope(call: Call) -> object:
    """The scopes of this webhook or application, or (``full``) all that the portal has."""
    if php.truthy(call.legacy("full")):
        scopes = {scope for method in METHODS.values() for scope in (method.scope, *method.other_scopes)}
        return sorted(scopes - {BASIC})
    return list(call.scopes)


@rest("methods", scope=BASIC)
def methods(call: Call) -> object:
    """The names of the methods that the caller may call, or (``full``) of all."""
    everything = php.truthy(call.legacy("full"))
    open_methods = [method for method in METHODS.values() if everything or method.open_to(call.scopes)]
    return sorted(method.name for method in open_methods if method.name != "batch")


@rest("method.get", scope=BASIC)
def method_get(call: Call) -> object:
    """Is there such a method, and may the caller call it?"""
    method = METHODS.get(php.to_text(call.legacy("name")).lower())
    return {"isExisting": method is not None, "isAvailable": method is not None and method.open_to(call.scopes)}


@rest("server.time", scope=BASIC)
def server_time(call: Call) -> object:
    """The portal's clock."""
    return php.iso(call.now)


@rest("user.admin", scope=BASIC)
def user_admin(call: Call) -> object:
    """Is the user an administrator?"""
    return call.user.admin


@rest("feature.get", scope=BASIC)
def feature_get(call: Call) -> object:
    """Is something part of the portal's plan?"""
    code = call.legacy("CODE")
    if not php.truthy(code):
        raise RestError("CODE_EMPTY", "CODE can't be empty")
    return {"value": "Y" if code in call.state.options["features"] else "N"}


@rest("app.info", scope=BASIC)
def app_info(call: Call) -> object:
    """The application that calls; a webhook is none."""
    if call.client_id is None:
        raise access_denied(text="Access denied! Application context required")
    return {
        "ID": 1,
        "CODE": call.client_id,
        "VERSION": 1,
        "STATUS": "L",
        "INSTALLED": True,
        "PAYMENT_EXPIRED": "N",
        "DAYS": None,
        "LANGUAGE_ID": "en",
        "LICENSE": "en_sandbox",
        "LICENSE_TYPE": "sandbox",
        "LICENSE_FAMILY": "sandbox",
    }


def _application_only(call: Call) -> object:
    """The sandbox does not know it, but a webhook learns that it would need an application."""
    raise RestError("ERROR_METHOD_NOT_FOUND", f"Method not found: {call.method.name}", 404)


for _name in words("event.test events placement.bind placement.unbind placement.get placement.list"):
    rest(_name, scope=BASIC, application_only=True)(_application_only)


_PAY_SYSTEM_COLUMNS = {
    "ID": "integer",
    "NAME": "string",
    "ACTIVE": "char",
    "SORT": "integer",
    "DESCRIPTION": "string",
    "PERSON_TYPE_ID": "integer",
    "ACTION_FILE": "string",
    "NEW_WINDOW": "char",
}


@rest("crm.paysystem.list", scope="crm")
def paysystem_list(call: Call) -> object:
    """The pay systems of legacy invoices, every value a string."""

    def read(row: PaySystem, name: str) -> Any:
        return getattr(row, name.lower())

    rows = [row for row in call.state.pay_systems.values() if row.entity_registry_type == "CRM_INVOICE"]
    rows = matching(rows, lenient_conditions(as_mapping(call.legacy("filter")), _PAY_SYSTEM_COLUMNS), read)
    order = [(name, way) for name, way in as_mapping(call.legacy("order")).items() if name in _PAY_SYSTEM_COLUMNS]
    page = paged(ordered(rows, order or [("ID", "ASC")], read), call.legacy("start"))
    shown = [{name: php.to_text(read(row, name)) for name in _PAY_SYSTEM_COLUMNS} for row in page.result]
    return Listing(shown, page.total, page.next)


def _shapes(columns: Mapping[str, str], required: Collection[str]) -> dict[str, dict[str, Any]]:
    return {
        name: {"type": kind, "isRequired": name in required, "isReadOnly": name == "ID", "isImmutable": False}
        for name, kind in columns.items()
    }


@rest("crm.paysystem.fields", scope="crm")
def paysystem_fields(call: Call) -> object:
    """What the fields of pay systems of legacy invoices are."""
    return _shapes(_PAY_SYSTEM_COLUMNS, ("NAME",))


@rest("crm.persontype.fields", scope="crm")
def persontype_fields(call: Call) -> object:
    """What the fields of payer types are."""
    return _shapes({"ID": "integer", "NAME": "string"}, ("NAME",))


@rest("crm.persontype.list", scope="crm")
def persontype_list(call: Call) -> object:
    """Payer types: company and contact."""

    def read(row: tuple[int, str], name: str) -> Any:
        return row[0 if name == "ID" else 1]

    columns = {"ID": "integer", "NAME": "string"}
    rows = matching(PERSON_TYPES.items(), lenient_conditions(as_mapping(call.legacy("filter")), columns), read)
    order = [(name, way) for name, way in as_mapping(call.legacy("order")).items() if name in columns]
    page = paged(ordered(rows, order or [("ID", "ASC")], read), call.legacy("start"))
    return Listing([{"ID": str(row[0]), "NAME": row[1]} for row in page.result], page.total, page.next)
