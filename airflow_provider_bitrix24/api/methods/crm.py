"""Deals, companies, contacts, stages and comments: ``crm.deal.*`` and related methods. Errors come without a code."""

from __future__ import annotations

from typing import Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods.row import PARAMETERS_MISSING, ListShape, Method, Param, fields, listing, one

_DEAL_PAGE = "api-reference/crm/deals/crm-deal-"

_ID = one("id", "id of the object")
_FIELDS = one("fields", "field -> value; the portal drops a field that it does not know", "object")
_PARAMS = Param("params", "object", "additional settings, such as ``REGISTER_SONET_EVENT``")
_NO_CODE = {"": "the object does not exist, access is denied, or a parameter is wrong: only the text says which"}

_UTM = "UTM_SOURCE UTM_MEDIUM UTM_CAMPAIGN UTM_CONTENT UTM_TERM"
_DEAL_FIELDS = fields(
    number="ID CATEGORY_ID PROBABILITY OPPORTUNITY TAX_VALUE COMPANY_ID QUOTE_ID LEAD_ID ASSIGNED_BY_ID CREATED_BY_ID "
    "MODIFY_BY_ID MOVED_BY_ID LAST_ACTIVITY_BY",
    text=f"TITLE TYPE_ID STAGE_ID STAGE_SEMANTIC_ID CURRENCY_ID SOURCE_ID ORIGINATOR_ID ORIGIN_ID {_UTM}",
    flag="IS_NEW IS_RECURRING IS_RETURN_CUSTOMER IS_REPEATED_APPROACH IS_MANUAL_OPPORTUNITY OPENED CLOSED",
    time="DATE_CREATE DATE_MODIFY MOVED_TIME LAST_ACTIVITY_TIME",
    other="BEGINDATE CLOSEDATE COMMENTS SOURCE_DESCRIPTION ADDITIONAL_INFO LOCATION_ID CONTACT_ID",
)
_PERSON = "PHONE EMAIL WEB IM LINK COMMENTS"
_ADDRESS = (
    "ADDRESS ADDRESS_2 ADDRESS_CITY ADDRESS_POSTAL_CODE ADDRESS_REGION ADDRESS_PROVINCE ADDRESS_COUNTRY "
    "ADDRESS_COUNTRY_CODE ADDRESS_LOC_ADDR_ID"
)
_COMPANY_FIELDS = fields(
    number="ID REVENUE ASSIGNED_BY_ID CREATED_BY_ID MODIFY_BY_ID LEAD_ID LAST_ACTIVITY_BY",
    text=f"TITLE COMPANY_TYPE INDUSTRY EMPLOYEES CURRENCY_ID ORIGINATOR_ID ORIGIN_ID ORIGIN_VERSION {_UTM}",
    flag="OPENED HAS_PHONE HAS_EMAIL HAS_IMOL IS_MY_COMPANY",
    time="DATE_CREATE DATE_MODIFY LAST_ACTIVITY_TIME",
    other=f"{_PERSON} {_ADDRESS} ADDRESS_LEGAL BANKING_DETAILS LOGO CONTACT_ID LAST_COMMUNICATION_TIME "
    + " ".join(f"REG_{name}" for name in _ADDRESS.split()),
)
_CONTACT_FIELDS = fields(
    number="ID ASSIGNED_BY_ID CREATED_BY_ID MODIFY_BY_ID LEAD_ID LAST_ACTIVITY_BY",
    text=f"NAME SECOND_NAME LAST_NAME HONORIFIC TYPE_ID SOURCE_ID POST ORIGINATOR_ID ORIGIN_ID ORIGIN_VERSION {_UTM}",
    flag="OPENED EXPORT HAS_PHONE HAS_EMAIL HAS_IMOL",
    time="DATE_CREATE DATE_MODIFY LAST_ACTIVITY_TIME",
    other=f"{_PERSON} {_ADDRESS} PHOTO BIRTHDATE SOURCE_DESCRIPTION COMPANY_ID COMPANY_IDS",
)

METHODS: Final = (
    Method(
        name="crm.deal.get",
        does="Read one deal.",
        effect=Effect.READ,
        scope="crm",
        params=(_ID,),
        any_case=True,
        result="the fields of the deal",
        errors=_NO_CODE,
        page=f"{_DEAL_PAGE}get",
    ),
    Method(
        name="crm.deal.list",
        does="List deals.",
        effect=Effect.READ,
        scope="crm",
        params=listing(),
        any_case=True,
        result="one page of at most 50",
        rows=ListShape(id_field="ID", fields=_DEAL_FIELDS),
        errors=_NO_CODE,
        page=f"{_DEAL_PAGE}list",
    ),
    Method(
        name="crm.deal.add",
        does="Create a deal. Calling it twice creates two.",
        effect=Effect.NON_IDEMPOTENT,
        scope="crm",
        params=(_FIELDS, _PARAMS),
        any_case=True,
        result="id of the deal",
        errors=_NO_CODE,
        page=f"{_DEAL_PAGE}add",
    ),
    Method(
        name="crm.deal.update",
        does="Change a deal.",
        effect=Effect.IDEMPOTENT,
        scope="crm",
        params=(_ID, _FIELDS, _PARAMS),
        any_case=True,
        result="true",
        errors=_NO_CODE,
        page=f"{_DEAL_PAGE}update",
    ),
    Method(
        name="crm.deal.delete",
        does="Delete a deal and what belongs to it alone.",
        effect=Effect.IDEMPOTENT,
        scope="crm",
        params=(_ID,),
        any_case=True,
        result="true",
        errors=_NO_CODE,
        page=f"{_DEAL_PAGE}delete",
    ),
    Method(
        name="crm.deal.fields",
        does="Describe the fields of a deal.",
        effect=Effect.READ,
        scope="crm",
        result="field -> type, title, and whether it is required or read-only",
        page=f"{_DEAL_PAGE}fields",
    ),
    Method(
        name="crm.company.get",
        does="Read one company.",
        effect=Effect.READ,
        scope="crm",
        params=(_ID,),
        any_case=True,
        result="the fields of the company",
        errors=_NO_CODE,
        page="api-reference/crm/companies/crm-company-get",
    ),
    Method(
        name="crm.company.list",
        does="List companies.",
        effect=Effect.READ,
        scope="crm",
        params=listing(),
        any_case=True,
        result="one page of at most 50",
        rows=ListShape(id_field="ID", fields=_COMPANY_FIELDS),
        errors=_NO_CODE,
        page="api-reference/crm/companies/crm-company-list",
    ),
    Method(
        name="crm.contact.get",
        does="Read one contact.",
        effect=Effect.READ,
        scope="crm",
        params=(_ID,),
        any_case=True,
        result="the fields of the contact",
        errors=_NO_CODE,
        page="api-reference/crm/contacts/crm-contact-get",
    ),
    Method(
        name="crm.contact.list",
        does="List contacts.",
        effect=Effect.READ,
        scope="crm",
        params=listing(),
        any_case=True,
        result="one page of at most 50",
        rows=ListShape(id_field="ID", fields=_CONTACT_FIELDS),
        errors=_NO_CODE,
        page="api-reference/crm/contacts/crm-contact-list",
    ),
    Method(
        name="crm.status.list",
        does="List the entries of the CRM's directories, among them the stages of deals.",
        effect=Effect.READ,
        scope="crm",
        params=listing(select=False, start=False),
        any_case=True,
        result="the entries",
        rows=ListShape(
            id_field="ID",
            paging="start",
            fields=fields(
                number="ID SORT CATEGORY_ID",
                text="ENTITY_ID STATUS_ID NAME NAME_INIT",
                flag="SYSTEM",
                other="COLOR SEMANTICS EXTRA",
            ),
        ),
        errors=_NO_CODE,
        page="api-reference/crm/status/crm-status-list",
    ),
    Method(
        name="crm.timeline.comment.add",
        does="Add a comment to the timeline of a CRM object. Calling it twice adds two.",
        effect=Effect.NON_IDEMPOTENT,
        scope="crm",
        params=(
            Param(
                "fields",
                "object",
                "``ENTITY_ID``, ``ENTITY_TYPE`` (such as ``deal``) and ``COMMENT``",
                required=True,
                names=("ENTITY_ID", "ENTITY_TYPE", "COMMENT", "FILES"),
            ),
        ),
        result="id of the comment",
        errors={
            "OWNER_NOT_FOUND": "the object does not exist",
            "ACCESS_DENIED": "the user may not do this with the object",
            "NOT_FOUND": "the object does not exist",
            "INVALID_ARG_VALUE": "the comment is empty",
            **PARAMETERS_MISSING,
        },
        page="api-reference/crm/timeline/comments/crm-timeline-comment-add",
    ),
)
