"""``sale.paysystem.{list,add,update,delete}``, ``.handler.*``, ``.settings.*``: the administrator's side of paying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError, access_denied
from airflow_provider_bitrix24.sandbox.portal.filters import (
    Condition,
    Unconvertible,
    as_list,
    as_mapping,
    convert,
    matching,
    ordered,
    split_key,
)
from airflow_provider_bitrix24.sandbox.portal.model import Handler, PaySystem, words
from airflow_provider_bitrix24.sandbox.portal.orders import PERSON_TYPES
from airflow_provider_bitrix24.sandbox.portal.registry import Call, changed, rest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_INTEGERS = {"ID", "PERSON_TYPE_ID", "SORT"}
#: What ``sale.paysystem.list`` can show; LOGOTYPE and TARIFF are other names of LOGOTIP and TARIF.
_FIXED: dict[str, Any] = {
    "RESULT_FILE": None,
    "HAVE_PAYMENT": "N",
    "HAVE_ACTION": "N",
    "HAVE_RESULT": "N",
    "HAVE_PREPAY": "N",
    "HAVE_PRICE": "N",
    "HAVE_RESULT_RECEIVE": "Y",
    "ENCODING": None,
    "ALLOW_EDIT_PAYMENT": "Y",
    "AUTO_CHANGE_1C": "N",
    "CAN_PRINT_CHECK": "N",
}
_OWN = words(
    "ID PERSON_TYPE_ID NAME PSA_NAME SORT DESCRIPTION ACTION_FILE NEW_WINDOW TARIF PS_MODE ACTIVE IS_CASH "
    "ENTITY_REGISTRY_TYPE XML_ID LOGOTIP"
)
_ALIASES = {"LOGOTYPE": "LOGOTIP", "TARIFF": "TARIF"}
_COLUMNS = {name: "integer" if name in _INTEGERS else "string" for name in [*_OWN, *_FIXED]}
_SHOWN_AS = {column: alias for alias, column in _ALIASES.items()}


def check_failure(text: str) -> RestError:
    """A parameter that is missing or wrong."""
    return RestError("ERROR_CHECK_FAILURE", text)


def upper(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with upper-case names; what is inside FIELDS, FILTER and ORDER as well, but no deeper."""
    top = {key.upper(): php.jsonable(value) for key, value in params.items()}
    for name in ("FIELDS", "FILTER", "ORDER"):
        if isinstance(top.get(name), dict):
            top[name] = {key.upper(): value for key, value in top[name].items()}
    return top


def settings_of(system: PaySystem, person_type_id: int) -> Mapping[str, Any]:
    """The settings of a pay system for a payer type: those for all (0), then its own."""
    return {**as_mapping(system.settings.get("0")), **as_mapping(system.settings.get(str(person_type_id)))}


def _check_admin(call: Call) -> None:
    if not call.user.admin:
        raise access_denied()


def _column(name: Any) -> str:
    column = php.to_text(name).upper()
    column = _ALIASES.get(column, column)
    if column not in _COLUMNS:
        raise check_failure(f"Unknown field {php.to_text(name)}")
    return column


def _read(system: PaySystem, column: str) -> Any:
    return _FIXED[column] if column in _FIXED else getattr(system, column.lower())


def _conditions(filter_: Mapping[str, Any]) -> Iterable[Condition]:
    for key, value in filter_.items():
        operator, name = split_key(key)
        column = _column(name)
        try:
            yield Condition(operator, column, convert(_COLUMNS[column], value))
        except Unconvertible:
            raise check_failure(f"Wrong value of field {php.to_text(name)}") from None


@rest("sale.paysystem.list", scope="pay_system")
def list_(call: Call) -> object:
    """All pay systems at once, in capital letters."""
    _check_admin(call)
    given = upper(call.params)
    names = [_column(name) for name in as_list(given.get("SELECT"))] or list(_COLUMNS)
    conditions = list(_conditions(as_mapping(given.get("FILTER"))))
    order = [(_column(name), way) for name, way in as_mapping(given.get("ORDER")).items()] or [("ID", "ASC")]
    rows = ordered(matching(call.state.pay_systems.values(), conditions, _read), order, _read)
    return [{_SHOWN_AS.get(name, name): _read(row, name) for name in names} for row in rows]


def _handler_code(call: Call, code: Any) -> str:
    if all(handler.code != code for handler in call.state.handlers.values()):
        raise RestError("ERROR_HANDLER_NOT_FOUND", "Handler not found")
    return php.to_text(code)


def _person_type(value: Any) -> int:
    number = php.to_int(value)
    if number not in PERSON_TYPES:
        raise RestError("ERROR_PERSON_TYPE_NOT_FOUND", "Incorrect person type id!")
    return number


_WRITABLE = {
    "NAME": "name",
    "PSA_NAME": "psa_name",
    "DESCRIPTION": "description",
    "XML_ID": "xml_id",
    "ACTIVE": "active",
    "NEW_WINDOW": "new_window",
    "LOGOTYPE": "logotip",
    "ENTITY_REGISTRY_TYPE": "entity_registry_type",
}


def _values(call: Call, given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {_WRITABLE[key]: php.to_text(value) for key, value in given.items() if key in _WRITABLE}
    if "BX_REST_HANDLER" in given:
        values["action_file"] = _handler_code(call, given["BX_REST_HANDLER"])
    if "PERSON_TYPE_ID" in given:
        values["person_type_id"] = _person_type(given["PERSON_TYPE_ID"])
    if "SORT" in given:
        values["sort"] = php.to_int(given["SORT"])
    return values


@rest("sale.paysystem.add", scope="pay_system", writes=True)
def add(call: Call) -> object:
    """A new pay system of a REST handler; unless said otherwise it is one for legacy invoices."""
    _check_admin(call)
    given = upper(call.params)
    for name in ("NAME", "PERSON_TYPE_ID", "BX_REST_HANDLER"):
        if not php.truthy(given.get(name)):
            raise check_failure(f"Parameter {name} is not defined")
    if given.get("ENTITY_REGISTRY_TYPE", "ORDER") not in ("ORDER", "CRM_INVOICE"):
        raise check_failure("Value of ENTITY_REGISTRY_TYPE is incorrect")
    values = {"entity_registry_type": "CRM_INVOICE", "active": "Y"} | _values(call, given)
    number = call.state.new_id("pay_systems")
    values["psa_name"] = values.get("psa_name") or values["name"]
    settings = {str(values["person_type_id"]): dict(as_mapping(given.get("SETTINGS")))}
    call.state.pay_systems[number] = PaySystem(id=number, settings=settings, **values)
    call.record("pay_system_added", pay_system_id=number)
    return number


def _find(call: Call, given: Mapping[str, Any]) -> PaySystem:
    if not php.truthy(given.get("ID")):
        raise check_failure("Parameter ID is not defined")
    system = call.state.pay_systems.get(php.to_int(given["ID"]))
    if system is None:
        raise RestError("ERROR_PAY_SYSTEM_NOT_FOUND", "Pay system not found")
    return system


@rest("sale.paysystem.update", scope="pay_system", writes=True)
def update(call: Call) -> object:
    """Change a pay system."""
    _check_admin(call)
    given = upper(call.params)
    system = _find(call, given)
    if names := changed(system, _values(call, as_mapping(given.get("FIELDS")))):
        call.record("pay_system_changed", pay_system_id=system.id, changed=names)
    return True


@rest("sale.paysystem.delete", scope="pay_system", writes=True)
def delete(call: Call) -> object:
    """Remove a pay system."""
    _check_admin(call)
    system = _find(call, upper(call.params))
    del call.state.pay_systems[system.id]
    call.record("pay_system_deleted", pay_system_id=system.id)
    return True


@rest("sale.paysystem.handler.list", scope="pay_system")
def handler_list(call: Call) -> object:
    """All REST handlers; their numbers are strings."""
    _check_admin(call)
    return [
        {"ID": str(row.id), "NAME": row.name, "CODE": row.code, "SORT": str(row.sort), "SETTINGS": row.settings}
        for row in call.state.handlers.values()
    ]


@rest("sale.paysystem.handler.add", scope="pay_system", writes=True)
def handler_add(call: Call) -> object:
    """Bring a REST handler; its code is unique."""
    _check_admin(call)
    given = upper(call.params)
    for name in ("NAME", "CODE", "SETTINGS"):
        if not php.truthy(given.get(name)):
            raise check_failure(f"Parameter {name} is not defined")
    code = php.to_text(given["CODE"])
    if any(handler.code == code for handler in call.state.handlers.values()):
        raise RestError("ERROR_HANDLER_ALREADY_EXIST", "Handler already exists!")
    number = call.state.new_id("handlers")
    name, sort = php.to_text(given["NAME"]), php.to_int(given.get("SORT", 100))
    call.state.handlers[number] = Handler(number, name, code, sort, dict(as_mapping(given["SETTINGS"])))
    call.record("handler_added", handler_id=number)
    return number


def _find_handler(call: Call, number: Any) -> Handler:
    handler = call.state.handlers.get(php.to_int(number))
    if handler is None:
        raise RestError("ERROR_HANDLER_NOT_FOUND", "Handler not found")
    return handler


@rest("sale.paysystem.handler.update", scope="pay_system", writes=True)
def handler_update(call: Call) -> object:
    """Change a REST handler; a code that another one has breaks the server's response."""
    _check_admin(call)
    given = upper(call.params)
    fields = as_mapping(given.get("FIELDS"))
    for name, value in (("ID", given.get("ID")), ("FIELDS", fields)):
        if not php.truthy(value):
            raise check_failure(f"Parameter {name} is not defined")
    handler = _find_handler(call, given["ID"])
    others = {other.code for other in call.state.handlers.values() if other.id != handler.id}
    if fields.get("CODE") in others:
        raise RestError("ERROR_UNEXPECTED_ANSWER", "Server returned an unexpected response")
    readers: dict[str, Any] = {"NAME": php.to_text, "CODE": php.to_text, "SORT": php.to_int, "SETTINGS": as_mapping}
    values = {key.lower(): read(fields[key]) for key, read in readers.items() if key in fields}
    if names := changed(handler, values):
        call.record("handler_changed", handler_id=handler.id, changed=names)
    return True


@rest("sale.paysystem.handler.delete", scope="pay_system", writes=True)
def handler_delete(call: Call) -> object:
    """Remove a REST handler that no pay system uses."""
    _check_admin(call)
    given = upper(call.params)
    if not php.truthy(given.get("ID")):
        raise RestError("ERROR_PAY_SYSTEM_DELETE", "Parameter ID is not defined")
    handler = _find_handler(call, given["ID"])
    users = [str(system.id) for system in call.state.pay_systems.values() if system.action_file == handler.code]
    if users:
        raise RestError("ERROR_PAY_SYSTEM_DELETE", f"Pay systems use this handler: {', '.join(users)}")
    del call.state.handlers[handler.id]
    call.record("handler_deleted", handler_id=handler.id)
    return True


def _find_for_settings(call: Call, given: Mapping[str, Any]) -> PaySystem:
    for name in ("ID", "PERSON_TYPE_ID"):
        if name not in given:
            raise check_failure(f"Parameter {name} is not defined")
    system = call.state.pay_systems.get(php.to_int(given["ID"]))
    if system is None:
        raise check_failure("Pay system not found")
    return system


@rest("sale.paysystem.settings.get", scope="pay_system")
def settings_get(call: Call) -> object:
    """The settings of a pay system for a payer type."""
    _check_admin(call)
    given = upper(call.params)
    system = _find_for_settings(call, given)
    found = settings_of(system, php.to_int(given["PERSON_TYPE_ID"]))
    return php.json_array({code: as_mapping(setting).get("VALUE") for code, setting in found.items()})


@rest("sale.paysystem.settings.update", scope="pay_system", writes=True)
def settings_update(call: Call) -> object:
    """Change settings of a pay system for a payer type."""
    _check_admin(call)
    given = upper(call.params)
    system = _find_for_settings(call, given)
    settings = as_mapping(given.get("SETTINGS"))
    if not settings:
        raise RestError("ERROR_HANDLER_NOT_FOUND", "Parameter SETTINGS is not defined or empty")
    person = str(php.to_int(given["PERSON_TYPE_ID"]))
    merged = system.settings | {person: dict(as_mapping(system.settings.get(person))) | dict(settings)}
    if changed(system, {"settings": merged}):
        call.record("pay_system_changed", pay_system_id=system.id, changed=["settings"])
    return True
