"""Product rows in a payment: which ones, one REST call each, and what the payment holds afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.batch import MOST_COMMANDS
from airflow_provider_bitrix24.api.models import PayableProduct, Payment, ProductRow
from airflow_provider_bitrix24.api.payments import chunks, read_missing_rows, read_rows, read_single
from airflow_provider_bitrix24.api.values import DEAL, SMART_INVOICE
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ApiError, Bitrix24NoAnswer, PaymentRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_bitrix24.api.batch import BatchReply, Commands
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow


OWNER_TYPES: Final = {DEAL: "D", SMART_INVOICE: "SI"}
"""How product rows name the object that they belong to."""
_AVAILABLE: Final = "crm.item.productrow.getAvailableForPayment"
_INSIDE: Final = "crm.item.payment.product.list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the portal shows of a payment and the product rows in it."""

    payment: Payment
    quantities: Mapping[int, Decimal]
    """Quantity by product row."""
    available: tuple[ProductRow, ...] = ()
    """Product rows of the object that are still available for payment; only if they were asked for."""


def plan_products(rows: Iterable[ProductRow], *, of: str) -> dict[int, int]:
    """Decide what to put into a payment: the whole free quantity of every row.

    :param rows: rows still available for payment.
    :param of: the object, for messages: "deal 1".
    :return: quantity by product row.
    :raises PaymentRefused: nothing is available, a quantity is a fraction (Bitrix24 would silently cut it off), or the
        sum would be 0.
    """
    free = [row for row in rows if row.quantity > 0]
    if not free:
        raise PaymentRefused(
            f"fill_products: {of} has no product rows that are still available for payment (none at all, or all of "
            "them are in payments already), so a new payment would stay empty.",
            NOT_SENT,
        )
    for row in free:
        if row.quantity != row.quantity.to_integral_value():
            raise PaymentRefused(
                f"fill_products: product row {row.id} {row.name!r} of {of} has the quantity "
                f"{row.quantity.normalize():f}.",
                "Bitrix24 keeps only whole quantities in payments and would cut it off without a word.",
                NOT_SENT,
                "Change the row (for example quantity 1 at the whole price), or fill the payment by hand.",
            )
    if sum_of(free) <= 0:
        raise PaymentRefused(
            f"fill_products: the product rows of {of} that are available for payment add up to 0.", NOT_SENT
        )
    return {row.id: int(row.quantity) for row in free}


def choose_products(rows: Iterable[ProductRow], wanted: Mapping[int, int], *, of: str) -> dict[int, int]:
    """Check the product rows that the author has chosen.

    :param rows: rows still available for payment.
    :param wanted: quantity by product row.
    :param of: the object, for messages: "deal 1".
    :return: quantity by product row, as it was wanted.
    :raises PaymentRefused: a row is not available, has less left than is wanted, or the sum would be 0.
    """
    free = {row.id: row for row in rows if row.quantity > 0}
    listed = ", ".join(f"{row.id} {row.name!r} x {row.quantity.normalize():f}" for row in free.values()) or "none"
    for row_id, quantity in wanted.items():
        left = free[row_id].quantity if row_id in free else Decimal(0)
        if quantity > left:
            has = f"has only {left.normalize():f} left" if left else "is not a row of it, or nothing of it is left"
            raise PaymentRefused(
                f"products: product row {row_id} x {quantity} cannot go into a payment of {of}, because row {row_id} "
                f"{has}.",
                NOT_SENT,
                f"Available for payment are: {listed}.",
            )
    if value_of(free.values(), wanted) <= 0:
        raise PaymentRefused(f"products: the chosen product rows of {of} add up to 0.", NOT_SENT)
    return dict(wanted)


def value_of(rows: Iterable[ProductRow], plan: Mapping[int, int]) -> Decimal:
    """Return what a plan of product rows adds up to, in the object's currency."""
    return sum((row.price * plan[row.id] for row in rows if row.id in plan), Decimal(0))


def sum_of(rows: Iterable[ProductRow]) -> Decimal:
    """Return what rows that are still available for payment add up to, in the object's currency."""
    return sum((row.price * row.quantity for row in rows if row.quantity > 0), Decimal(0))


def ask_for_available(entity_type_id: int, entity_id: int) -> tuple[str, dict[str, Any]]:
    """Return the batch command whose result :func:`available_in` reads."""
    return _AVAILABLE, {"ownerType": OWNER_TYPES[entity_type_id], "ownerId": entity_id}


def available_in(reply: BatchReply, name: str = "rows") -> tuple[ProductRow, ...]:
    """Read the product rows that are still available for payment: one command of a batch.

    :raises Bitrix24NoAnswer: they cannot be read, or the portal says that there are more of them.
    """
    listed = reply.value(name)
    if isinstance(listed, dict):
        listed = listed.get("productRows")
    rows = tuple(read_rows(_AVAILABLE, ProductRow.from_wire, listed))
    # The method has no pages, so a full page means nothing here; only the portal can say that there are more.
    if name in reply.nexts or reply.totals.get(name, 0) > len(rows):
        raise Bitrix24NoAnswer(_AVAILABLE, "not all product rows came back")
    return rows


def read_available_of_many(
    client: ApiClient, owners: Sequence[tuple[int, int]]
) -> Flow[dict[tuple[int, int], tuple[ProductRow, ...] | Bitrix24ApiError]]:
    """Read the product rows that are still available for payment of many objects, 50 objects in a request.

    :param owners: type and id of each object.
    :return: by type and id: the rows, or the final error that the portal gave for the object.
    :raises Bitrix24Error: an error that says nothing about the object itself, such as a rate limit.
    """
    found: dict[tuple[int, int], tuple[ProductRow, ...] | Bitrix24ApiError] = {}
    for some in chunks(owners, MOST_COMMANDS):
        reply = yield from client.batch({f"o{number}": ask_for_available(*owner) for number, owner in enumerate(some)})
        for number, owner in enumerate(some):
            error = reply.errors.get(f"o{number}")
            if isinstance(error, Bitrix24ApiError) and error.final:
                found[owner] = error
            else:
                found[owner] = available_in(reply, f"o{number}")
    return found


def commands_of_contents(payment_id: int, prices_of: tuple[int, int] | None) -> Commands:
    """Return the commands whose reply :func:`contents_in` reads."""
    commands: dict[str, tuple[str, dict[str, Any]]] = {
        "payment": ("crm.item.payment.get", {"id": payment_id}),
        "products": (_INSIDE, {"paymentId": payment_id}),
    }
    if prices_of is not None:
        commands["rows"] = ask_for_available(*prices_of)
    return commands


def contents_in(
    client: ApiClient, reply: BatchReply, payment_id: int, prices_of: tuple[int, int] | None
) -> Flow[Contents]:
    """Read the reply to :func:`commands_of_contents`.

    :raises Bitrix24NoAnswer: among others if the portal shows another payment, or what is in another one.
    """
    listed = reply.value("products")
    cut = isinstance(listed, list) and reply.may_be_cut("products", len(listed))
    rows = yield from read_missing_rows(
        client, _INSIDE, {"paymentId": payment_id}, listed, cut=cut, total=reply.totals.get("products")
    )
    quantities: dict[int, Decimal] = {}
    for product in read_rows(_INSIDE, PayableProduct.from_wire, rows):
        if product.payment_id != payment_id:
            raise Bitrix24NoAnswer(_INSIDE, f"it shows what is in payment {product.payment_id}, not {payment_id}")
        quantities[product.row_id] = quantities.get(product.row_id, Decimal(0)) + product.quantity
    payment = read_single("crm.item.payment.get", Payment.from_wire, reply.value("payment"), payment_id)
    available = () if prices_of is None else available_in(reply)
    return Contents(payment=payment, quantities=quantities, available=available)
