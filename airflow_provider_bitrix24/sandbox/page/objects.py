"""The pages that links to a portal's objects lead to: a deal, an invoice, a payment. HTML without scripts."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_bitrix24.sandbox.control import Refused, refuse_other_sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.requests import Request

    from airflow_provider_bitrix24.sandbox.portal import Portal

_TEMPLATE = (files(__package__) / "object.html").read_text("utf-8")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_OWNERS = {1: ("Lead", "/crm/lead/details/{}/"), 2: ("Deal", "/crm/deal/details/{}/")}
_OWNERS[31] = ("Smart invoice", "/crm/type/31/details/{}/")
_TIMES = "\u00d7"
_PAYMENT = "/shop/orders/payment/details/{}/"
_ORDER = "/shop/orders/details/{}/"
_COMPANY, _CONTACT = "/crm/company/details/{}/", "/crm/contact/details/{}/"


@dataclass(frozen=True)
class Kind:
    """One kind of object: where its page is, its table in the portal's view, and what the page says about it."""

    name: str
    path: str
    table: str
    facts: Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]


def _link(kind: str, address: str, number: Any) -> str:
    return f'<a href="{escape(address.format(number))}">{escape(kind)} {escape(str(number))}</a>'


def _money(amount: Any, currency: Any) -> str:
    return escape(f"{amount} {currency}")


def _moment(at: Any) -> str:
    text = str(at or "")
    return f'<time datetime="{escape(text)}">{escape(text[:19].replace("T", " "))}</time>' if text else ""


def _owner(row: Mapping[str, Any]) -> str:
    kind = _OWNERS.get(row["entity_type_id"])
    return _link(*kind, row["entity_id"]) if kind else ""


def _of_payment(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "State", "paid" if row["paid"] == "Y" else "unpaid"
    yield "Sum", _money(row["sum"], row["currency"])
    yield "Belongs to", _owner(row)
    yield "Order", _link("Order", _ORDER, row["order_id"])
    yield "Account number", escape(row["account_number"])
    yield "Pay system", escape(row["pay_system_name"])
    yield "External key (xmlId)", escape(row["xml_id"])
    yield "Created", _moment(row["date_bill"])
    yield "Paid at", _moment(row["date_paid"])
    if row["paid"] == "Y":
        yield "Paid by", f"user {escape(str(row['emp_paid_id']))}" if row["emp_paid_id"] else "the customer"


def _of_invoice(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    state = "cancelled" if row["canceled"] == "Y" else "declined" if row["status_id"] == "D" else "unpaid"
    yield "State", "paid" if row["payed"] == "Y" else state
    yield "Sum", _money(row["price"], row["currency"])
    yield "Topic", escape(row["order_topic"])
    yield "Account number", escape(row["account_number"])
    yield "Issued", _moment(row["date_bill"])
    yield "Pay before", _moment(row["date_pay_before"])
    yield "Paid at", _moment(row["date_payed"])
    yield "Pay voucher", _moment(row["pay_voucher_date"])
    for product in row["product_rows"]:
        yield "Product", escape(f"{product.get('QUANTITY', '')} {_TIMES} {product.get('PRODUCT_NAME', '')}")


def _of_item(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Title", escape(row["title"])
    yield "Amount", _money(row["opportunity"], row["currency"])
    yield "Stage", escape(str(row["stage_id"] or ""))
    if row["company_id"]:
        yield "Company", _link("Company", _COMPANY, row["company_id"])
    for number in row["contact_ids"]:
        yield "Contact", _link("Contact", _CONTACT, number)
    for product in row["product_rows"]:
        quantity = product["quantity"].rstrip("0").rstrip(".")
        text = f"{quantity} {_TIMES} {product['product_name']}, {product['price']} {row['currency']}"
        yield "Product", escape(text)


def _of_order(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "State", "cancelled" if row["canceled"] == "Y" else ""
    yield "Belongs to", _owner(row)
    yield "Account number", escape(row["account_number"])
    yield "Currency", escape(row["currency"])
    yield "External key (xmlId)", escape(row["xml_id"])
    yield "Created", _moment(row["date_insert"])


def _of_client(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    fields = row["fields"]
    name = fields.get("TITLE") or f"{fields.get('NAME', '')} {fields.get('LAST_NAME', '')}"
    yield "Name", escape(name)
    if fields.get("COMPANY_ID"):
        yield "Company", _link("Company", _COMPANY, fields["COMPANY_ID"])
    for kind, title in (("PHONE", "Telephone"), ("EMAIL", "E-mail")):
        for entry in fields.get(kind, []):
            yield title, escape(entry["VALUE"])


KINDS = (
    Kind("Deal", "/crm/deal/details/{}/", "deals", _of_item),
    Kind("Lead", "/crm/lead/details/{}/", "leads", _of_item),
    Kind("Smart invoice", "/crm/type/31/details/{}/", "smart_invoices", _of_item),
    Kind("Legacy invoice", "/crm/invoice/show/{}/", "invoices", _of_invoice),
    Kind("Payment", _PAYMENT, "payments", _of_payment),
    Kind("Order", _ORDER, "orders", _of_order),
    Kind("Company", _COMPANY, "companies", _of_client),
    Kind("Contact", _CONTACT, "contacts", _of_client),
)


def _facts(kind: Kind, row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield from ((name, value) for name, value in kind.facts(row) if value)
    for payment in row.get("payments", []):
        state = "paid" if payment["paid"] == "Y" else "unpaid"
        amount = _money(payment["sum"], payment["currency"])
        yield "Payment", f"{_link('Payment', _PAYMENT, payment['id'])}, {amount}, {state}"


def _page(title: str, body: str, status: int = 200) -> Response:
    text = _TEMPLATE.replace("{{title}}", escape(title)).replace("{{body}}", body)
    return Response(text, status, _HEADERS, "text/html; charset=utf-8")


def _show(portal: Portal, kind: Kind, number: int) -> Response:
    row = portal.view_of(kind.table, number)
    title = f"{kind.name} {number}"
    if row is None:
        return _page(title, f'<p class="hint">This portal has no {escape(kind.name.lower())} {number}.</p>', 404)
    facts = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in _facts(kind, row))
    return _page(title, f'<dl class="facts">{facts}</dl>')


def object_routes(portal: Portal) -> list[Route]:
    """Return the routes of the pages, one for each kind of object."""
    return [_route(portal, kind) for kind in KINDS]


def _route(portal: Portal, kind: Kind) -> Route:
    async def show(request: Request) -> Response:
        try:
            refuse_other_sites(request)
        except Refused as refused:
            return _page("Refused", f'<p class="hint">{escape(str(refused))}</p>', refused.status)
        return _show(portal, kind, request.path_params["id"])

    return Route(kind.path.format("{id:int}"), show, methods=["GET"])
