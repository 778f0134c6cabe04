"""Who am I, what may I do, what time is it: the global scope; small lists of crm; what only applications may call."""

from __future__ import annotations

from typing import Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError, access_denied
from airflow_provider_bitrix24.sandbox.portal.filters import as_mapping, lenient_conditions, matching, ordered, paged
from airflow_provider_bitrix24.sandbox.portal.model import PaySystem, words
from airflow_provider_bitrix24.sandbox.portal.orders import PERSON_TYPES
from airflow_provider_bitrix24.sandbox.portal.registry import BASIC, METHODS, Call, Listing, Method, rest


def _open_to(call: Call, method: Method) -> bool:
    return method.scope == BASIC or method.scope in call.scopes


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
        return sorted({method.scope for method in METHODS.values()} - {BASIC})
    return list(call.scopes)


@rest("methods", scope=BASIC)
def methods(call: Call) -> object:
    """The names of the methods that the caller may call, or (``full``) of all."""
    everything = php.truthy(call.legacy("full"))
    open_methods = [method for method in METHODS.values() if everything or _open_to(call, method)]
    return sorted(method.name for method in open_methods if method.name != "batch")


@rest("method.get", scope=BASIC)
def method_get(call: Call) -> object:
    """Is there such a method, and may the caller call it?"""
    method = METHODS.get(php.to_text(call.legacy("name")).lower())
    return {"isExisting": method is not None, "isAvailable": method is not None and _open_to(call, method)}


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
    }


def _application_only(call: Call) -> object:
    raise AssertionError(f"{call.method.name} must not run")  # pragma: no cover - the portal refuses it before


for _name in words(
    "event.bind event.unbind event.get event.test events event.offline.get event.offline.list event.offline.clear "
    "event.offline.error placement.bind placement.unbind placement.get placement.list"
):
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
