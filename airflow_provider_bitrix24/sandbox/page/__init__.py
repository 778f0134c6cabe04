"""The page at ``/``: what is on the portal, live, as three static files that read ``/_sandbox/state``."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/_sandbox/page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/_sandbox/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    # Titles and comments come from clients: even if one slipped in as markup, the browser would not run it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """Return the routes of the page and of its style and script."""
    return [_route(path, *_FILES[path]) for path in _FILES]


def _route(path: str, name: str, media_type: str) -> Route:
    content = (files(__package__) / name).read_bytes()

    async def show(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return Route(path, show, methods=["GET"])
