"""Orders and their payments in the online store.

``sale.payment.*``, ``sale.paymentitembasket.*``, ``sale.order.*``, ``sale.persontype.list``.
"""

from __future__ import annotations

from typing import Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods.row import (
    OTHER,
    PARAMETERS_MISSING,
    ListShape,
    Method,
    Param,
    fields,
    listing,
    one,
)

_PAYMENT = "api-reference/sale/payment/sale-payment-"
_BASKET = "api-reference/sale/payment-item-basket/sale-payment-item-basket-"
_ORDER = "api-reference/sale/order/sale-order-"

PAYMENT_FIELDS: Final = fields(
    number="id orderId paySystemId sum priceCod psSum companyId empPaidId empReturnId empResponsibleId empMarkedId "
    "responsibleId",
    text="accountNumber xmlId psInvoiceId psStatusCode psCurrency currency paySystemName paySystemXmlId payVoucherNum "
    "payReturnNum id1c version1c",
    flag="paid isReturn marked externalPayment updated1c paySystemIsCash",
    time="dateBill datePaid datePayBefore dateMarked dateResponsibleId payReturnDate payVoucherDate psResponseDate",
    other="comments payReturnComment psStatus psStatusDescription psStatusMessage reasonMarked",
)
"""Fields of ``sale.payment.getFields``."""
_WRITABLE = tuple(
    name
    for name in PAYMENT_FIELDS
    if name
    not in (
        "id",
        "accountNumber",
        "currency",
        "dateMarked",
        "dateResponsibleId",
        "paySystemIsCash",
        "paySystemName",
        "paySystemXmlId",
    )
)
"""Without those that ``sale.payment.getFields`` calls read-only; the portal drops unknown ones without a word."""

ORDER_FIELDS: Final = fields(
    number="id price discountValue taxValue companyId personTypeId responsibleId userId empCanceledId empMarkedId "
    "empStatusId affiliateId version",
    text="accountNumber currency lid statusId statusXmlId personTypeXmlId xmlId id1c version1c",
    flag="payed canceled marked deducted externalOrder updated1c recountFlag",
    time="dateInsert dateUpdate dateStatus dateCanceled dateMarked dateLock",
    other="additionalInfo comments lockedBy orderTopic reasonCanceled reasonMarked recurringId userDescription",
)
"""Fields of ``sale.order.getFields``."""
_ORDER_WRITABLE = tuple(
    name
    for name in ORDER_FIELDS
    if name
    not in (
        "id", "accountNumber", "companyId", "currency", "dateCanceled", "dateLock", "dateMarked", "dateStatus",
        "dateUpdate", "deducted", "lid", "payed", "personTypeId", "personTypeXmlId", "statusXmlId", "taxValue",
        "userId", "version",
    )
)  # fmt: skip
"""What the page of ``sale.order.update`` names."""

_BASKET_FIELDS = fields(number="id paymentId basketId quantity", text="xmlId", time="dateInsert")

_READ = {"200040300010": "the user may not read this"}
_WRITE = {"200040300020": "the user may not change this"}
_NO_LINE = {"201240400001": "the line does not exist"}
_NO_PAYMENT = {"200640400001": "the payment does not exist"}

METHODS: Final = (
    Method(
        name="sale.payment.add",
        does="Add a payment to an order. Calling it twice adds two; ``xmlId`` makes it possible to find it again.",
        effect=Effect.NON_IDEMPOTENT,
        scope="sale",
        admin=True,
        params=(
            Param(
                "fields",
                "object",
                "``orderId`` and ``paySystemId``, and what else shall be set",
                required=True,
                names=_WRITABLE,
            ),
        ),
        result="``payment`` with the fields of the new payment",
        errors={**_WRITE, **PARAMETERS_MISSING, **OTHER, "200540400001": "the order does not exist"},
        moves_money=True,
        operator="AddCrmPaymentOperator",
        page=f"{_PAYMENT}add",
    ),
    Method(
        name="sale.payment.update",
        does="Change a payment of an order. It returns the saved payment: compare it.",
        effect=Effect.IDEMPOTENT,
        scope="sale",
        admin=True,
        params=(
            one("id", "id of the payment"),
            Param("fields", "object", "``paySystemId``, and what shall change", required=True, names=_WRITABLE),
        ),
        result="``payment`` with the fields of the saved payment",
        errors={
            **_NO_PAYMENT,
            **_WRITE,
            **PARAMETERS_MISSING,
            **OTHER,
            "SALE_PAYMENT_NOT_ALLOWED_CHANGE_SUM": "the payment is paid, so its sum stays",
        },
        moves_money=True,
        operator="PayCrmPaymentOperator",
        page=f"{_PAYMENT}update",
    ),
    Method(
        name="sale.payment.get",
        does="Read one payment of an order, with all its fields.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        params=(one("id", "id of the payment"),),
        result="``payment`` with the fields of the payment",
        errors={**_NO_PAYMENT, **_READ, **PARAMETERS_MISSING, **OTHER},
        page=f"{_PAYMENT}get",
    ),
    Method(
        name="sale.payment.list",
        does="List the payments of all orders of the portal.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        params=listing(),
        result="``payments``: one page of at most 50",
        rows=ListShape("payments", fields=PAYMENT_FIELDS),
        errors={**_READ, **OTHER},
        page=f"{_PAYMENT}list",
    ),
    Method(
        name="sale.payment.delete",
        does="Delete a payment of an order.",
        effect=Effect.IDEMPOTENT,
        scope="sale",
        admin=True,
        params=(one("id", "id of the payment"),),
        result="true",
        errors={**_NO_PAYMENT, **_WRITE, **PARAMETERS_MISSING, **OTHER},
        moves_money=True,
        page=f"{_PAYMENT}delete",
    ),
    Method(
        name="sale.payment.getFields",
        does="Describe the fields of a payment.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        result="``payment``: field -> type, and whether it is required or read-only",
        errors=OTHER,
        page=f"{_PAYMENT}get-fields",
    ),
    Method(
        name="sale.paymentitembasket.add",
        does="Put a line of the basket into a payment of an order.",
        effect=Effect.NON_IDEMPOTENT,
        scope="sale",
        admin=True,
        params=(
            Param(
                "fields",
                "object",
                "``paymentId``, ``basketId`` and ``quantity``, and ``xmlId`` if it is known",
                required=True,
                names=("paymentId", "basketId", "quantity", "xmlId"),
            ),
        ),
        result="``paymentItemBasket`` with the fields of the new line",
        errors={
            **_WRITE,
            **PARAMETERS_MISSING,
            "0": "a required field is missing",
            "201240400002": "the payment does not exist",
            "201240400003": "the line of the basket does not exist",
            "201250000001": "the payment holds this line of the basket already",
        },
        moves_money=True,
        page=f"{_BASKET}add",
    ),
    Method(
        name="sale.paymentitembasket.update",
        does="Change a line of a payment of an order.",
        effect=Effect.IDEMPOTENT,
        scope="sale",
        admin=True,
        params=(
            one("id", "id of the line"),
            Param("fields", "object", "what shall change", required=True, names=("quantity", "xmlId")),
        ),
        result="``paymentItemBasket`` with the fields of the saved line",
        errors={**_NO_LINE, **_WRITE, **PARAMETERS_MISSING, **OTHER},
        moves_money=True,
        page=f"{_BASKET}update",
    ),
    Method(
        name="sale.paymentitembasket.delete",
        does="Take a line out of a payment of an order.",
        effect=Effect.IDEMPOTENT,
        scope="sale",
        admin=True,
        params=(one("id", "id of the line"),),
        result="true",
        errors={**_NO_LINE, **_WRITE, **PARAMETERS_MISSING, **OTHER},
        moves_money=True,
        page=f"{_BASKET}delete",
    ),
    Method(
        name="sale.paymentitembasket.get",
        does="Read one line of a payment of an order.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        params=(one("id", "id of the line"),),
        result="``paymentItemBasket`` with the fields of the line",
        errors={**_NO_LINE, **_READ, **PARAMETERS_MISSING, **OTHER},
        page=f"{_BASKET}get",
    ),
    Method(
        name="sale.paymentitembasket.list",
        does="List the lines of the payments of all orders.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        params=listing(),
        result="``paymentItemsBasket``: one page of at most 50",
        rows=ListShape("paymentItemsBasket", fields=_BASKET_FIELDS),
        errors={**_READ, **OTHER},
        page=f"{_BASKET}list",
    ),
    Method(
        name="sale.paymentitembasket.getfields",
        does="Describe the fields of a line of a payment.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        result="``paymentItemBasket``: field -> type, and whether it is required or read-only",
        errors={**_READ, **OTHER},
        page=f"{_BASKET}get-fields",
    ),
    Method(
        name="sale.order.get",
        does="Read one order and what belongs to it.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        params=(one("id", "id of the order"),),
        result="``order`` with its fields",
        errors={**_READ, **PARAMETERS_MISSING, **OTHER, "201240400001": "the order does not exist"},
        page=f"{_ORDER}get",
    ),
    Method(
        name="sale.order.list",
        does="List the orders of the portal.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        params=listing(),
        result="``orders``: one page of at most 50",
        rows=ListShape("orders", fields=ORDER_FIELDS),
        errors={**_READ, **OTHER},
        page=f"{_ORDER}list",
    ),
    Method(
        name="sale.order.update",
        does="Change an order.",
        effect=Effect.IDEMPOTENT,
        scope="sale",
        admin=True,
        params=(
            one("id", "id of the order"),
            Param("fields", "object", "what shall change", required=True, names=_ORDER_WRITABLE),
        ),
        result="``order`` with its fields",
        errors={**_WRITE, **PARAMETERS_MISSING, **OTHER, "200540400001": "the order does not exist"},
        page=f"{_ORDER}update",
    ),
    Method(
        name="sale.persontype.list",
        does="List the payer types of orders.",
        effect=Effect.READ,
        scope="sale",
        admin=True,
        params=listing(),
        result="``personTypes``: one page of at most 50",
        rows=ListShape("personTypes"),
        errors={**_READ, **OTHER},
        page="api-reference/sale/person-type/sale-person-type-list",
    ),
)
