"""The sandbox's pages under axe: names, roles, contrast, headings and focus, in both colour schemes and widths."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

PATHS = [
    "/",
    "/crm/deal/details/4/",
    "/shop/orders/payment/details/1002/",
    "/crm/invoice/show/2/",
    "/shop/orders/details/1/",
    "/crm/contact/details/4/",
    "/crm/deal/details/99/",
    "/oauth/authorize/?client_id=local.app",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    portal = Portal(secret="abc123secret")
    portal.add_application("local.app", "s3cr3t")
    with SandboxServer(portal) as server:
        yield server


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing(
    browser: Browser, server: SandboxServer, path: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    server.portal.reset()
    server.portal.act.pay_payment(1001)
    server.portal.act.decline_invoice(3)
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True
    )
    page = context.new_page()
    page.request.get(f"{server.url}/rest/1/abc123secret/crm.deal.get?id=99")
    page.goto(server.url + path)
    if path == "/":
        expect(page.locator("#requests tr")).to_have_count(1)
        expect(page.locator("#ledger tr")).to_have_count(2)
    result = Axe().run(page).response
    context.close()
    assert len(result["passes"]) > 10
    found = [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in result["violations"]]
    assert found == []
