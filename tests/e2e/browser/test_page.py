"""The page in a real browser: shows the portal live, lets the customer pay, runs nothing that came over REST."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

SECRET = "abc123secret"
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Portal(secret=SECRET)) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: SandboxServer) -> Iterator[Page]:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(server.url)
    yield page
    page.close()
    # the browser itself notes a response that is an error, or none; anything else is ours
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def call(server: SandboxServer, method: str, **params: Any) -> Any:
    return httpx.post(f"{server.url}/rest/1/{SECRET}/{method}", json=params, timeout=300, trust_env=False).json()


def test_shows_what_is_on_the_portal(page: Page) -> None:
    expect(page).to_have_title("Bitrix24 sandbox portal")
    expect(page.locator("#payments tr")).to_have_count(4)
    expect(page.locator("#invoices tr")).to_have_count(13)
    expect(page.locator("#deals tr")).to_have_count(6)
    expect(page.locator("#smart_invoices tr")).to_have_count(3)
    expect(page.locator("#ledger")).to_contain_text("Nothing yet.")
    expect(page.locator("#payments tr", has_text="#1001")).to_contain_text("350.00")
    expect(page.locator("#invoices tr", has_text=re.compile(r"^#4"))).to_contain_text("cancelled")
    expect(page.locator("#live")).to_have_text("live")


def test_is_live(page: Page, server: SandboxServer) -> None:
    expect(page.locator("#payments tr")).to_have_count(4)
    call(server, "crm.item.payment.add", entityTypeId=2, entityId=1)
    expect(page.locator("#payments tr", has_text="#1033")).to_contain_text("Deal 1")
    expect(page.locator("#ledger")).to_contain_text("payment added")
    expect(page.locator("#requests")).to_contain_text("crm.item.payment.add")
    server.stop()
    expect(page.locator("#live")).to_have_text("sandbox stopped")


def test_customer_pays(page: Page, server: SandboxServer) -> None:
    page.get_by_label("Customer pays: payment 1001").click()
    expect(page.locator("#payments tr", has_text="#1001")).to_contain_text("by the customer")
    page.get_by_label("Customer pays: invoice 2", exact=True).click()
    expect(page.locator("#invoices tr", has_text=re.compile(r"^#2"))).to_contain_text("paid")
    expect(page.get_by_label("Customer pays: payment 1001")).to_have_count(0)
    assert [(entry["event"], entry["by"]) for entry in server.portal.ledger] == [
        ("payment_paid", "customer"),
        ("invoice_paid", "customer"),
    ]


def test_nothing_to_pay_on_what_is_closed(page: Page) -> None:
    expect(page.locator("#invoices button")).to_have_count(9)  # neither paid, nor cancelled, nor declined, nor empty


def test_nothing_to_pay_on_an_empty_payment(page: Page, server: SandboxServer) -> None:
    call(server, "crm.item.payment.add", entityTypeId=2, entityId=1)
    row = page.locator("#payments tr", has_text="#1033")
    expect(row).to_contain_text("empty")
    expect(row.locator("button")).to_have_count(0)
    call(server, "crm.item.payment.product.add", paymentId=1033, rowId=1, quantity=1)
    expect(page.get_by_label("Customer pays: payment 1033")).to_be_visible()


def test_a_fault_counts_until_it_has_happened(page: Page, server: SandboxServer) -> None:
    server.portal.faults.add(kind="error", method="crm.deal.get", times=1)
    expect(page.locator("#figures")).to_contain_text("armed fault1")
    call(server, "crm.deal.get", id=1)
    expect(page.locator("#figures")).to_contain_text("armed faults0")


def test_action_that_fails_is_explained(page: Page, server: SandboxServer) -> None:
    button = page.get_by_label("Customer pays: payment 1001")
    expect(button).to_be_visible()
    page.route("**/_sandbox/state*", lambda route: route.abort())
    server.portal.act.delete_payment(payment_id=1001)
    button.click()
    expect(page.locator("#notice")).to_contain_text("payment 1001")


def test_free_text_is_text(page: Page, server: SandboxServer) -> None:
    call(server, "crm.deal.add", fields={"TITLE": EVIL, "OPPORTUNITY": 1})
    call(server, EVIL, **{EVIL: EVIL})
    server.portal.create("invoice", {"order_topic": EVIL, "price": "1.00", "currency": EVIL})
    server.portal.create(
        "product_row", {"ownerType": "D", "ownerId": 1, "productName": EVIL, "price": 1, "quantity": 1}
    )
    expect(page.locator("#deals tr").last).to_contain_text(EVIL)
    expect(page.locator("#invoices tr").last).to_contain_text(EVIL)
    expect(page.locator("#requests tr")).to_have_count(2)
    assert page.locator("main img, main script").count() == 0
    expect(page).to_have_title("Bitrix24 sandbox portal")


def test_parameters_of_a_request_stay_open(page: Page, server: SandboxServer) -> None:
    call(server, "crm.deal.get", id=3)
    page.locator("#requests summary", has_text="crm.deal.get").click()
    expect(page.locator("#requests pre")).to_be_visible()
    call(server, "crm.deal.get", id=4)
    expect(page.locator("#requests tr")).to_have_count(2)
    expect(page.locator("#requests details[open] pre")).to_have_text('{\n  "id": 3\n}')


def test_pauses_while_nobody_looks(page: Page, server: SandboxServer) -> None:
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    expect(page.locator("#live")).to_have_text("paused")
    call(server, "crm.item.payment.add", entityTypeId=2, entityId=1)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1500)
    assert asked == []
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#payments")).to_contain_text("#1033")


def test_needs_nothing_from_outside_and_shows_no_secret(browser: Browser, server: SandboxServer) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    call(server, "crm.deal.list", filter={"TITLE": SECRET})
    page.goto(server.url)
    expect(page.locator("#requests")).to_contain_text("crm.deal.list")
    assert all(url.startswith((server.url, "data:")) for url in asked)
    assert SECRET not in page.content()
    page.close()


def test_rows_do_not_show_through_above_a_sticky_heading(page: Page, server: SandboxServer) -> None:
    for number in range(60):
        call(server, "crm.deal.get", id=number % 3 + 1)
    expect(page.locator("#requests tr")).to_have_count(60)
    gaps = page.evaluate(
        """() => {
            const area = document.querySelector("#requests").closest(".scroll");
            area.scrollIntoView();
            const heading = area.querySelector("thead th");
            const above = [];
            for (let scrolled = 0; scrolled < 200; scrolled += 7) {
                area.scrollTop = scrolled;
                const [top, box] = [area.getBoundingClientRect().top, heading.getBoundingClientRect()];
                for (let y = Math.ceil(top); y < box.bottom; y += 1)
                    if (document.elementFromPoint(box.left + 5, y)?.closest("tbody")) above.push([scrolled, y]);
                if (box.top > top) above.push([scrolled, box.top - top]);
            }
            return above;
        }"""
    )
    assert gaps == []
    collapse = page.locator("table").evaluate_all("tables => tables.map(each => getComputedStyle(each).borderCollapse)")
    assert set(collapse) == {"separate"}  # borders that are collapsed stay behind when a heading sticks


@pytest.mark.parametrize("width", [1280, 420])
def test_fits_and_can_be_used(browser: Browser, server: SandboxServer, width: int) -> None:
    server.portal.act.pay_payment(1003)
    call(server, "crm.nosuch.method")  # its error code is one long word
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(server.url)
    expect(page.locator("#payments tr")).to_have_count(4)
    areas = page.locator(".scroll").evaluate_all("all => all.map(each => each.scrollWidth - each.clientWidth)")
    assert max(areas) <= 0
    for button in page.locator("#payments button, #invoices button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
        assert box["height"] >= 24
    state = page.locator("#payments tr", has_text="#1003").locator("td").last
    line = 1.45 * float(state.evaluate("each => parseFloat(getComputedStyle(each).fontSize)"))
    assert state.bounding_box()["height"] < (3 if width > 1000 else 5) * line  # type: ignore[index]
    page.get_by_label("Customer pays: payment 1001").click()
    expect(page.locator("#payments tr", has_text="#1001")).to_contain_text("by the customer")
    page.close()


def test_times_have_their_day(page: Page, server: SandboxServer) -> None:
    call(server, "crm.item.payment.pay", id=1001)
    for place in ("#ledger .time", "#requests .time", "#payments tr:has-text('#1001') time"):
        expect(page.locator(place).first).to_have_text(re.compile(r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d $"))
    expect(page.locator("#figures")).to_contain_text(re.compile(r"20\d\d-\d\d-\d\d"))


def test_keyboard_stays_where_it_was(page: Page, server: SandboxServer) -> None:
    focused = "document.activeElement.textContent"
    page.get_by_label("Customer pays: payment 1003").focus()
    call(server, "crm.item.payment.add", entityTypeId=2, entityId=1)
    expect(page.locator("#payments")).to_contain_text("#1033")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Customer pays: payment 1003"
    page.keyboard.press("Enter")
    expect(page.locator("#payments tr", has_text="#1003")).to_contain_text("by the customer")
    assert page.evaluate(focused) == "#1003"  # the button is gone; its row is not


def test_changes_are_said(page: Page, server: SandboxServer) -> None:
    expect(page.locator("#live")).to_have_text("live")
    news = page.get_by_role("log")
    expect(news).to_have_text("")
    expect(news).to_have_attribute("aria-live", "polite")
    call(server, "crm.item.payment.pay", id=1001)
    expect(news).to_have_text("payment paid: payment 1001, 350.00\u00a0EUR")


def test_headers_forbid_foreign_code(server: SandboxServer) -> None:
    for path in ("/", "/_sandbox/page/page.js", "/_sandbox/page/page.css"):
        answer = httpx.get(server.url + path, trust_env=False)
        assert answer.status_code == 200
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in httpx.get(server.url, trust_env=False).text
