"""CRM objects of every type and their orders: ``crm.item.*`` and ``crm.orderentity.*``."""

from __future__ import annotations

from typing import Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods.row import (
    OTHER,
    ListShape,
    Method,
    Param,
    fields,
    listing,
    one,
)

_PAGE = "api-reference/crm/universal/crm-item-"
_ORDER_PAGE = "api-reference/crm/universal/order-entity/crm-order-entity-"

_TYPE = one("entityTypeId", "CRM type: 1 lead, 2 deal, 3 contact, 4 company, 31 smart invoice, or a smart process's")
_ID = one("id", "id of the object")
_FIELDS = one("fields", "field -> value; the portal drops a field that it does not know", "object")
_NAMES = Param("useOriginalUfNames", "flag", "whether custom fields are called ``UF_CRM_…`` instead of ``ufCrm…``")
_ITEM = "``item`` with its fields"
_ERRORS = {
    "NOT_FOUND": "there is no such CRM type, or no such object of it",
    "ACCESS_DENIED": "the user may not do this with objects of this type",
    "allowed_only_intranet_user": "the user is not one of the intranet",
}
_VALUES = {
    **_ERRORS,
    "CRM_FIELD_ERROR_VALUE_NOT_VALID": "a field has a wrong value",
    "100": "a field with many values was given something else",
}

METHODS: Final = (
    Method(
        name="crm.item.get",
        does="Read one CRM object.",
        effect=Effect.READ,
        scope="crm",
        params=(_TYPE, _ID, _NAMES),
        result=_ITEM,
        errors=_ERRORS,
        page=f"{_PAGE}get",
    ),
    Method(
        name="crm.item.list",
        does="List the objects of a CRM type. The portal itself refuses fields that it does not know.",
        effect=Effect.READ,
        scope="crm",
        params=(_TYPE, *listing(), _NAMES),
        result="``items``: one page of at most 50",
        rows=ListShape("items"),
        errors={**_ERRORS, "INVALID_ARG_VALUE": "a field, a value or a direction that cannot be filtered or sorted by"},
        page=f"{_PAGE}list",
    ),
    Method(
        name="crm.item.add",
        does="Create a CRM object. Calling it twice creates two.",
        effect=Effect.NON_IDEMPOTENT,
        scope="crm",
        params=(_TYPE, _FIELDS, _NAMES),
        result=_ITEM,
        errors={**_VALUES, "CREATE_DYNAMIC_ITEM_RESTRICTED": "the plan does not allow it"},
        page=f"{_PAGE}add",
    ),
    Method(
        name="crm.item.update",
        does="Change a CRM object.",
        effect=Effect.IDEMPOTENT,
        scope="crm",
        params=(_TYPE, _ID, _FIELDS, _NAMES),
        result=_ITEM,
        errors={**_VALUES, "UPDATE_DYNAMIC_ITEM_RESTRICTED": "the plan does not allow it"},
        page=f"{_PAGE}update",
    ),
    Method(
        name="crm.category.list",
        does="List the pipelines of a CRM type, as far as the user may read them.",
        effect=Effect.READ,
        scope="crm",
        params=(_TYPE,),
        result="``categories``: the pipelines",
        rows=ListShape("categories", paging="start"),
        errors={
            "NOT_FOUND": "there is no such CRM type",
            "ENTITY_TYPE_NOT_SUPPORTED": "objects of this type have no pipelines",
        },
        page="api-reference/crm/universal/category/crm-category-list",
    ),
    Method(
        name="crm.orderentity.list",
        does="List which orders belong to which CRM objects.",
        effect=Effect.READ,
        scope="crm",
        params=listing(),
        result="``orderEntity``: one page of at most 50",
        rows=ListShape("orderEntity", id_field="orderId", fields=fields(number="orderId ownerId ownerTypeId")),
        errors={"200040300010": "the user may not read this", "200540400002": "the portal has no online store"},
        page=f"{_ORDER_PAGE}list",
    ),
    Method(
        name="crm.orderentity.add",
        does="Bind an order to a CRM object.",
        effect=Effect.NON_IDEMPOTENT,
        scope="crm",
        params=(
            Param("fields", "object", "all three of them", required=True, names=("orderId", "ownerId", "ownerTypeId")),
        ),
        result="the binding, below a key such as ``dealOrder``",
        errors={
            "200040300020": "the user may not change this",
            "201650000001": "they are bound already",
            "200540400001": "the order does not exist",
            **OTHER,
        },
        page=f"{_ORDER_PAGE}add",
    ),
    Method(
        name="crm.orderentity.deleteByFilter",
        does="Take an order off a CRM object.",
        effect=Effect.IDEMPOTENT,
        scope="crm",
        params=(
            Param("fields", "object", "all three of them", required=True, names=("orderId", "ownerId", "ownerTypeId")),
        ),
        result="true",
        page=f"{_ORDER_PAGE}delete-by-filter",
    ),
    Method(
        name="crm.orderentity.getFields",
        does="Describe the fields of a binding.",
        effect=Effect.READ,
        scope="crm",
        result="``orderEntity``: field -> type, and whether it is required or read-only",
        page=f"{_ORDER_PAGE}get-fields",
    ),
)
