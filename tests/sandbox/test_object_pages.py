"""The pages of single objects, which links out of Airflow lead to: their content, their markup, their status."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "abc123secret"
TIMES = "\u00d7"
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Portal(ManualClock(1_763_800_000.0), secret=SECRET)) as server:
        yield server


def get(server: SandboxServer, path: str, **headers: str) -> httpx.Response:
    return httpx.get(server.url + path, headers=headers, timeout=300, trust_env=False)


def text_of(answer: httpx.Response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (
            "/crm/deal/details/4/",
            ["Deal 4", "Maintenance contract", "430.00 EUR", f"1 {TIMES} Maintenance", "Payment 1001"],
        ),
        ("/crm/type/31/details/102/", ["Smart invoice 102", "665.00 EUR", "Payment 1004 , 640.00 EUR, unpaid"]),
        ("/crm/invoice/show/1/", ["Legacy invoice 1", "800.00 EUR", "State paid", "Paid at 2025-10-19"]),
        ("/crm/invoice/show/4/", ["Legacy invoice 4", "State cancelled", f"1 {TIMES} Services"]),
        ("/crm/invoice/show/5/", ["State declined"]),
        ("/shop/orders/details/1/", ["Order 1", "Belongs to Deal 4", "Payment 1001 , 350.00 EUR, unpaid"]),
        ("/crm/company/details/5/", ["Company 5", "Alder Works", "+49 30 1234560", "office@alder.example"]),
        ("/crm/contact/details/4/", ["Contact 4", "Mara Holm", "Company 5"]),
        ("/shop/orders/payment/details/1002/", ["State paid", "500.00 EUR", "Deal 5", "Cash", "Paid by user 7"]),
        ("/shop/orders/payment/details/1004/", ["State unpaid", "Smart invoice 102"]),
    ],
)
def test_object(path: str, parts: list[str], server: SandboxServer) -> None:
    answer = get(server, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert [part for part in parts if part not in text_of(answer)] == []


def test_links_between_objects_lead_somewhere(server: SandboxServer) -> None:
    lead = server.portal.create("lead", {"title": "Interested"})
    seen, new = set(), {"/crm/deal/details/4/", "/crm/type/31/details/102/", f"/crm/lead/details/{lead}/"}
    while new:
        path = new.pop()
        seen.add(path)
        answer = get(server, path)
        assert answer.status_code == 200, path
        new |= set(re.findall(r'<a href="([^"]+)"', answer.text)) - seen
    assert {"/", "/shop/orders/payment/details/1001/", "/shop/orders/payment/details/1004/"} < seen
    assert {"/shop/orders/details/1/", "/crm/company/details/6/", "/crm/contact/details/4/"} < seen


@pytest.mark.parametrize(
    "path",
    [
        "/crm/deal/details/99/",
        "/crm/invoice/show/99/",
        "/shop/orders/payment/details/99/",
        "/crm/type/31/details/1/",
        "/shop/orders/details/99/",
    ],
)
def test_object_that_does_not_exist(path: str, server: SandboxServer) -> None:
    answer = get(server, path)
    assert answer.status_code == 404
    assert "This portal has no" in answer.text


def test_paid_by_the_customer_and_without_a_binding(server: SandboxServer) -> None:
    server.portal.act.pay_payment(1001)
    server.portal.state.bindings.clear()
    text = text_of(get(server, "/shop/orders/payment/details/1001/"))
    assert "Paid by the customer" in text
    assert "Order 1" in text


def test_free_text_is_text_and_nothing_runs(server: SandboxServer) -> None:
    fields: dict[str, Any] = {"title": EVIL, "currencyId": "EUR"}
    deal = server.portal.create("deal", fields)
    server.portal.create("product_row", {"ownerType": "D", "ownerId": deal, "productName": EVIL, "price": 1})
    rows = [{"PRODUCT_NAME": EVIL, "QUANTITY": "1"}]
    invoice = server.portal.create("invoice", {"order_topic": EVIL, "currency": EVIL, "product_rows": rows})
    server.portal.state.payments[1001].xml_id = server.portal.state.payments[1001].pay_system_name = EVIL
    for path in (f"/crm/deal/details/{deal}/", f"/crm/invoice/show/{invoice}/", "/shop/orders/payment/details/1001/"):
        answer = get(server, path)
        assert "<img" not in answer.text
        assert "<script" not in answer.text
        assert "&lt;script&gt;" in answer.text
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'")
        assert "script-src" not in policy
        assert SECRET not in answer.text


def test_another_host_name_is_refused(server: SandboxServer) -> None:
    assert get(server, "/crm/deal/details/1/", Host="evil.example").status_code == 403
