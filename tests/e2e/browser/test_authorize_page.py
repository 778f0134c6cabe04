"""Signing in with a real browser: by a copied code, or by a redirect; JavaScript is not needed."""

from __future__ import annotations

import shutil
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from airflow_provider_bitrix24.sandbox.portal import Application, Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Portal()) as server:
        yield server


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=request.param)
    yield context.new_page()
    context.close()


@pytest.fixture
def callback() -> Iterator[str]:
    """The address of an application that takes its code itself."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"Welcome back")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as web:
        thread = Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}/callback"
        web.shutdown()
        thread.join()


def exchange(server: SandboxServer, application: Application, code: str) -> str:
    """The user id that the code leads to."""
    params = {"client_id": application.client_id, "client_secret": application.client_secret}
    params |= {"grant_type": "authorization_code", "code": code}
    with httpx.Client(base_url=server.url, timeout=300, trust_env=False) as client:
        token = client.get("/oauth/token/", params=params).json()["access_token"]
        profile = client.post("/rest/profile", headers={"Authorization": f"Bearer {token}"}).json()
    user_id: str = profile["result"]["ID"]
    return user_id


def allow(page: Page, server: SandboxServer, application: Application) -> None:
    page.goto(f"{server.url}/oauth/authorize/?client_id={application.client_id}&state=a%26b")
    expect(page.locator("main")).to_contain_text("crm, sale, pay_system, salescenter")
    page.get_by_label("You are").select_option("7")
    page.get_by_role("button", name="Allow").click()


def test_code_to_copy(page: Page, server: SandboxServer) -> None:
    application = server.portal.add_application()
    allow(page, server, application)
    expect(page).to_have_title("Your code · Bitrix24 sandbox portal")
    code = page.locator("#code").text_content()
    assert code
    assert exchange(server, application, code) == "7"


def test_redirect(page: Page, server: SandboxServer, callback: str) -> None:
    application = server.portal.add_application(redirect_uri=callback)
    allow(page, server, application)
    expect(page.locator("body")).to_have_text("Welcome back")
    query = parse_qs(urlsplit(page.url).query)
    assert query["state"] == ["a&b"]
    assert exchange(server, application, query["code"][0]) == "7"


def test_books_show_applications(browser: Browser, server: SandboxServer) -> None:
    page = browser.new_page()
    page.goto(server.url)
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#applications-section")).to_be_hidden()
    application = server.portal.add_application("local.shown")
    pair = server.portal.grant(application, 7)
    params = {"client_id": application.client_id, "client_secret": application.client_secret}
    params |= {"grant_type": "refresh_token", "refresh_token": pair.refresh_token}
    for _ in range(2):
        httpx.get(f"{server.url}/oauth/token/", params=params, timeout=300, trust_env=False)
    row = page.locator("#applications tr", has_text="local.shown")
    expect(row.locator("td").nth(2)).to_have_text("user 7")
    expect(row.locator("td").nth(3)).to_have_text("1")
    expect(row.locator("td").nth(4)).to_have_text("1")
    expect(row.get_by_role("link", name="Sign in")).to_have_attribute("href", "/oauth/authorize/?client_id=local.shown")
    expect(page.locator("#requests")).to_contain_text("oauth.token")
    page.close()
