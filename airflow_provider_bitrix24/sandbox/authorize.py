"""``/oauth/authorize/``: where a person lets an application in. Plain HTML, no JavaScript."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from airflow_provider_bitrix24.sandbox.control import Refused, refuse_other_sites
from airflow_provider_bitrix24.sandbox.portal import parse_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.sandbox.portal import Application, Portal

_PAGE = Template((files(f"{__package__}.page") / "authorize.html").read_text("utf-8"))


def authorize_routes(portal: Portal, save: Callable[[], None]) -> list[Route]:
    """Return the routes of the page; ``save`` is called after a consent."""

    async def page(request: Request) -> Response:
        try:
            refuse_other_sites(request)
            if request.method == "GET":
                return _ask(portal, parse_query(request.url.query))
            consent = parse_query((await request.body()).decode("utf-8", errors="replace"))
            return _consent(portal, consent, request.url.netloc, save)
        except Refused as refused:
            return _shown("Not possible", f"<p>{escape(str(refused))}</p>", refused.status)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    return [Route(path, page, methods=["GET", "POST"]) for path in ("/oauth/authorize", "/oauth/authorize/")]


def _ask(portal: Portal, params: dict[str, object]) -> Response:
    application = _application(portal, params)
    with portal.lock:
        users = [user for user in portal.state.users.values() if user.active]
    options = "".join(
        f'<option value="{user.id}">{escape(f"{user.name} {user.last_name}".strip() or f"User {user.id}")}'
        f"{', administrator' if user.admin else ''}</option>"
        for user in users
    )
    hidden = {"client_id": application.client_id, "state": _text(params, "state")}
    fields = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in hidden.items())
    content = (
        f"<p>The application <code>{escape(application.client_id)}</code> asks to act on this portal in your name: "
        f"<strong>{escape(', '.join(application.scopes)) or 'nothing but who you are'}</strong>.</p>"
        f'<form method="post" action="/oauth/authorize/">{fields}'
        f'<p><label for="user">You are</label> <select id="user" name="user_id">{options}</select></p>'
        '<p><button type="submit">Allow</button></p></form>'
    )
    return _shown("Sign in", content, form_target=application.redirect_uri)


def _consent(portal: Portal, params: dict[str, object], host: str, save: Callable[[], None]) -> Response:
    application = _application(portal, params)
    user_id = _text(params, "user_id")
    with portal.lock:
        user = portal.state.users.get(int(user_id)) if user_id.isdecimal() else None
        if user is None or not user.active:
            raise Refused("user_id: must be an active user of this portal.")
        code = portal.sign_in(application, user.id)
    save()
    if application.redirect_uri is None:
        content = (
            f"<p>Give this code to the application. It works once, within 30 seconds.</p>"
            f'<p><code id="code">{escape(code)}</code></p>'
        )
        return _shown("Your code", content)
    query = {
        "code": code,
        "state": _text(params, "state"),
        "domain": host,
        "member_id": portal.oauth.member_id,
        "scope": ",".join(application.scopes),
        "server_domain": host,
    }
    joint = "&" if urlsplit(application.redirect_uri).query else "?"
    target = f"{application.redirect_uri}{joint}{urlencode(query)}"
    return RedirectResponse(target, 302, {"Cache-Control": "no-store"})


def _application(portal: Portal, params: dict[str, object]) -> Application:
    with portal.lock:
        application = portal.oauth.applications.get(_text(params, "client_id"))
    if application is None or not application.installed:
        raise Refused("client_id: no such application is installed on this portal.")
    return application


def _text(params: dict[str, object], name: str) -> str:
    value = params.get(name)
    return value if isinstance(value, str) else ""


def _shown(title: str, content: str, status: int = 200, form_target: str | None = None) -> Response:
    # Browsers apply form-action to the redirect that answers the form, too.
    target = "" if form_target is None else " {0.scheme}://{0.netloc}".format(urlsplit(form_target))
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
        f"form-action 'self'{target}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",  # without any, the form's Origin would be null
        "Cache-Control": "no-store",
    }
    return HTMLResponse(_PAGE.substitute(title=escape(title), content=content), status, headers)
