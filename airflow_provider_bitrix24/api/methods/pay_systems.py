"""Pay systems: ``sale.paysystem.*``. The case of names of parameters and fields does not matter."""

from __future__ import annotations

from typing import Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods.row import ListShape, Method, Param, fields, listing, one

_PAGE = "api-reference/pay-system/sale-pay-system-"
_OUTDATED = "api-reference/pay-system/outdated/sale-pay-system-"

_ID = one("ID", "id of the pay system")
_HANDLER_ID = one("ID", "id of the REST handler")
_PERSON_TYPE = Param("PERSON_TYPE_ID", "id", "payer type of the settings")
_DENIED = {"ACCESS_DENIED": "the user may not do this, or it belongs to another application"}
_CHECK = {"ERROR_CHECK_FAILURE": "a required value is missing or wrong, or what it names does not exist"}
_NO_HANDLER = {"ERROR_HANDLER_NOT_FOUND": "the REST handler does not exist"}
_NO_PERSON_TYPE = {"ERROR_PERSON_TYPE_NOT_FOUND": "the payer type does not exist"}
_NO_PAY_SYSTEM = {"ERROR_PAY_SYSTEM_NOT_FOUND": "the pay system does not exist"}
_PROCESS = {
    "ERROR_PROCESS_REQUEST_RESULT": "the pay system's handler refused, or it is of another kind; the text says more"
}
_BY_INVOICE = (
    one("INVOICE_ID", "id of the legacy invoice"),
    Param("PAY_SYSTEM_ID", "id", "id of the pay system; counts if both are given"),
    Param("BX_REST_HANDLER", "text", "code of a REST handler: the first pay system that has it"),
)
_BY_PAYMENT = (
    one("PAYMENT_ID", "id of the payment"),
    one("PAY_SYSTEM_ID", "id of the pay system that the payment has"),
)
_SETTINGS = (
    Param("NAME", "text", "name", required=True),
    Param("PERSON_TYPE_ID", "id", "payer type", required=True),
    Param("BX_REST_HANDLER", "text", "code of the REST handler", required=True),
    Param("DESCRIPTION", "text", "description"),
    Param("ACTIVE", "flag", "whether it is active; no if not given"),
    Param("ENTITY_REGISTRY_TYPE", "text", "``ORDER``, ``CRM_INVOICE`` (if not given) or ``CRM_QUOTE``"),
    Param("SETTINGS", "object", "setting -> ``TYPE`` and ``VALUE``"),
    Param("LOGOTYPE", "text", "picture in Base64"),
    Param("NEW_WINDOW", "flag", "whether it opens in a new window"),
    Param("XML_ID", "text", "external id"),
)

METHODS: Final = (
    Method(
        name="sale.paysystem.pay.invoice",
        does="Record a legacy invoice as paid; no money moves. ``true`` is no proof: read it back.",
        effect=Effect.IDEMPOTENT,
        scope="pay_system",
        params=_BY_INVOICE,
        any_of=("PAY_SYSTEM_ID", "BX_REST_HANDLER"),
        any_case=True,
        result="true, also if the pay system did nothing",
        errors={
            **_DENIED,
            **_CHECK,
            **_PROCESS,
            "ERROR_INTERNAL_INVOICE_NOT_FOUND": "the legacy invoice does not exist",
            "ERROR_PAY_INVOICE_NOT_SUPPORTED": "the portal has no legacy invoices",
            "ERROR_INVOICE_NO_SUPPORTED": "the portal has no legacy invoices",
        },
        moves_money=True,
        operator="PayInvoiceOperator",
        page=f"{_OUTDATED}pay-invoice",
    ),
    Method(
        name="sale.paysystem.pay.payment",
        does="Record a payment of an order as paid; no money moves. ``true`` is no proof: read it back.",
        effect=Effect.IDEMPOTENT,
        scope="pay_system",
        params=_BY_PAYMENT,
        any_case=True,
        result="true, also if the pay system did nothing",
        errors={**_DENIED, **_CHECK, **_PROCESS},
        moves_money=True,
        operator="PayPaymentOperator",
        page=f"{_PAGE}pay-payment",
    ),
    Method(
        name="sale.paysystem.list",
        does="List the pay systems.",
        effect=Effect.READ,
        scope="pay_system",
        admin=True,
        params=listing(upper=True, start=False),
        any_case=True,
        result="the pay systems",
        model="PaySystem",
        rows=ListShape(
            id_field="ID",
            paging="none",
            any_case=True,
            fields=fields(
                number="ID PERSON_TYPE_ID SORT",
                text="NAME PSA_NAME ACTION_FILE ENTITY_REGISTRY_TYPE XML_ID",
                flag="ACTIVE NEW_WINDOW HAVE_PAYMENT HAVE_ACTION HAVE_RESULT HAVE_PREPAY HAVE_PRICE "
                "HAVE_RESULT_RECEIVE ALLOW_EDIT_PAYMENT IS_CASH AUTO_CHANGE_1C CAN_PRINT_CHECK",
                other="DESCRIPTION RESULT_FILE TARIF TARIFF PS_MODE ENCODING LOGOTIP LOGOTYPE",
            ),
        ),
        errors={**_DENIED, **_CHECK},
        page=f"{_PAGE}list",
    ),
    Method(
        name="sale.paysystem.add",
        does="Add a pay system. Calling it twice adds two.",
        effect=Effect.NON_IDEMPOTENT,
        scope="pay_system",
        admin=True,
        params=_SETTINGS,
        any_case=True,
        result="id of the pay system",
        errors={**_DENIED, **_CHECK, **_NO_HANDLER, **_NO_PERSON_TYPE, "ERROR_PAY_SYSTEM_ADD": "any other error"},
        page=f"{_PAGE}add",
    ),
    Method(
        name="sale.paysystem.update",
        does="Change a pay system.",
        effect=Effect.IDEMPOTENT,
        scope="pay_system",
        admin=True,
        params=(_ID, Param("FIELDS", "object", "what shall change", required=True)),
        any_case=True,
        result="true",
        errors={**_DENIED, **_CHECK, **_NO_PAY_SYSTEM, **_NO_HANDLER, **_NO_PERSON_TYPE},
        page=f"{_PAGE}update",
    ),
    Method(
        name="sale.paysystem.delete",
        does="Delete a pay system.",
        effect=Effect.IDEMPOTENT,
        scope="pay_system",
        admin=True,
        params=(_ID,),
        any_case=True,
        result="true",
        errors={**_DENIED, **_CHECK, **_NO_PAY_SYSTEM},
        page=f"{_PAGE}delete",
    ),
    Method(
        name="sale.paysystem.settings.get",
        does="Read the settings of a pay system.",
        effect=Effect.READ,
        scope="pay_system",
        admin=True,
        params=(_ID, _PERSON_TYPE),
        any_case=True,
        result="setting -> value",
        errors={**_DENIED, **_CHECK},
        page=f"{_PAGE}settings-get",
    ),
    Method(
        name="sale.paysystem.settings.update",
        does="Change settings of a pay system.",
        effect=Effect.IDEMPOTENT,
        scope="pay_system",
        admin=True,
        params=(_ID, Param("SETTINGS", "object", "setting -> ``TYPE`` and ``VALUE``", required=True), _PERSON_TYPE),
        any_case=True,
        result="true",
        errors={**_DENIED, **_CHECK, "ERROR_HANDLER_NOT_FOUND": "there are no settings in the call"},
        page=f"{_PAGE}settings-update",
    ),
    Method(
        name="sale.paysystem.settings.payment.get",
        does="Read the settings of a pay system for one payment.",
        effect=Effect.READ,
        scope="pay_system",
        params=_BY_PAYMENT,
        any_case=True,
        result="setting -> value",
        errors={**_DENIED, **_CHECK, "ERROR_INTERNAL_ORDER_NOT_FOUND": "the order of the payment does not exist"},
        page=f"{_PAGE}settings-payment-get",
    ),
    Method(
        name="sale.paysystem.settings.invoice.get",
        does="Read the settings of a pay system for one legacy invoice.",
        effect=Effect.READ,
        scope="pay_system",
        params=_BY_INVOICE,
        any_of=("PAY_SYSTEM_ID", "BX_REST_HANDLER"),
        any_case=True,
        result="setting -> value",
        errors={**_DENIED, **_CHECK, "ERROR_INTERNAL_INVOICE_NOT_FOUND": "the legacy invoice does not exist"},
        page=f"{_OUTDATED}settings-invoice-get",
    ),
    Method(
        name="sale.paysystem.handler.add",
        does="Add a REST handler for pay systems. A code that exists is refused.",
        effect=Effect.NON_IDEMPOTENT,
        scope="pay_system",
        admin=True,
        params=(
            Param("NAME", "text", "name", required=True),
            Param("CODE", "text", "code, unique among all handlers", required=True),
            Param(
                "SETTINGS",
                "object",
                "``CODES``, and one of ``FORM_DATA``, ``CHECKOUT_DATA``, ``IFRAME_DATA``",
                required=True,
            ),
            Param("SORT", "int", "position; 100 if not given"),
        ),
        any_case=True,
        result="id of the REST handler",
        errors={
            **_DENIED,
            **_CHECK,
            "ERROR_HANDLER_ALREADY_EXIST": "the code exists",
            "ERROR_HANDLER_ADD": "any other error",
        },
        page=f"{_PAGE}handler-add",
    ),
    Method(
        name="sale.paysystem.handler.update",
        does="Change a REST handler.",
        effect=Effect.IDEMPOTENT,
        scope="pay_system",
        admin=True,
        params=(
            _HANDLER_ID,
            Param("FIELDS", "object", "what shall change", required=True, names=("NAME", "CODE", "SETTINGS", "SORT")),
        ),
        any_case=True,
        result="true",
        errors={
            **_DENIED,
            **_CHECK,
            **_NO_HANDLER,
            "ERROR_HANDLER_UPDATE": "any other error",
            "ERROR_UNEXPECTED_ANSWER": "among others the code of another handler",
        },
        page=f"{_PAGE}handler-update",
    ),
    Method(
        name="sale.paysystem.handler.list",
        does="List the REST handlers of pay systems.",
        effect=Effect.READ,
        scope="pay_system",
        admin=True,
        any_case=True,
        result="the REST handlers",
        rows=ListShape(id_field="ID", paging="none"),
        errors=_DENIED,
        page=f"{_PAGE}handler-list",
    ),
    Method(
        name="sale.paysystem.handler.delete",
        does="Delete a REST handler.",
        effect=Effect.IDEMPOTENT,
        scope="pay_system",
        admin=True,
        params=(_HANDLER_ID,),
        any_case=True,
        result="true",
        errors={
            **_DENIED,
            **_NO_HANDLER,
            "ERROR_PAY_SYSTEM_DELETE": "the id is missing, or cash registers are linked to it",
            "ERROR_HANDLER_DELETE": "any other error",
        },
        page=f"{_PAGE}handler-delete",
    ),
)
