"""Whatever a portal says, in bytes or in JSON: a value or an error of this provider, and nothing secret in it.

The examples are the same ones each time, so that no landing depends on luck; ``FUZZ=1`` looks for many new ones, and
Hypothesis prints how to repeat what it finds.
"""

from __future__ import annotations

import json
import os
import pickle
import traceback
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bitrix24.api import calls, connection_test, payments, queries
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.envelope import ErrorReply, Redirect, Reply, UnusableReply, open_envelope
from airflow_provider_bitrix24.api.io import Effect, Response, SendDeadline
from airflow_provider_bitrix24.api.models import Invoice, PayableProduct, Payment, PaySystem, ProductRow, Profile
from airflow_provider_bitrix24.at_most_once.course import SendCall
from airflow_provider_bitrix24.at_most_once.sending import send_one
from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown, PaymentNotApplied
from tests.api.scripted import SECRET, Play, portal

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("unmeasured")

fuzz = settings(max_examples=3000) if os.environ.get("FUZZ") else settings(max_examples=100, derandomize=True)

ODD_TEXTS = [
    "",
    " ",
    "NaN",
    "-Infinity",
    "1e400",
    "1_000",
    "٣",
    "0x10",
    "now",
    "Y",
    "n",
    "2026-11-22T10:00:00+02:00",
    "2026-11-22/2026-11-23",
    "P1D",
    "0000-00-00 00:00:00",
    "\ud800",
    "\x00",
    SECRET,
    SECRET.upper(),
    f"https://acme.bitrix24.com/rest/1/{SECRET}/profile",
    f"<b>{SECRET}</b>",
    SECRET.replace("c", "&#99;"),
    "$result[a]",
    "9" * 5000,
]
texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=20)
numbers = (
    st.integers(-5, 60)
    | st.integers(-(10**40), 10**40)
    | st.sampled_from([Decimal("1e400"), Decimal("-1e-400"), Decimal("10.10"), Decimal("0.1") ** 90])
)
atoms = st.none() | st.booleans() | numbers | texts
FIELDS = [
    *["id", "accountNumber", "paid", "datePaid", "empPaidId", "paySystemId", "paySystemName", "sum", "currency"],
    *["ID", *Invoice.FIELDS, "NAME", "LAST_NAME", "ADMIN", "ACTION_FILE", "ENTITY_REGISTRY_TYPE", "ACTIVE", "CODE"],
    *["productName", "price", "quantity", "paymentId", "rowId", "orderId", "orderEntity", "productRows"],
]
json_values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELDS) | texts, inner, max_size=12)
        | st.fixed_dictionaries({"isExisting": inner, "isAvailable": inner})
    ),
    max_leaves=20,
)


def as_json(value: Any) -> str:
    """JSON with `Decimal` as a number, and with halves of characters as a portal could send them."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(as_json, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{as_json(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


PAYMENT = {
    "id": 7,
    "accountNumber": "1/1",
    "paid": "N",
    "datePaid": "",
    "empPaidId": None,
    "paySystemId": 8,
    "paySystemName": "Card",
    "sum": Decimal("10.10"),
    "currency": "EUR",
}
INVOICE = {
    "ID": "7",
    "ACCOUNT_NUMBER": "7",
    "ORDER_TOPIC": "x",
    "STATUS_ID": "P",
    "PAYED": "Y",
    "DATE_PAYED": "2026-11-22T10:00:00+02:00",
    "EMP_PAYED_ID": "1",
    "CANCELED": "N",
    "PRICE": "10.10",
    "CURRENCY": "EUR",
    "PAY_SYSTEM_ID": "31",
}
PAY_SYSTEM = {"ID": 31, "NAME": "Bank", "ACTION_FILE": "bank", "ENTITY_REGISTRY_TYPE": "CRM_INVOICE", "ACTIVE": "Y"}
ROW = {"id": 1, "productName": "x", "price": 5, "quantity": 2}
LINE = {"id": 1, "paymentId": 7, "rowId": 1, "quantity": 2}
PROFILE = {"ID": "1", "NAME": "Anna", "LAST_NAME": "Berg", "ADMIN": True}
MODELS = {
    Payment: PAYMENT,
    Invoice: INVOICE,
    PaySystem: PAY_SYSTEM,
    ProductRow: ROW,
    PayableProduct: LINE,
    Profile: PROFILE,
}


@st.composite
def damaged(draw: Any, good: Any) -> Any:
    """A good reply in which something is something else, lacks, or has something beside it."""
    if draw(st.integers(0, 7)) == 0:
        return draw(json_values)
    if isinstance(good, dict):
        kept = {name: draw(damaged(inner)) for name, inner in good.items() if draw(st.integers(0, 15))}
        return kept | draw(st.dictionaries(texts, atoms, max_size=1))
    if isinstance(good, list):
        return [draw(damaged(inner)) for inner in good]
    return good


def nothing_secret(*shown: Any) -> None:
    """No form of the secret in what a person or a log would see."""
    for thing in shown:
        said = f"{thing!r} {thing}"
        if isinstance(thing, BaseException):
            said += "".join(traceback.format_exception(thing)) + repr(vars(thing)) + repr(pickle.dumps(thing))
            said.encode()
        assert SECRET.lower() not in said.lower()


headers = st.dictionaries(
    st.sampled_from(["location", "date", "retry-after", "content-type"]),
    texts
    | st.sampled_from(
        [
            "Sun, 22 Nov 2026 10:00:00 GMT",
            "Sun, 99 Nov 99999 99:99:99 +99999999",
            "Mon, 1 Jan 0001 00:00:00 -2359",
            "https://new.bitrix24.com/x",
            "https://[::1",
            "//[",
            "120",
            "-1",
            f"https://{SECRET}.example/{SECRET}",
        ]
    ),
)
bodies = (
    st.binary()
    | json_values.map(lambda value: as_json(value).encode())
    | st.fixed_dictionaries(
        {"error": json_values}, optional={"error_description": json_values, "time": json_values}
    ).map(lambda body: as_json(body).encode())
    | st.fixed_dictionaries(
        {"result": json_values}, optional=dict.fromkeys(["time", "total", "next"], json_values)
    ).map(lambda body: as_json(body).encode(errors="surrogatepass"))
    | st.tuples(json_values, st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-8-sig", "utf-7"])).map(
        lambda pair: as_json({"result": pair[0]}).encode(pair[1])
    )
)
statuses = st.sampled_from([200, 201, 204, 301, 302, 399, 400, 401, 403, 404, 429, 500, 502, 503, 999])


@fuzz
@given(bodies, statuses, headers)
def test_any_answer_is_opened(body: bytes, status: int, headers: dict[str, str]) -> None:
    response = Response(status=status, headers=headers, body=body, at=1_763_800_000.0)
    opened = open_envelope(response, portal().redact)
    assert isinstance(opened, Reply | ErrorReply | Redirect | UnusableReply)
    if not isinstance(opened, Reply):
        nothing_secret(opened)


@pytest.mark.parametrize("model", MODELS)
def test_the_good_replies_are_good(model: Any) -> None:
    assert model.from_wire(MODELS[model])


@fuzz
@given(st.data())
@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_read_or_refused(model: Any, data: Any) -> None:
    wire = data.draw(damaged(MODELS[model]))
    if not isinstance(wire, dict):
        wire = {"id": wire, "ID": wire}
    try:
        made = model.from_wire(wire)
    except ValueError:
        return
    for name, value in made:
        assert not isinstance(value, float), name
    if isinstance(made, Payment | Invoice):
        assert made.money.amount.is_finite()
        assert len(made.money.amount_text) < 300


def reads(query: queries.Query[Any]) -> Callable[[ApiClient], Any]:
    """The flow that reads what an operation needs."""
    return lambda c: queries.ask(c, query)


WHO = {"scope": ["crm", "pay_system"], "profile": PROFILE}
READS: dict[str, tuple[Callable[[ApiClient], Any], Any]] = {
    "get_crm_payment": (lambda c: payments.get_crm_payment(c, payment_id=7), PAYMENT),
    "list_crm_payments": (lambda c: payments.list_crm_payments(c, entity_id=1, entity_type_id=2), [PAYMENT]),
    "get_invoice": (lambda c: payments.get_invoice(c, invoice_id=7), INVOICE),
    "page": (lambda c: c.page("crm.invoice.list"), [INVOICE]),
    "get_crm_payments": (lambda c: payments.get_crm_payments(c, payment_ids=[7]), {"p7": PAYMENT}),
    "get_invoices": (lambda c: payments.get_invoices(c, invoice_ids=[7]), {"c0": [INVOICE]}),
    "check": (
        connection_test.check,
        WHO | {"clock": "2026-11-22T10:00:00+02:00", "crm_item_payment_get": {"isExisting": True}},
    ),
    "contents": (reads(queries.ContentsOfPayment(payment_id=7)), {"payment": PAYMENT, "products": [LINE]}),
    "before_invoice": (
        reads(queries.InvoiceBeforePaying(invoice_id=7)),
        WHO | {"invoice": INVOICE, "pay_systems": [PAY_SYSTEM], "handlers": [{"CODE": "bank"}]},
    ),
    "before_mark": (reads(queries.PaymentBeforePaying(payment_id=7)), WHO | {"payment": PAYMENT}),
    "before_add": (
        reads(
            queries.ObjectBeforeAdding(
                entity_id=1, entity_type_id=2, with_rows=True, with_pay_systems=True, tag=None, known=()
            )
        ),
        WHO
        | {
            "object": {"item": {"id": 1}},
            "payments": [PAYMENT],
            "orders": {"orderEntity": [{"orderId": 5}]},
            "rows": [ROW],
            "pay_systems": [PAY_SYSTEM],
        },
    ),
}


def sends(call: Any) -> Callable[[ApiClient], Any]:
    """The flow that sends a write for a key."""
    return lambda c: send_one(c, SendCall(call=call, digest="k", deadline=SendDeadline(monotonic=1, wall=1)))


WRITES: dict[str, tuple[Callable[[ApiClient], Any], Any]] = {
    "add_crm_payment": (sends(calls.crm_item_payment_add(entity_id=1, entity_type_id=2)), 1033),
    "pay_crm_payment": (sends(calls.crm_item_payment_pay(id=7)), True),
    "pay_invoice": (sends(calls.sale_paysystem_pay_invoice(invoice_id=7, pay_system_id=31)), True),
    "update_crm_payment": (lambda c: payments.update_crm_payment(c, payment_id=7, pay_system_id=8), True),
    "add_payment_product": (sends(calls.crm_item_payment_product_add(payment_id=7, row_id=1, quantity=1)), 5),
}


def reply_to(name: str, good: Any) -> Any:
    """The envelope of a good reply, that of a batch where the flow sends one."""
    if isinstance(good, dict) and name not in ("get_crm_payment", "get_invoice"):
        good = {"result": good, "result_error": [], "result_time": [], "result_total": [], "result_next": []}
    return {"result": good, "time": {"finish": 1763800000, "operating_reset_at": 1763800600}}


def play(flow: Any, body: Any) -> Play:
    """Run a flow that gets this response to everything; errors of other trees come out and fail the test."""
    return Play(flow, [Response(status=200, headers={}, body=as_json(body).encode(), at=1_763_800_000.0)] * 9)


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_the_good_answers_are_good(name: str) -> None:
    flow, good = (READS | WRITES)[name]
    assert play(flow(ApiClient(portal(), tries=1)), reply_to(name, good)).error is None


@fuzz
@given(st.data())
@pytest.mark.parametrize("name", READS)
def test_a_read_ends_with_a_value_or_an_error_of_ours(name: str, data: Any) -> None:
    flow, good = READS[name]
    body = data.draw(damaged(reply_to(name, good)))
    played = play(flow(ApiClient(portal(), tries=1)), body)
    if played.error is not None:
        nothing_secret(played.error)


@fuzz
@given(st.data())
@pytest.mark.parametrize("name", WRITES)
def test_a_write_is_a_success_only_if_the_portal_says_exactly_that(name: str, data: Any) -> None:
    flow, good = WRITES[name]
    body = data.draw(damaged(reply_to(name, good)))
    played = play(flow(ApiClient(portal(), tries=1)), body)
    assert len(played.requests) == 1
    assert played.requests[0].effect is not Effect.READ
    if played.error is None:
        assert isinstance(body, dict)
        assert "error" not in body
        assert body["result"] is True or str(body["result"]).strip().isdigit()
    else:
        nothing_secret(played.error)
        if not isinstance(body, dict) or "error" not in body:
            assert isinstance(played.error, Bitrix24OutcomeUnknown | PaymentNotApplied)
