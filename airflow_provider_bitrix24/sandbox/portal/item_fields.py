"""The fields of leads, deals and smart invoices that have no rule of their own, with what a new item has in them."""

from __future__ import annotations

from typing import Any

from airflow_provider_bitrix24.sandbox.portal.model import DEAL, LEAD, SMART_INVOICE, words

TYPES = {LEAD: "Lead", DEAL: "Deal", SMART_INVOICE: "Invoice"}


def _nothing(names: str) -> dict[str, Any]:
    return dict.fromkeys(words(names))


_COMMON = _nothing(
    "createdTime updatedTime createdBy updatedBy movedBy movedTime lastActivityBy lastActivityTime sourceId "
    "sourceDescription webformId utmSource utmMedium utmCampaign utmContent utmTerm xmlId"
) | {"opened": "Y", "isManualOpportunity": "N", "comments": "", "observers": []}
_OF_DEAL = _nothing(
    "dateCreateShort dateModifyShort leadId quoteId productId typeId probability begindate begindateShort closedate "
    "closedateShort eventDate eventDateShort eventId eventDescription locationId originatorId originId additionalInfo "
    "searchContent orderStage isWork isWon isLose receivedAmount lostAmount hasProducts"
) | {
    "categoryId": 0,
    "stageId": "NEW",
    "stageSemanticId": "P",
    "isNew": "Y",
    "isRecurring": "N",
    "isReturnCustomer": "N",
    "isRepeatedApproach": "N",
    "closed": "N",
}
_OF_LEAD = _nothing(
    "dateCreateShort dateModifyShort isConvert statusDescription productId name lastName secondName shortName "
    "companyTitle post address originatorId originId dateClosed birthdate honorific login searchContent skype icq"
) | {
    "stageId": "NEW",
    "stageSemanticId": "P",
    "hasPhone": "N",
    "hasEmail": "N",
    "hasImol": "N",
    "isReturnCustomer": "N",
    "phoneMobile": "",
    "phoneWork": "",
    "phoneMailing": "",
    "emailHome": "",
    "emailWork": "",
    "emailMailing": "",
    "imol": "",
    "email": "",
    "phone": "",
    "fm": [],
}
_OF_INVOICE = _nothing(
    "previousStageId begindate closedate mycompanyId locationId accountNumber accountCurrencyId parentId2 parentId7"
) | {"categoryId": 1, "stageId": "DT31_1:N"}

TEMPLATES: dict[int, dict[str, Any]] = {
    LEAD: _COMMON | _OF_LEAD,
    DEAL: _COMMON | _OF_DEAL,
    SMART_INVOICE: _COMMON | _OF_INVOICE,
}
_KEPT_BY_THE_PORTAL = words(
    "createdTime updatedTime createdBy updatedBy movedBy movedTime lastActivityBy lastActivityTime searchContent "
    "isWork isWon isLose receivedAmount lostAmount hasProducts dateCreateShort dateModifyShort begindateShort "
    "closedateShort eventDateShort orderStage stageSemanticId accountCurrencyId"
)
WRITABLE = {kind: frozenset(set(fields) - set(_KEPT_BY_THE_PORTAL)) for kind, fields in TEMPLATES.items()}

#: What ``crm.deal.*`` calls the fields.
DEAL_NAMES = {
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
