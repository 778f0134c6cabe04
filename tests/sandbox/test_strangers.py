"""Two clients written by strangers for the real Bitrix24 work against the sandbox, unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.sandbox.address import webhook_url
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "abc123secret"

# What these libraries and theirs warn about is their own affair.
pytestmark = pytest.mark.filterwarnings("ignore")


def paid(server: SandboxServer) -> list[tuple[str, Any]]:
    return [
        (entry["event"], entry["payment_id"] or entry["invoice_id"])
        for entry in server.portal.ledger
        if entry["event"] in ("payment_added", "payment_paid", "invoice_paid")
    ]


@pytest.fixture
def tls_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxServer]:
    """The SDK speaks https only, so it gets the sandbox's own authority."""
    with SandboxServer(Portal(secret=SECRET, require_https=True), tls=True) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
        yield server


@pytest.fixture
def sdk(tls_server: SandboxServer) -> Any:
    from b24pysdk import BitrixWebhook, Client

    return Client(BitrixWebhook(domain=f"127.0.0.1:{tls_server.port}", webhook_token=f"1/{SECRET}"))


def test_b24pysdk_adds_lists_and_pays_a_payment(sdk: Any, tls_server: SandboxServer) -> None:
    payment_id = sdk.crm.item.payment.add(entity_type_id=2, entity_id=1).result
    assert payment_id == 1033
    (payment,) = sdk.crm.item.payment.list(entity_type_id=2, entity_id=1).result
    assert (payment["id"], payment["paid"], payment["sum"], payment["paySystemId"]) == (1033, "N", 0, 6)
    assert sdk.crm.item.payment.pay(bitrix_id=1001).result is True
    assert sdk.crm.item.payment.get(bitrix_id=1001).result["paid"] == "Y"
    assert paid(tls_server) == [("payment_added", 1033), ("payment_paid", 1001)]


def test_b24pysdk_batch(sdk: Any, tls_server: SandboxServer) -> None:
    answers = sdk.call_batch(
        {
            "pay": sdk.crm.item.payment.pay(bitrix_id=1003),
            "read": sdk.crm.item.payment.get(bitrix_id=1003),
        }
    ).result
    assert answers.result["pay"] is True
    assert answers.result["read"]["paid"] == "Y"
    assert paid(tls_server) == [("payment_paid", 1003)]


def test_b24pysdk_knows_the_errors(sdk: Any) -> None:
    from b24pysdk.errors import BitrixAPIError

    with pytest.raises(BitrixAPIError) as caught:
        _ = sdk.crm.item.payment.get(bitrix_id=987654).result
    assert caught.value.error_description == "Payment has not been found"


@pytest.fixture
def http_server() -> Iterator[SandboxServer]:
    with SandboxServer(Portal(secret=SECRET)) as server:
        yield server


async def test_fast_bitrix24_adds_lists_and_pays_payments(http_server: SandboxServer) -> None:
    from fast_bitrix24 import BitrixAsync

    client = BitrixAsync(webhook_url(http_server.url, http_server.portal.webhook), verbose=False)
    assert await client.call("crm.item.payment.add", {"entityTypeId": 2, "entityId": 1}, raw=True)
    # not get_all(): it orders by "ID", which this method knows as "id" only
    listed = await client.call("crm.item.payment.list", {"entityTypeId": 2, "entityId": 1}, raw=True)
    assert [(payment["id"], payment["paid"]) for payment in listed["result"]] == [(1033, "N")]
    # several items go out as one batch, with every value in the query of its command
    await client.call("crm.item.payment.pay", [{"id": 1001}, {"id": 1003}])
    answer = await client.call("sale.paysystem.pay.invoice", {"INVOICE_ID": 2, "PAY_SYSTEM_ID": 31}, raw=True)
    assert answer["result"] is True
    assert paid(http_server) == [
        ("payment_added", 1033),
        ("payment_paid", 1001),
        ("payment_paid", 1003),
        ("invoice_paid", 2),
    ]


async def test_fast_bitrix24_reads_a_list_of_many_pages(http_server: SandboxServer) -> None:
    from fast_bitrix24 import BitrixAsync

    for number in range(120):
        http_server.portal.create("invoice", {"price": "10.00", "order_topic": f"Invoice {number}"})
    client = BitrixAsync(webhook_url(http_server.url, http_server.portal.webhook), verbose=False)
    invoices = await client.get_all("crm.invoice.list")
    assert len({invoice["ID"] for invoice in invoices}) == len(invoices) == 133
