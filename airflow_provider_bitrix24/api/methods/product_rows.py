"""Product rows of CRM objects: ``crm.item.productrow.*``."""

from __future__ import annotations

from typing import Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods.row import (
    OTHER,
    PARAMETERS_MISSING,
    ListShape,
    Method,
    fields,
    listing,
    one,
)

_PAGE = "api-reference/crm/universal/product-rows/crm-item-productrow-"

_OWNER = (one("ownerType", "``D`` for a deal, ``SI`` for a smart invoice", "text"), one("ownerId", "id of the object"))
_ID = one("id", "id of the product row")
_ERRORS = {
    "ENTITY_TYPE_NOT_SUPPORTED": "objects of this type have no product rows here",
    "ACCESS_DENIED": "the user may not do this with the object",
    **PARAMETERS_MISSING,
    **OTHER,
}
_NO_ROW = {"NOT_FOUND": "the product row does not exist"}
_NO_OWNER = {"OWNER_NOT_FOUND": "the object does not exist"}
_ROW = "``productRow`` with its fields"
_FIELDS = fields(
    number="id ownerId productId price priceAccount priceExclusive priceNetto priceBrutto quantity discountTypeId "
    "discountRate discountSum taxRate measureCode sort type storeId",
    text="ownerType productName measureName xmlId",
    flag="taxIncluded customized",
)

METHODS: Final = (
    Method(
        name="crm.item.productrow.get",
        does="Read one product row.",
        effect=Effect.READ,
        scope="crm",
        params=(_ID,),
        result=_ROW,
        errors={**_ERRORS, **_NO_ROW},
        page=f"{_PAGE}get",
    ),
    Method(
        name="crm.item.productrow.list",
        does="List the product rows of an object. The filter must hold ``=ownerType`` and ``=ownerId``.",
        effect=Effect.READ,
        scope="crm",
        params=listing(select=False),
        result="``productRows``: one page of at most 50",
        rows=ListShape("productRows", fields=_FIELDS),
        errors={
            "ACCESS_DENIED": "the user may not read the object",
            "INVALID_ARG_VALUE": "the filter cannot be read",
            **PARAMETERS_MISSING,
            **OTHER,
        },
        page=f"{_PAGE}list",
    ),
    Method(
        name="crm.item.productrow.fields",
        does="Describe the fields of a product row.",
        effect=Effect.READ,
        scope="crm",
        result="``fields``: field -> type, and whether it is required or read-only",
        errors=OTHER,
        page=f"{_PAGE}fields",
    ),
    Method(
        name="crm.item.productrow.getAvailableForPayment",
        does="List the product rows of an object that are in no payment yet.",
        effect=Effect.READ,
        scope="crm",
        params=_OWNER,
        result="the product rows with the quantities that are left",
        model="ProductRow",
        rows=ListShape("productRows", paging="none"),
        errors={"ACCESS_DENIED": "the user may not read the object", **PARAMETERS_MISSING, **OTHER},
        page=f"{_PAGE}get-available-for-payment",
    ),
    Method(
        name="crm.item.productrow.add",
        does="Add a product row to an object. Calling it twice adds two.",
        effect=Effect.NON_IDEMPOTENT,
        scope="crm",
        params=(one("fields", "``ownerId``, ``ownerType`` and the fields of the row", "object"),),
        result=_ROW,
        errors={**_ERRORS, **_NO_OWNER},
        page=f"{_PAGE}add",
    ),
    Method(
        name="crm.item.productrow.update",
        does="Change a product row.",
        effect=Effect.IDEMPOTENT,
        scope="crm",
        params=(_ID, one("fields", "what shall change", "object")),
        result=_ROW,
        errors={**_ERRORS, **_NO_ROW, "INVALID_ARG_VALUE": "a field is not known, or cannot be changed"},
        page=f"{_PAGE}update",
    ),
    Method(
        name="crm.item.productrow.set",
        does="Replace all product rows of an object; the new ones get new ids.",
        effect=Effect.NON_IDEMPOTENT,
        scope="crm",
        params=(*_OWNER, one("productRows", "the fields of each row", "objects")),
        result="``productRows`` with the fields of each",
        errors={**_ERRORS, **_NO_OWNER},
        page=f"{_PAGE}set",
    ),
    Method(
        name="crm.item.productrow.delete",
        does="Delete a product row.",
        effect=Effect.IDEMPOTENT,
        scope="crm",
        params=(_ID,),
        result="null",
        errors={**_ERRORS, **_NO_ROW},
        page=f"{_PAGE}delete",
    ),
)
