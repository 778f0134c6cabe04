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
