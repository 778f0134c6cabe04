"""Legacy invoices, their pay systems and payer types: ``crm.invoice.*``, ``crm.paysystem.*``, ``crm.persontype.*``.

Their errors come without a code.

Whether one is paid is a part of it: a call that creates, changes or deletes one can change that.
"""

from __future__ import annotations

from typing import Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods.row import ListShape, Method, fields, listing, one

_OLD = "api-reference/crm/outdated/invoice/"
_PAGE = f"{_OLD}crm-invoice-"
_STATUS = "api-reference/crm/outdated/invoice-status-old/crm-invoice-status-"

_ID = one("id", "id of the legacy invoice")
_FIELDS = one("fields", "field -> value, as ``crm.invoice.fields`` describes them", "object")
_NO_CODE = {"": "the invoice does not exist, access is denied, or a parameter is wrong: only the text says which"}

_INVOICE_FIELDS = fields(
    number="ID CREATED_BY EMP_PAYED_ID EMP_STATUS_ID PAY_SYSTEM_ID PERSON_TYPE_ID PRICE TAX_VALUE RESPONSIBLE_ID",
    text="ACCOUNT_NUMBER CURRENCY XML_ID ORDER_TOPIC PAY_VOUCHER_NUM STATUS_ID RESPONSIBLE_EMAIL RESPONSIBLE_LAST_NAME "
    "RESPONSIBLE_LOGIN RESPONSIBLE_NAME RESPONSIBLE_SECOND_NAME RESPONSIBLE_WORK_POSITION",
    flag="PAYED CANCELED IS_RECURRING",
    time="DATE_INSERT DATE_MARKED DATE_PAYED DATE_STATUS DATE_UPDATE",
    other="COMMENTS DATE_BILL DATE_PAY_BEFORE LID PAY_VOUCHER_DATE REASON_MARKED RESPONSIBLE_PERSONAL_PHOTO "
    "USER_DESCRIPTION",
)

_STATUS_FIELDS = fields(number="ID SORT", text="ENTITY_ID STATUS_ID NAME NAME_INIT", flag="SYSTEM")

METHODS: Final = (
    Method(
        name="crm.invoice.get",
        does="Read one legacy invoice.",
        effect=Effect.READ,
        scope="crm",
        params=(_ID,),
        any_case=True,
        result="the legacy invoice",
        model="Invoice",
        errors=_NO_CODE,
        page=f"{_PAGE}get",
    ),
    Method(
        name="crm.invoice.list",
        does="List legacy invoices.",
        effect=Effect.READ,
        scope="crm",
        params=listing(),
        any_case=True,
        result="one page of at most 50",
        model="Invoice",
        rows=ListShape(id_field="ID", fields=_INVOICE_FIELDS),
        errors=_NO_CODE,
        page=f"{_PAGE}list",
    ),
    Method(
        name="crm.invoice.add",
        does="Create a legacy invoice. Calling it twice creates two; ``XML_ID`` makes it possible to find it again.",
        effect=Effect.NON_IDEMPOTENT,
        scope="crm",
        params=(_FIELDS,),
        any_case=True,
        result="the id; the reply is not documented",
        errors=_NO_CODE,
        moves_money=True,
        page=f"{_PAGE}add",
    ),
    Method(
        name="crm.invoice.update",
        does="Change a legacy invoice; the status P (``STATUS_ID``) marks it as paid.",
        effect=Effect.IDEMPOTENT,
        scope="crm",
        params=(_ID, _FIELDS),
        any_case=True,
        result="the reply is not documented",
        errors=_NO_CODE,
        moves_money=True,  # rule: what changes a legacy invoice changes whether it is paid
        page=f"{_PAGE}update",
    ),
    Method(
        name="crm.invoice.delete",
        does="Delete a legacy invoice.",
        effect=Effect.IDEMPOTENT,
        scope="crm",
        params=(_ID,),
        any_case=True,
        result="the reply is not documented",
        errors=_NO_CODE,
        moves_money=True,
        page=f"{_PAGE}delete",
    ),
    Method(
        name="crm.invoice.fields",
        does="Describe the fields of a legacy invoice.",
        effect=Effect.READ,
        scope="crm",
        result="field -> type, title, and whether it is required or read-only",
        page=f"{_PAGE}fields",
    ),
    Method(
        name="crm.invoice.getexternallink",
        does="Get the public link of a legacy invoice: treat it as a secret.",
        effect=Effect.READ,
        scope="crm",
        params=(_ID,),
        any_case=True,
        result="the link",
        errors=_NO_CODE,
        page=f"{_PAGE}get-external-link",
    ),
    Method(
        name="crm.invoice.status.fields",
        does="Describe the fields of a status of legacy invoices.",
        effect=Effect.READ,
        scope="crm",
        any_case=True,
        result="field -> type, and whether it is required or read-only",
        page=f"{_STATUS}fields",
    ),
    Method(
        name="crm.invoice.status.list",
        does="List the statuses that legacy invoices can have.",
        effect=Effect.READ,
        scope="crm",
        params=listing(select=False, start=False),
        any_case=True,
        result="the statuses",
        rows=ListShape(id_field="ID", paging="start", fields=_STATUS_FIELDS, any_case=True),
        page=f"{_STATUS}list",
    ),
    Method(
        name="crm.invoice.status.get",
        does="Read one status of legacy invoices.",
        effect=Effect.READ,
        scope="crm",
        params=(one("id", "id of the status"),),
        any_case=True,
        result="the fields of the status",
        page=f"{_STATUS}get",
    ),
    Method(
        name="crm.paysystem.fields",
        does="Describe the fields of a pay system of legacy invoices.",
        effect=Effect.READ,
        scope="crm",
        any_case=True,
        result="field -> type, and whether it is required or read-only",
        page=f"{_OLD}crm-pay-system-fields",
    ),
    Method(
        name="crm.paysystem.list",
        does="List the pay systems that legacy invoices can be paid through.",
        effect=Effect.READ,
        scope="crm",
        params=listing(select=False, start=False),
        any_case=True,
        result="the pay systems",
        rows=ListShape(id_field="ID", paging="start"),
        page=f"{_OLD}crm-pay-system-list",
    ),
    Method(
        name="crm.persontype.fields",
        does="Describe the fields of a payer type of legacy invoices.",
        effect=Effect.READ,
        scope="crm",
        any_case=True,
        result="field -> type, and whether it is required or read-only",
        page=f"{_OLD}crm-person-type-fields",
    ),
    Method(
        name="crm.persontype.list",
        does="List the payer types of legacy invoices, such as person and company.",
        effect=Effect.READ,
        scope="crm",
        params=listing(select=False, start=False),
        any_case=True,
        result="the payer types",
        rows=ListShape(id_field="ID", paging="start"),
        page=f"{_OLD}crm-person-type-list",
    ),
)
