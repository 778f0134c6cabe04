"""Find and read invoices and payments: one flow for each REST method.

Each takes the `ApiClient` of a portal and returns what a driver runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from airflow_provider_bitrix24.api.batch import MOST_COMMANDS
from airflow_provider_bitrix24.api.client import ApiClient, keyed
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.models import Invoice, Payment
from airflow_provider_bitrix24.api.paging import PAGE_SIZE, ids_of, may_be_cut, page_params, read_page, shape_of
from airflow_provider_bitrix24.api.values import entity_type_id as known_entity_type
from airflow_provider_bitrix24.api.values import positive_id
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ApiError,
    Bitrix24NoAnswer,
    Bitrix24OutcomeUnknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from airflow_provider_bitrix24.api.io import Flow, SendDeadline

T = TypeVar("T")
Found = TypeVar("Found", Invoice, Payment)


def get_crm_payment(client: ApiClient, *, payment_id: int) -> Flow[Payment]:
    """``crm.item.payment.get``: one payment.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-get.html

    :raises Bitrix24NotFound: there is no such payment, as far as the portal says so in English.
    """
    method = "crm.item.payment.get"
    number = positive_id(payment_id, "payment_id")
    reply = yield from client.call(method, {"id": number}, effect=Effect.READ)
    return read_single(method, Payment.from_wire, reply.result, number)


def get_crm_payments(client: ApiClient, *, payment_ids: Iterable[int]) -> Flow[dict[int, Payment | Bitrix24ApiError]]:
    """Many payments, 50 in a request.

    :return: id -> the payment, or the final error that the portal gave for it.
    :raises Bitrix24Error: an error that says nothing about the payment itself, such as a rate limit.
    """
    method = "crm.item.payment.get"
    found: dict[int, Payment | Bitrix24ApiError] = {}
    for ids in chunks(_ids(payment_ids, "payment_ids"), MOST_COMMANDS):
        reply = yield from client.batch({f"p{number}": (method, {"id": number}) for number in ids})
        for number in ids:
            error = reply.errors.get(f"p{number}")
            if isinstance(error, Bitrix24ApiError) and error.final:
                found[number] = error
            else:
                found[number] = read_single(method, Payment.from_wire, reply.value(f"p{number}"), number)
    return found


def list_crm_payments(
    client: ApiClient,
    *,
    entity_id: int,
    entity_type_id: int,
    filter: Mapping[str, Any] | None = None,
    order: Mapping[str, str] | None = None,
) -> Flow[list[Payment]]:
    """``crm.item.payment.list``: all payments of a deal or smart invoice, also on portals that cut the list.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-list.html

    :param filter: camelCase fields with operators, such as ``{">id": 1033}``.
    :param order: camelCase field -> ``"asc"`` or ``"desc"``; by id if not given.
    :return: payments; an object that does not exist has none.
    :raises Bitrix24NoAnswer: among others if a filter by ``id`` was ignored, or the list is cut in an order that does
        not let us go on.
    """
    method = "crm.item.payment.list"
    params: dict[str, Any] = {
        "entityId": positive_id(entity_id, "entity_id"),
        "entityTypeId": known_entity_type(entity_type_id),
    }
    params |= {name: dict(value) for name, value in (("filter", filter), ("order", order)) if value}
    reply = yield from client.call(method, params, effect=Effect.READ)
    return (yield from payments_in(client, params, reply.result, total=reply.total, following=reply.next))


def payments_in(
    client: ApiClient, params: Mapping[str, Any], listed: Any, *, total: int | None, following: int | None
) -> Flow[list[Payment]]:
    """Read the reply to ``crm.item.payment.list``, and request what is missing in it.

    :param params: what was asked for.
    :param listed: the result.
    :param total: how many rows there are, if the portal says so.
    :param following: offset of the next page, if the portal says that there is one.
    """
    method, wanted = "crm.item.payment.list", _wanted(params.get("filter") or {})
    cut = may_be_cut(len(listed), total, following) if isinstance(listed, list) else False
    rows = yield from read_missing_rows(client, method, params, listed, cut=cut, total=total)
    found = read_rows(method, Payment.from_wire, rows)
    if wanted is not None and not {payment.id for payment in found} <= wanted:
        raise Bitrix24NoAnswer(method, "the portal returned payments that were not asked for")
    return found


def read_missing_rows(
    client: ApiClient, method: str, params: Mapping[str, Any], rows: Any, *, cut: bool, total: int | None
) -> Flow[Any]:
    """Return all rows of a list whose first response may be incomplete; the missing rows are read by id.

    :param method: a list method that filters and orders by id.
    :param params: what was asked for.
    :param rows: what has come.
    :param cut: whether it may be a part.
    :param total: how many rows there are, as the portal said with them.
    :raises Bitrix24NoAnswer: it is a part, and the rest cannot be asked for, or has not come.
    """
    if not cut:
        return rows
    shape, wanted = shape_of(method), {name: value for name, value in params.items() if name != "order"}
    bounds = dict(wanted.get("filter") or {})
    bound = bounds.pop(">id", 0)
    if bound not in (0, "0"):
        bounds[">=id"] = positive_id(bound, "filter[>id]") + 1
    wanted["filter"] = bounds
    whole: list[Any] = []
    promised = total or 0
    after: int | None = None
    while True:
        reply = yield from client.call(method, page_params(shape, wanted, after), effect=Effect.READ)
        page = read_page(method, shape, reply, after)
        promised = max(promised, len(whole) + (reply.total or 0))
        whole += page.rows
        if not may_be_cut(len(page.rows), reply.total, reply.next) and page.after is None:
            break
        if not page.rows:
            raise Bitrix24NoAnswer(method, "the portal says that there are more rows, and does not show them")
        after = page.last
    there = ids_of(shape, whole)
    if len(there) < promised:  # rule: a whole list has as many rows as the portal said
        raise Bitrix24NoAnswer(method, f"the portal says that there are {promised} rows, and shows {len(there)}")
    if lost := ids_of(shape, rows) - there:  # rule: and every row that a part of it has shown
        raise Bitrix24NoAnswer(method, f"the whole list leaves out {min(lost)}, which a part of it has shown")
    if "order" in params:
        if len(whole) > len(rows):
            raise Bitrix24NoAnswer(method, "the list is cut, and only goes on in the order of the ids")
        return rows
    return whole


def update_crm_payment(
    client: ApiClient,
    *,
    payment_id: int,
    pay_system_id: int,
    deadline: SendDeadline | None = None,
    idempotency: str | None = None,
) -> Flow[None]:
    """``crm.item.payment.update``: give a payment another pay system.

    https://apidocs.bitrix24.com/api-reference/crm/universal/payment/crm-item-payment-update.html
    """
    fields = {"paySystemId": positive_id(pay_system_id, "pay_system_id")}
    params = {"id": positive_id(payment_id, "payment_id"), "fields": fields}
    yield from _set(client, "crm.item.payment.update", params, deadline, idempotency)


def get_invoice(client: ApiClient, *, invoice_id: int) -> Flow[Invoice]:
    """``crm.invoice.get``: one legacy invoice.

    https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-get.html
    """
    method = "crm.invoice.get"
    number = positive_id(invoice_id, "invoice_id")
    reply = yield from client.call(method, {"id": number}, effect=Effect.READ)
    return read_single(method, Invoice.from_wire, reply.result, number)


def get_invoices(client: ApiClient, *, invoice_ids: Iterable[int]) -> Flow[dict[int, Invoice]]:
    """``crm.invoice.list``: many legacy invoices, up to 2,500 in a request.

    https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html

    :return: id -> invoice; ids that do not exist, or may not be seen, are absent.
    """
    method = "crm.invoice.list"
    found: dict[int, Invoice] = {}
    pages = list(chunks(_ids(invoice_ids, "invoice_ids"), PAGE_SIZE))
    for commands in chunks(pages, MOST_COMMANDS):
        asked = {f"c{index}": (method, invoices_with(ids)) for index, ids in enumerate(commands)}
        reply = yield from client.batch(asked)
        for index, ids in enumerate(commands):
            rows = read_rows(method, Invoice.from_wire, reply.value(f"c{index}"))
            if not {invoice.id for invoice in rows} <= set(ids):
                raise Bitrix24NoAnswer(method, "the portal returned invoices that were not asked for")
            found.update((invoice.id, invoice) for invoice in rows)
    return found


def _wanted(filter: Mapping[str, Any]) -> set[int] | None:
    """The ids that a filter lets through; None if it does not name them."""
    if "@id" not in filter:
        return None
    values = filter["@id"]
    return set(_ids(values if isinstance(values, list | tuple | set | frozenset) else [values], "filter[@id]"))


def invoices_with(ids: Sequence[int]) -> dict[str, Any]:
    """Return the parameters of ``crm.invoice.list`` that ask for up to 50 invoices."""
    return {"filter": {"@ID": list(ids)}, "select": list(Invoice.FIELDS), "order": {"ID": "ASC"}, "start": -1}


def read(method: str, from_wire: Callable[[Mapping[str, Any]], T], wire: Any) -> T:
    """One object of the portal.

    :raises Bitrix24NoAnswer: it has another shape than documented.
    """
    reason = f"{type(wire).__name__} instead of an object"
    if isinstance(wire, Mapping):
        try:
            return from_wire(wire)
        except ValueError as error:
            reason = _unreadable(error)
    raise Bitrix24NoAnswer(method, f"the portal's data cannot be read: {reason}")


def read_single(method: str, from_wire: Callable[[Mapping[str, Any]], Found], wire: Any, asked: int) -> Found:
    """Read one object of the portal, and see that it is the one asked for: what is read decides about money.

    :raises Bitrix24NoAnswer: it cannot be read, or is another one and says nothing about the one asked for.
    """
    found = read(method, from_wire, wire)
    if found.id != asked:
        raise Bitrix24NoAnswer(method, f"responded with another object: {found.id} instead of {asked}")
    return found


def _unreadable(error: ValueError) -> str:
    """Which fields of the wire could not be read, and why."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())[:300]
    return str(error)


def read_rows(method: str, from_wire: Callable[[Mapping[str, Any]], T], wire: Any) -> list[T]:
    """Many objects of the portal.

    :raises Bitrix24NoAnswer: they have another shape than documented.
    """
    if not isinstance(wire, list):
        raise Bitrix24NoAnswer(method, "the result is not a list of rows")
    return [read(method, from_wire, row) for row in wire]


def _set(
    client: ApiClient, method: str, params: Mapping[str, Any], deadline: SendDeadline | None, idempotency: str | None
) -> Flow[None]:
    """A write whose success is ``true`` and nothing else."""
    reply = yield from client.call(
        method, params, effect=Effect.IDEMPOTENT, deadline=deadline, headers=keyed(idempotency)
    )
    if reply.result is not True:
        raise Bitrix24OutcomeUnknown(method, answered=True, text="a success without the value true")


def _ids(values: Iterable[int], field: str) -> list[int]:
    """Ids, each once."""
    return list(dict.fromkeys(positive_id(value, field) for value in values))


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts of at most this size."""
    return (items[start : start + size] for start in range(0, len(items), size))
