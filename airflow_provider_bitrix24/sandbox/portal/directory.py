"""``crm.company.*``, ``crm.contact.*``, statuses, ``user.*``: who pays, who works here, and what states there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import (
    as_list,
    as_mapping,
    lenient_conditions,
    matching,
    ordered,
)
from airflow_provider_bitrix24.sandbox.portal.model import User, words
from airflow_provider_bitrix24.sandbox.portal.pages import page_of, paged
from airflow_provider_bitrix24.sandbox.portal.registry import Call, Listing, rest
from airflow_provider_bitrix24.sandbox.portal.side_tables import Client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.sandbox.portal.model import State

_MULTIPLE = ("PHONE", "EMAIL")
_TIMES = ("DATE_CREATE", "DATE_MODIFY", "LAST_ACTIVITY_TIME")
_SHARED = dict.fromkeys(
    words(
        "LEAD_ID ORIGINATOR_ID ORIGIN_ID ORIGIN_VERSION ADDRESS ADDRESS_2 ADDRESS_CITY ADDRESS_POSTAL_CODE "
        "ADDRESS_REGION ADDRESS_PROVINCE ADDRESS_COUNTRY ADDRESS_COUNTRY_CODE ADDRESS_LOC_ADDR_ID UTM_SOURCE "
        "UTM_MEDIUM UTM_CAMPAIGN UTM_CONTENT UTM_TERM LAST_COMMUNICATION_TIME"
    )
) | {
    "HAS_PHONE": "N",
    "HAS_EMAIL": "N",
    "HAS_IMOL": "N",
    "ASSIGNED_BY_ID": "1",
    "CREATED_BY_ID": "1",
    "MODIFY_BY_ID": "1",
    "LAST_ACTIVITY_BY": "1",
    "OPENED": "Y",
    "COMMENTS": "",
}
_COMPANY = _SHARED | dict.fromkeys(
    words(
        "LOGO ADDRESS_LEGAL REG_ADDRESS REG_ADDRESS_2 REG_ADDRESS_CITY REG_ADDRESS_POSTAL_CODE REG_ADDRESS_REGION "
        "REG_ADDRESS_PROVINCE REG_ADDRESS_COUNTRY REG_ADDRESS_COUNTRY_CODE REG_ADDRESS_LOC_ADDR_ID"
    )
)
_COMPANY |= {"TITLE": "", "COMPANY_TYPE": "CUSTOMER", "INDUSTRY": "OTHER", "REVENUE": "0", "CURRENCY_ID": "EUR"}
_COMPANY |= {"EMPLOYEES": "EMPLOYEES_1", "BANKING_DETAILS": "", "IS_MY_COMPANY": "N"}
_CONTACT = _SHARED | dict.fromkeys(words("PHOTO FACE_ID HONORIFIC SECOND_NAME"))
_CONTACT |= {"NAME": "", "LAST_NAME": "", "POST": "", "TYPE_ID": "CLIENT", "SOURCE_ID": "", "SOURCE_DESCRIPTION": ""}
_CONTACT |= {"COMPANY_ID": None, "BIRTHDATE": "", "EXPORT": "Y"}
TEMPLATES: dict[str, dict[str, Any]] = {"companies": _COMPANY, "contacts": _CONTACT}


def new_client(state: State, table: str, given: Mapping[str, Any], *, now: float, number: int) -> Client:
    """A company or contact; column names in either case, PHONE and EMAIL as a text or a list of texts."""
    columns = {name.upper(): value for name, value in given.items()}
    unknown = sorted(set(columns) - set(TEMPLATES[table]) - set(_MULTIPLE))
    if unknown:
        raise ValueError(f"{table} have no {', '.join(unknown)}; they have: {', '.join(sorted(TEMPLATES[table]))}")
    fields = TEMPLATES[table] | dict.fromkeys(_TIMES, php.iso(now)) | {"ID": str(number)}
    for name, value in columns.items():
        if name in _MULTIPLE:
            fields[name] = _multiple(name, number, [value] if isinstance(value, str) else list(value))
            fields[f"HAS_{name}"] = "Y"
        else:
            fields[name] = None if value is None else php.to_text(value)
    client = Client(number, fields)
    getattr(state, table)[number] = client
    return client


def _multiple(name: str, number: int, values: list[str]) -> list[dict[str, str]]:
    return [
        {"ID": str(number * 10 + index), "VALUE_TYPE": "WORK", "VALUE": value, "TYPE_ID": name}
        for index, value in enumerate(values)
    ]


def _kinds(table: str) -> dict[str, str]:
    kinds = {name: "integer" if name == "ID" or name.endswith("_ID") else "string" for name in TEMPLATES[table]}
    kinds |= dict.fromkeys(words("CURRENCY_ID TYPE_ID SOURCE_ID ORIGINATOR_ID ORIGIN_ID"), "string")
    kinds |= dict.fromkeys(_TIMES, "datetime") | dict.fromkeys(_MULTIPLE, "string") | {"ID": "integer"}
    return kinds


def _reader(table: str) -> Any:
    kinds = _kinds(table)

    def read(row: Client, name: str) -> Any:
        value = row.fields.get(name)
        if name in _MULTIPLE:
            return php.to_text(value[0]["VALUE"]) if value else ""
        if kinds[name] == "integer":
            return php.to_int(value)
        return php.parse_time(value) if kinds[name] == "datetime" and value else value

    return read


def _column(name: str) -> str | None:
    return "id" if name == "ID" else None


def _array(call: Call, name: str) -> Mapping[str, Any]:
    value = call.legacy(name)
    if value is not None and not isinstance(value, dict | list):
        raise RestError("", f"Parameter '{name}' must be array.")
    return as_mapping(value)


def _get(call: Call, table: str, right: str) -> object:
    number = call.legacy("id")
    if not php.is_numeric(number) or php.to_int(number) <= 0:
        raise RestError("", "ID is not defined or invalid.")
    if not call.may(f"{right}.read"):
        raise RestError("", "Access denied")
    client = getattr(call.state, table).get(php.to_int(number))
    if client is None:
        raise RestError("", "Not found")
    return dict(client.fields)


def _list(call: Call, table: str, right: str) -> Listing:
    order, filter_ = _array(call, "order"), _array(call, "filter")
    if not call.may(f"{right}.read"):
        raise RestError("", "Access denied.")
    kinds, read = _kinds(table), _reader(table)
    conditions = lenient_conditions(filter_, kinds)
    directions = [(name, way) for name, way in order.items() if name in kinds] or [("ID", "ASC")]
    rows = getattr(call.state, table)
    page = page_of(rows, conditions, directions, call.legacy("start"), read, column_of=_column)
    wanted = [php.to_text(name) for name in as_list(call.legacy("select"))]
    names = [name for name in kinds if name not in _MULTIPLE] if not wanted or "*" in wanted else []
    names += [name for name in wanted if name in kinds and name not in names]
    names = names if "ID" in names else ["ID", *names]
    shown = [{name: row.fields[name] for name in names if name in row.fields} for row in page.result]
    return Listing(shown, page.total, page.next)


@rest("crm.company.get", scope="crm")
def company_get(call: Call) -> object:
    """One company, every value a string."""
    return _get(call, "companies", "company")


@rest("crm.company.list", scope="crm")
def company_list(call: Call) -> object:
    """Companies, 50 to a page; telephone and e-mail only if they are selected."""
    return _list(call, "companies", "company")


@rest("crm.contact.get", scope="crm")
def contact_get(call: Call) -> object:
    """One contact, every value a string."""
    return _get(call, "contacts", "contact")


@rest("crm.contact.list", scope="crm")
def contact_list(call: Call) -> object:
    """Contacts, 50 to a page; telephone and e-mail only if they are selected."""
    return _list(call, "contacts", "contact")


#: Entity, status, name, semantics (None: in progress, S: success, F: failure), colour.
_STATUSES = [
    ("DEAL_STAGE", "NEW", "New", None, "#39A8EF"),
    ("DEAL_STAGE", "PREPARATION", "Document preparation", None, "#2FC6F6"),
    ("DEAL_STAGE", "EXECUTING", "In progress", None, "#47E4C2"),
    ("DEAL_STAGE", "WON", "Deal won", "S", "#7BD500"),
    ("DEAL_STAGE", "LOSE", "Deal lost", "F", "#FF5752"),
    ("INVOICE_STATUS", "N", "New", None, "#39A8EF"),
    ("INVOICE_STATUS", "S", "Sent to customer", None, "#2FC6F6"),
    ("INVOICE_STATUS", "A", "Approved", None, "#47E4C2"),
    ("INVOICE_STATUS", "P", "Paid", "S", "#7BD500"),
    ("INVOICE_STATUS", "D", "Declined", "F", "#FF5752"),
    ("SMART_INVOICE_STAGE_1", "DT31_1:N", "New", None, "#39A8EF"),
    ("SMART_INVOICE_STAGE_1", "DT31_1:P", "Paid", "S", "#7BD500"),
    ("SMART_INVOICE_STAGE_1", "DT31_1:D", "Not paid", "F", "#FF5752"),
]
_EXTRA: dict[str | None, str] = {None: "process", "S": "success", "F": "failure"}
_STATUS_KINDS = dict.fromkeys(words("ENTITY_ID STATUS_ID NAME NAME_INIT SYSTEM CATEGORY_ID COLOR SEMANTICS"), "string")
_STATUS_KINDS |= {"ID": "integer", "SORT": "integer"}


def _statuses() -> list[dict[str, Any]]:
    rows = []
    for index, (entity, status, name, semantics, colour) in enumerate(_STATUSES):
        row = {"ID": str(101 + 2 * index), "ENTITY_ID": entity, "STATUS_ID": status, "NAME": name, "NAME_INIT": name}
        more = {"SORT": str(10 * (index + 1)), "SYSTEM": "Y", "CATEGORY_ID": None, "COLOR": colour}
        rows.append({**row, **more, "SEMANTICS": semantics, "EXTRA": {"SEMANTICS": _EXTRA[semantics], "COLOR": colour}})
    return rows


@rest("crm.status.list", scope="crm")
def status_list(call: Call) -> object:
    """Stages of deals and smart invoices, and statuses of legacy invoices, all at once."""
    for name in ("filter", "order"):
        if call.legacy(name) is not None and not isinstance(call.legacy(name), dict | list):
            raise RestError("Invalid parameters.", "Incorrect parameters passed.")
    readable = ("deal", "lead", "smart_invoice", "invoice", "company", "contact")
    if not any(call.may(f"{entity}.read") for entity in readable):
        raise RestError("", "Access denied.")
    rows = _chosen_statuses(_statuses(), as_mapping(call.legacy("filter")), as_mapping(call.legacy("order")))
    return Listing(rows, len(rows))


def _chosen_statuses(
    rows: list[dict[str, Any]], filter_: Mapping[str, Any], order: Mapping[str, Any]
) -> list[dict[str, Any]]:
    def read(row: dict[str, Any], name: str) -> Any:
        return php.to_int(row[name]) if _STATUS_KINDS[name] == "integer" else row[name]

    directions = [(name, way) for name, way in order.items() if name in _STATUS_KINDS] or [("SORT", "ASC")]
    return ordered(matching(rows, lenient_conditions(filter_, _STATUS_KINDS), read), directions, read)


#: What a status of legacy invoices has: type, read-only or not.
_INVOICE_STATUS = {
    "ENTITY_ID": ("string", True),
    "ID": ("integer", True),
    "NAME": ("string", False),
    "NAME_INIT": ("string", True),
    "SORT": ("integer", False),
    "STATUS_ID": ("string", True),
    "SYSTEM": ("char", True),
}


def _invoice_statuses() -> list[dict[str, Any]]:
    own = [row for row in _statuses() if row["ENTITY_ID"] == "INVOICE_STATUS"]
    return [{name: row[name] for name in _INVOICE_STATUS} for row in own]


@rest("crm.invoice.status.list", scope="crm")
def invoice_status_list(call: Call) -> object:
    """Statuses of legacy invoices, 50 to a page."""
    filter_, order = _array(call, "filter"), _array(call, "order")
    page = paged(_chosen_statuses(_invoice_statuses(), filter_, order), call.legacy("start"))
    wanted = [name for name in map(php.to_text, as_list(call.legacy("select"))) if name in _INVOICE_STATUS]
    rows = [{name: row[name] for name in wanted or _INVOICE_STATUS} for row in page.result]
    return Listing(rows, page.total, page.next)


@rest("crm.invoice.status.get", scope="crm")
def invoice_status_get(call: Call) -> object:
    """One status of legacy invoices, by its number."""
    number = call.legacy("id")
    if not php.is_numeric(number) or php.to_int(number) <= 0:
        raise RestError("", "ID is not defined or invalid.")
    for row in _invoice_statuses():
        if row["ID"] == str(php.to_int(number)):
            return row
    raise RestError("", "Not found.")


@rest("crm.invoice.status.fields", scope="crm")
def invoice_status_fields(call: Call) -> object:
    """What the fields of a status are."""
    return {
        name: {"type": kind, "isRequired": not read_only, "isReadOnly": read_only, "isImmutable": False}
        for name, (kind, read_only) in _INVOICE_STATUS.items()
    }


_USER_KINDS = {"ID": "integer", "NAME": "string", "LAST_NAME": "string", "EMAIL": "string", "USER_TYPE": "string"}
_USER_KINDS |= {"ACTIVE": "string", "IS_ONLINE": "string"}


def _user(row: User) -> dict[str, Any]:
    return {
        "ID": str(row.id),
        "ACTIVE": row.active,
        "NAME": row.name,
        "LAST_NAME": row.last_name,
        "SECOND_NAME": "",
        "EMAIL": f"user{row.id}@portal.invalid",
        "LAST_LOGIN": "2025-01-02T09:00:00+02:00",
        "DATE_REGISTER": "2025-01-01T00:00:00+02:00",
        "TIME_ZONE": "",
        "IS_ONLINE": "N",
        "TIMESTAMP_X": {},
        "LAST_ACTIVITY_DATE": {},
        "PERSONAL_GENDER": "",
        "PERSONAL_WWW": "",
        "PERSONAL_BIRTHDAY": "",
        "PERSONAL_MOBILE": "",
        "PERSONAL_CITY": "",
        "WORK_PHONE": "",
        "WORK_POSITION": "",
        "UF_EMPLOYMENT_DATE": "",
        "UF_DEPARTMENT": [1],
        "USER_TYPE": "employee" if row.staff else "extranet",
    }


@rest("user.current", scope="user", other_scopes=("user_brief", "user_basic"))
def user_current(call: Call) -> object:
    """The user that a webhook or an application acts as."""
    return _user(call.user)


@rest("user.get", scope="user", other_scopes=("user_brief", "user_basic"))
def user_get(call: Call) -> object:
    """Users, 50 to a page; the filter is in FILTER or among the parameters, unknown names are dropped."""

    def read(row: User, name: str) -> Any:
        value = _user(row)[name]
        return row.id if name == "ID" else ("Y" if value else "N") if name == "ACTIVE" else value

    given = {**call.params, **as_mapping(call.legacy("filter"))}
    filter_ = {key.upper(): value for key, value in given.items()}
    for key, value in filter_.items():
        if key.lstrip("=!") == "ACTIVE":
            filter_[key] = "Y" if value is True or php.to_text(value).upper() in ("Y", "1", "TRUE") else "N"
    sort = php.to_text(call.legacy("sort")).upper()
    way = call.legacy("order")
    rows = matching(call.state.users.values(), lenient_conditions(filter_, _USER_KINDS), read)
    directions = [(sort if sort in _USER_KINDS else "ID", way if isinstance(way, str) else "ASC")]
    page = paged(ordered(rows, directions, read), call.legacy("start"))
    return Listing([_user(row) for row in page.result], page.total, page.next)
